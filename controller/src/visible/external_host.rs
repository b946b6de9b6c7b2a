//! An external host: its status. It has no finalizer, because its deletion is to cut it off at once.

use api::ExternalHostStatus;
use serde_json::json;

use super::conditions;
use crate::cluster::{Cluster, ExternalHost, Object};
use crate::engine::Engine;
use crate::publish::Action;

pub(super) fn status(engine: &Engine, cluster: &Cluster, name: &str, now: jiff::Timestamp) -> Option<Action> {
    let host = cluster.external_hosts.get(name)?;
    let is_node = cluster.nodes.contains_key(name);
    let lease = engine.lease(&api::node_port(name)).map(|(_, lease)| lease).filter(|_| !is_node);
    let chassis = cluster.report(name).map(|report| report.id.to_string()).filter(|_| !is_node);
    let up = cluster.report(name).is_some_and(|chassis| chassis.report.up.as_deref() == Some(&*host.uid));
    let not_ready = not_ready(engine, cluster, host, lease.is_some(), up);
    let status = ExternalHostStatus {
        conditions: conditions::of_external_host(not_ready, &host.status.conditions, now),
        ip_address: lease.map(|lease| lease.ips.to_string()).unwrap_or_default(),
        mac_address: lease.map(|lease| lease.mac.to_string()).unwrap_or_default(),
        chassis: chassis.unwrap_or_default(),
    };
    (status != host.status).then(|| Action::merge(&json!({ "metadata": { "uid": host.uid }, "status": status })))
}

/// Why the host is not ready: the reason and the message.
fn not_ready(
    engine: &Engine,
    cluster: &Cluster,
    host: &ExternalHost,
    has_address: bool,
    up: bool,
) -> Option<(&'static str, String)> {
    let name = &host.name;
    if cluster.nodes.contains_key(name) {
        return Some(("NodeExists", format!("external host {name}: a Node has this name, and it keeps it")));
    }
    if let Some(error) = &host.unreadable {
        return Some(("InvalidAddresses", error.to_string()));
    }
    if !has_address {
        let why = engine.no_address(&Object::Node(name.clone())).map(|why| why.message.clone());
        return Some(("NoAddress", why.unwrap_or_default()));
    }
    let wait = || format!("no agent there has reported that its ovn0 works: run `kube-ovn-cni external-host {name}`");
    (!up).then(|| ("NotJoined", wait()))
}
