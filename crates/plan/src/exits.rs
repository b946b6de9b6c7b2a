//! The ways by which the pods of centralized subnets leave the cluster.
//!
//! A way is a router port that belongs to the active one of several chassis ([`ovn::GatewayChassis`]). Each way has a next hop of
//! its own, because a policy names no port: the router finds the port by the next hop.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use ovn::{EXIT, LogicalRouterPort, row_id};

/// A way out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Way {
    /// The name of the router port.
    pub(crate) port: Arc<str>,
    /// The nodes, the preferred one first. The others stand in for it.
    pub(crate) nodes: Vec<Arc<str>>,
}

/// The gateway nodes of a subnet.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GatewayNodes {
    /// Those that can be used, in order of preference.
    pub usable: Vec<Arc<str>>,
    /// The nodes over which connections are spread, in their order: also those that cannot be used now, because with other next
    /// hops OVN would move connections that have nothing to do with them. Empty if all connections leave by one node.
    pub spread: Vec<Arc<str>>,
}

/// The ways of all centralized subnets.
#[derive(Clone, Debug, Default)]
pub(crate) struct Exits {
    of: BTreeMap<Arc<str>, Vec<Way>>,
    hops: Hops,
    /// Reverse index: the subnets whose pods leave by a node.
    users: BTreeMap<Arc<str>, BTreeSet<Arc<str>>>,
}

/// What changed with the ways of a subnet.
pub(crate) struct Changed {
    /// The nodes that became gateways, or are gateways no longer.
    pub(crate) nodes: Vec<Arc<str>>,
    /// Whether there are ways now and were none, or the other way round.
    pub(crate) any: bool,
}

impl Exits {
    /// Sets the gateway nodes of a subnet. Returns `None` if nothing changed.
    pub(crate) fn set(&mut self, subnet: &Arc<str>, nodes: &GatewayNodes) -> Option<Changed> {
        let ways = ways(subnet, nodes);
        let before = self.of.get(subnet).map(Vec::as_slice).unwrap_or_default();
        if before == ways {
            return None;
        }
        let (was_any, before) = (!self.of.is_empty(), before.to_vec());
        for gone in before.iter().filter(|way| !ways.iter().any(|now| now.port == way.port)) {
            self.hops.release(&gone.port);
        }
        for way in &ways {
            self.hops.claim(&way.port);
        }
        let nodes_of = |ways: &[Way]| ways.iter().flat_map(|way| way.nodes.iter().cloned()).collect::<BTreeSet<_>>();
        let (former, now) = (nodes_of(&before), nodes_of(&ways));
        let mut changed = Changed { nodes: Vec::new(), any: false };
        for node in former.difference(&now) {
            let Some(users) = self.users.get_mut(node) else { continue };
            users.remove(subnet);
            if users.is_empty() {
                self.users.remove(node);
                changed.nodes.push(Arc::clone(node));
            }
        }
        for node in now.difference(&former) {
            let users = self.users.entry(Arc::clone(node)).or_default();
            if users.is_empty() {
                changed.nodes.push(Arc::clone(node));
            }
            users.insert(Arc::clone(subnet));
        }
        if ways.is_empty() {
            self.of.remove(subnet);
        } else {
            self.of.insert(Arc::clone(subnet), ways);
        }
        changed.any = was_any == self.of.is_empty();
        Some(changed)
    }

    /// Whether there is any way.
    pub(crate) fn is_empty(&self) -> bool {
        self.of.is_empty()
    }

    /// The ways of a subnet. None if it has no gateway node.
    pub(crate) fn of(&self, subnet: &str) -> &[Way] {
        self.of.get(subnet).map(Vec::as_slice).unwrap_or_default()
    }

    /// The subnets whose pods leave by this node.
    pub(crate) fn users(&self, node: &str) -> impl Iterator<Item = &Arc<str>> {
        self.users.get(node).into_iter().flatten()
    }

    /// The networks of a way: for each family, the address of its router port and the next hop.
    pub(crate) fn link(&self, port: &str, family: api::Family) -> (IpAddr, IpAddr) {
        let number = self.hops.of.get(port).copied().unwrap_or_default();
        let at = |last: u32| match family {
            api::Family::V4 => IpAddr::V4(Ipv4Addr::from_bits(V4 | (number << 1) | last)),
            api::Family::V6 => IpAddr::V6(Ipv6Addr::from_bits(V6 | u128::from((number << 1) | last))),
        };
        (at(0), at(1))
    }
}

/// How many nodes a way has at most, if connections are spread: with all of them, the rows would grow with the square of the
/// number of nodes.
const NODES: usize = 5;

/// With connections that are spread, each node is a way of its own, and those that follow stand in for it.
fn ways(subnet: &str, GatewayNodes { usable, spread }: &GatewayNodes) -> Vec<Way> {
    if usable.is_empty() {
        return Vec::new();
    }
    if spread.is_empty() {
        return vec![Way { port: format!("{EXIT}{subnet}").into(), nodes: usable.clone() }];
    }
    let way = |first: usize| {
        let mut nodes = spread.clone();
        nodes.rotate_left(first);
        let port = format!("{EXIT}{subnet}:{}", nodes[0]).into();
        nodes.retain(|node| usable.contains(node));
        nodes.truncate(NODES);
        Way { port, nodes }
    };
    (0..spread.len()).map(way).collect()
}

/// The networks of next hops. They are used between ports of the router only, and appear in no packet.
const V4: u32 = 0xf000_0000; // 240.0.0.0/4
const V6: u128 = 0xfd6b_7562_6f76_6e00 << 64;

/// How many next hops there are: each takes two addresses of 240.0.0.0/4.
const HOPS: u32 = 1 << 27;

/// The number of each way, from which its next hop follows. It is derived from the name of the port, so that it stays over a
/// change of the leader. If two names have the same one, the later one gets the next free number.
#[derive(Clone, Debug, Default)]
struct Hops {
    of: BTreeMap<Arc<str>, u32>,
    taken: BTreeSet<u32>,
}

impl Hops {
    fn claim(&mut self, port: &Arc<str>) {
        if self.of.contains_key(port) {
            return;
        }
        let [a, b, c, d, ..] = *row_id(&LogicalRouterPort::key(port), "").as_bytes();
        let first = u32::from_be_bytes([a, b, c, d]) % HOPS;
        let free = (0..HOPS).map(|step| (first + step) % HOPS).find(|number| !self.taken.contains(number));
        let Some(number) = free else { return };
        self.taken.insert(number);
        self.of.insert(Arc::clone(port), number);
    }

    fn release(&mut self, port: &str) {
        if let Some(number) = self.of.remove(port) {
            self.taken.remove(&number);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nodes(usable: &[&str], spread: &[&str]) -> GatewayNodes {
        let names = |names: &[&str]| names.iter().map(|name| Arc::from(*name)).collect();
        GatewayNodes { usable: names(usable), spread: names(spread) }
    }

    #[test]
    fn ways_of_one_network_have_different_next_hops() {
        let mut exits = Exits::default();
        exits.set(&"a".into(), &nodes(&["n1", "n2"], &[]));
        exits.set(&"b".into(), &nodes(&["n1", "n2"], &["n1", "n2"]));
        let show = |subnet| {
            exits.of(subnet).iter().map(|way| format!("{} {}", way.port, way.nodes.join(","))).collect::<Vec<_>>()
        };
        assert_eq!(show("a"), ["exit:a n1,n2"]);
        assert_eq!(show("b"), ["exit:b:n1 n1,n2", "exit:b:n2 n2,n1"]);
        let hops = ["exit:a", "exit:b:n1", "exit:b:n2"].map(|port| exits.link(port, api::Family::V4).1);
        assert_eq!(BTreeSet::from(hops).len(), 3);
        assert!(hops.iter().all(|hop| matches!(hop, IpAddr::V4(hop) if hop.octets()[0] >= 240)), "{hops:?}");
        exits.set(&"b".into(), &nodes(&["n2"], &["n1", "n2"]));
        let stays: Vec<_> = exits.of("b").iter().map(|way| (&*way.port, way.nodes.join(","))).collect();
        assert_eq!(stays, [("exit:b:n1", "n2".to_owned()), ("exit:b:n2", "n2".to_owned())]);
        let (own, hop) = exits.link("exit:a", api::Family::V6);
        assert!(own.to_string().starts_with("fd6b:7562:6f76:6e00::"), "{own}");
        assert_ne!(own, hop);
    }

    #[test]
    fn a_taken_number_is_left_to_who_has_it() {
        let mut hops = Hops::default();
        let port: Arc<str> = "exit:a".into();
        hops.claim(&port);
        let number = hops.of[&port];
        hops.of.clear();
        hops.claim(&port);
        assert_eq!(hops.of[&port], (number + 1) % HOPS);
        hops.release(&port);
        assert_eq!(hops.taken, [number].into());
    }

    #[test]
    fn what_else_changes_is_told() {
        let mut exits = Exits::default();
        let mut set = |subnet: &str, usable: &[&str]| {
            exits.set(&subnet.into(), &nodes(usable, &[])).map(|changed| (changed.nodes.join(","), changed.any))
        };
        assert_eq!(set("a", &[]), None);
        assert_eq!(set("a", &["n1", "n2"]), Some(("n1,n2".into(), true)));
        assert_eq!(set("b", &["n2", "n3"]), Some(("n3".into(), false)));
        assert_eq!(set("b", &["n2", "n3"]), None);
        assert_eq!(set("a", &["n2", "n1"]), Some((String::new(), false)));
        assert_eq!(set("a", &[]), Some(("n1".into(), false)));
        assert_eq!(set("b", &[]), Some(("n2,n3".into(), true)));
    }
}
