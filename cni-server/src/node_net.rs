//! What the node's routes and sets should be, from what it sees of the cluster. Pure.

use std::collections::BTreeSet;

use api::{FieldError, Placement, SubnetDef};
use ipnet::IpNet;

use crate::link::Route;
use crate::masquerade::Wanted;
use crate::seen::Seen;

/// All Subnets as this node sees them.
pub type Subnets = Seen<Result<SubnetDef, FieldError>>;

/// The subnets that OVN serves on the default router.
fn served(subnets: &Subnets) -> impl Iterator<Item = &SubnetDef> {
    let valid = subnets.objects.values().filter_map(|subnet| subnet.as_ref().ok());
    valid.filter(|subnet| subnet.provider == "ovn" && subnet.vpc == "ovn-cluster")
}

/// The routes of `ovn0`: every subnet's networks behind the join switch's gateway. The join switch itself is connected.
pub fn routes(node: &Placement, subnets: &Subnets) -> BTreeSet<Route> {
    served(subnets)
        .filter(|subnet| subnet.name != node.switch)
        .flat_map(|subnet| subnet.cidrs.each())
        .filter_map(|(family, cidr)| Some(Route { to: cidr.net(), via: *node.gateway.get(family)? }))
        .collect()
}

/// The sets of the masquerade rules.
pub fn masquerade(subnets: &Subnets, services: &BTreeSet<IpNet>) -> Wanted {
    let nets = |wanted: fn(&SubnetDef) -> bool| -> BTreeSet<IpNet> {
        let subnets = served(subnets).filter(|subnet| wanted(subnet));
        subnets.flat_map(|subnet| subnet.cidrs.iter()).map(api::Cidr::net).collect()
    };
    Wanted { subnets: nets(|_| true), nat: nets(|subnet| subnet.nat_outgoing), services: services.clone() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use api::{Subnet, SubnetSpec};

    fn subnets(specs: &[(&str, &str, bool)]) -> Subnets {
        let objects = specs.iter().map(|(name, cidr, nat)| {
            let spec = SubnetSpec { cidr_block: (*cidr).to_owned(), nat_outgoing: Some(*nat), ..SubnetSpec::default() };
            ((*name).to_owned(), SubnetDef::parse(&Subnet::new(name, spec)))
        });
        Seen { synced: true, objects: objects.collect() }
    }

    fn node() -> Placement {
        Placement {
            switch: "join".to_owned(),
            ips: "100.64.0.2".parse().unwrap(),
            mac: "0a:00:00:00:00:02".parse().unwrap(),
            cidrs: "100.64.0.0/16".parse().unwrap(),
            gateway: "100.64.0.1".parse().unwrap(),
            complete: true,
        }
    }

    #[test]
    fn routes_lead_to_every_subnet_of_the_nodes_families() {
        let seen = subnets(&[
            ("join", "100.64.0.0/16", false),
            ("dual", "10.23.0.0/24,fd00:23::/64", true),
            ("bad", "10.0.0.0/99", true),
            ("plain", "10.24.0.0/24", false),
        ]);
        let routes: Vec<_> = routes(&node(), &seen).iter().map(|r| format!("{} via {}", r.to, r.via)).collect();
        assert_eq!(routes, ["10.23.0.0/24 via 100.64.0.1", "10.24.0.0/24 via 100.64.0.1"]);
    }

    #[test]
    fn a_subnet_without_nat_is_no_source_of_masquerade() {
        let seen = subnets(&[("join", "100.64.0.0/16", false), ("a", "10.23.0.0/24,fd00:23::/64", true)]);
        let wanted = masquerade(&seen, &BTreeSet::new());
        let text = |nets: &BTreeSet<IpNet>| nets.iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(text(&wanted.subnets), ["10.23.0.0/24", "100.64.0.0/16", "fd00:23::/64"]);
        assert_eq!(text(&wanted.nat), ["10.23.0.0/24", "fd00:23::/64"]);
    }
}
