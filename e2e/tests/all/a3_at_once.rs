//! A3: namespaces that ask for one subnet at the same time are all bound.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use api::Subnet;
use e2e::Cluster;
use e2e::cluster::{Scene, subnet_ready};
use e2e::ours;
use futures::future::try_join_all;
use kube::Api;
use serde_json::json;

/// The time limit until all namespaces are bound, from the moment when a controller leads.
const BOUND: Duration = Duration::from_secs(5);

async fn ask(scene: &Scene, names: &[String], subnet: &str) -> Result<()> {
    let asks = [("ovn.kubernetes.io/logical_switch", subnet)];
    try_join_all(names.iter().map(|name| scene.namespace(name, &asks))).await.map(drop)
}

/// Waits until the Subnet lists exactly these namespaces, each once.
async fn bound(cluster: &Cluster, subnet: &str, names: &[String]) -> Result<()> {
    let lists = |object: &Subnet| {
        let listed = &object.spec.namespaces;
        let (found, wanted): (BTreeSet<_>, BTreeSet<_>) = (listed.iter().collect(), names.iter().collect());
        ensure!(found == wanted && listed.len() == names.len(), "{subnet} lists {listed:?}");
        Ok(())
    };
    cluster.until(Api::<Subnet>::all(cluster.client()), subnet, lists).await.map(drop)
}

#[tokio::test]
async fn a3_twelve_namespaces_that_ask_at_once_are_bound() -> Result<()> {
    let cluster = Cluster::running().await?;
    let scene = cluster.scene("a3-once").await?;
    let spec = json!({"cidrBlock": "10.52.0.0/24"});
    scene
        .create(json!({"apiVersion": "kubeovn.io/v1", "kind": "Subnet", "metadata": {"name": "a3-once"}, "spec": spec}))
        .await?;
    cluster.until(Api::<Subnet>::all(cluster.client()), "a3-once", subnet_ready).await?;
    let names: Vec<String> = (0..12).map(|number| format!("a3-once-{number}")).collect();
    ask(&scene, &names, "a3-once").await?;
    let asked = Instant::now();
    bound(&cluster, "a3-once", &names).await?;
    println!("twelve namespaces were bound {:?} after the last was made", asked.elapsed());
    ensure!(asked.elapsed() < BOUND);

    // The same while no controller runs.
    let more: Vec<String> = (12..18).map(|number| format!("a3-once-{number}")).collect();
    Box::pin(ours::away(&cluster, ask(&scene, &more, "a3-once"))).await?;
    let back = Instant::now();
    let all: Vec<String> = names.into_iter().chain(more).collect();
    bound(&cluster, "a3-once", &all).await?;
    println!("six more were bound {:?} after the controllers were ready", back.elapsed());
    let pod = scene.pod("a3-once-17", "pod").on("n1").ready().await?;
    ensure!(pod.ip4()?.starts_with("10.52.0."), "{}", pod.ip4()?);
    Ok(())
}
