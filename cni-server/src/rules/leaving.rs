//! The ways in which traffic of subnets with NAT leaves the cluster, beside the usual one. Pure.

use std::collections::BTreeSet;
use std::net::IpAddr;

use api::EffectiveSubnet;
use ipnet::IpNet;

use super::Family;

/// Traffic that leaves the cluster from a subnet with NAT in another way than with the address of the node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leaving {
    /// The sources: parts of the subnet, or all of it. They have one family, and so have the destinations.
    pub src: BTreeSet<IpNet>,
    /// The destinations; any if there are none.
    pub dst: BTreeSet<IpNet>,
    /// How it leaves.
    pub how: How,
}

impl Leaving {
    pub(super) fn is_of(&self, family: Family) -> bool {
        self.src.iter().any(|net| family.has(net))
    }
}

/// How traffic leaves the cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum How {
    /// With the pod's own address.
    Forward,
    /// With the address of the node.
    Masquerade,
    /// With this address.
    Snat(IpAddr),
}

/// Returns what leaves a subnet with NAT in another way than with the node's address, on the node with this name. A rule
/// applies to the part of the subnet that it names.
pub fn of(subnet: &EffectiveSubnet, node: &str) -> Vec<Leaving> {
    let mut all = Vec::new();
    for net in subnet.cidrs.iter().map(api::Cidr::net) {
        let same_family = |other: &IpNet| other.addr().is_ipv4() == net.addr().is_ipv4();
        let mine = subnet.nat_sources.iter().filter(|source| source.node == node);
        let own = mine.filter_map(|source| source.address).find(|address| same_family(&IpNet::from(*address)));
        let own = own.map(How::Snat);
        for rule in &subnet.nat_rules {
            let how = if rule.nat { own.unwrap_or(How::Masquerade) } else { How::Forward };
            let names_other = rule.src.iter().chain(&rule.dst).next().is_some_and(|any| !same_family(any));
            let src: BTreeSet<IpNet> = match rule.src.as_slice() {
                [] if names_other => BTreeSet::new(),
                [] => [net].into(),
                named => named.iter().filter_map(|named| common(*named, net)).collect(),
            };
            if !src.is_empty() {
                all.push(Leaving { src, dst: rule.dst.iter().copied().collect(), how });
            }
        }
        all.extend(own.map(|how| Leaving { src: [net].into(), dst: BTreeSet::new(), how }));
    }
    all
}

/// The network that two networks have in common: the smaller one, if the other contains it.
fn common(one: IpNet, two: IpNet) -> Option<IpNet> {
    match (one.contains(&two), two.contains(&one)) {
        (true, _) => Some(two),
        (_, true) => Some(one),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use api::{GatewayNode, NatRule};

    use super::*;

    fn rule(src: &[&str], dst: &[&str], nat: bool) -> NatRule {
        let nets = |list: &[&str]| list.iter().map(|net| net.parse().unwrap()).collect();
        NatRule { src: nets(src), dst: nets(dst), nat }
    }

    fn source(node: &str, address: &str) -> GatewayNode {
        GatewayNode { node: node.to_owned(), address: Some(address.parse().unwrap()) }
    }

    #[test]
    fn rules_apply_in_order_to_the_part_that_they_name() {
        let subnet = EffectiveSubnet {
            name: "dual".to_owned(),
            cidrs: "10.23.0.0/24,fd00:23::/64".parse().unwrap(),
            gateway: "10.23.0.1,fd00:23::1".parse().unwrap(),
            nat_outgoing: true,
            nat_rules: vec![
                rule(&["10.23.0.8/29", "10.99.0.0/16"], &["192.0.2.1/32", "192.0.2.2/32"], false),
                rule(&["10.0.0.0/8"], &[], true),
                rule(&[], &["2001:db8::/32"], false),
                rule(&[], &[], true),
            ],
            nat_sources: vec![source("n2", "203.0.113.9"), source("n1", "203.0.113.5")],
            mtu: None,
            private: false,
            node_network: None,
            nodes: BTreeSet::new(),
        };
        let list = |nets: &BTreeSet<IpNet>| nets.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
        let print = |Leaving { src, dst, how }: &Leaving| {
            let dst = if dst.is_empty() { "any".to_owned() } else { list(dst) };
            format!("{} to {dst}: {how:?}", list(src))
        };
        let on = |node: &str| of(&subnet, node).iter().map(print).collect::<Vec<_>>();
        assert_eq!(
            on("n1"),
            [
                "10.23.0.8/29 to 192.0.2.1/32,192.0.2.2/32: Forward",
                "10.23.0.0/24 to any: Snat(203.0.113.5)",
                "10.23.0.0/24 to any: Snat(203.0.113.5)",
                "10.23.0.0/24 to any: Snat(203.0.113.5)",
                "fd00:23::/64 to 2001:db8::/32: Forward",
                "fd00:23::/64 to any: Masquerade",
            ]
        );
        assert_eq!(on("n3")[1], "10.23.0.0/24 to any: Masquerade", "another node has no address of its own");
    }
}
