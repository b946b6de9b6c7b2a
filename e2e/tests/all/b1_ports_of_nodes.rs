//! B1: a port of a node that leads to a pod of this node answers everybody: `hostPort`, and a `NodePort` with
//! `externalTrafficPolicy: Local`. A client outside of the cluster keeps its address.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use e2e::cluster::place::{self, Place};
use e2e::{Cluster, layout, process};
use k8s_openapi::api::core::v1::Service;
use kube::Api;
use kube::api::{Patch, PatchParams};
use serde_json::json;
use tokio::try_join;

const NAME: &str = "b1-ports";
const HOST_PORT: u16 = 28080;

/// Sends an HTTP request to a port of a node. Returns the name of the pod that answers, and the client as it sees it.
async fn request(from: &Place, node: &str, port: i32) -> Result<(String, String)> {
    let url = format!("http://{node}:{port}/");
    let printed = from.run("curl", &["-sS", "--noproxy", "*", "--max-time", "3", &url]).await;
    let printed = printed.with_context(|| format!("from {from} to {url}"))?;
    let (who, seen) = printed.trim().split_once(' ').with_context(|| printed.clone())?;
    Ok((who.to_owned(), seen.to_owned()))
}

#[tokio::test]
async fn b1_a_port_of_a_node_answers_from_everywhere() -> Result<()> {
    let cluster = Cluster::running().await?;
    let scene = cluster.scene(NAME).await?;
    scene.namespace(NAME, &[]).await?;
    let (server, here, there) = try_join!(
        scene.pod(NAME, "server").label("b1", "server").host_port(HOST_PORT).on("n1").ready(),
        scene.pod(NAME, "here").on("n1").ready(),
        scene.pod(NAME, "there").on("n2").ready(),
    )?;
    let spec = json!({
        "type": "NodePort", "externalTrafficPolicy": "Local", "selector": {"b1": "server"},
        "ports": [{"port": place::HTTP, "protocol": "TCP"}],
    });
    let metadata = json!({"namespace": NAME, "name": "local"});
    scene.create(json!({"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": spec})).await?;
    let service = Api::<Service>::namespaced(cluster.client(), NAME).get("local").await?;
    let node_port = service.spec.and_then(|spec| spec.ports?.first()?.node_port).context("no node port")?;

    let n1 = cluster.nodes().into_iter().find(|node| node.name() == "n1").context("no node n1")?.ip4();
    let clients = [
        ("the node itself", cluster.node("n1")?),
        ("another node", cluster.node("n2")?),
        ("a pod of the node", here.place()),
        ("a pod of another node", there.place()),
        ("the pod itself", server.place()),
        ("outside", cluster.outside()),
    ];
    for (kind, port) in [("hostPort", i32::from(HOST_PORT)), ("NodePort", node_port)] {
        for (who, client) in &clients {
            // kube-proxy needs a moment for a new Service.
            let asked = process::until(Duration::from_secs(10), || request(client, &n1, port)).await;
            let (name, seen) = asked.with_context(|| format!("{kind} from {who}"))?;
            assert_eq!(name, "server", "{kind} from {who}");
            if *who == "outside" {
                ensure!(seen == layout::OUTSIDE, "{kind}: {who} is seen as {seen}");
            }
        }
    }
    Ok(())
}

/// The ACLs of a private subnet decide by the address of the client, and let the nodes in.
#[tokio::test]
async fn b1_a_port_of_a_node_opens_no_private_subnet() -> Result<()> {
    const PORT: u16 = 28081;
    let cluster = Cluster::running().await?;
    let scene = cluster.scene("b1-private").await?;
    scene.subnet("b1-private", "10.59.0.0/24").await?;
    let subnets: Api<api::Subnet> = Api::all(cluster.client());
    let private = Patch::Merge(json!({"spec": {"private": true}}));
    subnets.patch("b1-private", &PatchParams::default(), &private).await?;
    let (_server, stranger) = try_join!(
        scene.pod("b1-private", "server").host_port(PORT).on("n1").ready(),
        scene.pod("default", "b1-stranger").on("n2").ready(),
    )?;
    let known = || async {
        let rules = cluster.node("n1")?.run("nft", &["list", "chain", "ip", "kube-ovn", "postrouting"]).await?;
        let excluded =
            rules.lines().find_map(|rule| rule.split_once("ct status dnat ip saddr")?.1.split_once("daddr !="));
        ensure!(excluded.is_some_and(|(_, private)| private.contains("10.59.0.0/24")), "{rules}");
        Ok(())
    };
    process::until(Duration::from_secs(10), known).await?;
    let n1 = cluster.nodes().into_iter().find(|node| node.name() == "n1").context("no node n1")?.ip4();
    let port = i32::from(PORT);
    let other = cluster.node("n2")?;
    process::until(Duration::from_secs(10), || request(&other, &n1, port)).await.context("from another node")?;
    let url = format!("http://{n1}:{port}/");
    // Status 28 of curl means that the time is over.
    let script = format!("curl -sS --noproxy '*' --max-time 3 {url}; echo status $?");
    let printed = stranger.place().run("sh", &["-c", &script]).await?;
    ensure!(printed.trim_end().ends_with("status 28"), "a pod of another subnet: {printed}");
    Ok(())
}
