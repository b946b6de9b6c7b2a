//! Row E1 on a lab started with `lab up --manifest`: the unchanged manifest creates a network. The lab's userspace datapath has
//! no tunnels on the node's own address, where the manifest puts them, and `ovs-ovn` reports this. Only the chart tests cover
//! traffic between nodes.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use api::Subnet;
use e2e::central::members;
use e2e::kube::kubectl;
use e2e::layout::OUTSIDE;
use e2e::{Cluster, central, ledger};
use kube::Api;

/// Returns the running lab. Fails if it was not installed with the manifest.
async fn lab() -> Result<Cluster> {
    let cluster = Cluster::running().await?;
    let subnet = Api::<Subnet>::all(cluster.client()).get("ovn-default").await?;
    ensure!(subnet.spec.cidr_block == "10.16.0.0/16", "this lab was not brought up by the manifest: {:?}", subnet.spec);
    Ok(cluster)
}

#[tokio::test]
async fn e1_manifest_the_file_of_the_project_makes_a_network() -> Result<()> {
    let cluster = lab().await?;
    let scene = cluster.scene("e1-manifest").await?;
    scene.namespace("e1-manifest", &[]).await?;
    for node in cluster.nodes() {
        let name = node.name();
        let pod = |which: &str| scene.pod("e1-manifest", &format!("{which}-{name}")).on(&name);
        let (one, two) = tokio::try_join!(pod("one").ready(), pod("two").ready())?;
        let other = two.ip4()?;
        one.place().ping(&other).await?;
        cluster.node(&name)?.tcp(&other).await.context("from the node to its pod")?;
        let seen = one.place().tcp(OUTSIDE).await?.seen.to_string();
        ensure!(seen == node.ip4(), "the outside sees {seen}, not {}", node.ip4());
        let health = ["-sS", "--insecure", "--max-time", "5", "https://10.96.0.1/healthz"];
        let said = one.place().run("curl", &health).await.context("the API server at its ClusterIP")?;
        ensure!(said == "ok", "the API server says {said}");
    }
    let said = "no --iface: the userspace datapath has no tunnels to other nodes";
    cluster.told("kube-system", "reason=Unhealthy", &[said, "pods reach none of those at 172.3"]).await?;
    ledger::agree(&cluster).await.map(drop)
}

#[tokio::test]
async fn e1_manifest_without_the_label_the_member_ends_and_comes_back_with_its_data() -> Result<()> {
    let cluster = lab().await?;
    let scene = cluster.scene("e1-label").await?;
    scene.namespace("e1-label", &[]).await?;
    let pod = scene.pod("e1-label", "before").on("n1").ready().await?;
    members::label(&[]).await?;
    let gone =
        ["wait", "pod", "--namespace=kube-system", "--selector=app=ovn-central", "--for=delete", "--timeout=60s"];
    let outcome = kubectl(&gone).await;
    members::label(&[central::NODE]).await?;
    outcome?;
    members::whole(&cluster, &[central::NODE], Duration::from_secs(30)).await?;
    let after = scene.pod("e1-label", "after").on("n1").ready().await?;
    after.place().ping(&pod.ip4()?).await?;
    ledger::agree(&cluster).await.map(drop)
}
