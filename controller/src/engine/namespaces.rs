//! Namespaces: the subnet of their pods.
//!
//! A namespace belongs to the first of these subnets:
//! 1. a Subnet whose `spec.namespaces` lists it;
//! 2. the subnet in its annotations, which the controller adds to that Subnet's list;
//! 3. a Subnet whose `spec.namespaceSelectors` match its labels;
//! 4. the default subnet.
//!
//! The controller writes the result to the same annotations. [`BOUND_SUBNET`](api::annotations::BOUND_SUBNET) records
//! what it wrote, so that it does not mistake its own annotation for a user's wish.

use std::sync::Arc;

use api::annotations::{BOUND_SUBNET, LOGICAL_SWITCH};
use api::{FieldError, SubnetSpec, selected};

use super::bindings::BoundBy;
use super::{Engine, NoAddress, Verdict};
use crate::cluster::{Cluster, Namespace, Object};

/// The subnet that a namespace's annotations ask for.
#[derive(Debug, Clone, PartialEq)]
pub struct Wish {
    /// The subnet's name.
    pub subnet: Arc<str>,
    /// The spec to create it with, if it does not exist.
    pub spec: Option<SubnetSpec>,
}

impl Engine {
    pub(super) fn decide_namespace(&mut self, cluster: &Cluster, name: &Arc<str>) {
        let found = cluster.namespaces.get(name);
        let labels = found.map(|namespace| &namespace.labels);
        for (subnet, selectors) in &self.selectors {
            let selected = labels.is_some_and(|labels| selected(selectors, labels));
            self.bindings.select(subnet, name, selected);
        }
        let limits = found.map(|namespace| namespace.net.limits.clone()).unwrap_or_default();
        self.set_namespace_limits(name, &limits, cluster.ports_of(name));
        self.update_wish(name, found.and_then(|namespace| self.open_wish(namespace)));
        let refused = found.and_then(|_| self.subnet_of(cluster, name).err());
        let object = Object::Namespace(Arc::clone(name));
        match refused {
            Some(error) => drop(self.no_address.insert(object, NoAddress::new(error.to_string()))),
            None => drop(self.no_address.remove(&object)),
        }
        let pods = cluster.ports_of(name).cloned().map(Object::Pod);
        self.undecided.extend(pods.filter(|pod| self.no_address.contains_key(pod)));
    }

    /// The subnet of a new pod in this namespace.
    pub fn subnet_of(&self, cluster: &Cluster, namespace: &str) -> Result<Arc<str>, FieldError> {
        let bound = self.bindings.owners(namespace).next();
        if let Some((BoundBy::Name, subnet)) = bound {
            return Ok(Arc::clone(subnet));
        }
        let object = format!("namespace {namespace}");
        let Some(found) = cluster.namespaces.get(namespace) else {
            return Err(FieldError::new(object, "metadata", "it has not been seen yet"));
        };
        match (wish(found)?, bound) {
            (Some(wish), _) => match (self.why_not_bound_to(&wish.subnet), &found.net.wanted) {
                (Some(why), _) => Err(FieldError::new(object, format!("annotation {LOGICAL_SWITCH}"), why)),
                (None, Err(error)) if !self.verdicts.contains_key(&wish.subnet) => Err(error.clone()),
                (None, _) => Ok(wish.subnet),
            },
            (None, Some((_, subnet))) => Ok(Arc::clone(subnet)),
            (None, None) => Ok(Arc::clone(&self.install.default_subnet)),
        }
    }

    /// The subnets of a new pod in this namespace, in order: all that list the namespace, else that of
    /// [`Engine::subnet_of`].
    pub(super) fn subnets_of(&self, cluster: &Cluster, namespace: &str) -> Result<Vec<Arc<str>>, FieldError> {
        let listing = self.bindings.owners(namespace).filter(|(by, _)| *by == BoundBy::Name);
        let all: Vec<Arc<str>> = listing.map(|(_, subnet)| Arc::clone(subnet)).collect();
        if all.is_empty() { Ok(vec![self.subnet_of(cluster, namespace)?]) } else { Ok(all) }
    }

    /// The wish of a namespace that no Subnet lists yet.
    pub fn open_wish(&self, namespace: &Namespace) -> Option<Wish> {
        let listed = self.bindings.owners(&namespace.name).any(|(by, _)| by == BoundBy::Name);
        if namespace.terminating || listed {
            return None;
        }
        wish(namespace).ok().flatten()
    }

    /// The namespaces with an open wish for a subnet, in order, and their wishes.
    pub fn wishers<'a>(&'a self, subnet: &str) -> impl Iterator<Item = (&'a Arc<str>, &'a Wish)> {
        let served = self.why_not_bound_to(subnet).is_none();
        let namespaces = self.wishers.of(subnet).filter(move |_| served);
        namespaces.filter_map(|namespace| Some((namespace, self.wishes.get(namespace)?)))
    }

    /// Why no namespace can be bound to a subnet, if so.
    pub(super) fn why_not_bound_to(&self, subnet: &str) -> Option<String> {
        if *subnet == *self.install.settings.node_switch {
            return Some(format!("subnet {subnet} is the nodes' own, pods get no addresses of it"));
        }
        (self.verdicts.get(subnet) == Some(&Verdict::Foreign)).then(|| format!("subnet {subnet} is not served here"))
    }

    /// Stores the open wish of a namespace. Publishes the Subnets that gained or lost one.
    fn update_wish(&mut self, namespace: &Arc<str>, wish: Option<Wish>) {
        if self.wishes.get(namespace) == wish.as_ref() {
            return;
        }
        if let Some(before) = self.wishes.remove(namespace) {
            self.wishers.remove(&before.subnet, namespace);
            self.unpublished.insert(Object::Subnet(before.subnet));
        }
        if let Some(wish) = wish {
            self.wishers.insert(&wish.subnet, Arc::clone(namespace));
            self.unpublished.insert(Object::Subnet(Arc::clone(&wish.subnet)));
            self.wishes.insert(Arc::clone(namespace), wish);
        }
    }

    /// Decides again about the namespaces that wish for a subnet, because its verdict has changed.
    pub(super) fn reconsider_wishers(&mut self, subnet: &str) {
        self.undecided.extend(self.wishers.of(subnet).cloned().map(Object::Namespace));
    }
}

/// The wish in a namespace's annotations. `None` if there is none or if the controller wrote the annotation.
///
/// If the name cannot be read, the namespace stays where it is bound. If only the network cannot be read, the namespace
/// can be bound to an existing Subnet, but none is created.
fn wish(namespace: &Namespace) -> Result<Option<Wish>, FieldError> {
    let written = |name: &str| namespace.annotations.get(name).map(String::as_str).filter(|text| !text.is_empty());
    let bound = written(BOUND_SUBNET);
    if bound.is_some() && bound == written(LOGICAL_SWITCH) {
        return Ok(None);
    }
    match (&namespace.net.switches, bound) {
        (Ok(switches), _) => Ok(switches.first().map(|subnet| Wish {
            subnet: subnet.as_str().into(),
            spec: namespace.net.wanted.as_ref().ok().cloned().flatten(),
        })),
        (Err(_), Some(bound)) => Ok(Some(Wish { subnet: bound.into(), spec: None })),
        (Err(error), None) => Err(error.clone()),
    }
}
