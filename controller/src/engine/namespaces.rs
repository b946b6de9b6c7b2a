//! Namespaces: which subnet their pods belong to.
//!
//! `spec.namespaces` of a Subnet binds; a namespace that no Subnet lists may ask by annotation; one that does not is bound by
//! its labels (`spec.namespaceSelectors`); the rest belong to the default subnet. The controller writes the answer back to the same annotations, and remembers in
//! [`BOUND_SUBNET`](api::annotations::BOUND_SUBNET) what it wrote, so that its own answer is never taken for a wish.

use std::sync::Arc;

use api::annotations::{BOUND_SUBNET, LOGICAL_SWITCH};
use api::{FieldError, SubnetSpec, selected};

use super::Engine;
use super::bindings::By;
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
        let labels = cluster.namespaces.get(name).map(|namespace| &namespace.labels);
        for (subnet, selectors) in &self.selecting {
            let selected = labels.is_some_and(|labels| selected(selectors, labels));
            self.bindings.select(subnet, name, selected);
        }
        let pods = cluster.ports_of(name).cloned().map(Object::Pod);
        self.undecided.extend(pods.filter(|pod| self.refused.contains_key(pod)));
    }

    /// The subnet for a new pod of this namespace.
    pub fn subnet_of(&self, cluster: &Cluster, namespace: &str) -> Result<Arc<str>, FieldError> {
        let bound = self.bindings.owners(namespace).next();
        if let Some((By::Name, subnet)) = bound {
            return Ok(Arc::clone(subnet));
        }
        let Some(seen) = cluster.namespaces.get(namespace) else {
            return Err(FieldError::new(format!("namespace {namespace}"), "metadata", "it has not been seen yet"));
        };
        Ok(match (wish(seen)?, bound) {
            (Some(wish), _) => wish.subnet,
            (None, Some((_, subnet))) => Arc::clone(subnet),
            (None, None) => Arc::clone(&self.install.default_subnet),
        })
    }

    /// What a namespace asks for, unless a Subnet lists it already.
    pub fn open_wish(&self, namespace: &Namespace) -> Option<Wish> {
        let listed = self.bindings.owners(&namespace.name).any(|(by, _)| by == By::Name);
        if namespace.terminating || listed {
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
