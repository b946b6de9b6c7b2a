//! The address set of an IPPool, for use in match expressions.

use std::net::IpAddr;

use api::IpRange;
use ipnet::{IpNet, Ipv4Subnets, Ipv6Subnets};
use ovn::{AddressSet, Fact};

use crate::objects::PoolSet;

/// The name of a pool's address set, as in kube-ovn. OVN does not allow hyphens in it.
pub fn address_set_of_pool(pool: &str) -> String {
    pool.replace('-', ".")
}

pub(super) fn compile(pool: &PoolSet, facts: &mut Vec<Fact>) {
    let name = address_set_of_pool(&pool.name);
    let external_ids = vec![("ippool", pool.name.clone())];
    facts.push(AddressSet { name: name.clone(), seed: pool.uid.clone(), external_ids }.fact());
    facts.extend(pool.ranges.iter().flat_map(networks).map(|network| AddressSet::member(&name, &text(&network))));
}

/// The smallest list of networks that covers a range.
fn networks(range: &IpRange) -> Vec<IpNet> {
    match (range.start(), range.end()) {
        (IpAddr::V4(start), IpAddr::V4(end)) => Ipv4Subnets::new(start, end, 0).map(IpNet::V4).collect(),
        (IpAddr::V6(start), IpAddr::V6(end)) => Ipv6Subnets::new(start, end, 0).map(IpNet::V6).collect(),
        // A range has one family.
        _ => Vec::new(),
    }
}

/// The text of a network; a single address has no prefix length.
fn text(network: &IpNet) -> String {
    if network.prefix_len() == network.max_prefix_len() { network.addr().to_string() } else { network.to_string() }
}
