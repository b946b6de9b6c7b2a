//! D1, for a single member: the northbound database can be unavailable, and it can be lost.

use std::time::Duration;

use anyhow::{Result, ensure};
use e2e::cluster::traffic::Pings;
use e2e::cluster::{is_ready, nb};
use e2e::{Cluster, central, ledger};
use serde_json::Value;

/// How long running pods ping each other while the database is filled again, and after that.
const WATCHED: Duration = Duration::from_secs(12);

/// Returns the rows of these ports: UUID, name, addresses.
async fn ports(names: &[&str]) -> Result<Vec<(Value, Value, Value)>> {
    let mut found = Vec::new();
    for name in names {
        for mut row in nb::find("Logical_Switch_Port", &[&format!("name={name}")]).await? {
            let mut take = |column: &str| row.remove(column).unwrap_or_default();
            found.push((take("_uuid"), take("name"), take("addresses")));
        }
    }
    Ok(found)
}

#[tokio::test]
async fn d1_a_pod_that_starts_while_northbound_is_away_is_served_when_it_is_back() -> Result<()> {
    let cluster = Cluster::running().await?;
    let scene = cluster.scene("d1-away").await?;
    scene.namespace("d1-away", &[]).await?;
    let (one, two) =
        tokio::try_join!(scene.pod("d1-away", "one").on("n1").ready(), scene.pod("d1-away", "two").on("n2").ready())?;
    let before = ports(&["one.d1-away", "two.d1-away"]).await?;
    let away = async {
        let late = scene.pod("d1-away", "late").on("n1").create().await?;
        one.place().ping(&two.ip4()?).await?;
        assert_eq!(late.annotation("ovn.kubernetes.io/allocated"), None, "nothing is given out that is not written");
        Ok(())
    };
    central::restart_northbound(true, away).await?;
    let pods = one.api();
    let late = cluster.until(pods, "late", is_ready).await?;
    let late = late.status.and_then(|status| status.pod_ip).unwrap_or_default();
    one.place().ping(&late).await?;
    assert_eq!(ports(&["one.d1-away", "two.d1-away"]).await?, before);
    ledger::agree(&cluster).await.map(drop)
}

#[tokio::test]
async fn d1_a_lost_northbound_database_is_written_again_as_it_was() -> Result<()> {
    let cluster = Cluster::running().await?;
    let scene = cluster.scene("d1-lost").await?;
    scene.namespace("d1-lost", &[]).await?;
    let (one, two) =
        tokio::try_join!(scene.pod("d1-lost", "one").on("n1").ready(), scene.pod("d1-lost", "two").on("n2").ready())?;
    let names = ["one.d1-lost", "two.d1-lost", "node-n1", "node-n2"];
    let before = ports(&names).await?;
    assert_eq!(before.len(), names.len());

    let pings = Pings::start(&one.netns().await?, &two.ip4()?)?;
    let empty = async {
        central::restart_northbound(false, async { Ok(()) }).await?;
        nb::until("Logical_Switch_Port", "two.d1-lost", &["up=true"]).await
    };
    let (filled, ()) = tokio::join!(empty, tokio::time::sleep(WATCHED));
    filled?;
    let (sent, lost) = pings.stop().await?;
    println!("of {sent} pings between running pods, {} had no answer", lost.len());
    ensure!(sent > 400, "it sent only {sent}");
    ensure!(lost.is_empty(), "of {sent} pings, {lost:?} had no answer");
    assert_eq!(ports(&names).await?, before, "the same ids, names and addresses");
    one.place().ping(&two.ip4()?).await?;
    cluster.node("n1")?.ping(&two.ip4()?).await?;
    // The next pod gets a free address.
    let next = scene.pod("d1-lost", "next").on("n1").ready().await?;
    assert!(next.ip4()? != one.ip4()? && next.ip4()? != two.ip4()?);
    next.place().ping(&one.ip4()?).await?;
    ledger::agree(&cluster).await.map(drop)
}
