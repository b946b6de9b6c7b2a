//! A Namespace's annotations, which show what it is bound to.

use std::collections::BTreeMap;

use api::annotations::{BOUND_IP_POOL, BOUND_SUBNET, IP_POOL, LOGICAL_SWITCH, bound_to};
use serde_json::json;

use crate::cluster::Cluster;
use crate::engine::{Engine, wishes_for_pools};
use crate::publish::Action;

/// Shows what the namespace is bound to. While it asks for a subnet that does not list it yet, and while its annotations
/// cannot be read, they stay as their author wrote them.
pub(super) fn write(engine: &Engine, cluster: &Cluster, name: &str) -> Option<Action> {
    let namespace = cluster.namespaces.get(name)?;
    if namespace.terminating || engine.open_wish(namespace).is_some() {
        return None;
    }
    let subnet = engine.subnet_of(cluster, &namespace.name).ok()?;
    let mut annotations: BTreeMap<String, Option<String>> =
        bound_to(&[engine.subnet(&subnet)?]).into_iter().map(|(key, value)| (key, Some(value))).collect();
    if let Some(switch) = annotations.get(LOGICAL_SWITCH).cloned() {
        annotations.insert(BOUND_SUBNET.to_owned(), switch);
    }
    let pools = engine.pools_that_list(&namespace.name);
    // What its author asks for stays, until it is what holds anyway.
    if !wishes_for_pools(namespace) || namespace.annotations.get(IP_POOL) == pools.as_ref() {
        annotations.extend([IP_POOL, BOUND_IP_POOL].map(|key| (key.to_owned(), pools.clone())));
    }
    if annotations.iter().all(|(key, value)| namespace.annotations.get(key) == value.as_ref()) {
        return None;
    }
    let patch = json!({ "metadata": { "uid": namespace.uid, "annotations": annotations } });
    Some(Action::merge(&patch))
}
