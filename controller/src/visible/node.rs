//! A Node: its condition `NetworkUnavailable`. Cloud providers set it, and the scheduler waits until the network clears it.

use serde_json::json;

use crate::cluster::Cluster;
use crate::publish::Action;

/// Clears the condition when the agent has reported that the router answers. Nobody sets it again: a node that has lost its
/// network has an agent that is not ready.
pub(super) fn status(cluster: &Cluster, name: &str, now: jiff::Timestamp) -> Option<Action> {
    let node = cluster.nodes.get(name).filter(|node| !node.has_network)?;
    cluster.report(name).filter(|chassis| chassis.report.up.as_deref() == Some(&*node.uid))?;
    let now = format!("{now:.0}");
    let condition = json!({
        "type": "NetworkUnavailable", "status": "False", "reason": "RouterAnswers",
        "message": "the router of the pod network answers through ovn0",
        "lastHeartbeatTime": now, "lastTransitionTime": now,
    });
    Some(Action::strategic(&json!({ "metadata": { "uid": node.uid }, "status": { "conditions": [condition] } })))
}
