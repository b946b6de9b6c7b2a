//! Values of a network: address families, CIDRs, MACs, address ranges and rates.
//!
//! Each type parses the text that users write (`FromStr`) and prints it in one canonical form (`Display`); most of them are
//! strings in serde. Every value is valid. No type accepts an IPv4-mapped IPv6 address (`::ffff:1.2.3.4`), which would be
//! a second name of the IPv4 address.

mod cidr;
mod families;
mod mac;
mod range;
mod rate;

use std::{fmt, net::IpAddr};

use ipnet::IpNet;

pub use cidr::Cidr;
pub use families::{Addresses, Cidrs, Families, Family, FamilyMember};
pub use mac::Mac;
pub use range::{IpRange, print_ranges};
pub use rate::Rate;

/// A text that does not parse.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not {what}: {why}")]
pub struct ValueError {
    /// The text, cut to 64 characters.
    pub text: String,
    /// The expected kind of value, e.g. `a CIDR`.
    pub what: &'static str,
    /// The reason.
    pub why: String,
}

impl ValueError {
    pub(crate) fn new(text: &str, what: &'static str, why: impl fmt::Display) -> Self {
        Self { text: text.chars().take(64).collect(), what, why: why.to_string() }
    }
}

/// Parses one address: no zone, no port, no IPv4-mapped IPv6.
///
/// Surrounding white space is ignored, as in all lists of addresses.
pub fn parse_address(text: &str) -> Result<IpAddr, ValueError> {
    const WHAT: &str = "an IP address";
    let trimmed = text.trim();
    let address: IpAddr = trimmed.parse().map_err(|_| ValueError::new(text, WHAT, "neither IPv4 nor IPv6"))?;
    refuse_mapped(address).map_err(|why| ValueError::new(text, WHAT, why))?;
    Ok(address)
}

/// Parses a network, or an address as a network of one. The bits of the host are cleared.
pub(crate) fn parse_net(text: &str) -> Result<IpNet, String> {
    let net = text.parse::<IpNet>().or_else(|_| text.parse::<IpAddr>().map(IpNet::from));
    net.map(|net| net.trunc()).map_err(|_| format!("{text:?} is neither an address nor a network"))
}

fn refuse_mapped(address: IpAddr) -> Result<(), &'static str> {
    match address {
        IpAddr::V6(v6) if v6.to_ipv4_mapped().is_some() => Err("an IPv4-mapped IPv6 address; write the IPv4 address"),
        _ => Ok(()),
    }
}

/// The address as a number. An IPv4 and an IPv6 address can have the same number.
pub(crate) fn to_bits(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(v4) => u128::from(v4.to_bits()),
        IpAddr::V6(v6) => v6.to_bits(),
    }
}

/// Implements serde with the strings of `Display` and `FromStr`.
macro_rules! as_string {
    ($name:ident) => {
        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}
pub(crate) use as_string;

#[cfg(test)]
mod tests;
