//! Reserved addresses: a stateful set's pod keeps its address while the set expects the pod to return.
//!
//! The IP object of the pod stays and is the durable record. The address is released when the set is scaled down or
//! deleted, or when a user deletes the IP object.

use std::sync::Arc;

use super::Engine;
use crate::cluster::{Cluster, Member, Object};

impl Engine {
    /// The set was created, scaled or deleted: decides again about its ports without a pod.
    pub(super) fn decide_stateful_set(&mut self, path: &str) {
        let ports = self.ports_of_set.of(path);
        self.undecided.extend(ports.filter(|port| self.world.port(port).is_none()).cloned().map(Object::Pod));
    }

    /// Releases a reserved address whose IP object was deleted.
    pub(super) fn decide_ip(&mut self, cluster: &Cluster, name: &str) {
        if self.is_reserved(name) && !cluster.ips.contains_key(name) {
            tracing::info!(ip = name, "the reserved address is free: its IP object was deleted");
            self.release(name);
        }
    }

    /// Whether a port's address is reserved: its pod is gone and expected to return.
    pub fn is_reserved(&self, port: &str) -> bool {
        self.members.contains_key(port) && self.world.port(port).is_none() && self.ipam.lease(port).is_some()
    }

    /// Reserves the address of a pod that is gone, if the pod is expected to return. Returns whether it is.
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
