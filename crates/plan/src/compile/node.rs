//! A node: its port on the join switch, the route to its own addresses, and the route out of the cluster for its pods. An
//! external host has only the port.

use std::net::IpAddr;

use ovn::{Action, AddressSet, Fact, LogicalSwitchPort, RouterPolicy};

use super::{
    DISTRIBUTED_V4, DISTRIBUTED_V6, HOSTS_V4, HOSTS_V6, NODES_V4, NODES_V6, PRIORITY_GATEWAY, PRIORITY_TO_NODE,
    REQUESTED_CHASSIS, address, family_of,
};
use crate::objects::Node;
use crate::world::World;
use api::node_port;

pub(super) fn compile(world: &World, node: &Node, facts: &mut Vec<Fact>) {
    if !world.subnets.contains_key(&world.settings.node_switch) {
        return;
    }
    join_port(world, node, facts);
    if node.external {
        let set = |ip: &IpAddr| if ip.is_ipv4() { HOSTS_V4 } else { HOSTS_V6 };
        facts.extend(node.join.iter().map(|ip| AddressSet::member(set(ip), &ip.to_string())));
        return;
    }
    to_the_node(world, node, facts);
    out_by_the_node(world, node, facts);
    super::exit::leave_by_node(world, node, facts);
}

fn join_port(world: &World, node: &Node, facts: &mut Vec<Fact>) {
    let address = address(node.mac, &node.join);
    let port = LogicalSwitchPort {
        name: node_port(&node.name).into(),
        switch: world.settings.node_switch.clone(),
        seed: node.uid.clone(),
        // A node sends with its own addresses, too. An external host must not look like a node or a pod.
        port_security: if node.external { vec![address.clone()] } else { vec![] },
        addresses: vec![address],
        options: vec![(REQUESTED_CHASSIS, node.name.clone())],
        external_ids: vec![("node", node.name.clone())],
        ..LogicalSwitchPort::default()
    };
    facts.extend(port.facts());
}

/// Routes traffic from pods to a node's own address through the node's `ovn0`, without masquerading, so that a node's
/// traffic to pods can carry that address. Private subnets allow it by the address set.
fn to_the_node(world: &World, node: &Node, facts: &mut Vec<Fact>) {
    for (address, join) in node.reached_by() {
        let policy = RouterPolicy {
            router: world.settings.router.to_string(),
            seed: node.uid.clone(),
            priority: PRIORITY_TO_NODE,
            match_: format!("{}.dst == {address}", family_of(address)),
            action: Action::Reroute(vec![join.to_string()]),
        };
        facts.extend(policy.facts());
        let set = if address.is_ipv4() { NODES_V4 } else { NODES_V6 };
        facts.push(AddressSet::member(set, &address.to_string()));
    }
}

/// The distributed gateway. The policy applies only on the chassis of this node, so a pod's packet leaves through the
/// pod's own node. There is one policy per node and family, regardless of the number of pods and subnets.
fn out_by_the_node(world: &World, node: &Node, facts: &mut Vec<Fact>) {
    for join in node.join.iter() {
        let set = if join.is_ipv4() { DISTRIBUTED_V4 } else { DISTRIBUTED_V6 };
        let policy = RouterPolicy {
            router: world.settings.router.to_string(),
            seed: node.uid.clone(),
            priority: PRIORITY_GATEWAY,
            match_: format!("{}.src == ${set} && is_chassis_resident(\"{}\")", family_of(*join), node_port(&node.name)),
            action: Action::Reroute(vec![join.to_string()]),
        };
        facts.extend(policy.facts());
    }
}
