//! How long the pods of a centralized subnet are cut off when its active gateway node is lost without a goodbye.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use api::Subnet;
use kube::Api;
use kube::api::{Patch, PatchParams};
use serde_json::json;

use super::stats::Times;
use crate::cluster::traffic::longest_pause;
use crate::cluster::{Cluster, Place, Pod, Scene};
use crate::layout::{Node, OUTSIDE};
use crate::{net, process};

/// The number of times that the gateway is lost.
pub const LOST: usize = 10;

const NAME: &str = "bench-failover";
/// The node of the databases is the next gateway, so that it stays.
const NEXT: &str = "n1";
/// A node that comes back is reached again after a while.
const BACK: Duration = Duration::from_mins(1);

/// Unplugs the active gateway node while a pod pings a host outside each 10 ms. Returns the longest times without an answer.
pub async fn measure(scene: &Scene) -> Result<Times> {
    let lost = Node::TWO;
    let spec = json!({
        "cidrBlock": "10.45.0.0/24", "natOutgoing": true, "gatewayType": "centralized", "namespaces": [NAME],
        "gatewayNode": lost.name(),
    });
    let metadata = json!({ "name": NAME });
    scene
        .create(json!({ "apiVersion": "kubeovn.io/v1", "kind": "Subnet", "metadata": metadata, "spec": spec }))
        .await?;
    scene.namespace(NAME, &[]).await?;
    let pod = scene.pod(NAME, "pod").on(NEXT).ready().await?;
    let mut pauses = Vec::new();
    for _ in 0..LOST {
        active(scene.cluster(), &lost.name()).await?;
        let measured = one(&pod, lost).await;
        net::cables(lost, "up").await?;
        pauses.push(measured?);
        let reaches = || async { Place::Node(lost).ping(&pod.ip4()?).await };
        process::until(BACK, reaches).await.context("the former gateway does not come back")?;
    }
    Ok(pauses.into_iter().collect())
}

/// Makes a node the active gateway, and the other one the next.
async fn active(cluster: &Cluster, node: &str) -> Result<()> {
    let subnets: Api<Subnet> = Api::all(cluster.client());
    for gateways in [node.to_owned(), format!("{node},{NEXT}")] {
        let patch = Patch::Merge(json!({ "spec": { "gatewayNode": gateways } }));
        subnets.patch(NAME, &PatchParams::default(), &patch).await.context("the gateways")?;
        let shown = |subnet: &Subnet| {
            let shown = subnet.status.as_ref().map(|status| status.activate_gateway.as_str());
            ensure!(shown == Some(node), "status.activateGateway is {shown:?}");
            Ok(())
        };
        cluster.until(subnets.clone(), NAME, shown).await?;
        // The datapath follows.
        tokio::time::sleep(Duration::from_secs(3)).await;
    }
    Ok(())
}

async fn one(pod: &Pod, lost: Node) -> Result<Duration> {
    let script = format!("ping -D -i 0.01 -w 6 {OUTSIDE} || true");
    let script = ["-c", script.as_str()];
    let place = pod.place();
    let unplug = async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        net::cables(lost, "down").await
    };
    let (printed, unplugged) = tokio::join!(place.run("sh", &script), unplug);
    unplugged?;
    longest_pause(&printed?)
}
