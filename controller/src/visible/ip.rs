//! IP objects: one for each port that holds an address, and none besides.

use std::collections::BTreeMap;

use api::annotations::IP_RESERVED_LABEL;
use api::{GROUP, IpSpec};
use serde_json::{Value, json};

use crate::cluster::{Cluster, IpRecord, STATEFUL_SET};
use crate::engine::Engine;
use crate::publish::{Action, Target, Write};

pub(super) fn write(engine: &Engine, cluster: &Cluster, name: &str) -> Option<Write> {
    let seen = cluster.ips.get(name);
    if engine.is_reserved(name) {
        // The pod is gone, and what the record says of it is kept as it was.
        let told = seen?.reserved == Some(true);
        let patch = json!({ "metadata": { "labels": { IP_RESERVED_LABEL: "true" } } });
        return (!told).then(|| Write { target: Target::Ip(name.into()), action: Action::merge(&patch) });
    }
    let action = match (wanted(engine, cluster, name), seen) {
        (Some(spec), None) => Action::create(&json!({
            "apiVersion": format!("{GROUP}/v1"), "kind": "IP",
            "metadata": { "name": name, "labels": labels(&spec) }, "spec": spec,
        })),
        // A record that somebody deleted while it holds is let go; it is made again once it is gone.
        (_, Some(seen)) if seen.terminating && seen.finalizers => without_finalizers(),
        (Some(_), Some(seen)) if seen.terminating => return None,
        (Some(spec), Some(seen)) if seen.spec != spec || !seen.labelled || seen.reserved != Some(false) => {
            Action::merge(&json!({ "metadata": { "labels": labels(&spec) }, "spec": spec }))
        }
        (None, Some(seen)) if !seen.terminating && is_ours(seen) => Action::Delete,
        _ => return None,
    };
    Some(Write { target: Target::Ip(name.into()), action })
}

/// What the IP shall say; `None` when no port of that name holds an address.
fn wanted(engine: &Engine, cluster: &Cluster, name: &str) -> Option<IpSpec> {
    let (subnet, lease) = engine.lease(name)?;
    let holder = node_holder(cluster, name).or_else(|| pod_holder(cluster, name))?;
    Some(IpSpec { subnet: subnet.to_owned(), ..holder }.with_addresses(&lease.ips, lease.mac))
}

/// Those of the IP of a port that is there.
fn labels(spec: &IpSpec) -> BTreeMap<&str, &str> {
    spec.labels().into_iter().chain([(IP_RESERVED_LABEL, "false")]).collect()
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
