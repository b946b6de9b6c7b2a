//! Chooses the interface and the address for tunnels.

use std::net::IpAddr;

use links::{Assigned, Link, Standing, is_link_local};

use super::{Names, TunnelError};

/// The maximum number of interfaces that an error lists.
const NAMED: usize = 16;

/// Returns the interface and the address, of the links and addresses that the kernel lists. `names` is `--iface`, and
/// `node` are the addresses of the node in Kubernetes.
pub(super) fn choose<'a>(
    all: &'a [Link],
    assigned: &[Assigned],
    names: &Names,
    node: &[IpAddr],
) -> Result<(&'a Link, IpAddr), TunnelError> {
    if names.is_empty() {
        let place = |own: &IpAddr| assigned.iter().find(|address| address.own == *own);
        let found = node
            .iter()
            .filter_map(place)
            .find_map(|address| Some((all.iter().find(|link| link.index == address.link)?, address.own)));
        let node = || node.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        return found.ok_or_else(|| TunnelError::NotOfNode { node: node(), there: listed(all) });
    }
    for link in names.pick(all) {
        let usable = assigned.iter().filter(|address| {
            address.link == link.index && address.standing < Standing::Passing && !is_link_local(address.own)
        });
        // Of equal ones, the first one is taken.
        let rank = |address: &&Assigned| {
            let foreign = !node.contains(&address.own);
            let alone = address.network.prefix_len() == address.network.max_prefix_len();
            (foreign, address.standing, address.own.is_ipv6(), alone)
        };
        if let Some(address) = usable.min_by_key(rank) {
            return Ok((link, address.own));
        }
    }
    let found: Vec<&str> = names.pick(all).map(|link| link.name.as_str()).collect();
    let names = names.to_string();
    Err(match found.as_slice() {
        [] => TunnelError::Unknown { names, there: listed(all) },
        found => TunnelError::NoAddress { names, found: found.join(", ") },
    })
}

/// Lists the names of links, without those of pods and with a limit.
fn listed(all: &[Link]) -> String {
    let mut names = all.iter().map(|link| link.name.as_str()).filter(|name| !name.ends_with("_h"));
    let mut listed = names.by_ref().take(NAMED).collect::<Vec<_>>().join(", ");
    if names.next().is_some() {
        listed.push_str(", ...");
    }
    listed
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tunnel::link;

    /// Returns the interface and the address that are chosen. The addresses are given as the kernel lists them.
    fn chosen(names: &str, node: &str, assigned: &[(u32, &str, Standing)]) -> String {
        let all = [link(1, "lo"), link(2, "eth0"), link(3, "eth1")];
        let read = |(link, text, standing): &(u32, &str, Standing)| {
            let network: ipnet::IpNet = text.parse().unwrap();
            Assigned {
                link: *link,
                own: network.addr(),
                network: network.trunc(),
                global: true,
                usable: true,
                standing: *standing,
            }
        };
        let assigned: Vec<Assigned> = assigned.iter().map(read).collect();
        let node: Vec<IpAddr> = node.split(',').map(|address| address.parse().unwrap()).collect();
        match choose(&all, &assigned, &Names::parse(names.split(',')).unwrap(), &node) {
            Ok((link, address)) => format!("{} {address}", link.name),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn the_tunnels_address_does_not_follow_one_that_moves() {
        use Standing::{Passing, Primary, Secondary};
        let node = "172.30.0.11,fd00:30::11";
        let own = [(2, "172.30.0.11/24", Primary), (2, "fd00:30::11/64", Primary)];
        let with = |more: &[(u32, &'static str, Standing)]| [&own, more].concat();
        // The node's own address wins, whatever else its interface has.
        for vip in ["172.30.0.5/32", "172.30.0.5/24", "10.0.0.1/32"] {
            let before: Vec<_> = [(2, vip, Primary)].into_iter().chain(own).collect();
            for assigned in [with(&[(2, vip, Primary)]), with(&[(2, vip, Secondary)]), before] {
                assert_eq!(chosen("", node, &assigned), "eth0 172.30.0.11");
                assert_eq!(chosen("eth0", node, &assigned), "eth0 172.30.0.11");
            }
        }
        // A separate interface for tunnels: the first primary address of it.
        let tunnels = |vip: &'static str, standing| with(&[(3, "172.31.0.9/24", Primary), (3, vip, standing)]);
        for (vip, standing) in [("172.31.0.5/32", Primary), ("172.31.0.5/24", Secondary), ("10.9.0.1/24", Primary)] {
            assert_eq!(chosen("eth1", node, &tunnels(vip, standing)), "eth1 172.31.0.9");
        }
        assert_eq!(
            chosen("eth1", node, &with(&[(3, "172.31.0.5/32", Primary), (3, "172.31.0.9/24", Primary)])),
            "eth1 172.31.0.9"
        );
        // A cloud gives addresses without a network.
        assert_eq!(chosen("eth1", node, &with(&[(3, "172.31.0.9/32", Primary)])), "eth1 172.31.0.9");
        let six = [(3, "fe80::1/64", Primary), (3, "fd00:31::abcd/64", Passing), (3, "fd00:31::9/64", Primary)];
        assert_eq!(chosen("eth1", node, &with(&six)), "eth1 fd00:31::9");
        assert_eq!(chosen("eth1", node, &with(&six[..2])), "--iface eth1: eth1 has no address");
        // The addresses of the node are tried in their order.
        assert_eq!(chosen("", "fd00:30::11,172.30.0.11", &own), "eth0 fd00:30::11");
        assert_eq!(chosen("", "10.255.0.1", &with(&[(1, "10.255.0.1/32", Primary)])), "lo 10.255.0.1");
        let lost =
            "no interface has one of the node's addresses, 10.255.0.1: name one by --iface; there are lo, eth0, eth1";
        assert_eq!(chosen("", "10.255.0.1", &own), lost);
    }

    #[test]
    fn interfaces_are_named_without_those_of_pods() {
        let links = |names: &[&str]| listed(&names.iter().map(|name| link(1, name)).collect::<Vec<_>>());
        assert_eq!(links(&["lo", "eth0", "cafe01234567_h"]), "lo, eth0");
        assert_eq!(links(&["eth0"; 17]).split(", ").last(), Some("..."));
    }
}
