//! How long it takes until deleted firewall rules of a node are back.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use super::stats::Times;
use crate::layout::Node;
use crate::{process, rootfs};

/// The table of one family.
const TABLE: [&str; 3] = ["table", "ip", "kube-ovn"];
/// A time limit that is far beyond what is expected.
const PATIENCE: Duration = Duration::from_secs(30);

/// Deletes the node's table and waits until it is back, `times` times.
pub async fn measure(node: Node, times: usize) -> Result<Times> {
    let mut took = Vec::new();
    for _ in 0..times {
        let before = nft(node, "list").await.context("before the table is deleted")?;
        nft(node, "delete").await?;
        let deleted = Instant::now();
        let after = loop {
            match nft(node, "list").await {
                Ok(listed) => break listed,
                Err(error) => ensure!(deleted.elapsed() < PATIENCE, "the table does not come back: {error:#}"),
            }
            // The agent needs the processors.
            tokio::time::sleep(Duration::from_millis(10)).await;
        };
        took.push(deleted.elapsed());
        // It is replaced in one transaction, so it is never there in part.
        ensure!(lines(&after) == lines(&before), "another table came back: {after}");
        // Repairs that follow one another at once are slowed down.
        tokio::time::sleep(Duration::from_secs(2)).await;
    }
    Ok(took.into_iter().collect())
}

async fn nft(node: Node, verb: &str) -> Result<String> {
    process::run(rootfs::on(node, "nft", &[&[verb], TABLE.as_slice()].concat())?).await
}

/// Returns the number of lines, which does not depend on counters.
fn lines(listed: &str) -> usize {
    listed.lines().count()
}
