//! What a subnet offers, and how much of it is in use.

use std::net::IpAddr;

use api::{Addresses, Cidrs, IpRange, SubnetDef};

/// The addresses of a subnet: its networks, less what is kept back.
///
/// The gateways and the addresses of [`api::Cidr::kept_back`] are never given out. The addresses in `exclude` are only not
/// chosen: a pod that asks for one of them gets it, as in kube-ovn.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Network {
    /// The networks.
    pub cidrs: Cidrs,
    /// The router's address in each.
    pub gateway: Addresses,
    /// Gateways of before that running pods still use. They are never given out, as the gateway is not.
    pub retired_gateways: Vec<IpAddr>,
    /// Addresses that are never chosen; what lies outside the networks is ignored.
    pub exclude: Vec<IpRange>,
}

/// A network without retired gateways: the definition does not name any.
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

/// How much of a subnet or of a pool is in use; zero for a family that it lacks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// IPv4.
    pub v4: Counts,
    /// IPv6.
    pub v6: Counts,
}

/// Addresses of one family.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// How many are held.
    pub used: u128,
    /// How many can still be chosen; saturates at `u128::MAX`.
    pub available: u128,
}

/// Which addresses of a subnet or of a pool are in use and which are free.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ranges {
    /// IPv4.
    pub v4: FamilyRanges,
    /// IPv6.
    pub v6: FamilyRanges,
}

/// Addresses of one family, in order. `api::values::print_ranges` prints them as a Subnet's status does.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FamilyRanges {
    /// Those that are held.
    pub using: Vec<IpRange>,
    /// Those that can still be chosen.
    pub free: Vec<IpRange>,
}
