//! B2, the basic case: a pod's traffic leaves the cluster through its own node, with that node's address, and is
//! answered.

use anyhow::{Context, Result};
use e2e::Cluster;
use e2e::layout::{Node, OUTSIDE, OUTSIDE_6};
use tokio::try_join;

#[tokio::test]
async fn b2_pods_leave_by_their_own_node() -> Result<()> {
    let cluster = Cluster::running().await?;
    let scene = cluster.scene("b2").await?;
    scene.namespace("b2", &[]).await?;
    let (one, two) = try_join!(scene.pod("b2", "one").on("n1").ready(), scene.pod("b2", "two").on("n2").ready())?;

    for (pod, node) in [(&one, "n1"), (&two, "n2")] {
        let node = Node::named(node).context("a node")?;
        for (to, from) in [(OUTSIDE, node.ip4()), (OUTSIDE_6, node.ip6())] {
            pod.place().ping(to).await?;
            for answer in [pod.place().tcp(to).await?, pod.place().udp(to).await?] {
                assert_eq!(
                    (answer.who.as_str(), answer.seen.to_string()),
                    ("outside", from.clone()),
                    "from {}",
                    pod.name()
                );
            }
        }
        // The ClusterIP of the API server, which every in-cluster client uses.
        let version = pod.place().run("curl", &["-sSk", "--max-time", "5", "https://10.96.0.1/version"]).await;
        let version = version.with_context(|| format!("the API server's ClusterIP from {}", pod.name()))?;
        assert!(version.contains("gitVersion"), "the API server says {version}");
    }
    Ok(())
}
