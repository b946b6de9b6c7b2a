//! The network annotations of a Pod and of a Node, for users and tools. Node agents read IP objects instead.

use api::annotations::CHASSIS;
use api::{Addresses, Family, FieldError, Placement, SubnetDef};
use ipam::Lease;
use serde_json::{Value, json};

use crate::cluster::Cluster;
use crate::engine::Engine;
use crate::publish::Action;

pub(super) fn of_pod(engine: &Engine, cluster: &Cluster, port: &str) -> Option<Action> {
    let pod = cluster.pods.get(port).filter(|pod| !pod.done)?;
    let (subnet, lease) = engine.lease_of(pod)?;
    let subnet = engine.subnet(subnet)?;
    // A running pod keeps the gateway that it was given.
    let gateway = engine
        .gateway_given_to(port)
        .and_then(|given| replace_families(subnet.gateway, given))
        .unwrap_or(subnet.gateway);
    let place = placement_change(subnet, gateway, lease, &pod.net)?;
    Some(annotate(&pod.uid, &json!(place.pod_annotations())))
}

pub(super) fn of_node(engine: &Engine, cluster: &Cluster, name: &str) -> Option<Action> {
    let node = cluster.nodes.get(name)?;
    let port = node.port();
    let place = engine.lease(&port).and_then(|(subnet, lease)| {
        let subnet = engine.subnet(subnet)?;
        placement_change(subnet, subnet.gateway, lease, &node.net)
    });
    let mut annotations = place.map(|place| place.node_annotations(&port)).unwrap_or_default();
    let chassis = cluster.report(name).map(|chassis| &chassis.id);
    if let Some(id) = chassis.filter(|id| node.chassis.as_ref() != Some(*id)) {
        annotations.insert(CHASSIS.to_owned(), id.to_string());
    }
    (!annotations.is_empty()).then(|| annotate(&node.uid, &json!(annotations)))
}

/// The placement of a lease, unless the annotations already show it.
fn placement_change(
    subnet: &SubnetDef,
    gateway: Addresses,
    lease: Lease,
    annotated: &Result<Option<Placement>, FieldError>,
) -> Option<Placement> {
    let place = Placement {
        switch: subnet.name.clone(),
        ips: lease.ips,
        mac: lease.mac,
        // Both networks of a dual-stack subnet, even for a pod of one family, as in kube-ovn.
        cidrs: subnet.cidrs,
        gateway,
        complete: true,
    };
    (annotated.as_ref().ok().and_then(Option::as_ref) != Some(&place)).then_some(place)
}

/// The current gateways, replaced by those of `given` for its families.
fn replace_families(current: Addresses, given: Addresses) -> Option<Addresses> {
    let family = |family| given.get(family).or(current.get(family)).copied();
    Addresses::from_options(family(Family::V4), family(Family::V6))
}

/// A patch with the uid, so that it does not apply to another object of the same name.
fn annotate(uid: &str, annotations: &Value) -> Action {
    Action::merge(&json!({ "metadata": { "uid": uid, "annotations": annotations } }))
}
