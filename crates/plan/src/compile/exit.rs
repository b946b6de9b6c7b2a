//! The centralized gateway: all pods of a subnet leave the cluster by the `ovn0` of a gateway node.
//!
//! A policy sends their packets to a router port that belongs to the active one of the gateways' chassis. There, the packets come
//! back to the same router by another port, and the policy of that node sends them to its `ovn0`:
//!
//! ```text
//! pod → router ─ exit:SUBNET ──tunnel──► exits:in ─ router → join → ovn0 of the active node
//!         on the pod's node                 on the active node
//! ```
//!
//! Each chassis finds out by BFD on its tunnels which one is active. So when that node is gone, its successor needs neither
//! the controller nor the databases.

use ovn::{
    Action, EXIT, Fact, GatewayChassis, LogicalRouterPort, LogicalSwitch, LogicalSwitchPort, NbGlobal, RouterPolicy,
    StaticMacBinding,
};

use super::subnet::mac_of_port;
use super::{PRIORITY_GATEWAY, family_of};
use crate::exits::Way;
use crate::objects::Node;
use crate::world::World;
use api::{Family, SubnetDef, node_port};

/// Router policy: on the chassis of a gateway node, traffic that leaves goes to the node's `ovn0`.
const PRIORITY_LEAVE: u16 = 29500;
/// Router policy: on other chassis, it goes nowhere.
const PRIORITY_NO_WAY: u16 = 29400;

/// The router port by which leaving traffic comes back on the active chassis. No Subnet has a name with a colon.
const IN: &str = "exits:in";

/// The BFD sessions of tunnels: a peer is gone after three intervals of 250 ms (ovn-nb(5), `NB_Global`, `options`).
const BFD: [(&str, &str); 3] = [("bfd-min-rx", "250"), ("bfd-min-tx", "250"), ("bfd-mult", "3")];

fn switch(world: &World) -> String {
    format!("{}:exits", world.settings.router)
}

/// What all ways share.
pub(super) fn shared(world: &World, facts: &mut Vec<Fact>) {
    if world.exits.is_empty() {
        return;
    }
    let options = BFD.map(|(key, value)| (key.to_owned(), value.to_owned())).into();
    facts.push(NbGlobal { options }.fact());
    facts.push(LogicalSwitch { name: switch(world), seed: "base".into(), ..LogicalSwitch::default() }.fact());
    // A router port needs a network. This one has no other member.
    router_port(world, IN, "base", vec!["169.254.0.1/32".to_owned(), "fd6b:7562:6f76:6e01::1/128".to_owned()], facts);
    let policy = RouterPolicy {
        router: world.settings.router.to_string(),
        seed: "base".into(),
        priority: PRIORITY_NO_WAY,
        match_: format!("inport == \"{IN}\""),
        action: Action::Drop,
    };
    facts.extend(policy.facts());
}

/// The policies of a gateway node.
pub(super) fn leave_by_node(world: &World, node: &Node, facts: &mut Vec<Fact>) {
    if world.exits.users(&node.name).next().is_none() {
        return;
    }
    for join in node.join.iter() {
        let policy = RouterPolicy {
            router: world.settings.router.to_string(),
            seed: node.uid.clone(),
            priority: PRIORITY_LEAVE,
            match_: format!(
                "{} && inport == \"{IN}\" && is_chassis_resident(\"{}\")",
                family_of(*join),
                node_port(&node.name)
            ),
            action: Action::Reroute(vec![join.to_string()]),
        };
        facts.extend(policy.facts());
    }
}

/// The ways of a subnet, and the policies that lead there. Without a gateway node there are none, and then the router drops
/// what leaves.
pub(super) fn compile(world: &World, subnet: &SubnetDef, facts: &mut Vec<Fact>) {
    let ways = world.exits.of(&subnet.name);
    for way in ways {
        port(world, subnet, way, facts);
    }
    for (family, cidr) in subnet.cidrs.each().filter(|_| !ways.is_empty()) {
        let policy = RouterPolicy {
            router: world.settings.router.to_string(),
            seed: subnet.uid.as_str().into(),
            priority: PRIORITY_GATEWAY,
            match_: format!("{}.src == {cidr}", family_of(cidr.network())),
            action: Action::Reroute(ways.iter().map(|way| world.exits.link(&way.port, family).1.to_string()).collect()),
        };
        facts.extend(policy.facts());
    }
}

fn port(world: &World, subnet: &SubnetDef, way: &Way, facts: &mut Vec<Fact>) {
    let links = subnet.cidrs.families().map(|family| (family, world.exits.link(&way.port, family))).collect::<Vec<_>>();
    let prefix = |family| if family == Family::V4 { 31 } else { 127 };
    let networks = links.iter().map(|(family, (own, _))| format!("{own}/{}", prefix(*family))).collect();
    router_port(world, &way.port, &subnet.uid, networks, facts);
    let chassis = way.nodes.iter().filter_map(|node| world.nodes.get(node)?.chassis.clone());
    for (chassis, priority) in chassis.zip((0..=GatewayChassis::HIGHEST).rev()) {
        let member = GatewayChassis { port: way.port.to_string(), seed: subnet.uid.as_str().into(), chassis, priority };
        facts.extend(member.facts());
    }
    for (_, (_, hop)) in links {
        let binding = StaticMacBinding {
            port: way.port.to_string(),
            seed: subnet.uid.as_str().into(),
            ip: hop.to_string(),
            mac: mac_of_port(IN),
        };
        facts.push(binding.fact());
    }
}

/// The two ports of a link between the router and the switch of all ways.
fn router_port(world: &World, name: &str, seed: &str, networks: Vec<String>, facts: &mut Vec<Fact>) {
    let router_end = LogicalRouterPort {
        name: name.to_owned(),
        router: world.settings.router.to_string(),
        seed: seed.into(),
        mac: mac_of_port(name),
        networks,
        ..LogicalRouterPort::default()
    };
    facts.extend(router_end.facts());
    let switch_end =
        LogicalSwitchPort::to_router(format!("to:{name}").into(), switch(world).into(), seed.into(), name.to_owned());
    facts.extend(switch_end.facts());
}

/// The subnet of a router port that is a way out, and the node if the subnet has several ways.
pub fn exit_of(port: &str) -> Option<(&str, Option<&str>)> {
    let name = port.strip_prefix(EXIT)?;
    Some(name.split_once(':').map_or((name, None), |(subnet, node)| (subnet, Some(node))))
}
