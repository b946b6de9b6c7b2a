//! Row E1 on a lab started with `lab up`: a cluster without a network, our image, the chart, and kubectl.

use anyhow::{Context, Result, ensure};
use e2e::cluster::is_ready;
use e2e::{Cluster, by_hand};
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::Api;
use kube::api::{ListParams, Patch, PatchParams};
use serde_json::json;

/// The workloads by label, which is the same as in kube-ovn, and the number of pods on two nodes.
const WORKLOADS: [(&str, usize); 4] = [("ovn-central", 1), ("ovs", 2), ("kube-ovn-cni", 2), ("kube-ovn-controller", 2)];

#[tokio::test]
async fn e1_installed_all_of_it_runs_in_pods() -> Result<()> {
    let cluster = Cluster::running().await?;
    let pods: Api<Pod> = Api::namespaced(cluster.client(), "kube-system");
    for (app, count) in WORKLOADS {
        let found = pods.list(&ListParams::default().labels(&format!("app={app}"))).await?;
        let ready = found.items.iter().filter(|pod| is_ready(pod).is_ok()).count();
        ensure!((found.items.len(), ready) == (count, count), "of {app} {ready} of {} are ready", found.items.len());
    }
    ensure!(!by_hand::is_up(), "this lab was brought up by hand, and is not an installed one");
    Ok(())
}

/// A cloud provider says that the network of a new node is not available, and the network has to say that it is.
#[tokio::test]
async fn e1_the_network_of_a_node_is_said_to_be_available() -> Result<()> {
    let cluster = Cluster::running().await?;
    let nodes: Api<Node> = Api::all(cluster.client());
    let condition = |node: &Node| {
        let conditions = node.status.clone().unwrap_or_default().conditions.unwrap_or_default();
        conditions.into_iter().find(|condition| condition.type_ == "NetworkUnavailable")
    };
    let is_cleared = |node: &Node| {
        let found = condition(node).context("it has no condition NetworkUnavailable")?;
        ensure!((found.status.as_str(), found.reason.as_deref()) == ("False", Some("RouterAnswers")), "{found:?}");
        Ok(())
    };
    for node in nodes.list(&ListParams::default()).await? {
        is_cleared(&node)?;
    }
    let unavailable = json!({ "type": "NetworkUnavailable", "status": "True", "reason": "NoRouteCreated" });
    let patch = Patch::Strategic(json!({ "status": { "conditions": [unavailable] } }));
    nodes.patch_status("n1", &PatchParams::default(), &patch).await?;
    let node = cluster.until(nodes, "n1", is_cleared).await?;
    ensure!(node.status.unwrap_or_default().conditions.unwrap_or_default().len() > 1, "those of the kubelet are gone");
    Ok(())
}
