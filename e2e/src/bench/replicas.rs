//! Starts and stops the two replicas of the controller.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::coordination::v1::Lease;
use kube::{Api, Client};
use nix::sys::signal::Signal;

use crate::by_hand::CONTROLLER;
use crate::ours::{self, get, leader, place};
use crate::part::Part;
use crate::systemd::{self, systemctl};

/// The time limit for a start, including the expiry of a killed replica's Lease.
const PATIENCE: Duration = Duration::from_mins(1);

/// Returns true if the replica is running.
fn runs(replica: usize) -> bool {
    Part::Controller(replica).pid().is_some()
}

/// Returns the number and the name of the running replica that is not the leader.
pub fn standby(leader: &str) -> Option<(usize, String)> {
    let mut all = ours::controllers().into_iter().enumerate();
    all.find(|(replica, name)| name != leader && runs(*replica))
}

/// Runs both replicas. On return, one is the leader and the other has read all objects. Replicas are started one by
/// one, because two candidates for a free Lease can both believe for a moment that they hold it.
pub async fn both() -> Result<()> {
    for (replica, node) in ours::NODES.into_iter().enumerate() {
        if !runs(replica) {
            start(replica).await?;
            systemd::ready(node, CONTROLLER, PATIENCE, || async { leader().await.map(drop) }).await?;
        }
    }
    for node in ours::NODES {
        let is_ready = || async move {
            let (status, why) = get(&node.ip4(), "/readyz").await?;
            ensure!(status == 200, "{}", why.trim());
            Ok(())
        };
        systemd::ready(node, CONTROLLER, PATIENCE, is_ready).await?;
    }
    leader().await.map(drop)
}

/// Runs only the leader. Returns its number and its name.
pub async fn leader_alone() -> Result<(usize, String)> {
    let (leader, _) = leader().await?;
    if let Some((standby, _)) = standby(&leader) {
        stop(standby).await?;
    }
    Ok((place(&leader)?, leader))
}

/// Stops both replicas.
pub async fn none() -> Result<()> {
    for replica in 0..ours::NODES.len() {
        stop(replica).await?;
    }
    Ok(())
}

/// Stops a replica and waits for its exit.
pub async fn stop(replica: usize) -> Result<()> {
    systemctl(ours::NODES[replica], &["stop", CONTROLLER]).await.map(drop)
}

/// Kills a replica. The returned future keeps it stopped; it must run before systemd restarts the replica.
pub fn kill(replica: usize) -> Result<impl Future<Output = Result<()>>> {
    Part::Controller(replica).signal(Signal::SIGKILL)?;
    Ok(stop(replica))
}

/// Starts a stopped replica.
pub async fn start(replica: usize) -> Result<()> {
    systemctl(ours::NODES[replica], &["start", CONTROLLER]).await.map(drop)
}

/// Returns the number of the other replica.
pub fn other(replica: usize) -> usize {
    (replica + 1) % ours::NODES.len()
}

/// Returns the duration of the Lease.
pub async fn lease_time(client: Client) -> Result<Duration> {
    let lease = Api::<Lease>::namespaced(client, "kube-system").get("kube-ovn-controller").await?;
    let seconds = lease.spec.and_then(|spec| spec.lease_duration_seconds).context("the Lease tells no duration")?;
    Ok(Duration::from_secs(u64::try_from(seconds)?))
}
