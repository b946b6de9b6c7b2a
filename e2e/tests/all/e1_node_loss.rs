//! E1, installed or by hand: a node recovers from a power failure by itself, and a deleted node leaves nothing behind.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use api::Ip;
use e2e::cluster::{Scene, nb};
use e2e::layout::Node;
use e2e::{Cluster, kube as control_plane, ledger, node, process, up};
use kube::Api;
use kube::api::{DeleteParams, ListParams};
use serde_json::json;

/// The node that fails.
const NODE: &str = "n2";

/// Starts a pod on the failing node and a pod on the other node.
async fn pair(scene: &Scene, namespace: &str) -> Result<(e2e::cluster::Pod, e2e::cluster::Pod)> {
    scene.namespace(namespace, &[]).await?;
    tokio::try_join!(scene.pod(namespace, "there").on(NODE).ready(), scene.pod(namespace, "here").on("n1").ready())
}

async fn kubectl_waits(words: &[&str]) -> Result<()> {
    control_plane::kubectl(&[&["wait", "--timeout=120s"], words].concat()).await.map(drop)
}

/// Returns the database rows that still refer to the node, with their tables.
async fn rows() -> Result<Vec<String>> {
    let ports = nb::find("Logical_Switch_Port", &[&format!("name=node-{NODE}")]).await?;
    let mut found: Vec<_> = ports.iter().map(|port| format!("Logical_Switch_Port {}", json!(port))).collect();
    for policy in nb::find("Logical_Router_Policy", &[]).await? {
        let text = json!(policy).to_string();
        if text.contains(&format!("node-{NODE}")) || text.contains("172.30.0.2\"") {
            found.push(format!("Logical_Router_Policy {text}"));
        }
    }
    for chassis in nb::find_southbound("Chassis", &[&format!("hostname={NODE}")]).await? {
        found.push(format!("Chassis {}", json!(chassis)));
    }
    Ok(found)
}

#[tokio::test]
async fn e1_node_loss_a_node_comes_back_without_a_hand() -> Result<()> {
    let cluster = Cluster::running().await?;
    let scene = cluster.scene("e1-loss").await?;
    let machine = Node::named(NODE).context("no such node")?;
    let (there, here) = Box::pin(pair(&scene, "e1-loss")).await?;
    let before = there.ips();

    node::lose(machine).await?;
    here.place().no_ping(&there.ip4()?).await?;
    here.place().ping("10.16.0.1").await?;
    let start = Instant::now();
    up::node_again(machine).await?;
    // The kubelet still reports the pod as running. The test waits until the pod answers.
    let (from, address) = (here.place(), there.ip4()?);
    process::until(Duration::from_mins(1), || from.ping(&address)).await?;
    println!("a pod of {NODE} answers {:.1?} after the machine was turned on", start.elapsed());
    let there = there.ready().await?;
    ensure!(there.ips() == before, "it had {before:?}, and has {:?}", there.ips());
    there.place().ping(&here.ip4()?).await?;
    there.place().tcp(e2e::layout::OUTSIDE).await?;
    let fresh = scene.pod("e1-loss", "fresh").on(NODE).ready().await?;
    fresh.place().ping(&here.ip4()?).await?;
    process::all_run()?;
    ledger::agree(&cluster).await.map(drop)
}

#[tokio::test]
async fn e1_node_loss_a_node_that_is_deleted_leaves_nothing() -> Result<()> {
    let cluster = Cluster::running().await?;
    let scene = cluster.scene("e1-deleted").await?;
    let machine = Node::named(NODE).context("no such node")?;
    let (_, here) = Box::pin(pair(&scene, "e1-deleted")).await?;
    let ips: Api<Ip> = Api::all(cluster.client());
    ensure!(!rows().await?.is_empty(), "nobody knows {NODE}");

    node::lose(machine).await?;
    let outcome = async {
        Api::<k8s_openapi::api::core::v1::Node>::all(cluster.client()).delete(NODE, &DeleteParams::default()).await?;
        // Kubernetes removes the pods of a deleted node after 40 s. An operator can remove them at once.
        let on_it = format!("--field-selector=spec.nodeName={NODE}");
        control_plane::kubectl(&["delete", "pods", "--all-namespaces", &on_it, "--grace-period=0", "--force"]).await?;
        process::until(Duration::from_secs(30), || async {
            let left = rows().await?;
            ensure!(left.is_empty(), "{left:#?}");
            let of = |ip: &Ip| ip.spec.node_name == NODE;
            let left: Vec<_> = ips.list(&ListParams::default()).await?.into_iter().filter(of).collect();
            ensure!(left.is_empty(), "{:?}", left.iter().map(|ip| ip.metadata.name.clone()).collect::<Vec<_>>());
            Ok(())
        })
        .await?;
        here.place().ping("10.16.0.1").await?;
        here.place().tcp(e2e::layout::OUTSIDE).await.map(drop)
    };
    let outcome = outcome.await;
    // The machine joins again under the same name, because later tests need it.
    up::node_again(machine).await?;
    kubectl_waits(&[&format!("node/{NODE}"), "--for=create"]).await?;
    kubectl_waits(&[&format!("node/{NODE}"), "--for=condition=Ready"]).await?;
    outcome?;
    let again = scene.pod("e1-deleted", "again").on(NODE).ready().await?;
    again.place().ping(&here.ip4()?).await?;
    ledger::agree(&cluster).await.map(drop)
}
