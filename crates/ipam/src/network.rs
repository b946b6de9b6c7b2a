//! The addresses of a subnet, and their usage.

use std::net::IpAddr;

use api::{Addresses, Cidrs, IpRange, SubnetDef};

/// The networks of a subnet, and the addresses in them that are kept back.
///
/// The gateways and the addresses of [`api::Cidr::kept_back`] are never given out. The addresses in `exclude` are only not
/// chosen: a pod that asks for one of them gets it, as in kube-ovn.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Network {
    /// The networks.
    pub cidrs: Cidrs,
    /// The router's address in each network.
    pub gateway: Addresses,
    /// Earlier gateways that running pods still use. Like the gateway, they are never given out.
    pub retired_gateways: Vec<IpAddr>,
    /// Addresses that are not chosen. Those outside the networks are ignored.
    pub exclude: Vec<IpRange>,
}

/// The network of a definition, which names no retired gateways.
impl From<&SubnetDef> for Network {
    fn from(subnet: &SubnetDef) -> Self {
        Self {
            cidrs: subnet.cidrs,
            gateway: subnet.gateway,
            retired_gateways: Vec::new(),
            exclude: subnet.exclude.clone(),
        }
    }
}

/// The usage of a subnet or of a pool. The counts of a family without a network are zero.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// IPv4.
    pub v4: Counts,
    /// IPv6.
    pub v6: Counts,
}

/// Counts of the addresses of one family.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// The number of held addresses.
    pub used: u128,
    /// The number of addresses that can be chosen, at most `u128::MAX`.
    pub available: u128,
}

/// The addresses of a subnet or of a pool that are in use, and those that are free.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ranges {
    /// IPv4.
    pub v4: FamilyRanges,
    /// IPv6.
    pub v6: FamilyRanges,
}

/// Addresses of one family, in order. `api::values::print_ranges` prints them as in a Subnet's status.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FamilyRanges {
    /// The held addresses.
    pub using: Vec<IpRange>,
    /// The addresses that can be chosen.
    pub free: Vec<IpRange>,
}
