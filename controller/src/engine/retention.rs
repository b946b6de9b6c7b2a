//! Addresses that outlive their pod: those of a stateful set, for as long as it expects the pod back.
//!
//! The durable record of one is the IP object, which stays. It goes when the set is scaled down or deleted, and when an
//! operator deletes the IP object.

use std::sync::Arc;

use super::Engine;
use crate::cluster::{Cluster, Member, Object};

impl Engine {
    /// The set was made, scaled or deleted: each of its places whose pod is gone is decided about again.
    pub(super) fn decide_stateful_set(&mut self, path: &str) {
        let ports = self.ports_of_set.of(path);
        self.undecided.extend(ports.filter(|port| self.world.port(port).is_none()).cloned().map(Object::Pod));
    }

    /// Who deletes the record of a reserved address frees it.
    pub(super) fn decide_ip(&mut self, cluster: &Cluster, name: &str) {
        if self.is_reserved(name) && !cluster.ips.contains_key(name) {
            tracing::info!(ip = name, "the reserved address is free: its IP object was deleted");
            self.release(name);
        }
    }

    /// Whether an address is kept for a pod that is gone and expected back.
    pub fn is_reserved(&self, port: &str) -> bool {
        self.members.contains_key(port) && self.world.port(port).is_none() && self.ipam.lease(port).is_some()
    }

    /// A pod is gone: keeps its address if it is expected back.
    pub(super) fn reserve(&mut self, cluster: &Cluster, port: &str) -> bool {
        let kept =
            self.members.get(port).is_some_and(|member| cluster.expects(member)) && self.ipam.lease(port).is_some();
        if kept {
            self.world.remove_port(port);
        }
        kept
    }

    pub(super) fn remember_member(&mut self, port: &Arc<str>, member: &Member) {
        self.ports_of_set.insert(&member.set, Arc::clone(port));
        self.members.insert(Arc::clone(port), member.clone());
    }

    pub(super) fn forget_member(&mut self, port: &str) {
        if let Some((port, member)) = self.members.remove_entry(port) {
            self.ports_of_set.remove(&member.set, &port);
        }
    }
}
