//! B2: pods' traffic leaves by their own node, masqueraded with its address, over both families.

use std::net::IpAddr;

use anyhow::{Context, Result};
use e2e::cluster::Target;
use e2e::layout::{OUTSIDE, OUTSIDE_6};
use e2e::pace;

use crate::stage::{echo, stage};

#[tokio::test]
async fn b2_pods_leave_by_their_own_node() -> Result<()> {
    let stage = stage().await?;
    let outside: [IpAddr; 2] = [OUTSIDE.parse()?, OUTSIDE_6.parse()?];
    for pod in [&stage.near, &stage.far, &stage.wide] {
        let targets: Vec<_> = outside.into_iter().flat_map(Target::both).collect();
        let answers = pod.place().ask(&targets).await?;
        let own = [pod.node.ip4(), pod.node.ip4(), pod.node.ip6(), pod.node.ip6()];
        for (answer, own) in answers.into_iter().zip(own) {
            let answer = answer?;
            assert_eq!((answer.who.as_str(), answer.seen.to_string()), ("outside", own), "from {}", pod.name);
        }
        for to in outside {
            echo(&pod.place(), to).await?;
        }
    }
    // The ClusterIP of the API server, which every in-cluster client uses.
    let ask = ["-sSk", "--max-time", &pace::seconds(5), "https://10.96.0.1/version"];
    let version = stage.far.place().run("curl", &ask).await.context("the API server's ClusterIP")?;
    assert!(version.contains("gitVersion"), "the API server says {version}");
    Ok(())
}
