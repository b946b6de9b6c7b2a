//! B2, the basic case: a pod's traffic leaves the cluster through its own node, with that node's address, and is
//! answered.

use anyhow::{Context, Result, ensure};
use e2e::Cluster;
use e2e::cluster::Place;
use e2e::layout::{Node, OUTSIDE, OUTSIDE_6};
use tokio::try_join;

/// Checks that a pod is told that nothing listens at a port outside, and where a packet with too small a hop limit has ended.
async fn errors_come_back(from: &Place, to: &str) -> Result<()> {
    let script = format!("exec 3<>/dev/udp/{to}/9; echo x >&3; sleep 0.5; echo x >&3 || echo refused");
    let printed = from.run("bash", &["-c", &script]).await?;
    ensure!(printed.contains("refused"), "a closed port is silent: {printed}");
    for hops in ["1", "2"] {
        let script = format!("ping -c 1 -W 2 -t {hops} {to} || true");
        let printed = from.run("sh", &["-c", &script]).await?;
        let ended = ["Time to live exceeded", "Hop limit"].iter().any(|words| printed.contains(words));
        ensure!(ended, "after {hops} hops: {printed}");
    }
    Ok(())
}

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
        for to in [OUTSIDE, OUTSIDE_6] {
            errors_come_back(&pod.place(), to).await.with_context(|| format!("from {} to {to}", pod.name()))?;
        }
        // The ClusterIP of the API server, which every in-cluster client uses.
        let version = pod.place().run("curl", &["-sSk", "--max-time", "5", "https://10.96.0.1/version"]).await;
        let version = version.with_context(|| format!("the API server's ClusterIP from {}", pod.name()))?;
        assert!(version.contains("gitVersion"), "the API server says {version}");
    }
    Ok(())
}
