//! A Node's annotations: its place on the join switch.

use api::NodeNet;
use serde_json::json;

use crate::cluster::Cluster;
use crate::engine::Engine;
use crate::publish::{Action, Target, Write};

pub(super) fn write(engine: &Engine, cluster: &Cluster, name: &str) -> Option<Write> {
    let node = cluster.nodes.get(name)?;
    let port = node.port();
    let (subnet, lease) = engine.lease(&port)?;
    let subnet = engine.subnet(subnet)?;
    let net = NodeNet {
        switch: subnet.name.clone(),
        ips: lease.ips,
        mac: lease.mac,
        cidrs: subnet.cidrs,
        gateway: subnet.gateway,
        port_name: port.to_string(),
    };
    if node.net.as_ref().is_ok_and(|said| said.as_ref() == Some(&net)) {
        return None;
    }
    let patch = json!({ "metadata": { "uid": &*node.uid, "annotations": net.to_annotations() } });
    Some(Write { target: Target::Node(node.name.clone()), action: Action::Merge(patch) })
}
