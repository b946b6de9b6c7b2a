//! Centralized subnets: the gateway nodes of each, in order of preference, and which of them is active.
//!
//! The datapath chooses the active node by itself (`plan`, `compile/exit.rs`). The southbound database tells which one it is,
//! and that node becomes the preferred one. So a gateway that comes back does not take the traffic back, and a gateway whose
//! link flaps loses it once.
//!
//! A chassis that reaches no other one does not become active, because it cannot know whether it is the one that is cut off.
//! So with two nodes, a lost gateway is replaced when its Node is not ready: nodes that are not ready are no gateways while
//! others are.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use api::annotations::GATEWAY_NODE_LABEL;
use api::{GatewayType, SubnetDef, selected};
use ovn::TableId;
use ovsdb::{Datum, Replica};
use plan::GatewayNodes;

use super::Engine;
use crate::cluster::{Cluster, Node, Object};

/// What is known of the gateway nodes of centralized subnets.
#[derive(Debug, Default)]
pub(super) struct Exits {
    /// The subnets whose gateway nodes must be updated.
    stale: BTreeSet<Arc<str>>,
    /// Each centralized subnet in force.
    states: BTreeMap<Arc<str>, GatewayState>,
    /// The chassis that was active last. At the start of a term, it is the one that the database prefers.
    active: BTreeMap<Arc<str>, Arc<str>>,
    /// The last change of the active node that was observed in this term: from, to.
    moved: BTreeMap<Arc<str>, [Arc<str>; 2]>,
}

/// Whether a centralized subnet has the gateway nodes that it asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GatewayState {
    /// It has all of them.
    Ready,
    /// It lacks some. The message names the field and them.
    Partly(String),
    /// It has none, so that no pod of it leaves the cluster.
    NoWayOut(String),
}

impl GatewayState {
    /// What is wrong.
    pub fn problem(&self) -> Option<&str> {
        match self {
            Self::Ready => None,
            Self::Partly(message) | Self::NoWayOut(message) => Some(message),
        }
    }
}

/// The gateway nodes that a Subnet asks for.
struct Candidates {
    /// The field that asks for them.
    field: &'static str,
    /// Their names, the preferred one first.
    nodes: Vec<Arc<str>>,
}

impl Engine {
    /// Whether a subnet has the gateway nodes that it asks for. `None` if it is not centralized.
    pub fn gateway_state(&self, subnet: &str) -> Option<&GatewayState> {
        self.exits.states.get(subnet)
    }

    /// The nodes by which the pods of a centralized subnet leave: the active one, or with `enableEcmp` all of them.
    pub fn active_gateways(&self, subnet: &str) -> &[Arc<str>] {
        let nodes = self.world.gateway_nodes(subnet);
        let spread = self.world.subnet(subnet).is_some_and(|def| def.enable_ecmp);
        if spread { nodes } else { nodes.get(..1).unwrap_or_default() }
    }

    /// The last change of the active gateway node in this term: from, to.
    pub(super) fn gateway_moved(&self, subnet: &str) -> Option<&[Arc<str>; 2]> {
        self.exits.moved.get(subnet)
    }

    /// Reads which chassis the database prefers, before anything is decided.
    pub(super) fn restore_exits(&mut self, replica: &Replica) {
        let ports = replica.rows(TableId::LogicalRouterPort.name()).map(|(_, row)| row).filter(|row| ovn::ours(row));
        for port in ports {
            let name = port.get("name").and_then(Datum::as_str).unwrap_or_default();
            let Some((subnet, None)) = plan::exit_of(name) else { continue };
            let members = port.get("gateway_chassis").into_iter().flat_map(Datum::uuids);
            let members = members.filter_map(|id| replica.get(TableId::GatewayChassis.name(), id));
            let preferred = members.max_by_key(|member| member.get("priority").and_then(Datum::as_int));
            if let Some(chassis) = preferred.and_then(|member| member.get("chassis_name")?.as_str()) {
                self.exits.active.insert(subnet.into(), chassis.into());
            }
        }
    }

    /// Has the gateway nodes of a subnet updated.
    pub(super) fn mark_exit(&mut self, subnet: &Arc<str>) {
        self.exits.stale.insert(Arc::clone(subnet));
    }

    /// Has the gateway nodes of all centralized subnets updated.
    pub(super) fn mark_all_exits(&mut self) {
        self.exits.stale.extend(self.exits.states.keys().cloned());
    }

    /// Updates the gateway nodes of the marked subnets, when all nodes are decided.
    pub(super) fn update_exits(&mut self, cluster: &Cluster) {
        while let Some(name) = self.exits.stale.pop_first() {
            self.update_exit(cluster, &name);
        }
    }

    fn update_exit(&mut self, cluster: &Cluster, name: &Arc<str>) {
        let Some(def) = self.world.subnet(name).filter(|def| def.gateway_type == GatewayType::Centralized) else {
            self.exits.states.remove(name);
            self.exits.active.remove(name);
            self.exits.moved.remove(name);
            self.world.set_gateway_nodes(name, &GatewayNodes::default());
            return;
        };
        let is_spread = def.enable_ecmp;
        let Candidates { field, nodes: wanted } = candidates(cluster, def);
        let world = &self.world;
        // No pod leaves by an external host.
        let chassis = |node: &Arc<str>| world.node(node).filter(|node| !node.external)?.chassis.clone();
        let usable: Vec<Arc<str>> = wanted.iter().filter(|node| chassis(node).is_some()).cloned().collect();
        let is_ready = |node: &&Arc<str>| cluster.nodes.get(*node).is_some_and(|node| node.ready);
        let ready: Vec<Arc<str>> = usable.iter().filter(is_ready).cloned().collect();
        let none_is_ready = ready.is_empty() && !usable.is_empty();
        let spread = if def.enable_ecmp { usable.clone() } else { Vec::new() };
        let usable = if none_is_ready { usable } else { ready };
        let mut nodes = usable.clone();
        let node_of = |id: &Arc<str>| usable.iter().find(|node| chassis(node).as_ref() == Some(id)).cloned();

        let mut state = state(field, &wanted, &nodes);
        let before = self.exits.active.get(name).cloned();
        if !is_spread {
            let active = cluster.exits.get(name).and_then(node_of).or_else(|| node_of(before.as_ref()?));
            if let Some(active) = active {
                nodes.retain(|node| *node != active);
                nodes.insert(0, active);
            }
        }
        if let (Some(first), true) = (nodes.first(), none_is_ready) {
            state = GatewayState::Partly(format!(
                "spec.{field}: no gateway node is ready: pods leave by {first}, if it still works"
            ));
        }
        let now = nodes.first().filter(|_| !is_spread).and_then(chassis);
        match &now {
            Some(chassis) => drop(self.exits.active.insert(Arc::clone(name), Arc::clone(chassis))),
            None => drop(self.exits.active.remove(name)),
        }
        if let (Some(before), Some(_), Some(to)) =
            (before.filter(|before| Some(before) != now.as_ref()), &now, nodes.first())
        {
            let mut known = cluster.reports.iter();
            let from = known.find(|(_, report)| report.id == before).map_or(before, |(node, _)| Arc::clone(node));
            tracing::info!(subnet = &**name, from = &*from, to = &**to, "the gateway has moved");
            self.exits.moved.insert(Arc::clone(name), [from, Arc::clone(to)]);
        }
        let other_state = self.exits.states.get(name) != Some(&state);
        self.exits.states.insert(Arc::clone(name), state);
        if self.world.set_gateway_nodes(name, &GatewayNodes { usable: nodes, spread }) || other_state {
            self.unpublished.insert(Object::Subnet(Arc::clone(name)));
        }
    }
}

/// The gateway nodes that a Subnet asks for: those that it lists, else those that it selects, else those with the label of a
/// gateway node.
fn candidates(cluster: &Cluster, def: &SubnetDef) -> Candidates {
    let by = |is: &dyn Fn(&Node) -> bool| {
        cluster.nodes.values().filter(|node| is(node)).map(|node| Arc::clone(&node.name)).collect()
    };
    if !def.gateway_nodes.is_empty() {
        let mut seen = BTreeSet::new();
        let listed = def.gateway_nodes.iter().map(|node| Arc::from(node.node.as_str()));
        return Candidates {
            field: "gatewayNode",
            nodes: listed.filter(|node| seen.insert(Arc::clone(node))).collect(),
        };
    }
    if !def.gateway_node_selectors.is_empty() {
        let nodes = by(&|node| selected(&def.gateway_node_selectors, &node.labels));
        return Candidates { field: "gatewayNodeSelectors", nodes };
    }
    let nodes = by(&|node| node.labels.get(GATEWAY_NODE_LABEL).is_some_and(|value| value == "true"));
    Candidates { field: "gatewayType", nodes }
}

fn state(field: &str, wanted: &[Arc<str>], nodes: &[Arc<str>]) -> GatewayState {
    let missing: Vec<&str> = wanted.iter().filter(|node| !nodes.contains(node)).map(|node| &**node).collect();
    let missing =
        format!("spec.{field}: there is no node {}, or it is not ready, or it has no chassis", missing.join(", "));
    match (wanted, nodes) {
        ([], _) if field == "gatewayType" => GatewayState::NoWayOut(format!(
            "spec.{field}: no node has the label {GATEWAY_NODE_LABEL}=true, and the subnet names no gateway node: no pod of it \
             leaves the cluster"
        )),
        ([], _) => {
            GatewayState::NoWayOut(format!("spec.{field}: it selects no node: no pod of the subnet leaves the cluster"))
        }
        (_, []) => GatewayState::NoWayOut(format!("{missing}: no pod of the subnet leaves the cluster")),
        _ if wanted.len() == nodes.len() => GatewayState::Ready,
        _ => GatewayState::Partly(format!("{missing}: it is left out")),
    }
}
