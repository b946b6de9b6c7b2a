//! Namespaces: which subnet their pods belong to.
//!
//! `spec.namespaces` of a Subnet binds; a namespace that no Subnet lists may ask by annotation; the rest belong to the
//! default subnet. The controller writes the answer back to the same annotations, and remembers in
//! [`BOUND_SUBNET`](api::annotations::BOUND_SUBNET) what it wrote, so that its own answer is never taken for a wish.

use std::sync::Arc;

use api::annotations::{BOUND_SUBNET, LOGICAL_SWITCH};
use api::{FieldError, SubnetSpec};

use super::Engine;
use crate::cluster::{Cluster, Namespace, Object};

/// The subnet that a namespace's annotations ask for, when nothing has bound it yet.
#[derive(Debug, Clone, PartialEq)]
pub struct Wish {
    /// The subnet's name.
    pub subnet: Arc<str>,
    /// How to make it when it does not exist.
    pub spec: Option<SubnetSpec>,
}

impl Engine {
    pub(super) fn decide_namespace(&mut self, cluster: &Cluster, name: &Arc<str>) {
        let waiting: Vec<Object> =
            cluster.ports_of(name).filter(|port| self.refused.contains_key(*port)).cloned().map(Object::Pod).collect();
        self.undecided.extend(waiting);
    }

    /// The subnet for a new pod of this namespace.
    pub fn subnet_of(&self, cluster: &Cluster, namespace: &str) -> Result<Arc<str>, FieldError> {
        if let Some(subnet) = self.bound.get(namespace).and_then(|subnets| subnets.first()) {
            return Ok(Arc::clone(subnet));
        }
        let Some(seen) = cluster.namespaces.get(namespace) else {
            return Err(FieldError::new(format!("namespace {namespace}"), "metadata", "it has not been seen yet"));
        };
        Ok(wish(seen)?.map_or_else(|| Arc::clone(&self.install.default_subnet), |wish| wish.subnet))
    }

    /// What a namespace asks for, unless a Subnet lists it already.
    pub fn open_wish(&self, namespace: &Namespace) -> Option<Wish> {
        if namespace.terminating || self.bound.contains_key(&namespace.name) {
            return None;
        }
        wish(namespace).ok().flatten()
    }
}

/// What a namespace's annotations ask for; `None` when they ask for nothing, or only repeat what was written back.
fn wish(namespace: &Namespace) -> Result<Option<Wish>, FieldError> {
    let written = |name: &str| namespace.annotations.get(name).map(String::as_str);
    if written(BOUND_SUBNET).is_some() && written(BOUND_SUBNET) == written(LOGICAL_SWITCH) {
        return Ok(None);
    }
    let net = namespace.net.clone()?;
    let spec = net.wanted;
    Ok(net.switches.first().map(|subnet| Wish { subnet: subnet.as_str().into(), spec }))
}
