//! What the node's routes and sets should be, from the subnets in force and the node's own networks.
//!
//! A subnet must not take over traffic of the node itself. So the node leaves out a subnet that overlaps one of its own
//! networks, with a warning, and serves the others.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use api::EffectiveSubnet;
use ipnet::IpNet;
use links::Route;
use tokio::sync::watch;

use crate::allocation::Allocation;
use crate::databases::Databases;
use crate::node_port::Sources;
use crate::own_networks::OwnNetworks;
use crate::rules::{Wanted, leaving};
use crate::seen::{Seen, publish};
use crate::tunnel::{Mtu, Networks};

/// The subnets in force, and which of them this node serves.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Served {
    /// The subnets in force. They count as listed when the node's own networks are known, too.
    pub in_force: Seen<EffectiveSubnet>,
    /// The node's own networks.
    pub own: OwnNetworks,
    /// Why the node leaves out a subnet, by the subnet's name.
    pub left_out: BTreeMap<String, Overlap>,
}

/// A subnet that overlaps one of the node's own networks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Overlap {
    /// The subnet.
    pub subnet: String,
    /// The subnet's network.
    pub network: IpNet,
    /// The node's interface.
    pub interface: String,
    /// The network of the interface.
    pub own: IpNet,
}

impl fmt::Display for Overlap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { subnet, network, interface, own } = self;
        write!(f, "subnet {subnet}: its network {network} overlaps {own} of this node's interface {interface}")
    }
}

impl Served {
    /// Decides which subnets the node serves. `own` is `None` before the node's own networks are known.
    pub fn new(in_force: Seen<EffectiveSubnet>, own: Option<OwnNetworks>) -> Self {
        let synced = in_force.synced && own.is_some();
        let own = own.unwrap_or_default();
        let overlap = |subnet: &EffectiveSubnet| {
            let networks = || subnet.cidrs.iter().map(api::Cidr::net);
            let pairs = own.iter().flat_map(|own| networks().map(move |network| (own, network)));
            let overlap = |(_, own): &(String, IpNet), net: IpNet| own.contains(&net) || net.contains(own);
            let ((interface, own), network) = pairs.into_iter().find(|(own, network)| overlap(own, *network))?;
            let (subnet, interface) = (subnet.name.clone(), interface.clone());
            Some((subnet.clone(), Overlap { subnet, network, interface, own: *own }))
        };
        let left_out = in_force.objects.values().filter_map(overlap).collect();
        Self { in_force: Seen { synced, ..in_force }, own, left_out }
    }

    /// The subnets that the node serves.
    pub fn subnets(&self) -> impl Iterator<Item = &EffectiveSubnet> {
        self.in_force.objects.values().filter(|subnet| !self.left_out.contains_key(&subnet.name))
    }

    /// Whether the links and routes of the node are the same with another value.
    pub fn has_networks_of(&self, other: &Self) -> bool {
        let Self { in_force, own, left_out } = self;
        (own, left_out) == (&other.own, &other.left_out)
            && in_force.synced == other.in_force.synced
            && in_force.objects.len() == other.in_force.objects.len()
            && in_force
                .objects
                .values()
                .zip(other.in_force.objects.values())
                .all(|(one, two)| has_networks_of(one, two))
    }

    /// The MTU of `ovn0`: that of the subnet with the largest one, so that its packets reach the node. Whatever network of the
    /// nodes a subnet names, its packets from and to nodes go by the tunnel interface, which `mtu` is of.
    pub fn device_mtu(&self, mtu: Mtu, networks: &Networks) -> u32 {
        self.subnets().map(|subnet| mtu_in(subnet, mtu, networks)).chain([mtu.pods]).max().unwrap_or(mtu.pods)
    }

    /// The routes of `ovn0`: to the networks of every subnet, through the gateway of the join subnet, with the node's own
    /// address as the source, and with the MTU of the subnet if that of `ovn0` is larger. The join subnet itself is
    /// connected, and its route has the address of `ovn0`. `mtu` is `None` while the node has no tunnels.
    pub fn routes(
        &self,
        node: &Allocation,
        sources: Sources,
        mtu: Option<Mtu>,
        networks: &Networks,
    ) -> BTreeSet<Route> {
        let device = mtu.map(|mtu| self.device_mtu(mtu, networks));
        let smaller =
            |subnet: &EffectiveSubnet| mtu.map(|mtu| mtu_in(subnet, mtu, networks)).filter(|mtu| Some(*mtu) < device);
        let via = |network: IpNet| {
            let gateways = node.addresses().map(|(_, gateway)| gateway);
            gateways.into_iter().find(|gateway| gateway.is_ipv4() == network.addr().is_ipv4())
        };
        self.subnets()
            .filter(|subnet| subnet.name != node.lease.subnet)
            .flat_map(|subnet| subnet.cidrs.iter().map(move |cidr| (cidr.net(), smaller(subnet))))
            .filter_map(|(to, mtu)| Some(Route { to, via: via(to)?, src: sources.to(to.addr()), mtu }))
            .collect()
    }

    /// What the firewall rules depend on. `sources` is `None` before the sources of the node's traffic are known.
    pub fn rules(
        &self,
        services: &BTreeSet<IpNet>,
        sources: Option<Sources>,
        databases: &Databases,
        own: &Own,
    ) -> Wanted {
        let nets = |wanted: fn(&EffectiveSubnet) -> bool| -> BTreeSet<IpNet> {
            let subnets = self.subnets().filter(|subnet| wanted(subnet));
            subnets.flat_map(|subnet| subnet.cidrs.iter()).map(api::Cidr::net).collect()
        };
        let nodes = self.in_force.objects.values().flat_map(|subnet| &subnet.nodes).map(|node| IpNet::from(*node));
        Wanted {
            subnets: nets(|_| true),
            nat: nets(|subnet| subnet.nat_outgoing),
            leaving: self
                .subnets()
                .filter(|subnet| subnet.nat_outgoing)
                .flat_map(|subnet| leaving::of(subnet, &own.node))
                .collect(),
            services: services.iter().map(IpNet::trunc).collect(),
            private: nets(|subnet| subnet.private),
            nodes: nodes.collect(),
            databases: databases.nodes.clone(),
            members: databases.members.clone(),
            mirror: own.mirror.clone(),
            sources,
        }
    }
}

/// The MTU between nodes and the pods of a subnet: what both the tunnel interface and the subnet's network of the node carry.
fn mtu_in(subnet: &EffectiveSubnet, mtu: Mtu, networks: &Networks) -> u32 {
    let network = subnet.node_network.as_ref().and_then(|name| networks.get(name)?.as_ref().ok());
    let most = mtu.of(subnet.mtu);
    network.map_or(most, |network| network.mtu.of(subnet.mtu).min(most))
}

/// Names of this node that the rules contain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Own {
    /// The name of the node.
    pub node: String,
    /// The device of the mirror.
    pub mirror: String,
}

/// Only the firewall rules depend on the other fields.
fn has_networks_of(one: &EffectiveSubnet, two: &EffectiveSubnet) -> bool {
    let EffectiveSubnet {
        name,
        cidrs,
        gateway,
        nat_outgoing: _,
        nat_rules: _,
        nat_sources: _,
        mtu,
        private: _,
        node_network,
        nodes: _,
    } = one;
    (name, cidrs, gateway, mtu) == (&two.name, &two.cidrs, &two.gateway, &two.mtu) && *node_network == two.node_network
}

/// Starts the task that decides again at each change, and logs what the node leaves out.
pub fn serve(
    mut in_force: watch::Receiver<Seen<EffectiveSubnet>>,
    mut own: watch::Receiver<Option<OwnNetworks>>,
) -> watch::Receiver<Served> {
    let (sender, receiver) = watch::channel(Served::default());
    tokio::spawn(async move {
        loop {
            let now = Served::new(in_force.borrow_and_update().clone(), own.borrow_and_update().clone());
            tell(&sender.borrow().left_out, &now.left_out);
            publish(&sender, now);
            tokio::select! {
                Ok(()) = in_force.changed() => {}
                Ok(()) = own.changed() => {}
                else => return,
            }
        }
    });
    receiver
}

fn tell(before: &BTreeMap<String, Overlap>, now: &BTreeMap<String, Overlap>) {
    for (_, overlap) in now.iter().filter(|(name, overlap)| before.get(*name) != Some(overlap)) {
        tracing::warn!("{overlap}: the node gets no route to the subnet and masquerades nothing of it");
    }
    for subnet in before.keys().filter(|name| !now.contains_key(*name)) {
        tracing::info!(subnet, "the subnet does not overlap the node's own networks any more");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seen::Lease;
    use crate::tunnel::Network;

    fn served(subnets: &[(&str, &str, &str, bool)], own: &[(&str, &str)]) -> Served {
        let objects = subnets.iter().map(|(name, cidrs, gateway, nat_outgoing)| {
            let subnet = EffectiveSubnet {
                name: (*name).to_owned(),
                cidrs: cidrs.parse().unwrap(),
                gateway: gateway.parse().unwrap(),
                nat_outgoing: *nat_outgoing,
                nat_rules: Vec::new(),
                nat_sources: Vec::new(),
                mtu: None,
                private: false,
                node_network: None,
                nodes: BTreeSet::new(),
            };
            (subnet.name.clone(), subnet)
        });
        let own = own.iter().map(|(interface, network)| ((*interface).to_owned(), network.parse().unwrap()));
        Served::new(Seen { synced: true, objects: objects.collect() }, Some(own.collect()))
    }

    fn routes(served: &Served) -> Vec<String> {
        let lease = Lease {
            holder: "uid".to_owned(),
            subnet: "join".to_owned(),
            ips: "100.64.0.2".parse().unwrap(),
            mac: "0a:00:00:00:00:02".parse().unwrap(),
            node_addresses: BTreeSet::new(),
        };
        let node = Allocation { lease, subnet: served.in_force.objects["join"].clone() };
        let sources = Sources { v4: Some("172.31.0.1".parse().unwrap()), v6: None };
        let mtu = Some(Mtu { pods: 1400, most: 1442 });
        served.routes(&node, sources, mtu, &Networks::new()).iter().map(ToString::to_string).collect()
    }

    fn this_node() -> Own {
        Own { node: "n1".to_owned(), mirror: "mirror0".to_owned() }
    }

    const JOIN: (&str, &str, &str, bool) = ("join", "100.64.0.0/16,fd00:64::/64", "100.64.0.1,fd00:64::1", false);
    const DUAL: (&str, &str, &str, bool) = ("dual", "10.23.0.0/24,fd00:23::/64", "10.23.0.1,fd00:23::1", true);
    const PLAIN: (&str, &str, &str, bool) = ("plain", "10.24.0.0/24", "10.24.0.1", false);

    #[test]
    fn routes_lead_to_every_subnet_of_the_nodes_families() {
        let seen = served(&[JOIN, DUAL, PLAIN], &[("eth0", "172.31.0.0/24")]);
        assert_eq!(
            routes(&seen),
            ["10.23.0.0/24 via 100.64.0.1 src 172.31.0.1", "10.24.0.0/24 via 100.64.0.1 src 172.31.0.1"]
        );
    }

    #[test]
    fn ovn0_has_the_largest_mtu_and_routes_to_other_subnets_have_their_own() {
        let mut seen = served(&[JOIN, DUAL, PLAIN], &[]);
        let mtu = Mtu { pods: 1400, most: 1442 };
        for (dual, plain, device, expected) in [
            (None, None, 1400, ["", ""]),
            (None, Some(1300), 1400, ["", " mtu 1300"]),
            (Some(1420), None, 1420, ["", " mtu 1400"]),
            (Some(9000), Some(1442), 1442, ["", ""]),
        ] {
            for (name, mtu) in [("dual", dual), ("plain", plain)] {
                seen.in_force.objects.get_mut(name).unwrap().mtu = mtu;
            }
            assert_eq!(seen.device_mtu(mtu, &Networks::new()), device);
            let [dual, plain] = expected;
            let expected = [
                format!("10.23.0.0/24 via 100.64.0.1 src 172.31.0.1{dual}"),
                format!("10.24.0.0/24 via 100.64.0.1 src 172.31.0.1{plain}"),
            ];
            assert_eq!(routes(&seen), expected);
        }
    }

    #[test]
    fn nodes_send_to_a_subnet_what_both_its_network_and_the_tunnel_interface_carry() {
        let mut seen = served(&[JOIN, DUAL], &[]);
        seen.in_force.objects.get_mut("dual").unwrap().node_network = Some("storage".to_owned());
        let network =
            |pods| Network { address: "172.32.0.9".parse().unwrap(), index: 1, mtu: Mtu { pods, most: pods } };
        let with = |network: Result<Network, String>| Networks::from([("storage".to_owned(), network)]);
        let mtu = Mtu { pods: 1400, most: 1442 };
        let dual = &seen.in_force.objects["dual"];
        for (network, expected) in [(Ok(network(8900)), 1400), (Ok(network(1300)), 1300), (Err(String::new()), 1400)] {
            assert_eq!(mtu_in(dual, mtu, &with(network.clone())), expected);
            assert_eq!(seen.device_mtu(mtu, &with(network)), 1400);
        }
    }

    #[test]
    fn the_links_and_routes_do_not_depend_on_what_only_the_rules_need() {
        let before = served(&[JOIN, DUAL], &[]);
        let with = |change: fn(&mut EffectiveSubnet)| {
            let mut now = before.clone();
            now.in_force.objects.values_mut().for_each(change);
            now.has_networks_of(&before)
        };
        assert!(with(|subnet| (subnet.nat_outgoing, subnet.private) = (!subnet.nat_outgoing, true)));
        assert!(with(|subnet| subnet.nodes = BTreeSet::from(["172.31.0.1".parse().unwrap()])));
        assert!(!with(|subnet| subnet.mtu = Some(1300)));
        assert!(!with(|subnet| subnet.cidrs = "10.25.0.0/24".parse().unwrap()));
        assert!(!served(&[JOIN], &[]).has_networks_of(&before));
        assert!(!served(&[JOIN, DUAL], &[("eth0", "172.31.0.0/24")]).has_networks_of(&before));
    }

    #[test]
    fn a_subnet_without_nat_is_no_source_of_masquerade() {
        let wanted =
            served(&[JOIN, DUAL, PLAIN], &[]).rules(&BTreeSet::new(), None, &Databases::default(), &this_node());
        let text = |nets: &BTreeSet<IpNet>| nets.iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(
            text(&wanted.subnets),
            ["10.23.0.0/24", "10.24.0.0/24", "100.64.0.0/16", "fd00:23::/64", "fd00:64::/64"]
        );
        assert_eq!(text(&wanted.nat), ["10.23.0.0/24", "fd00:23::/64"]);
    }

    #[test]
    fn a_subnet_that_overlaps_an_own_network_is_left_out_and_the_others_are_not() {
        for (own, named) in [
            ("10.0.0.0/8", "10.23.0.0/24 overlaps 10.0.0.0/8"),
            ("10.23.0.128/25", "10.23.0.0/24 overlaps 10.23.0.128/25"),
            ("10.23.0.9/32", "10.23.0.0/24 overlaps 10.23.0.9/32"),
            ("fd00::/16", "fd00:23::/64 overlaps fd00::/16"),
        ] {
            let seen = served(&[DUAL, PLAIN], &[("eth1", own), ("eth0", "172.31.0.0/24")]);
            let said = seen.left_out["dual"].to_string();
            assert_eq!(said, format!("subnet dual: its network {named} of this node's interface eth1"));
            let nat = seen.rules(&BTreeSet::new(), None, &Databases::default(), &this_node());
            assert!(nat.nat.is_empty() && !nat.subnets.contains(&"fd00:23::/64".parse().unwrap()), "{own}");
            assert_eq!(nat.subnets.contains(&"10.24.0.0/24".parse().unwrap()), own != "10.0.0.0/8", "{own}");
        }
        let all = ("all", "0.0.0.0/0", "10.0.0.1", true);
        let seen = served(&[JOIN, PLAIN, all], &[("eth0", "172.31.0.0/24")]);
        assert_eq!(routes(&seen), ["10.24.0.0/24 via 100.64.0.1 src 172.31.0.1"]);
    }

    #[test]
    fn nothing_is_known_before_the_own_networks_are() {
        let seen = served(&[PLAIN], &[]).in_force;
        assert!(!Served::new(seen.clone(), None).in_force.synced);
        assert!(Served::new(seen, Some(OwnNetworks::new())).in_force.synced);
    }
}
