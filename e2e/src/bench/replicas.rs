//! The two replicas of the controller: both, one of them or none, and what they answer.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::coordination::v1::Lease;
use kube::{Api, Client};

use super::usage::{get, leader};
use crate::by_hand::{self, systemctl};
use crate::layout::state;
use crate::{ours, process};

/// How long a replica that is asked to end may take.
const GRACE: Duration = Duration::from_secs(10);
/// How long a start may take, the Lease of one that was killed included.
const PATIENCE: Duration = Duration::from_mins(1);

/// The replicas that do not lead.
pub fn standbys(leader: &str) -> Vec<String> {
    ours::controllers().into_iter().filter(|name| name != leader && process::runs(name)).collect()
}

/// Has both run: one leads when this returns, and the other has read everything. Those that do not run are started one after
/// the other, since two that ask for a free Lease at the same moment may both believe that they have it, for a moment.
pub async fn both() -> Result<()> {
    for (replica, name) in ours::controllers().iter().enumerate() {
        if process::runs(name) {
            continue;
        }
        start(replica).await?;
        process::ready(name, PATIENCE, || async { leader().await.map(drop) }).await?;
    }
    for (node, name) in ours::NODES.into_iter().zip(ours::controllers()) {
        let is_ready = || async move {
            let (status, why) = get(&node.ip4(), "/readyz").await?;
            ensure!(status == 200, "{}", why.trim());
            Ok(())
        };
        process::ready(&name, PATIENCE, is_ready).await?;
    }
    leader().await.map(drop)
}

/// Has the leader alone run; its place and its name.
pub async fn leader_alone() -> Result<(usize, String)> {
    let (leader, _) = leader().await?;
    for standby in standbys(&leader) {
        stop(&standby).await?;
    }
    Ok((place(&leader)?, leader))
}

/// Has none run.
pub async fn none() -> Result<()> {
    for name in ours::controllers() {
        stop(&name).await?;
    }
    Ok(())
}

/// Asks one to end, and waits until it has.
pub async fn stop(name: &str) -> Result<()> {
    process::stop(&state("pid").join(name), GRACE).await
}

/// Starts one that does not run.
pub async fn start(replica: usize) -> Result<()> {
    systemctl::start(ours::NODES[replica], by_hand::CONTROLLER).await
}

/// The place of a replica among [`ours::controllers`].
pub fn place(name: &str) -> Result<usize> {
    ours::controllers().iter().position(|other| other == name).with_context(|| format!("no controller is {name}"))
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
