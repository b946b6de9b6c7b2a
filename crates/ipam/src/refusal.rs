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
    /// Addresses in use lie outside of the networks that the subnet would have.
    #[error("subnet {subnet}: spec.cidrBlock: {cidrs} leaves {address} outside, which {holder} holds{}", and_others(*others))]
    LeftOutside {
        /// The subnet.
        subnet: Arc<str>,
        /// The networks that it would have.
        cidrs: Cidrs,
        /// The first address outside of them.
        address: IpAddr,
        /// Who holds it.
        holder: Arc<str>,
        /// How many other addresses of that family are in use outside of them.
        others: usize,
    },
    /// Somebody holds the address that the gateway would have.
    #[error("subnet {subnet}: spec.gateway: {address} is held by {holder}")]
    GatewayHeld {
        /// The subnet.
        subnet: Arc<str>,
        /// The gateway that it would have.
        address: IpAddr,
        /// Who holds it.
        holder: Arc<str>,
    },
    /// The subnet has addresses in use.
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
    /// No address is left, but perhaps in the subnet's pools.
    #[error("subnet {subnet}: no {family} address is left in {cidr}{} ({used} in use)", outside(*pools))]
    Full {
        /// The subnet.
        subnet: Arc<str>,
        /// The family that is used up.
        family: Family,
        /// Its network.
        cidr: Cidr,
        /// How many addresses are in use.
        used: usize,
        /// How many pools have addresses of the network.
        pools: usize,
    },
    /// The subnet has no network of a family that is wanted.
    #[error("subnet {subnet}: it has no {family} network, only {cidrs}")]
    NoFamily {
        /// The subnet.
        subnet: Arc<str>,
        /// The family that is wanted.
        family: Family,
        /// The subnet's networks.
        cidrs: Cidrs,
    },
    /// There is no pool of that name in the subnet.
    #[error("subnet {subnet}: it has no pool {pool}")]
    UnknownPool {
        /// The subnet.
        subnet: Arc<str>,
        /// The name asked for.
        pool: Arc<str>,
    },
    /// No address is left in a pool.
    #[error("subnet {subnet}: no {family} address is left in pool {pool} ({used} in use)")]
    PoolFull {
        /// The subnet.
        subnet: Arc<str>,
        /// The pool.
        pool: Arc<str>,
        /// The family that is used up.
        family: Family,
        /// How many of the pool's addresses of that family are in use.
        used: u128,
    },
    /// A pool claims an address that another pool has.
    #[error("pool {pool}: {address} is in pool {other} of subnet {subnet} already")]
    PoolOverlap {
        /// The subnet.
        subnet: Arc<str>,
        /// The pool that was to be set.
        pool: Arc<str>,
        /// The first address that both claim.
        address: IpAddr,
        /// The pool that has it.
        other: Arc<str>,
    },
    /// Nothing of a pool lies in the subnet.
    #[error("pool {pool}: none of its addresses is in {cidrs} of subnet {subnet}")]
    PoolOutside {
        /// The subnet.
        subnet: Arc<str>,
        /// The pool that was to be set.
        pool: Arc<str>,
        /// The subnet's networks.
        cidrs: Cidrs,
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
    /// The address is a gateway, or one that the network keeps back.
    #[error("subnet {subnet}: {address} is kept for the network itself ({})", kept(*address))]
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

fn kept(address: IpAddr) -> &'static str {
    if address.is_ipv4() { "gateway, network or broadcast address" } else { "gateway or anycast address" }
}

fn and_others(count: usize) -> String {
    match count {
        0 => String::new(),
        1 => ", and 1 other".to_owned(),
        count => format!(", and {count} others"),
    }
}

fn outside(pools: usize) -> &'static str {
    match pools {
        0 => "",
        1 => " outside of its pool",
        _ => " outside of its pools",
    }
}
