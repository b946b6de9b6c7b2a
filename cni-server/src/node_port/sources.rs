//! The source addresses of the node's traffic to pods.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::seen::{Lease, Node};

/// The source addresses of the node's traffic to pods: its own addresses, as tools for kube-ovn expect. Without one, the
/// traffic has the address of `ovn0`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sources {
    /// The IPv4 address.
    pub v4: Option<Ipv4Addr>,
    /// The IPv6 address.
    pub v6: Option<Ipv6Addr>,
}

impl Sources {
    /// Chooses the first `InternalIP` of each family that the node can send from, and at which pods reach it according to
    /// its IP object. Pods could not answer another one.
    pub(super) fn choose(node: &Node, lease: &Lease, usable: &BTreeSet<IpAddr>) -> Self {
        let serves = |ip: &&IpAddr| lease.node_addresses.contains(ip) && usable.contains(ip);
        let mut sources = Self::default();
        for ip in node.internal_ips.iter().filter(serves) {
            match ip {
                IpAddr::V4(v4) => sources.v4 = sources.v4.or(Some(*v4)),
                IpAddr::V6(v6) => sources.v6 = sources.v6.or(Some(*v6)),
            }
        }
        sources
    }

    /// Returns the source of traffic to this address.
    pub fn to(&self, address: IpAddr) -> Option<IpAddr> {
        if address.is_ipv4() { self.v4.map(IpAddr::V4) } else { self.v6.map(IpAddr::V6) }
    }
}

#[cfg(test)]
mod tests {
    use api::annotations::NodeWant;

    use super::*;

    fn ips<T: FromIterator<IpAddr>>(list: &[&str]) -> T {
        list.iter().map(|ip| ip.parse::<IpAddr>().unwrap()).collect()
    }

    fn chosen(internal: &[&str], served: &[&str], usable: &[&str]) -> String {
        let node = Node { uid: "uid".to_owned(), internal_ips: ips(internal), want: NodeWant::default() };
        let lease = Lease {
            holder: "uid".to_owned(),
            subnet: "join".to_owned(),
            ips: "100.64.0.2".parse().unwrap(),
            mac: "0a:00:00:00:00:02".parse().unwrap(),
            node_addresses: ips(served),
        };
        let Sources { v4, v6 } = Sources::choose(&node, &lease, &ips(usable));
        let text = |ip: Option<IpAddr>| ip.map_or("-".to_owned(), |ip| ip.to_string());
        format!("{} {}", text(v4.map(IpAddr::V4)), text(v6.map(IpAddr::V6)))
    }

    #[test]
    fn the_first_address_of_each_family_that_is_known_everywhere_is_chosen() {
        let all = ["172.31.0.9", "fd00:31::1", "172.31.0.1"];
        assert_eq!(chosen(&all, &all, &all), "172.31.0.9 fd00:31::1");
        assert_eq!(chosen(&all, &all, &all[1..]), "172.31.0.1 fd00:31::1", "the first is on no interface");
        assert_eq!(chosen(&all, &all[2..], &all), "172.31.0.1 -", "the others are not in the IP object");
        assert_eq!(chosen(&[], &all, &all), "- -", "the Node has none any more");
    }
}
