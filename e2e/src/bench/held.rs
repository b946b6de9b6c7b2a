//! Measures leader changes and restarts with many existing pods: how long the next pod waits, and what is written to
//! the northbound database although nothing has changed.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use futures::future::try_join;

use super::bed::Bed;
use super::log::{Change, Mark, Record};
use super::replicas;
use super::usage::{Memory, memory};
use crate::ours::{self, leader};

/// Writes up to this long after the next pod was served are counted.
const AFTERMATH: Duration = Duration::from_secs(2);

/// The key of the fence in `NB_Global.external_ids`.
const EPOCH: &str = "kube-ovn-leader-epoch";

/// How a controller ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// SIGTERM. The controller releases its Lease.
    Asked,
    /// SIGKILL. The controller restarts with the same name, like a container, and still holds the Lease.
    Killed,
    /// SIGKILL. A controller with another name replaces it, like a new pod, and must wait until the Lease expires.
    Replaced,
}

/// The measurements of a restart of the only replica.
#[derive(Clone, Debug)]
pub struct Restart {
    /// The time until it exited.
    pub ending: Duration,
    /// The time from the new start to the annotations of the next pod, which is created at the start.
    pub served: Duration,
    /// The northbound writes.
    pub written: Written,
    /// The memory after that.
    pub memory: Memory,
}

/// The measurements of a killed leader with a warm standby.
#[derive(Clone, Debug)]
pub struct Takeover {
    /// The time from the kill to the annotations of the next pod, which is created at the kill.
    pub served: Duration,
    /// The northbound writes.
    pub written: Written,
}

/// Transactions in the northbound database by content, without those of northd.
#[derive(Clone, Debug, Default)]
pub struct Written {
    /// Transactions that raised the fence.
    pub fence: usize,
    /// Transactions for the next pod.
    pub pod: usize,
    /// Transactions with other content.
    pub besides: usize,
    /// The rows that the other transactions wrote.
    pub rows: Vec<String>,
}

/// Stops the only running replica and starts it again. `pod` is the name of the next pod.
pub async fn restart(bed: &Bed, end: End, pod: &str) -> Result<Restart> {
    let (replica, _) = replicas::leader_alone().await?;
    let log = Mark::now().await?;
    let asked = Instant::now();
    match end {
        End::Asked => replicas::stop(replica).await?,
        End::Killed | End::Replaced => replicas::kill(replica)?.await?,
    }
    let ending = asked.elapsed();
    let replica = if end == End::Replaced { replicas::other(replica) } else { replica };
    let start = Instant::now();
    replicas::start(replica).await?;
    let served = next_pod(bed, pod).await?.duration_since(start);
    let written = written(log, bed, pod).await?;
    Ok(Restart { ending, served, written, memory: memory(&leader().await?.0)? })
}

/// Kills the leader of two replicas, then starts it again as the standby. `pod` is the name of the next pod.
pub async fn takeover(bed: &Bed, pod: &str) -> Result<Takeover> {
    replicas::both().await?;
    let (dying, _) = leader().await?;
    let log = Mark::now().await?;
    let start = Instant::now();
    let stays = replicas::kill(ours::place(&dying)?)?;
    let (served, ()) = try_join(next_pod(bed, pod), stays).await?;
    let served = served.duration_since(start);
    let written = written(log, bed, pod).await?;
    let (other, _) = leader().await?;
    ensure!(other != dying, "{dying} leads, and it was killed");
    replicas::both().await?;
    Ok(Takeover { served, written })
}

/// Creates a pod. Returns when it got its annotations.
async fn next_pod(bed: &Bed, pod: &str) -> Result<Instant> {
    bed.create(pod).await?;
    let served = bed.pods.until(pod).await?;
    bed.ips.until(&bed.port(pod)).await?;
    Ok(served)
}

async fn written(log: Mark, bed: &Bed, pod: &str) -> Result<Written> {
    tokio::time::sleep(AFTERMATH).await; // no event shows the absence of writes
    Written::of(&log.records()?, &bed.port(pod))
}

impl Written {
    /// Classifies transactions. `port` is the port of the next pod.
    fn of(records: &[Record], port: &str) -> Result<Self> {
        let mut changes = records.iter().flat_map(|record| &record.changes);
        let made = changes.find(|change| change.table == "Logical_Switch_Port" && change.columns["name"] == port);
        let row = &made.with_context(|| format!("nobody wrote port {port}"))?.row;
        let mut written = Self::default();
        for record in records.iter().filter(|record| !record.is_northd()) {
            let any = |about: fn(&Change, &str) -> bool| record.changes.iter().any(|change| about(change, row));
            written.fence += usize::from(any(|change, _| is_fence(change)));
            written.pod += usize::from(any(Change::names));
            written.besides += usize::from(any(is_besides));
            let rows = record.changes.iter().filter(|change| is_besides(change, row));
            written.rows.extend(rows.map(ToString::to_string));
        }
        ensure!(written.fence > 0, "nobody raised the fence");
        Ok(written)
    }
}

fn is_fence(change: &Change) -> bool {
    change.table == "NB_Global" && change.columns["external_ids"].to_string().contains(EPOCH)
}

fn is_besides(change: &Change, row: &str) -> bool {
    !is_fence(change) && !change.names(row)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn record(changes: &[(&str, &str, Value)]) -> Record {
        let change = |(table, row, columns): &(&str, &str, Value)| Change {
            table: (*table).to_owned(),
            row: (*row).to_owned(),
            columns: columns.clone(),
        };
        Record { changes: changes.iter().map(change).collect() }
    }

    #[test]
    fn what_a_restart_writes_is_told_apart() {
        let fence = record(&[("NB_Global", "g", json!({"external_ids": ["map", [[EPOCH, "7"]]]}))]);
        let port = ("Logical_Switch_Port", "p1", json!({"name": "a.ns"}));
        let pod = record(&[port.clone(), ("Logical_Switch", "s", json!({"ports": ["uuid", "p1"]}))]);
        let up = record(&[("Logical_Switch_Port", "p1", json!({"up": false}))]);
        let same = Written::of(&[fence.clone(), pod, up.clone()], "a.ns").unwrap();
        assert_eq!((same.fence, same.pod, same.besides, same.rows.len()), (1, 1, 0, 0));

        // One repair in the pod's transaction, and one in a separate transaction.
        let both = record(&[port, ("Logical_Switch", "s", json!({"other_config": ["map", []]}))]);
        let gone = record(&[("ACL", "a", Value::Null)]);
        let more = Written::of(&[fence.clone(), both, gone], "a.ns").unwrap();
        assert_eq!((more.fence, more.pod, more.besides, more.rows.len()), (1, 1, 2, 2));
        assert_eq!(more.rows[1], "ACL a: null");

        assert!(Written::of(&[fence, up], "a.ns").is_err(), "the next pod has no port");
    }
}
