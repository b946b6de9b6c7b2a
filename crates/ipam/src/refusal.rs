//! The reasons for which a request is refused.

use std::{net::IpAddr, sync::Arc};

use api::{Addresses, Cidr, Cidrs, Family, Mac};

/// The reason for which a request is refused. A refused request changes nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// There is no subnet with that name.
    #[error("subnet {subnet}: there is no subnet with that name")]
    UnknownSubnet {
        /// The name in the request.
        subnet: Arc<str>,
    },
    /// The network of the subnet overlaps a network of another subnet.
    #[error("subnet {subnet}: {cidr} overlaps {other_cidr} of subnet {other}")]
    Overlap {
        /// The subnet in the request.
        subnet: Arc<str>,
        /// The network in the request.
        cidr: Cidr,
        /// The other subnet.
        other: Arc<str>,
        /// The network of the other subnet.
        other_cidr: Cidr,
    },
    /// Addresses in use are outside of the networks in the request.
    #[error("subnet {subnet}: spec.cidrBlock: {cidrs} leaves {address} outside, which {holder} holds{}", and_others(*others))]
    LeftOutside {
        /// The subnet.
        subnet: Arc<str>,
        /// The networks in the request.
        cidrs: Cidrs,
        /// The first address outside of them.
        address: IpAddr,
        /// The holder of the address.
        holder: Arc<str>,
        /// The number of other addresses of that family outside of them.
        others: usize,
    },
    /// The address of a new gateway has a holder.
    #[error("subnet {subnet}: spec.gateway: {address} is held by {holder}")]
    GatewayHeld {
        /// The subnet.
        subnet: Arc<str>,
        /// The new gateway.
        address: IpAddr,
        /// The holder of the address.
        holder: Arc<str>,
    },
    /// The subnet has addresses in use.
    #[error("subnet {subnet}: {address} is in use by {holder} ({count} in use in all)")]
    InUse {
        /// The subnet.
        subnet: Arc<str>,
        /// One of the addresses.
        address: IpAddr,
        /// The holder of the address.
        holder: Arc<str>,
        /// The number of addresses of that family in use in the subnet.
        count: usize,
    },
    /// No address outside of the subnet's pools is left.
    #[error("subnet {subnet}: no {family} address is left in {cidr}{} ({used} in use)", outside(*pools))]
    Full {
        /// The subnet.
        subnet: Arc<str>,
        /// The family without a free address.
        family: Family,
        /// The network of that family.
        cidr: Cidr,
        /// The number of addresses in use.
        used: usize,
        /// The number of pools with addresses of the network.
        pools: usize,
    },
    /// The subnet has no network of a family in the request.
    #[error("subnet {subnet}: it has no {family} network, only {cidrs}")]
    NoFamily {
        /// The subnet.
        subnet: Arc<str>,
        /// The family in the request.
        family: Family,
        /// The networks of the subnet.
        cidrs: Cidrs,
    },
    /// The subnet has no pool with that name.
    #[error("subnet {subnet}: it has no pool {pool}")]
    UnknownPool {
        /// The subnet.
        subnet: Arc<str>,
        /// The name in the request.
        pool: Arc<str>,
    },
    /// No address of a pool is left.
    #[error("subnet {subnet}: no {family} address is left in pool {pool} ({used} in use)")]
    PoolFull {
        /// The subnet.
        subnet: Arc<str>,
        /// The pool.
        pool: Arc<str>,
        /// The family without a free address.
        family: Family,
        /// The number of the pool's addresses of that family in use.
        used: u128,
    },
    /// Another pool has an address of the pool.
    #[error("pool {pool}: {address} is in pool {other} of subnet {subnet} already")]
    PoolOverlap {
        /// The subnet.
        subnet: Arc<str>,
        /// The pool in the request.
        pool: Arc<str>,
        /// The first address that both pools have.
        address: IpAddr,
        /// The other pool.
        other: Arc<str>,
    },
    /// All addresses of the pool are outside of the subnet.
    #[error("pool {pool}: none of its addresses is in {cidrs} of subnet {subnet}")]
    PoolOutside {
        /// The subnet.
        subnet: Arc<str>,
        /// The pool in the request.
        pool: Arc<str>,
        /// The networks of the subnet.
        cidrs: Cidrs,
    },
    /// Another holder has the address.
    #[error("subnet {subnet}: {address} is held by {holder}")]
    Taken {
        /// The subnet.
        subnet: Arc<str>,
        /// The address in the request.
        address: IpAddr,
        /// The holder of the address.
        holder: Arc<str>,
    },
    /// The address is outside of the subnet.
    #[error("subnet {subnet}: {address} is outside {cidrs}")]
    Outside {
        /// The subnet.
        subnet: Arc<str>,
        /// The address in the request.
        address: IpAddr,
        /// The networks of the subnet.
        cidrs: Cidrs,
    },
    /// The address is a gateway, or the network keeps it back.
    #[error("subnet {subnet}: {address} is kept for the network itself ({})", kept(*address))]
    Reserved {
        /// The subnet.
        subnet: Arc<str>,
        /// The address in the request.
        address: IpAddr,
    },
    /// No entry of a list of addresses is available.
    #[error("subnet {subnet}: none of the {count} listed addresses is available; the last one: {last}")]
    NoneOfList {
        /// The subnet.
        subnet: Arc<str>,
        /// The length of the list.
        count: usize,
        /// The reason for which the last entry is not available.
        last: Box<Refusal>,
    },
    /// The list of addresses to choose from is empty.
    #[error("subnet {subnet}: the list of addresses to choose from is empty")]
    EmptyList {
        /// The subnet.
        subnet: Arc<str>,
    },
    /// Another holder has the MAC.
    #[error("MAC {mac} is held by {holder}")]
    MacTaken {
        /// The MAC in the request.
        mac: Mac,
        /// The holder of the MAC.
        holder: Arc<str>,
    },
    /// All MACs that can be generated for the addresses have holders.
    #[error("subnet {subnet}: no MAC address is left")]
    NoMac {
        /// The subnet.
        subnet: Arc<str>,
    },
    /// The holder already has other addresses.
    #[error("{holder} already holds {ips} ({mac}) in subnet {subnet}")]
    AlreadyHolds {
        /// The holder.
        holder: Arc<str>,
        /// The subnet of its addresses.
        subnet: Arc<str>,
        /// Its addresses.
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
