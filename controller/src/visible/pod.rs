//! A Pod's annotations: the address it was given.

use api::PodNet;
use serde_json::json;

use crate::cluster::Cluster;
use crate::engine::Engine;
use crate::publish::{Action, Target, Write};

pub(super) fn write(engine: &Engine, cluster: &Cluster, port: &str) -> Option<Write> {
    let pod = cluster.pods.get(port).filter(|pod| !pod.done)?;
    let (subnet, lease) = engine.lease_of(pod)?;
    let subnet = engine.subnet(subnet)?;
    let net = PodNet {
        switch: subnet.name.clone(),
        ips: lease.ips,
        mac: lease.mac,
        cidrs: subnet.cidrs,
        gateway: subnet.gateway,
        routed: true,
    };
    if pod.net.as_ref().is_ok_and(|said| said.as_ref() == Some(&net)) {
        return None;
    }
    let patch = json!({ "metadata": { "uid": &*pod.uid, "annotations": net.to_annotations() } });
    let target = Target::Pod { namespace: pod.namespace.clone(), name: pod.name.clone() };
    Some(Write { target, action: Action::Merge(patch) })
}
