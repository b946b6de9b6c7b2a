//! The annotations of a Pod and of a Node: the place that it was given in a subnet.

use api::{FieldError, Placement, SubnetDef};
use ipam::Lease;
use serde_json::{Value, json};

use crate::cluster::Cluster;
use crate::engine::Engine;
use crate::publish::{Action, Target, Write};

pub(super) fn of_pod(engine: &Engine, cluster: &Cluster, port: &str) -> Option<Write> {
    let pod = cluster.pods.get(port).filter(|pod| !pod.done)?;
    let (subnet, lease) = engine.lease_of(pod)?;
    let place = news(engine.subnet(subnet)?, lease, &pod.net)?;
    let target = Target::Pod { namespace: pod.namespace.clone(), name: pod.name.clone() };
    Some(Write { target, action: annotate(&pod.uid, &json!(place.pod_annotations())) })
}

pub(super) fn of_node(engine: &Engine, cluster: &Cluster, name: &str) -> Option<Write> {
    let node = cluster.nodes.get(name)?;
    let port = node.port();
    let (subnet, lease) = engine.lease(&port)?;
    let place = news(engine.subnet(subnet)?, lease, &node.net)?;
    let target = Target::Node(node.name.clone());
    Some(Write { target, action: annotate(&node.uid, &json!(place.node_annotations(&port))) })
}

/// The place that a lease in a subnet is, unless the object says just that already.
fn news(subnet: &SubnetDef, lease: Lease, said: &Result<Option<Placement>, FieldError>) -> Option<Placement> {
    let place = Placement {
        switch: subnet.name.clone(),
        ips: lease.ips,
        mac: lease.mac,
        cidrs: subnet.cidrs.only(&lease.ips)?,
        gateway: subnet.gateway.only(&lease.ips)?,
        complete: true,
    };
    (said.as_ref().ok().and_then(Option::as_ref) != Some(&place)).then_some(place)
}

/// With the uid, so that a namesake is not told.
fn annotate(uid: &str, annotations: &Value) -> Action {
    Action::merge(&json!({ "metadata": { "uid": uid, "annotations": annotations } }))
}
