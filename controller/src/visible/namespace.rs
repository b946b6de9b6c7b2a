//! A Namespace: the Subnet that it asks for, made or bound; and its annotations, which say what it is bound to.

use std::collections::BTreeMap;
use std::sync::Arc;

use api::annotations::{BOUND_IP_POOL, BOUND_SUBNET, IP_POOL, LOGICAL_SWITCH, bound_to};
use api::{FINALIZER, GROUP};
use serde_json::json;

use crate::cluster::{Cluster, Namespace};
use crate::engine::{Engine, Wish, wishes_for_pools};
use crate::publish::{Action, Target, Write};

pub(super) fn writes(engine: &Engine, cluster: &Cluster, name: &str) -> Vec<Write> {
    let Some(namespace) = cluster.namespaces.get(name) else { return Vec::new() };
    if let Some(wish) = engine.open_wish(namespace) {
        return grant(cluster, namespace, &wish).into_iter().collect();
    }
    annotate(engine, cluster, namespace).into_iter().collect()
}

/// Makes the Subnet that a namespace asks for, or has the one that exists list the namespace.
fn grant(cluster: &Cluster, namespace: &Namespace, wish: &Wish) -> Option<Write> {
    let target = Target::Subnet(Arc::clone(&wish.subnet));
    let Some(subnet) = cluster.subnets.get(&wish.subnet) else {
        let mut spec = wish.spec.clone()?;
        spec.namespaces = vec![namespace.name.to_string()];
        tracing::info!(
            subnet = &*wish.subnet,
            namespace = &*namespace.name,
            "making the subnet that the namespace asks for"
        );
        let object = json!({
            "apiVersion": format!("{GROUP}/v1"), "kind": "Subnet",
            "metadata": { "name": &*wish.subnet, "finalizers": [FINALIZER] }, "spec": spec,
        });
        return Some(Write { target, action: Action::create(&object) });
    };
    let mut namespaces = subnet.spec.namespaces.clone();
    namespaces.push(namespace.name.to_string());
    // With the version, so that a list which somebody edits at this moment is not overwritten.
    let version = &subnet.metadata.resource_version;
    let patch = json!({ "metadata": { "resourceVersion": version }, "spec": { "namespaces": namespaces } });
    Some(Write { target, action: Action::merge(&patch) })
}

/// Says what the namespace is bound to. A namespace whose annotations cannot be read is left as its author wrote it.
fn annotate(engine: &Engine, cluster: &Cluster, namespace: &Namespace) -> Option<Write> {
    if namespace.terminating {
        return None;
    }
    let subnet = engine.subnet_of(cluster, &namespace.name).ok()?;
    let mut said: BTreeMap<String, Option<String>> =
        bound_to(&[engine.subnet(&subnet)?]).into_iter().map(|(key, value)| (key, Some(value))).collect();
    if let Some(switch) = said.get(LOGICAL_SWITCH).cloned() {
        said.insert(BOUND_SUBNET.to_owned(), switch);
    }
    let pools = engine.pools_that_list(&namespace.name);
    // What its author asks for stays, until it is what holds anyway.
    if !wishes_for_pools(namespace) || namespace.annotations.get(IP_POOL) == pools.as_ref() {
        said.extend([IP_POOL, BOUND_IP_POOL].map(|key| (key.to_owned(), pools.clone())));
    }
    if said.iter().all(|(key, value)| namespace.annotations.get(key) == value.as_ref()) {
        return None;
    }
    let patch = json!({ "metadata": { "annotations": said } });
    Some(Write { target: Target::Namespace(Arc::clone(&namespace.name)), action: Action::merge(&patch) })
}
