//! B1: a port of a node that leads to a pod of this node answers everybody: `hostPort`, and a `NodePort` with
//! `externalTrafficPolicy: Local`. A client outside of the cluster keeps its address.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use e2e::cluster::place::{self, Place};
use e2e::kubelet::{self, ProxyMode};
use e2e::{Cluster, layout, process};
use k8s_openapi::api::core::v1::Service;
use kube::Api;
use kube::api::{Patch, PatchParams};
use serde_json::json;
use tokio::try_join;

const HOST_PORT: u16 = 28080;

/// Sends an HTTP request to a port of a node. Returns the name of the pod that answers, and the client as it sees it.
async fn request(from: &Place, node: &str, port: i32) -> Result<(String, String)> {
    let url = format!("http://{node}:{port}/");
    let printed = from.run("curl", &["-sS", "--noproxy", "*", "--max-time", "3", &url]).await;
    let printed = printed.with_context(|| format!("from {from} to {url}"))?;
    let (who, seen) = printed.trim().split_once(' ').with_context(|| printed.clone())?;
    Ok((who.to_owned(), seen.to_owned()))
}

/// Sends requests to both kinds of ports from everywhere, and to a Service. `name` is that of the scene.
async fn from_everywhere(cluster: &Cluster, name: &'static str) -> Result<()> {
    let scene = cluster.scene(name).await?;
    scene.namespace(name, &[]).await?;
    let (server, here, there) = try_join!(
        scene.pod(name, "server").label("b1", "server").host_port(HOST_PORT).on("n1").ready(),
        scene.pod(name, "here").on("n1").ready(),
        scene.pod(name, "there").on("n2").ready(),
    )?;
    let spec = json!({
        "type": "NodePort", "externalTrafficPolicy": "Local", "selector": {"b1": "server"},
        "ports": [{"port": place::HTTP, "protocol": "TCP"}],
    });
    let metadata = json!({"namespace": name, "name": "local"});
    scene.create(json!({"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": spec})).await?;
    let service = Api::<Service>::namespaced(cluster.client(), name).get("local").await?;
    let spec = service.spec.context("no spec")?;
    let node_port = spec.ports.and_then(|ports| ports.first()?.node_port).context("no node port")?;

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
    let address = spec.cluster_ip.context("no cluster address")?;
    for (who, client) in clients.iter().filter(|(who, _)| *who != "outside") {
        let (name, _) = request(client, &address, place::HTTP.into()).await.with_context(|| format!("from {who}"))?;
        assert_eq!(name, "server", "the Service from {who}");
    }
    Ok(())
}

#[tokio::test]
async fn b1_a_port_of_a_node_answers_from_everywhere() -> Result<()> {
    let cluster = Cluster::running().await?;
    Box::pin(from_everywhere(&cluster, "b1-ports")).await
}

#[tokio::test]
async fn b1_a_port_of_a_node_answers_beside_kube_proxys_nftables() -> Result<()> {
    let cluster = Cluster::running().await?;
    let all = async |mode| {
        for node in cluster.nodes() {
            kubelet::proxy_again(node, mode).await?;
        }
        Ok::<_, anyhow::Error>(())
    };
    all(ProxyMode::Nftables).await?;
    let outcome = async {
        let translates =
            async || cluster.node("n1")?.run("nft", &["list", "table", "ip", "kube-proxy"]).await.map(drop);
        process::until(Duration::from_secs(10), translates).await?;
        Box::pin(from_everywhere(&cluster, "b1-nftables")).await
    };
    let outcome = outcome.await;
    all(ProxyMode::Iptables).await?;
    outcome
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
        let rules = cluster.node("n1")?.run("nft", &["list", "chain", "ip", "kube-ovn", "translated"]).await?;
        let excluded = rules.lines().find_map(|rule| rule.split_once("daddr !="));
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
