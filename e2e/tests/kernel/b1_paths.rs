//! B1: pods of one node and of different nodes, and nodes and pods, reach each other over both families.

use std::net::IpAddr;

use anyhow::{Context, Result};
use e2e::cluster::{Place, Target};
use e2e::layout::Node;

use crate::stage::{echo, stage};

/// Checks that a peer answers an echo request, TCP and UDP at both of its addresses, and that it sees those of the client.
async fn all_arrives(from: &Place, to: [IpAddr; 2], who: &str, seen: [IpAddr; 2]) -> Result<()> {
    let targets: Vec<_> = to.into_iter().flat_map(Target::both).collect();
    let seen = [seen[0], seen[0], seen[1], seen[1]];
    for (answer, seen) in from.ask(&targets).await?.into_iter().zip(seen) {
        let answer = answer?;
        assert_eq!((answer.who.as_str(), answer.seen), (who, seen), "from {from} to {to:?}");
    }
    for to in to {
        echo(from, to).await?;
    }
    Ok(())
}

fn addresses(node: Node) -> Result<[IpAddr; 2]> {
    Ok([node.ip4().parse()?, node.ip6().parse()?])
}

#[tokio::test]
async fn b1_pods_reach_each_other() -> Result<()> {
    let stage = stage().await?;
    let (near, next, far) = (&stage.near, &stage.next, &stage.far);
    for (from, to) in [(near, next), (near, far), (far, near), (near, &stage.wide_far)] {
        all_arrives(&from.place(), to.both()?, &to.name, from.both()?).await?;
    }
    Ok(())
}

#[tokio::test]
async fn b1_nodes_and_pods_reach_each_other() -> Result<()> {
    let stage = stage().await?;
    for node in [Node::ONE, Node::TWO] {
        let (place, own) = (Place::Node(node), addresses(node)?);
        for pod in [&stage.near, &stage.far] {
            all_arrives(&place, pod.both()?, &pod.name, own).await?;
            for address in own {
                echo(&pod.place(), address).await?;
            }
        }
        // The userspace datapath has no such counters.
        let shown = place.run("ovs-dpctl", &["show"]).await.context("the kernel's datapath")?;
        assert!(shown.contains("system@ovs-system") && shown.contains("genev_sys_6081"), "{shown}");
    }
    Ok(())
}
