//! IP objects: exactly one for each port that holds an address. Node agents read pods' addresses from them.

use std::collections::BTreeMap;

use api::annotations::IP_RESERVED_LABEL;
use api::{FINALIZER, GROUP, IpSpec};
use serde_json::{Value, json};

use crate::cluster::{Cluster, IpRecord, STATEFUL_SET};
use crate::engine::Engine;
use crate::publish::{Action, Precondition};

/// kube-ovn's current and older finalizers on IP objects. This controller needs none.
const FINALIZERS: [&str; 2] = [FINALIZER, "kube-ovn-controller"];

pub(super) fn write(engine: &Engine, cluster: &Cluster, name: &str) -> Option<Action> {
    let reserved = engine.is_reserved(name);
    let (spec, current) = match (wanted(engine, cluster, name), cluster.ips.get(name)) {
        (None, None) => return None,
        (Some(spec), None) => {
            return Some(Action::create(&json!({
                "apiVersion": format!("{GROUP}/v1"), "kind": "IP",
                "metadata": { "name": name, "labels": labels(&spec, reserved) }, "spec": spec,
            })));
        }
        (spec, Some(current)) => (spec, current),
    };
    match spec {
        // If a user deletes the IP of a port in use, let it go and create it again later.
        _ if current.terminating => without_our_finalizers(current),
        // The pod is gone; the spec stays as it was.
        Some(_) if reserved => {
            let labels = json!({ IP_RESERVED_LABEL: "true" });
            (current.reserved != Some(true)).then(|| patch(current, json!({ "labels": labels }), None))
        }
        Some(spec) if current.spec != spec || !current.labelled || current.reserved != Some(false) => {
            Some(patch(current, json!({ "labels": labels(&spec, reserved) }), Some(spec)))
        }
        None if is_ours(current) => {
            Some(Action::Delete(Precondition { uid: current.uid.clone(), version: current.version.clone() }))
        }
        _ => None,
    }
}

/// A patch that the API server applies only to this version of the object.
fn patch(current: &IpRecord, mut metadata: Value, spec: Option<IpSpec>) -> Action {
    metadata["uid"] = json!(current.uid);
    metadata["resourceVersion"] = json!(current.version);
    match spec {
        Some(spec) => {
            let mut spec = json!(spec);
            // A merge patch keeps what it does not name.
            if spec.get("nodeAddresses").is_none() {
                spec["nodeAddresses"] = Value::Null;
            }
            Action::merge(&json!({ "metadata": metadata, "spec": spec }))
        }
        None => Action::merge(&json!({ "metadata": metadata })),
    }
}

/// Removes kube-ovn's finalizers and keeps others.
fn without_our_finalizers(current: &IpRecord) -> Option<Action> {
    let others: Vec<&String> = current.finalizers.iter().filter(|name| !FINALIZERS.contains(&name.as_str())).collect();
    (others.len() < current.finalizers.len()).then(|| patch(current, json!({ "finalizers": others }), None))
}

/// The wanted spec of an IP. `None` if no port of that name holds an address.
fn wanted(engine: &Engine, cluster: &Cluster, name: &str) -> Option<IpSpec> {
    let (subnet, lease) = engine.lease(name)?;
    let pod = || pod_holder(cluster, name).or_else(|| engine.is_reserved(name).then(|| expected(name))?);
    let holder = node_holder(engine, cluster, name).or_else(pod)?;
    Some(IpSpec { subnet: subnet.to_owned(), ..holder }.with_addresses(&lease.ips, lease.mac))
}

fn labels(spec: &IpSpec, reserved: bool) -> BTreeMap<String, String> {
    let labels = spec.labels().into_iter().map(|(key, value)| (key.to_string(), value.to_string()));
    labels.chain([(IP_RESERVED_LABEL.to_owned(), reserved.to_string())]).collect()
}

/// The spec for the pod of a stateful set that is gone and expected to return.
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
        pod_uid: pod.uid.to_string(),
        pod_type: pod.member.as_ref().map_or_else(String::new, |_| STATEFUL_SET.to_owned()),
        ..IpSpec::default()
    })
}

fn node_holder(engine: &Engine, cluster: &Cluster, name: &str) -> Option<IpSpec> {
    let node = api::node_of_port(name)?;
    let machine = cluster.machine(node)?;
    let pod_uid = machine.uid.to_string();
    // An external host sends with the address of its `ovn0`.
    let node_addresses = (!machine.external).then(|| engine.node_addresses(node).map(|ip| ip.to_string()).collect());
    Some(IpSpec { pod_name: node.to_owned(), node_name: node.to_owned(), pod_uid, node_addresses, ..IpSpec::default() })
}

/// Whether an IP has the name of a pod's or a node's port. Others, for example of another provider or of a virtual IP,
/// are not changed.
fn is_ours(current: &IpRecord) -> bool {
    let IpSpec { pod_name, namespace, node_name, .. } = &current.spec;
    let pod_shape = !namespace.is_empty() && *current.name == *api::pod_port(pod_name, namespace);
    let node_shape = namespace.is_empty() && *current.name == *api::node_port(node_name);
    pod_shape || node_shape
}
