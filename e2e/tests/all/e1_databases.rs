//! E1: the ports of the OVN databases take connections from nodes, and neither from pods nor from other hosts, by whatever
//! address of the node, and through whatever Service.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use e2e::cluster::{Place, Scene};
use e2e::{Cluster, central, layout, process};
use futures::future::try_join_all;
use k8s_openapi::api::core::v1::Service;
use kube::Api;
use serde_json::json;
use tokio::try_join;

async fn reaches(from: &Place, (address, port): (&str, &str)) -> Result<()> {
    ensure!(from.opens(address, port, 2).await?, "{from} does not reach {address} {port}");
    Ok(())
}

async fn does_not_reach(from: &Place, (address, port): (&str, &str)) -> Result<()> {
    ensure!(!from.opens(address, port, 2).await?, "{from} reaches {address} {port}");
    Ok(())
}

#[tokio::test]
async fn e1_the_databases_take_connections_from_nodes_only() -> Result<()> {
    let cluster = Cluster::running().await?;
    let scene = cluster.scene("e1-databases").await?;
    scene.namespace("e1-databases", &[]).await?;
    let (here, there) = try_join!(
        scene.pod("e1-databases", "here").on("n1").ready(),
        scene.pod("e1-databases", "there").on("n2").ready(),
    )?;
    let central = central::NODE;
    let service = Api::<Service>::namespaced(cluster.client(), "kube-system").get("ovn-nb").await?;
    let service = service.spec.and_then(|spec| spec.cluster_ip).context("ovn-nb has no address")?;
    let ports = ["6641", "6642"];
    let ways = [(central.ip4(), &ports[..]), (central.ip6(), &ports[..]), (service, &ports[..1])];
    let ways = || ways.iter().flat_map(|(address, ports)| ports.iter().map(move |port| (address.as_str(), *port)));
    for name in ["n1", "n2"] {
        let node = cluster.node(name)?;
        try_join_all(ways().map(|way| reaches(&node, way))).await?;
    }
    for pod in [&here, &there] {
        let place = pod.place();
        try_join_all(ways().map(|way| does_not_reach(&place, way))).await?;
    }
    let outside = cluster.outside();
    let (four, six) = (central.ip4(), central.ip6());
    try_join!(does_not_reach(&outside, (&four, "6641")), does_not_reach(&outside, (&six, "6641")))?;
    // An address of the node that no Node object names, and a NodePort that leads there.
    let net = central.ip4();
    let vip = format!("{}.77", net.rsplit_once('.').context("an address")?.0);
    cluster.node("n1")?.run("ip", &["address", "add", &format!("{vip}/32"), "dev", "eth0"]).await?;
    let by_vip = by_other_address(&scene, &vip, &here.place(), &there.place()).await;
    cluster.node("n1")?.run("ip", &["address", "del", &format!("{vip}/32"), "dev", "eth0"]).await?;
    by_vip?;
    // Other ports of the node are not affected.
    let n1 = central.ip4();
    reaches(&there.place(), (&n1, "10250")).await
}

/// `vip` is an address of the node with the databases, `here` is a pod there, and `there` one on another node.
async fn by_other_address(scene: &Scene, vip: &str, here: &Place, there: &Place) -> Result<()> {
    const PORT: &str = "30664";
    let cluster = scene.cluster();
    // A tenant may do this: a Service that leads to a database, and one that leads to its port of the node with the databases.
    let around = leads_to(scene, "around", PORT.parse()?, vip, 6641).await?;
    let twice = leads_to(scene, "twice", 30665, &central::NODE.ip4(), PORT.parse()?).await?;
    let (n1, n2, outside) = (cluster.node("n1")?, cluster.node("n2")?, cluster.outside());
    // By the Service, as soon as kube-proxy knows it.
    for way in [(vip, "6641"), (&around, "6641")] {
        process::until(Duration::from_secs(10), async || try_join!(reaches(&n1, way), reaches(&n2, way)).map(drop))
            .await?;
    }
    let (one, two) = (layout::Node::ONE.ip4(), layout::Node::TWO.ip4());
    let ways: [(&str, &str); 6] =
        [(vip, "6641"), (&around, "6641"), (&twice, "6641"), (&two, PORT), (&one, PORT), (vip, PORT)];
    try_join_all(ways.iter().map(|way| does_not_reach(here, *way))).await?;
    try_join_all(ways.iter().map(|way| does_not_reach(there, *way))).await?;
    try_join_all(ways[3..].iter().map(|way| does_not_reach(&outside, *way))).await.map(drop)
}

/// Makes a Service with this port of nodes, for the port 6641, that leads to a port of an address. Returns its address.
async fn leads_to(scene: &Scene, name: &str, node_port: u16, address: &str, port: u16) -> Result<String> {
    let namespace = "e1-databases";
    let service = json!({
        "apiVersion": "v1", "kind": "Service", "metadata": { "name": name, "namespace": namespace },
        "spec": { "type": "NodePort", "ports": [{ "port": 6641, "targetPort": port, "nodePort": node_port }] },
    });
    let slice = json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
        "metadata": { "name": name, "namespace": namespace, "labels": { "kubernetes.io/service-name": name } },
        "endpoints": [{ "addresses": [address] }],
        "ports": [{ "port": port }],
    });
    Box::pin(scene.create(service)).await?;
    Box::pin(scene.create(slice)).await?;
    let service = Api::<Service>::namespaced(scene.cluster().client(), namespace).get(name).await?;
    service.spec.and_then(|spec| spec.cluster_ip).context("the Service has no address")
}
