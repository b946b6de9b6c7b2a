//! E1: the ports of the OVN databases take connections from nodes, and neither from pods nor from other hosts.

use anyhow::{Context, Result, ensure};
use e2e::Cluster;
use e2e::cluster::Place;
use k8s_openapi::api::core::v1::Service;
use kube::Api;
use tokio::try_join;

/// Returns whether a TCP connection can be opened.
async fn opens(from: &Place, address: &str, port: &str) -> Result<bool> {
    let script = format!("nc -z -w 2 {address} {port} && echo open || echo closed");
    Ok(from.run("sh", &["-c", &script]).await?.trim() == "open")
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
    let central = e2e::central::NODE;
    let service = Api::<Service>::namespaced(cluster.client(), "kube-system").get("ovn-nb").await?;
    let service = service.spec.and_then(|spec| spec.cluster_ip).context("ovn-nb has no address")?;
    let ports = ["6641", "6642"];
    let ways = [(central.ip4(), &ports[..]), (central.ip6(), &ports[..]), (service, &ports[..1])];
    for (address, ports) in &ways {
        for port in *ports {
            for name in ["n1", "n2"] {
                ensure!(opens(&cluster.node(name)?, address, port).await?, "node {name} reaches {address} {port}");
            }
            for pod in [&here, &there] {
                let place = pod.place();
                ensure!(!opens(&place, address, port).await?, "pod {} does not reach {address} {port}", pod.name());
            }
        }
    }
    let outside = cluster.outside();
    for address in [central.ip4(), central.ip6()] {
        ensure!(!opens(&outside, &address, "6641").await?, "a host that is no node does not reach {address}");
    }
    // Other ports of the node are not affected.
    let n1 = central.ip4();
    ensure!(opens(&there.place(), &n1, "10250").await?, "a pod reaches the kubelet of n1");
    Ok(())
}
