//! The nodes' own networks: the networks of their interfaces, their addresses, and the addresses of the API servers. A
//! new subnet that overlaps one of them is refused, because nodes would send that traffic to OVN.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use api::{Cidr, Cidrs, SubnetDef};
use ovn::southbound::NodeReport;

use super::{Engine, Install};
use crate::cluster::{Cluster, Object};

/// The addresses of a node and what of the report of its agent subnets depend on.
pub(super) type NodeNetworks = (BTreeSet<IpAddr>, NodeReport);

/// The number of pods of a subnet whose ports have numbers with VXLAN: OVN has 2047 for the ports of a switch, one of which
/// is the router's.
const VXLAN_PODS: u128 = 2046;

impl Engine {
    /// Updates the networks of a node. If they changed, decides again about invalid subnets and publishes the subnets with
    /// an MTU, and all subnets if the type of the tunnels changed.
    pub(super) fn update_node_networks(&mut self, cluster: &Cluster, name: &Arc<str>) {
        let machine = cluster.machine(name);
        let now: Option<NodeNetworks> = machine.map(|machine| {
            let report = cluster.report(name).map(|chassis| chassis.report.clone()).unwrap_or_default();
            // Subnets depend on neither of these.
            (machine.addresses.clone(), NodeReport { up: None, restored: 0, ..report })
        });
        let before = match now.clone() {
            Some(now) => self.own_networks.insert(Arc::clone(name), now),
            None => self.own_networks.remove(name),
        };
        if before != now {
            self.reconsider_refused();
            let is_vxlan = |networks: &Option<NodeNetworks>| networks.as_ref().is_some_and(|(_, report)| report.vxlan);
            let other_tunnels = is_vxlan(&before) != is_vxlan(&now);
            let subnets = self.world.subnets().filter(|subnet| other_tunnels || subnet.mtu.is_some());
            self.unpublished.extend(subnets.map(|subnet| Object::Subnet(subnet.name.as_str().into())));
        }
    }

    /// Why the networks of a subnet cannot be put in force, because they overlap a node's network. Networks that are
    /// already in force stay, and so do networks from the command line; events report those.
    pub(super) fn overlap_of_new_networks(&self, cluster: &Cluster, subnet: &SubnetDef) -> Option<String> {
        if self.flag_of(&subnet.name).is_some() {
            return None;
        }
        let now = self.world.subnet(&subnet.name).map(|subnet| subnet.cidrs);
        let new = |cidr: &&Cidr| !now.as_ref().is_some_and(|now| now.iter().any(|in_force| in_force == *cidr));
        let mut new = subnet.cidrs.iter().filter(new).peekable();
        new.peek()?;
        if self.install.southbound && !cluster.reported {
            return Some("the nodes' own networks are not known yet: waiting for the southbound database".to_owned());
        }
        new.find_map(|cidr| overlap_with_nodes(cluster, cidr))
    }

    /// The overlap of a subnet in force with the nodes or the API servers, for an event.
    pub(super) fn overlap_in_force(&self, cluster: &Cluster, subnet: &str) -> Option<String> {
        self.world.subnet(subnet)?.cidrs.iter().find_map(|cidr| overlap_with_nodes(cluster, cidr))
    }

    /// The address or network of a node that lies inside a network in force, for an event. Pods do not reach it, and
    /// the node keeps its own route.
    pub fn node_inside(&self, cluster: &Cluster, name: &str) -> Option<String> {
        let addresses = self
            .world
            .node(name)?
            .internal
            .iter()
            .map(|address| (format!("its address {address}"), Cidr::from(*address)));
        let report = cluster.report(name);
        let networks =
            report.into_iter().flat_map(|chassis| &chassis.report.networks).filter_map(|(interface, network)| {
                Some((
                    format!("its network {network} of interface {interface}"),
                    network.to_string().parse::<Cidr>().ok()?,
                ))
            });
        for (what, own) in addresses.chain(networks) {
            let inside = |cidrs: &Cidrs| cidrs.iter().find(|cidr| cidr.overlaps(&own)).copied();
            if let Some(cidr) = inside(&self.install.services) {
                return Some(format!(
                    "node {name}: {what} is inside --service-cluster-ip-range, {cidr}: one of the two must change"
                ));
            }
            let subnet = self.world.subnets().find_map(|subnet| Some((subnet, inside(&subnet.cidrs)?)));
            if let Some((subnet, cidr)) = subnet {
                let flag = self.flag_of(&subnet.name).map_or_else(String::new, |flag| format!(" ({flag})"));
                return Some(format!(
                    "node {name}: {what} is inside subnet {}{flag}, {cidr}: pods do not reach it; one of the two must change",
                    subnet.name
                ));
            }
        }
        None
    }

    /// A warning that names the smallest tunnel MTU of a node, if it is less than the `spec.mtu` of the subnet.
    pub fn mtu_shortfall(&self, cluster: &Cluster, subnet: &str) -> Option<String> {
        // The nodes report what the tunnel interface carries.
        let subnet = self.world.subnet(subnet).filter(|subnet| subnet.node_network.is_none())?;
        let mtu = subnet.mtu?;
        // Pods run on nodes alone.
        let reports = cluster.nodes.keys().filter_map(|node| Some((cluster.report(node)?.report.mtu?, node)));
        let (most, node) = reports.min().filter(|(most, _)| *most < mtu)?;
        Some(format!("spec.mtu: {mtu} is more than the tunnels of node {node} carry, pods get {most} there"))
    }

    /// A warning if the tunnels of a node are VXLAN and the subnet has nearly as many ports as they have numbers for.
    pub fn port_shortage(&self, cluster: &Cluster, subnet: &str) -> Option<String> {
        let (node, _) = cluster.reports.iter().find(|(_, chassis)| chassis.report.vxlan)?;
        let usage = self.ipam.usage(subnet)?;
        shortage(node, usage.v4.used.max(usage.v6.used))
    }

    /// The flag with the networks of a subnet that the controller creates.
    pub(super) fn flag_of(&self, subnet: &str) -> Option<&'static str> {
        let Install { settings, default_subnet, .. } = &self.install;
        if *subnet == **default_subnet {
            Some("--default-cidr")
        } else {
            (*subnet == *settings.node_switch).then_some("--node-switch-cidr")
        }
    }
}

fn overlap_with_nodes(cluster: &Cluster, cidr: &Cidr) -> Option<String> {
    for machine in cluster.machines() {
        let Some(chassis) = cluster.report(machine.name) else { continue };
        for (interface, network) in &chassis.report.networks {
            if network.contains(&cidr.net()) || cidr.net().contains(network) {
                return Some(format!("{cidr} overlaps {network} of interface {interface} of {}", machine.object()));
            }
        }
    }
    let inside = |address: &&IpAddr| cidr.contains(**address);
    for machine in cluster.machines() {
        if let Some(address) = machine.addresses.iter().find(inside) {
            return Some(format!("{cidr} contains {address} of {}", machine.object()));
        }
    }
    cluster
        .api_servers
        .iter()
        .flatten()
        .find(inside)
        .map(|address| format!("{cidr} contains {address} of the API server"))
}

/// The warning for a subnet with so many pods.
fn shortage(node: &str, pods: u128) -> Option<String> {
    let what = format!("VXLAN, which carries at most {VXLAN_PODS} pods of a subnet, and it has {pods}");
    (pods >= VXLAN_PODS * 9 / 10).then(|| format!("spec.cidrBlock: the tunnels of node {node} are {what}"))
}

#[cfg(test)]
mod tests {
    use super::shortage;

    #[test]
    fn a_subnet_is_warned_before_vxlan_has_no_more_numbers() {
        assert_eq!(shortage("n1", 1840), None);
        let warning = "spec.cidrBlock: the tunnels of node n1 are VXLAN, which carries at most 2046 pods of a subnet, and it has 1841";
        assert_eq!(shortage("n1", 1841).as_deref(), Some(warning));
    }
}
