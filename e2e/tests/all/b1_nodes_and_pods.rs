//! B1: every node has `ovn0` on the join subnet and reaches every pod, with its own address, and pods reach nodes.

use anyhow::{Context, Result};
use e2e::Cluster;
use e2e::cluster::nb;
use tokio::try_join;

#[tokio::test]
async fn b1_nodes_and_pods_reach_each_other() -> Result<()> {
    let cluster = Cluster::running().await?;
    let scene = cluster.scene("b1").await?;
    scene.namespace("b1", &[]).await?;
    let (one, two) = try_join!(scene.pod("b1", "one").on("n1").ready(), scene.pod("b1", "two").on("n2").ready())?;

    for node in cluster.nodes() {
        let (name, place) = (node.name(), cluster.node(&node.name())?);
        let ovn0 = place.run("ip", &["-brief", "address", "show", "ovn0"]).await?;
        assert!(ovn0.contains(" 100.64.0."), "ovn0 of {name} is on the join subnet: {ovn0}");
        let port = nb::find("Logical_Switch_Port", &[&format!("name=node-{name}")]).await?;
        assert_eq!(port.len(), 1, "a port of {name} on the join switch");
        let routes = place.run("ip", &["route"]).await?;
        assert!(routes.contains("10.16.0.0/16 via 100.64.0.1 dev ovn0"), "routes of {name}: {routes}");

        for pod in [&one, &two] {
            for (ip, own) in [(pod.ip4()?, node.ip4()), (pod.ip6()?, node.ip6())] {
                place.ping(&ip).await?;
                for answer in [place.tcp(&ip).await, place.udp(&ip).await] {
                    let answer = answer.with_context(|| format!("from {name}"))?;
                    assert_eq!(
                        (answer.who.as_str(), answer.seen.to_string()),
                        (pod.name(), own.clone()),
                        "from {name}"
                    );
                }
            }
            for ip in [node.ip4(), node.ip6()] {
                pod.place().ping(&ip).await?;
            }
        }
    }
    Ok(())
}
