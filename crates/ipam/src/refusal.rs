//! Why a request was refused.

use std::{net::IpAddr, sync::Arc};

use api::{Addresses, Cidr, Cidrs, Family, Mac};

/// A refused request. Nothing has changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// There is no subnet of that name.
    #[error("subnet {subnet}: there is none of that name")]
    UnknownSubnet {
        /// The name asked for.
        subnet: Arc<str>,
    },
    /// The subnet's network shares addresses with another subnet's.
    #[error("subnet {subnet}: {cidr} overlaps {other_cidr} of subnet {other}")]
    Overlap {
        /// The subnet that was to be set.
        subnet: Arc<str>,
        /// Its network.
        cidr: Cidr,
        /// The subnet that is there.
        other: Arc<str>,
        /// That one's network.
        other_cidr: Cidr,
    },
    /// An address in use stands against it.
    #[error("subnet {subnet}: {address} is in use by {holder} ({count} in use in all)")]
    InUse {
        /// The subnet.
        subnet: Arc<str>,
        /// One address that is in the way.
        address: IpAddr,
        /// Who holds it.
        holder: Arc<str>,
        /// How many addresses of that family are in use in the subnet.
        count: usize,
    },
    /// No address is left.
    #[error("subnet {subnet}: no {family} address is left in {cidr} ({used} in use)")]
    Full {
        /// The subnet.
        subnet: Arc<str>,
        /// The family that is used up.
        family: Family,
        /// Its network.
        cidr: Cidr,
        /// How many addresses are in use.
        used: usize,
    },
    /// Someone else holds the address.
    #[error("subnet {subnet}: {address} is held by {holder}")]
    Taken {
        /// The subnet.
        subnet: Arc<str>,
        /// The address asked for.
        address: IpAddr,
        /// Who holds it.
        holder: Arc<str>,
    },
    /// The address is not of this subnet.
    #[error("subnet {subnet}: {address} is outside {cidrs}")]
    Outside {
        /// The subnet.
        subnet: Arc<str>,
        /// The address asked for.
        address: IpAddr,
        /// The subnet's networks.
        cidrs: Cidrs,
    },
    /// The address is the gateway, or the first or last of the network.
    #[error("subnet {subnet}: {address} is kept for the network itself (gateway, network or broadcast address)")]
    Reserved {
        /// The subnet.
        subnet: Arc<str>,
        /// The address asked for.
        address: IpAddr,
    },
    /// No entry of a list of addresses can be had.
    #[error("subnet {subnet}: none of the {count} listed addresses can be had; the last one: {last}")]
    NoneOfList {
        /// The subnet.
        subnet: Arc<str>,
        /// Length of the list.
        count: usize,
        /// Why the last entry cannot be had.
        last: Box<Refusal>,
    },
    /// The list of addresses to choose from is empty.
    #[error("subnet {subnet}: the list of addresses to choose from is empty")]
    EmptyList {
        /// The subnet.
        subnet: Arc<str>,
    },
    /// Someone else holds the MAC.
    #[error("MAC {mac} is held by {holder}")]
    MacTaken {
        /// The MAC asked for.
        mac: Mac,
        /// Who holds it.
        holder: Arc<str>,
    },
    /// Every MAC that could be made for the addresses is held.
    #[error("subnet {subnet}: no MAC address is left")]
    NoMac {
        /// The subnet.
        subnet: Arc<str>,
    },
    /// The holder has other addresses already.
    #[error("{holder} already holds {ips} ({mac}) in subnet {subnet}")]
    AlreadyHolds {
        /// Who asked.
        holder: Arc<str>,
        /// The subnet of what it holds.
        subnet: Arc<str>,
        /// What it holds.
        ips: Addresses,
        /// Its MAC.
        mac: Mac,
    },
}
