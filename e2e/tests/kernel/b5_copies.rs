//! B5: the datapath copies each packet of a pod to `mirror0` once, in both directions, and loses none for it.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use e2e::bare::Probe;
use e2e::cluster::Place;
use e2e::layout::Node;
use e2e::{Cluster, process};
use serde_json::json;

use crate::stage::stage;

/// The time between two packets of a probe.
const INTERVAL: Duration = Duration::from_millis(200);
/// The report at the end of a probe, and neighbor discovery of the pod, are copied as well.
const OTHERS: u64 = 20;

/// Returns how many packets the mirror has shown.
async fn shown() -> Result<u64> {
    let text = Place::Node(Node::ONE).run("cat", &["/proc/net/dev"]).await?;
    let line = text.lines().find_map(|line| line.trim().strip_prefix("mirror0:")).context("mirror0")?;
    line.split_whitespace().nth(1).and_then(|packets| packets.parse().ok()).context("packets")
}

#[tokio::test]
async fn b5_copies_are_made_once_and_nothing_is_lost() -> Result<()> {
    let (cluster, stage) = (Cluster::running().await?, stage().await?);
    let say = async |value| {
        let annotations = json!({ "ovn.kubernetes.io/mirror": value });
        stage.near.annotate(&cluster.client(), annotations).await
    };
    let to = stage.far.ip(false)?.to_string();
    let from = stage.near.place();
    let copied = |more_than: u64| async move {
        ensure!(shown().await? > more_than, "nothing is copied");
        Ok(())
    };
    // A conversation between nodes that goes on while the mirror is switched.
    let switched = Probe::start("near to far, switched", &from, &to, INTERVAL).await?;
    let before = shown().await?;
    say(json!("true")).await?;
    process::until(Duration::from_secs(10), || copied(before + 10)).await?;
    let switched = switched.end().await?;
    ensure!(switched.sent == switched.answered, "packets were lost: {switched:?}");

    let before = shown().await?;
    let probe = Probe::start("near to far", &from, &to, INTERVAL).await?;
    // Forty packets at least.
    process::until(Duration::from_secs(30), || copied(before + 80)).await?;
    let outcome = probe.end().await?;
    let made = shown().await? - before;
    say(json!(null)).await?;
    ensure!(outcome.sent == outcome.answered, "packets were lost: {outcome:?}");
    let once = 2 * outcome.sent;
    ensure!((once..=once + OTHERS).contains(&made), "{made} copies of {once} packets in both directions");
    Ok(())
}
