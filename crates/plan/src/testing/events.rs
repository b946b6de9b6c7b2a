//! Random changes to a world, from ranges so small that they often concern the same objects.
//!
//! They cover every feature of the compiler: both families together and alone, overlapping networks, gateways, ACLs,
//! router advertisements, port security, objects that are created again with another uid, nodes with the same address, and
//! external hosts.

use std::sync::Arc;

use api::SubnetDef;
use api::annotations::Limit;
use proptest::prelude::*;
use proptest::sample::{select, subsequence};
use serde_json::json;

use super::{node, port, subnet};
use crate::exits::GatewayNodes;
use crate::objects::{Node, Port, Settings};
use crate::world::World;

const SUBNETS: u8 = 4;
const NODES: u8 = 3;
const PORTS: u8 = 6;

/// A change of one object.
#[derive(Debug, Clone)]
pub enum Event {
    /// A subnet is set.
    Subnet(Box<SubnetDef>),
    /// A subnet is removed, by name.
    SubnetGone(Arc<str>),
    /// The gateway nodes of a subnet are set.
    GatewayNodes(Arc<str>, GatewayNodes),
    /// A node is set.
    Node(Node),
    /// A node is removed, by name.
    NodeGone(Arc<str>),
    /// A port is set.
    Port(Port),
    /// A port is removed, by name.
    PortGone(Arc<str>),
}

impl Event {
    /// Applies the change.
    pub fn apply(&self, world: &mut World) {
        match self.clone() {
            Self::Subnet(subnet) => world.set_subnet(*subnet),
            Self::SubnetGone(name) => world.remove_subnet(&name),
            Self::GatewayNodes(subnet, nodes) => drop(world.set_gateway_nodes(&subnet, &nodes)),
            Self::Node(node) => world.set_node(node),
            Self::NodeGone(name) => world.remove_node(&name),
            Self::Port(port) => world.set_port(port),
            Self::PortGone(name) => world.remove_port(&name),
        }
    }
}

/// An empty world with these changes applied.
pub fn world_after<'a>(events: impl IntoIterator<Item = &'a Event>) -> World {
    let mut world = World::new(Settings::default());
    for event in events {
        event.apply(&mut world);
    }
    world
}

/// Any change.
pub fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        4 => a_subnet().prop_map(|subnet| Event::Subnet(Box::new(subnet))),
        2 => (0..SUBNETS).prop_map(|index| Event::SubnetGone(subnet_name(index).into())),
        2 => gateway_nodes(),
        3 => a_node().prop_map(Event::Node),
        1 => (0..NODES).prop_map(|index| Event::NodeGone(format!("n{index}").into())),
        4 => a_port().prop_map(Event::Port),
        2 => (0..PORTS).prop_map(|index| Event::PortGone(format!("p{index}.ns").into())),
    ]
}

/// The name of a subnet. Index 0 is the join subnet, which changes like the others.
fn subnet_name(index: u8) -> String {
    if index == 0 { "join".into() } else { format!("net-{index}") }
}

fn a_subnet() -> impl Strategy<Value = SubnetDef> {
    let allowed = subsequence(vec!["10.3.0.0/24", "fd00:3::/64", "10.16.0.0/16"], 0..=3);
    let leaves_by = select(vec!["distributed", "centralized"]);
    let advertised = select(vec![None, Some(""), Some("address_mode=slaac,send_periodic=true")]);
    let acl = |action: &str, match_: &str| json!({ "direction": "to-lport", "priority": 1, "match": match_, "action": action });
    let acls = subsequence(vec![acl("drop", "ip4"), acl("reject", "ip6"), acl("allow-related", "arp")], 0..=2);
    let acls = (acls, any::<bool>()).prop_map(|(mut acls, other)| {
        acls.iter_mut().filter(|_| other).for_each(|acl| acl["action"] = json!("allow"));
        acls
    });
    let collector = |pods: &str| Some(json!({ "to": "192.0.2.9", "pods": pods }));
    let mirror = select(vec![None, collector("All"), collector("Annotated")]);
    let parts = (
        0..SUBNETS,
        0..4u8,
        leaves_by,
        any::<bool>(),
        allowed,
        advertised,
        any::<bool>(),
        any::<bool>(),
        (acls, mirror),
    );
    parts.prop_map(|(index, networks, leaves_by, private, allowed, advertised, last, again, (acls, mirror))| {
        let v6 = format!("fd00:{index}::/64");
        let (cidr, gateway) = match networks {
            0 => (format!("10.{index}.0.0/24"), format!("10.{index}.0.254")),
            1 => (format!("10.{index}.0.0/24,{v6}"), format!("10.{index}.0.254,fd00:{index}::ff")),
            2 => (v6, format!("fd00:{index}::ff")),
            // The same network for all subnets.
            _ => ("10.3.0.0/24".into(), "10.3.0.254".into()),
        };
        let more = json!({
            "gateway": if last { gateway } else { String::new() },
            "gatewayType": leaves_by, "private": private, "allowSubnets": allowed,
            "acls": acls, "remoteMirror": mirror, "enableIPv6RA": advertised.is_some(), "ipv6RAConfigs": advertised.unwrap_or_default(),
        });
        let mut subnet = subnet(&subnet_name(index), &cidr, more);
        if again {
            subnet.uid.push_str("-again");
        }
        subnet
    })
}

fn gateway_nodes() -> impl Strategy<Value = Event> {
    let nodes = || subsequence((0..NODES).collect::<Vec<_>>(), 0..=usize::from(NODES));
    (1..SUBNETS, nodes(), nodes(), any::<bool>(), any::<bool>()).prop_map(|(subnet, usable, others, turned, spread)| {
        let named = |nodes: &[u8]| nodes.iter().map(|index| format!("n{index}").into()).collect::<Vec<Arc<str>>>();
        let mut nodes = GatewayNodes { usable: named(&usable), spread: Vec::new() };
        if turned {
            nodes.usable.reverse();
        }
        if spread {
            nodes.spread = nodes.usable.clone();
            nodes.spread.extend(named(&others).into_iter().filter(|other| !nodes.usable.contains(other)));
        }
        Event::GatewayNodes(subnet_name(subnet).into(), nodes)
    })
}

fn a_node() -> impl Strategy<Value = Node> {
    let parts = (0..NODES, 0..3u8, subsequence(vec![0, 1, 2], 0..=3), any::<bool>(), 0..4u8);
    parts.prop_map(|(index, join, internal, again, kind)| {
        let host = index + 2 + 10 * (join / 2);
        let join = if join == 0 { format!("10.0.0.{host}") } else { format!("10.0.0.{host},fd00::{host}") };
        // The last address is the same for all nodes.
        let all = [format!("172.30.0.{index}"), format!("fd00:30::{index}"), "172.30.0.99".to_owned()];
        let internal: Vec<&str> = internal.into_iter().map(|at: usize| all[at].as_str()).collect();
        let mut node = node(&format!("n{index}"), &join, &format!("0a:00:00:00:01:{host:02}"), &internal);
        if again {
            node.uid = "another".into();
            node.chassis = None;
        }
        node.external = kind == 0;
        node
    })
}

fn a_port() -> impl Strategy<Value = Port> {
    let limit = || select(vec![None, Some(Limit { rate: 10_000, burst: 8_000 }), Some(Limit { rate: 1, burst: 1 })]);
    let north = select(vec![None, None, Some("10.1.0.9"), Some("10.1.0.9,fd00:1::9")]);
    let parts = (0..PORTS, 0..SUBNETS, 0..3u8, any::<bool>(), any::<bool>(), limit(), limit(), (north, any::<bool>()));
    parts.prop_map(|(index, subnet, ips, port_security, again, ingress, egress, (north, mirrored))| {
        let host = 10 + index + 10 * (ips / 2);
        let v4 = format!("10.{subnet}.0.{host}");
        let ips = if ips == 0 { format!("{v4},fd00:{subnet}::{host}") } else { v4 };
        let mut port = port(&format!("ns/p{index}"), &subnet_name(subnet), &ips, &format!("0a:00:00:00:00:{host:02}"));
        port.port_security = port_security;
        port.mirrored = mirrored;
        port.north_gateway = north.and_then(|north| north.parse().ok());
        (port.ingress, port.egress) = (ingress, egress);
        if again {
            port.uid = "another".into();
        }
        port
    })
}
