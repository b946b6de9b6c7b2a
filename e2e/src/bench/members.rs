//! The faults of members of the databases: how long nothing can be written without the leader, and how long the network takes to
//! come back after all have lost their disks.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use nix::sys::signal::Signal;

use super::bed::Bed;
use super::ports::Ports;
use super::stats::Times;
use crate::central::members::{self, Database};
use crate::central::writes::longest_gap;
use crate::cluster::Scene;
use crate::cluster::traffic::Pings;
use crate::layout::Node;
use crate::process;

const NAME: &str = "bench-members";
/// A time limit that is far beyond every expected duration.
const PATIENCE: Duration = Duration::from_mins(2);

/// The number of times that the leader ends.
pub const ENDED: usize = 10;

/// How long a change of the leader is given before it is looked at.
const AFTER: Duration = Duration::from_secs(1);

/// How long nothing could be written to the northbound database.
#[derive(Clone, Debug)]
pub struct Gaps {
    /// While its leader was killed.
    pub killed: Times,
    /// While its leader was stopped, which hands the leadership over.
    pub handed_over: Times,
}

/// Measures both, with a member on each node.
pub async fn measure(scene: &Scene, bed: &Bed, count: usize, runs: usize) -> Result<(Gaps, Lost)> {
    let nodes = scene.cluster().nodes();
    members::label(&nodes).await?;
    members::whole(scene.cluster(), &nodes, PATIENCE).await?;
    let gaps = Box::pin(gaps(scene, &nodes)).await?;
    Ok((gaps, Box::pin(lose_all(scene, &nodes, bed, count, runs)).await?))
}

/// Ends the leader [`ENDED`] times in each way.
async fn gaps(scene: &Scene, nodes: &[Node]) -> Result<Gaps> {
    let mut gaps = [Vec::new(), Vec::new()];
    for _ in 0..ENDED {
        for (signal, gaps) in [Signal::SIGKILL, Signal::SIGTERM].into_iter().zip(&mut gaps) {
            let leader = Database::Nb.leader().await?;
            let gap = longest_gap(nodes, async {
                let pid = if signal == Signal::SIGKILL { Database::Nb.pid(leader)? } else { members::pid(leader)? };
                members::send(pid, signal)?;
                let next = async || {
                    let now = Database::Nb.leader().await?;
                    ensure!(now != leader || signal == Signal::SIGKILL, "the former one leads");
                    Ok(())
                };
                // The former one may still say so for a moment, and writes go on after that.
                tokio::time::sleep(AFTER).await;
                process::until(PATIENCE, next).await?;
                tokio::time::sleep(AFTER).await;
                members::whole(scene.cluster(), nodes, PATIENCE).await.map(drop)
            });
            gaps.push(Box::pin(gap).await?);
        }
    }
    let [killed, handed_over] = gaps.map(|gaps| gaps.into_iter().collect());
    Ok(Gaps { killed, handed_over })
}

/// What was measured, each time from the loss of the last disk.
#[derive(Clone, Debug)]
pub struct Lost {
    /// The number of pods with addresses, most of which do not run.
    pub pods: usize,
    /// Until the northbound database had all ports again, with the same addresses.
    pub written: Times,
    /// Until a pod that was created then was ready.
    pub served: Times,
    /// Until all members were ready, and the leaders labelled.
    pub whole: Times,
    /// How many packets between two running pods were lost, of how many.
    pub packets: (usize, usize),
}

/// Loses all disks `runs` times beside `count` pods that do not run, and two that ping each other each 20 ms.
async fn lose_all(scene: &Scene, nodes: &[Node], bed: &Bed, count: usize, runs: usize) -> Result<Lost> {
    scene.namespace(NAME, &[]).await?;
    bed.fill(count).await?;
    let near = Box::pin(scene.pod(NAME, "near").on("n1").ready()).await?;
    let far = Box::pin(scene.pod(NAME, "far").on("n2").ready()).await?;
    let before = Ports::of(bed.namespace()).await?.addresses();
    let (mut written, mut served, mut whole) = (Vec::new(), Vec::new(), Vec::new());
    let mut packets = (0, 0);
    for _ in 0..runs {
        let pings = Pings::start(&near.netns().await?, &far.ip4()?)?;
        for node in nodes {
            members::lose_disk(*node)?;
        }
        let began = Instant::now();
        let again = async {
            Ports::of(bed.namespace()).await?.until(&before).await?;
            written.push(began.elapsed());
            anyhow::Ok(())
        };
        let next = async {
            let pod = Box::pin(scene.pod(NAME, "next").on("n1").ready()).await?;
            served.push(began.elapsed());
            pod.delete().await
        };
        let members = async {
            members::whole(scene.cluster(), nodes, PATIENCE).await?;
            whole.push(began.elapsed());
            Ok(())
        };
        tokio::try_join!(again, next, members)?;
        let (sent, lost) = pings.stop().await?;
        packets = (packets.0 + lost.len(), packets.1 + sent);
    }
    bed.audit(&Bed::names(count)).await?;
    bed.clear().await?;
    let [written, served, whole] = [written, served, whole].map(|times| times.into_iter().collect());
    Ok(Lost { pods: count, written, served, whole, packets })
}
