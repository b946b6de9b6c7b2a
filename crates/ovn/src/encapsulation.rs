//! The encapsulation between nodes.

use std::fmt;
use std::str::FromStr;

/// The encapsulation of packets between nodes (ovn-controller(8), `external_ids:ovn-encap-type`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encapsulation {
    /// The default.
    Geneve,
    /// For networks that support only VXLAN.
    Vxlan,
    /// An older encapsulation that resembles TCP. OVN has deprecated it, and Linux has no module for it.
    Stt,
}

/// The text names no encapsulation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no encapsulation has this name")]
pub struct UnknownEncapsulation;

impl Encapsulation {
    /// All encapsulations that OVN has.
    pub const ALL: [Self; 3] = [Self::Geneve, Self::Vxlan, Self::Stt];

    /// Returns the name in the databases. It is also that of the kernel's module.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Geneve => "geneve",
            Self::Vxlan => "vxlan",
            Self::Stt => "stt",
        }
    }

    /// Returns the destination port: UDP, for STT TCP.
    pub fn port(self) -> u16 {
        match self {
            Self::Geneve => 6081,
            Self::Vxlan => 4789,
            Self::Stt => 7471,
        }
    }
}

impl fmt::Display for Encapsulation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Encapsulation {
    type Err = UnknownEncapsulation;

    fn from_str(text: &str) -> Result<Self, UnknownEncapsulation> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == text).ok_or(UnknownEncapsulation)
    }
}
