//! Nodes: each has a place on the join switch for its `ovn0`.

use std::sync::Arc;

use ipam::Want;
use plan::Node;

use super::waiting::Line;
use super::{Engine, Refused};
use crate::cluster::{Cluster, Object};

impl Engine {
    pub(super) fn decide_node(&mut self, cluster: &Cluster, name: &Arc<str>) {
        let port: Arc<str> = api::node_port(name).into();
        self.decided.insert(Object::Ip(Arc::clone(&port)));
        let join = Arc::clone(&self.install.settings.node_switch);
        let Some(node) = cluster.nodes.get(name) else {
            self.refused.remove(&port);
            self.world.remove_node(name);
            self.release(&port);
            self.wake(&Object::Node(Arc::clone(name)));
            return;
        };
        match self.ipam.assign(&join, &port, &Want::any()) {
            Ok(lease) => {
                self.refused.remove(&port);
                self.decided.insert(Object::Subnet(join));
                self.tell_pools_of(lease);
                self.world.set_node(Node {
                    name: Arc::clone(name),
                    uid: Arc::clone(&node.uid),
                    join: lease.ips,
                    mac: lease.mac,
                    internal: node.internal.clone(),
                });
            }
            Err(refusal) => {
                let refused = Refused::new(refusal.to_string());
                if self.refused.get(&port) != Some(&refused) {
                    tracing::warn!(node = &**name, %refusal, "the node got no address on the join subnet");
                }
                self.refused.insert(port, refused);
                self.waiting.join(Object::Node(Arc::clone(name)), Line::after(&refusal, join, Want::any()));
            }
        }
    }
}
