//! B1: a port of a node that leads to a pod answers everybody, over both families: `hostPort`, and `NodePort` with each
//! `externalTrafficPolicy`. A client outside keeps its address if the policy is `Local`, and with `hostPort`.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use e2e::bare::expose;
use e2e::cluster::{Place, Target};
use e2e::kubelet::{self, ProxyMode};
use e2e::layout::{Node, OUTSIDE, OUTSIDE_6};
use e2e::{Cluster, process};

use crate::stage::{HOST_PORT, NAMESPACE, stage};

#[tokio::test]
async fn b1_a_port_of_a_node_answers_from_everywhere() -> Result<()> {
    Box::pin(from_everywhere()).await
}

#[tokio::test]
async fn b1_a_port_of_a_node_answers_beside_kube_proxys_virtual_server() -> Result<()> {
    let nodes = [Node::ONE, Node::TWO];
    for node in nodes {
        kubelet::proxy_again(node, ProxyMode::Ipvs).await?;
    }
    let outcome = Box::pin(from_everywhere()).await;
    for node in nodes {
        kubelet::proxy_again(node, ProxyMode::Iptables).await?;
    }
    outcome
}

async fn from_everywhere() -> Result<()> {
    let (cluster, stage) = (Cluster::running().await?, stage().await?);
    let client = cluster.client();
    let local = expose(&client, NAMESPACE, "local", "Local", &[&stage.near]).await?;
    let anywhere = expose(&client, NAMESPACE, "anywhere", "Cluster", &[&stage.near]).await?;
    let clients = [
        ("the node itself", Place::Node(Node::ONE)),
        ("another node", Place::Node(Node::TWO)),
        ("a pod of the node", stage.next.place()),
        ("a pod of another node", stage.far.place()),
        ("the pod itself", stage.near.place()),
        ("outside", cluster.outside()),
    ];
    // The node, the port, and whether a client outside keeps its address.
    let kinds = [
        ("hostPort", Node::ONE, HOST_PORT, true),
        ("NodePort, Local", Node::ONE, local.http, true),
        ("NodePort, Cluster", Node::ONE, anywhere.http, false),
        ("NodePort, Cluster, by a node without the pod", Node::TWO, anywhere.http, false),
    ];
    let mut cases = Vec::new();
    for (kind, node, port, keeps) in kinds {
        for (address, outside) in [(node.ip4(), OUTSIDE), (node.ip6(), OUTSIDE_6)] {
            let (to, outside): (IpAddr, IpAddr) = (address.parse()?, outside.parse()?);
            cases.push((kind, Target::Tcp(SocketAddr::new(to, port)), keeps.then_some(outside)));
        }
    }
    let targets: Vec<_> = cases.iter().map(|(_, target, _)| *target).collect();
    for node in [Node::ONE, Node::TWO] {
        // kube-proxy needs a moment for new Services.
        let known = async || Place::Node(node).ask(&targets).await?.into_iter().try_for_each(|answer| answer.map(drop));
        process::until(Duration::from_secs(10), known).await.with_context(|| format!("from {}", node.name()))?;
    }
    let mut amiss = Vec::new();
    for (who, place) in &clients {
        for ((kind, target, keeps), answer) in cases.iter().zip(place.ask(&targets).await?) {
            let what = format!("{kind} ({target}) from {who}");
            match answer {
                Err(error) => amiss.push(format!("{what}: {error:#}")),
                Ok(answer) if answer.who != "near" => amiss.push(format!("{what}: {} answers", answer.who)),
                Ok(answer) if *who == "outside" && keeps.is_some_and(|address| address != answer.seen) => {
                    amiss.push(format!("{what}: it is seen as {}", answer.seen));
                }
                Ok(_) => {}
            }
        }
    }
    ensure!(amiss.is_empty(), "{}", amiss.join("\n"));
    Ok(())
}
