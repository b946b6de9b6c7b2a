//! D3: the agent or the container runtime is killed while pods are attached and detached on both nodes. All pods become
//! Ready, and deleted pods leave nothing behind.

use anyhow::{Context, Result};
use e2e::cluster::{Scene, is_ready};
use e2e::part::Part;
use e2e::{Cluster, bench, ledger};
use futures::future::{try_join, try_join_all};
use k8s_openapi::api::core::v1::Pod;

/// The number of pods on each node.
const PODS: usize = 10;
/// How often both are killed while the pods start.
const KILLS: usize = 3;

/// Creates pods on both nodes at once. Kills `part` on both nodes each time more pods are attached, and again while
/// half of the pods are deleted.
async fn killed(cluster: &Cluster, scene: &Scene, namespace: &str, part: [Part; 2]) -> Result<()> {
    let kill_both = || try_join(part[0].revive(), part[1].revive());
    scene.namespace(namespace, &[]).await?;
    let pods: kube::Api<Pod> = kube::Api::namespaced(cluster.client(), namespace);
    let ready = bench::seen::Seen::follow(pods, |pod| is_ready(pod).is_ok()).await?;
    let names: Vec<(String, &str)> = (0..2 * PODS).map(|n| (format!("p{n}"), ["n1", "n2"][n % 2])).collect();
    let pods = try_join_all(names.iter().map(|(name, node)| scene.pod(namespace, name).on(node).create())).await?;
    for kill in 0..KILLS {
        ready.at_least(kill * 2 * PODS / KILLS + 1).await?;
        kill_both().await?;
    }
    ready.count(pods.len()).await?;
    let settled = ledger::agree(cluster).await.context("all pods are Ready")?;
    let (going, staying) = pods.split_at(PODS);
    let deletion = try_join_all(going.iter().map(|pod| pod.clone().delete()));
    try_join(deletion, async { kill_both().await.map(drop) }).await?;
    let cleared = ledger::agree(cluster).await.context("half of the pods are gone")?;
    let (one, two) = Box::pin(try_join(staying[0].clone().ready(), staying[1].clone().ready())).await?;
    one.place().ping(&two.ip4()?).await?;
    println!(
        "{}: records agreed {settled:.1?} after the last was Ready, {cleared:.1?} after half were gone",
        part[0].name()
    );
    Ok(())
}

#[tokio::test]
async fn d3_agents_killed_amid_adds_leave_nothing() -> Result<()> {
    let cluster = Cluster::running().await?;
    let scene = cluster.scene("d3-agents").await?;
    let nodes = cluster.nodes();
    let parts = [Part::Agent(nodes[0]), Part::Agent(nodes[1])];
    Box::pin(killed(&cluster, &scene, "d3-agents", parts)).await
}

#[tokio::test]
async fn d3_runtimes_killed_amid_adds_leave_nothing() -> Result<()> {
    let cluster = Cluster::running().await?;
    let scene = cluster.scene("d3-runtimes").await?;
    let nodes = cluster.nodes();
    let parts = [Part::Containerd(nodes[0]), Part::Containerd(nodes[1])];
    Box::pin(killed(&cluster, &scene, "d3-runtimes", parts)).await
}
