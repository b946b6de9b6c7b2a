//! The annotations of a Namespace, which show its subnet and pools.

use std::collections::BTreeMap;

use api::annotations::{BOUND_IP_POOL, BOUND_SUBNET, IP_POOL, LOGICAL_SWITCH, bound_to};
use serde_json::json;

use crate::cluster::Cluster;
use crate::engine::{Engine, wishes_for_pools};
use crate::publish::Action;

/// The write that updates the annotations. There is none while the namespace has an open wish or its annotations cannot
/// be read, so that the user's annotations stay.
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
    // A user's wish stays until it equals the binding.
    if !wishes_for_pools(namespace) || namespace.annotations.get(IP_POOL) == pools.as_ref() {
        annotations.extend([IP_POOL, BOUND_IP_POOL].map(|key| (key.to_owned(), pools.clone())));
    }
    if annotations.iter().all(|(key, value)| namespace.annotations.get(key) == value.as_ref()) {
        return None;
    }
    // What a user has written meanwhile would look like our own.
    let patch = json!({
        "metadata": { "uid": namespace.uid, "resourceVersion": namespace.version, "annotations": annotations },
    });
    Some(Action::merge(&patch))
}
