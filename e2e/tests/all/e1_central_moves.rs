//! Row E1 on an installed lab: the commands of `docs/operations.md` move the databases to another node, and the nodes follow
//! without a restart.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use e2e::central::members;
use e2e::cluster::datapath;
use e2e::layout::Node;
use e2e::{Cluster, central, ledger, operator, process};

const PAGE: &str = include_str!("../../../docs/operations.md");

/// Returns the commands of the page.
fn commands() -> Result<&'static str> {
    let (_, section) = PAGE.split_once("## Moving the databases\n").context("no such section")?;
    section.split("```sh\n").nth(1).and_then(|rest| rest.split("```").next()).context("no commands")
}

async fn operator_runs(commands: &str) -> Result<()> {
    process::run(operator::shell(&operator::project(), commands)).await.map(drop)
}

async fn moved(cluster: &Cluster, old: Node, new: Node) -> Result<()> {
    operator_runs(&commands()?.replace("OLD", &old.name()).replace("NEW", &new.name())).await?;
    members::whole(cluster, &[new], Duration::from_secs(15)).await.map(drop)
}

#[tokio::test]
async fn e1_central_moves_to_another_node_and_pods_keep_their_addresses() -> Result<()> {
    let cluster = Cluster::running().await?;
    let scene = cluster.scene("e1-moves").await?;
    scene.namespace("e1-moves", &[]).await?;
    let (home, away) = (central::NODE, *cluster.nodes().last().context("the lab has no nodes")?);
    ensure!(home != away, "the lab has one node");
    let here = scene.pod("e1-moves", "here").on(&home.name()).ready().await?;
    for (from, to, fresh) in [(home, away, "one"), (away, home, "two")] {
        moved(&cluster, from, to).await?;
        let fresh = scene.pod("e1-moves", fresh).on(&away.name()).ready().await?;
        ensure!(fresh.ip4()? != here.ip4()?, "{} is given out twice", here.ip4()?);
        let pinged = async {
            fresh.place().ping(&here.ip4()?).await?;
            here.place().ping(&fresh.ip4()?).await
        };
        if let Err(error) = pinged.await {
            println!("{}", datapath::says(&cluster, &fresh, &here).await);
            return Err(error);
        }
    }
    ledger::agree(&cluster).await.map(drop)
}
