//! IP objects: one for each port that holds an address, and none besides.

use std::collections::BTreeMap;

use api::annotations::IP_RESERVED_LABEL;
use api::{GROUP, IpSpec};
use serde_json::{Value, json};

use crate::cluster::{Cluster, IpRecord, STATEFUL_SET};
use crate::engine::Engine;
use crate::publish::{Action, Target, Write};

pub(super) fn write(engine: &Engine, cluster: &Cluster, name: &str) -> Option<Write> {
    let reserved = engine.is_reserved(name);
    let labels = |spec: &IpSpec| json!(labels(spec, reserved));
    let action = match (wanted(engine, cluster, name), cluster.ips.get(name)) {
        (Some(spec), None) => Action::create(&json!({
            "apiVersion": format!("{GROUP}/v1"), "kind": "IP",
            "metadata": { "name": name, "labels": labels(&spec) }, "spec": spec,
        })),
        // A record that somebody deleted while it holds is let go; it is made again once it is gone.
        (_, Some(seen)) if seen.terminating && seen.finalizers => without_finalizers(),
        (_, Some(seen)) if seen.terminating => return None,
        // The pod is gone, and what the record says of it is kept as it was.
        (Some(_), Some(seen)) if reserved => {
            let patch = json!({ "metadata": { "labels": { IP_RESERVED_LABEL: "true" } } });
            (seen.reserved != Some(true)).then(|| Action::merge(&patch))?
        }
        (Some(spec), Some(seen)) if seen.spec != spec || !seen.labelled || seen.reserved != Some(false) => {
            Action::merge(&json!({ "metadata": { "labels": labels(&spec) }, "spec": spec }))
        }
        (None, Some(seen)) if is_ours(seen) => Action::Delete,
        _ => return None,
    };
    Some(Write { target: Target::Ip(name.into()), action })
}

/// What the IP shall say; `None` when no port of that name holds an address.
fn wanted(engine: &Engine, cluster: &Cluster, name: &str) -> Option<IpSpec> {
    let (subnet, lease) = engine.lease(name)?;
    let pod = || pod_holder(cluster, name).or_else(|| engine.is_reserved(name).then(|| expected(name))?);
    let holder = node_holder(cluster, name).or_else(pod)?;
    Some(IpSpec { subnet: subnet.to_owned(), ..holder }.with_addresses(&lease.ips, lease.mac))
}

fn labels(spec: &IpSpec, reserved: bool) -> BTreeMap<&str, &str> {
    let reserved = if reserved { "true" } else { "false" };
    spec.labels().into_iter().chain([(IP_RESERVED_LABEL, reserved)]).collect()
}

/// A stateful set's pod that is gone and expected back.
fn expected(port: &str) -> Option<IpSpec> {
    let (pod, namespace) = api::pod_of_port(port)?;
    let (pod_name, namespace) = (pod.to_owned(), namespace.to_owned());
    Some(IpSpec { pod_name, namespace, pod_type: STATEFUL_SET.to_owned(), ..IpSpec::default() })
}

fn pod_holder(cluster: &Cluster, name: &str) -> Option<IpSpec> {
    let pod = cluster.pods.get(name)?;
    Some(IpSpec {
        pod_name: pod.name.to_string(),
        namespace: pod.namespace.to_string(),
        node_name: pod.node.to_string(),
        pod_type: pod.member.as_ref().map_or_else(String::new, |_| STATEFUL_SET.to_owned()),
        ..IpSpec::default()
    })
}

fn node_holder(cluster: &Cluster, name: &str) -> Option<IpSpec> {
    let node = api::node_of_port(name).filter(|node| cluster.nodes.contains_key(*node))?;
    Some(IpSpec { pod_name: node.to_owned(), node_name: node.to_owned(), ..IpSpec::default() })
}

/// Records of other shapes (another provider's, a virtual address) are none of ours and stay.
fn is_ours(seen: &IpRecord) -> bool {
    let IpSpec { pod_name, namespace, node_name, .. } = &seen.spec;
    let pod_shape = !namespace.is_empty() && *seen.name == *api::pod_port(pod_name, namespace);
    let node_shape = namespace.is_empty() && *seen.name == *api::node_port(node_name);
    pod_shape || node_shape
}

fn without_finalizers() -> Action {
    Action::merge(&json!({ "metadata": { "finalizers": Value::Null } }))
}
