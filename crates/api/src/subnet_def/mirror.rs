//! The checked collector of a subnet.

use std::net::IpAddr;

use crate::values::parse_address;
use crate::{Cidrs, RemoteMirror};

/// How copies of packets are packed for a collector (ovn-nb(5), `Mirror`, `type`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MirrorType {
    /// GRE with a key.
    Gre,
    /// ERSPAN type II.
    Erspan,
}

/// Where copies of the packets of a subnet's pods go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Collector {
    /// Its address, which is none of the subnet.
    pub to: IpAddr,
    /// How copies are packed.
    pub mirror_type: MirrorType,
    /// The key of GRE, or the session and index of ERSPAN.
    pub key: u32,
    /// Whether only pods whose annotation says so are mirrored.
    pub only_annotated: bool,
}

/// The largest session of ERSPAN, which has 10 bits.
const LAST_SESSION: u32 = 1023;

impl Collector {
    /// Checks a collector of a subnet with these networks. Errors are the field and what is wrong with it.
    pub(super) fn parse(written: &RemoteMirror, cidrs: Cidrs) -> Result<Self, (&'static str, String)> {
        let RemoteMirror { to, type_, key, pods } = written;
        let to = parse_address(to).map_err(|why| ("remoteMirror.to", why.to_string()))?;
        if to.is_unspecified() || to.is_loopback() || to.is_multicast() {
            return Err(("remoteMirror.to", format!("{to} is the address of no other machine")));
        }
        // The copies would be mirrored too.
        if let Some(own) = cidrs.iter().find(|own| own.contains(to)) {
            return Err(("remoteMirror.to", format!("{to} is inside {own}, the subnet itself")));
        }
        let mirror_type = match type_.as_deref().unwrap_or_default() {
            "" | "gre" => MirrorType::Gre,
            "erspan" => MirrorType::Erspan,
            other => return Err(("remoteMirror.type", format!("{other:?} is neither gre nor erspan"))),
        };
        let most = if mirror_type == MirrorType::Gre { u32::MAX } else { LAST_SESSION };
        let key = key.unwrap_or_default();
        let fits = u32::try_from(key).ok().filter(|key| *key <= most);
        let key = fits.ok_or_else(|| ("remoteMirror.key", format!("{key} is not between 0 and {most}")))?;
        let only_annotated = match pods.as_deref().unwrap_or_default() {
            "" | "All" => false,
            "Annotated" => true,
            other => return Err(("remoteMirror.pods", format!("{other:?} is neither All nor Annotated"))),
        };
        Ok(Self { to, mirror_type, key, only_annotated })
    }

    /// The collector as users write it.
    pub(super) fn written(&self) -> RemoteMirror {
        RemoteMirror {
            to: self.to.to_string(),
            type_: (self.mirror_type == MirrorType::Erspan).then(|| "erspan".to_owned()),
            key: (self.key != 0).then(|| self.key.into()),
            pods: self.only_annotated.then(|| "Annotated".to_owned()),
        }
    }
}
