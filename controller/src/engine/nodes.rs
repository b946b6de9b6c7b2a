//! Nodes and external hosts: each has an address on the join subnet for its `ovn0`. If both have the same name, the Node
//! counts.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use api::{Cidr, SubnetDef};
use ipam::Want;
use plan::Node;

use super::pods::LONGEST_NAME;
use super::wait_queues::QueueKey;
use super::{Engine, NoAddress};
use crate::cluster::{Cluster, Object};

impl Engine {
    pub(super) fn decide_machine(&mut self, cluster: &Cluster, name: &Arc<str>) {
        let object = Object::Node(Arc::clone(name));
        if cluster.external_hosts.contains_key(name) {
            self.unpublished.insert(Object::ExternalHost(Arc::clone(name)));
        }
        let port: Arc<str> = api::node_port(name).into();
        self.unpublished.insert(Object::Ip(Arc::clone(&port)));
        let join = Arc::clone(&self.install.settings.node_switch);
        self.update_node_networks(cluster, name);
        let Some(node) = cluster.machine(name) else {
            self.no_address.remove(&object);
            self.wait_queues.forget(&object);
            self.claim_addresses(name, &BTreeSet::new());
            self.world.remove_node(name);
            self.mark_all_exits();
            // A chassis can have the name of no Node. Then the port of this name is a pod's.
            if self.world.port(&port).is_none() && !self.is_reserved(&port) {
                self.release(&port);
            }
            self.wake_waiting(&object);
            return;
        };
        // A pod whose port has this name loses it. Its event shows the reason.
        if self.world.port(&port).is_some() || self.is_reserved(&port) {
            self.release(&port);
        }
        if self.world.node(name).is_none() && cluster.pods.contains_key(&port) {
            self.undecided.insert(Object::Pod(Arc::clone(&port)));
        }
        // Pods reach an external host by the address of its `ovn0` alone: it may not have joined yet.
        let internal = if node.external {
            self.claim_addresses(name, &BTreeSet::new())
        } else {
            self.claim_addresses(name, node.addresses)
        };
        if port.len() > LONGEST_NAME {
            let why = format!(
                "{}: metadata.name: the name of its IP object would be longer than {LONGEST_NAME} characters",
                node.object()
            );
            self.no_address.insert(object, NoAddress::new(why));
            return;
        }
        match self.ipam.assign(&join, &port, &Want::any()) {
            Ok(lease) => {
                let lease = self.ipam.complete(&join, &port).unwrap_or(lease);
                self.no_address.remove(&object);
                self.wait_queues.forget(&object);
                self.unpublished.insert(Object::Subnet(join));
                self.republish_pools_of(lease);
                // A new leader can see the southbound database later than the nodes. Until then, it goes by what was known last.
                let recorded = || cluster.nodes.get(name)?.chassis.clone();
                let chassis = if self.install.southbound && !cluster.reported {
                    recorded()
                } else {
                    cluster.report(name).map(|report| Arc::clone(&report.id))
                };
                self.world.set_node(Node {
                    name: Arc::clone(name),
                    uid: Arc::clone(node.uid),
                    join: lease.ips,
                    mac: lease.mac,
                    chassis,
                    internal,
                    external: node.external,
                });
                self.mark_all_exits();
            }
            Err(refusal) => {
                let no_address = NoAddress::new(refusal.to_string());
                if self.no_address.get(&object) != Some(&no_address) {
                    tracing::warn!(node = &**name, %refusal, "the node got no address on the join subnet");
                }
                self.no_address.insert(object.clone(), no_address);
                self.wait_queues.insert(object, node.made, QueueKey::for_refusal(&refusal, join, Want::any()));
            }
        }
    }

    /// The addresses of all nodes, in order.
    pub fn all_node_addresses(&self) -> impl Iterator<Item = &IpAddr> {
        self.node_addresses.keys()
    }

    /// Claims the addresses of a node and releases those that it no longer has. Returns the addresses that it owns. If
    /// two nodes have the same address, the first one owns it until it releases it.
    pub(super) fn claim_addresses(&mut self, node: &Arc<str>, wanted: &BTreeSet<IpAddr>) -> BTreeSet<IpAddr> {
        let mut changed = false;
        let former = self.node_addresses.iter().filter(|(_, owner)| *owner == node).map(|(ip, _)| *ip);
        for ip in former.filter(|ip| !wanted.contains(ip)).collect::<Vec<_>>() {
            changed |= self.node_addresses.remove(&ip).is_some();
            self.undecided.extend(self.contenders.remove(&ip).unwrap_or_default().into_iter().map(Object::Node));
        }
        let mut claimed = BTreeSet::new();
        for ip in wanted {
            let owner = self.node_addresses.entry(*ip).or_insert_with(|| {
                changed = true;
                Arc::clone(node)
            });
            if owner == node {
                claimed.insert(*ip);
            } else {
                self.contenders.entry(*ip).or_default().insert(Arc::clone(node));
            }
        }
        if changed {
            // Its status lists them.
            self.unpublished.insert(Object::Subnet(Arc::clone(&self.install.settings.node_switch)));
        }
        claimed
    }

    /// The message about an address of a node that another node owns, if any.
    pub(super) fn contested_address(&self, node: &str, internal: &BTreeSet<IpAddr>) -> Option<String> {
        let owner = |ip: &IpAddr| self.node_addresses.get(ip).filter(|owner| ***owner != *node);
        let (ip, owner) = internal.iter().find_map(|ip| Some((ip, owner(ip)?)))?;
        Some(format!(
            "node {node}: its address {ip} is node {owner}'s, which had it first: pods reach that one by it; one of the two must \
             change"
        ))
    }

    /// Publishes the nodes that have an address or network inside a subnet again.
    pub(super) fn republish_nodes_inside(&mut self, cluster: &Cluster, subnet: &SubnetDef) {
        let inside = |name: &Arc<str>| {
            let own = self.world.node(name).into_iter().flat_map(|node| &node.internal).map(|ip| Cidr::from(*ip));
            let reported = cluster.report(name).into_iter().flat_map(|chassis| &chassis.report.networks);
            let networks = own.chain(reported.filter_map(|(_, network)| network.to_string().parse().ok()));
            networks.into_iter().any(|network| subnet.cidrs.iter().any(|cidr| cidr.overlaps(&network)))
        };
        let nodes: Vec<_> = self.world.node_names().filter(inside).collect();
        self.unpublished.extend(nodes.into_iter().map(Object::Node));
    }
}
