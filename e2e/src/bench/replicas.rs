//! The two replicas of the controller: both, one of them or none, and what they answer.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::coordination::v1::Lease;
use kube::{Api, Client};
use nix::sys::signal::Signal;

use crate::by_hand::CONTROLLER;
use crate::ours::{self, get, leader, place};
use crate::part::Part;
use crate::systemd::{self, systemctl};

/// How long a start may take, the Lease of one that was killed included.
const PATIENCE: Duration = Duration::from_mins(1);

/// Whether one runs.
fn runs(replica: usize) -> bool {
    Part::Controller(replica).pid().is_some()
}

/// The replica that does not lead, if it runs; its place and its name.
pub fn standby(leader: &str) -> Option<(usize, String)> {
    let mut all = ours::controllers().into_iter().enumerate();
    all.find(|(replica, name)| name != leader && runs(*replica))
}

/// Has both run: one leads when this returns, and the other has read everything. Those that do not run are started one after
/// the other, since two that ask for a free Lease at the same moment may both believe that they have it, for a moment.
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

/// Has the leader alone run; its place and its name.
pub async fn leader_alone() -> Result<(usize, String)> {
    let (leader, _) = leader().await?;
    if let Some((standby, _)) = standby(&leader) {
        stop(standby).await?;
    }
    Ok((place(&leader)?, leader))
}

/// Has none run.
pub async fn none() -> Result<()> {
    for replica in 0..ours::NODES.len() {
        stop(replica).await?;
    }
    Ok(())
}

/// Asks one to end, and waits until it has.
pub async fn stop(replica: usize) -> Result<()> {
    systemctl(ours::NODES[replica], &["stop", CONTROLLER]).await.map(drop)
}

/// Kills one at once; what this returns sees to it that it stays dead, which takes less than systemd's pause before a restart.
pub fn kill(replica: usize) -> Result<impl Future<Output = Result<()>>> {
    Part::Controller(replica).signal(Signal::SIGKILL)?;
    Ok(stop(replica))
}

/// Starts one that does not run.
pub async fn start(replica: usize) -> Result<()> {
    systemctl(ours::NODES[replica], &["start", CONTROLLER]).await.map(drop)
}

/// The place of the other one.
pub fn other(replica: usize) -> usize {
    (replica + 1) % ours::NODES.len()
}

/// For how long the Lease binds the others.
pub async fn lease_time(client: Client) -> Result<Duration> {
    let lease = Api::<Lease>::namespaced(client, "kube-system").get("kube-ovn-controller").await?;
    let seconds = lease.spec.and_then(|spec| spec.lease_duration_seconds).context("the Lease tells no duration")?;
    Ok(Duration::from_secs(u64::try_from(seconds)?))
}
