//! What limits and copies do to the traffic of pods: how exact a limit is, how soon a new one is in force, and how much
//! slower packets pass with them.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::stats::Times;
use crate::cluster::traffic::{mbit, rate, received};
use crate::cluster::{Place, Pod, Scene};

/// The limits in Mbit/s.
pub const RATES: [u32; 3] = [10, 100, 300];
/// The number of times that a limit is raised.
pub const RAISED: usize = 10;

const NAMESPACE: &str = "bench-traffic";
const INGRESS: &str = "ovn.kubernetes.io/ingress_rate";
const EGRESS: &str = "ovn.kubernetes.io/egress_rate";
const MIRROR: &str = "ovn.kubernetes.io/mirror";
/// A limit that no traffic here reaches: packets are metered, and none is dropped.
const UNREACHED: &str = "100000";
/// A time limit that is far beyond what is expected.
const PATIENCE: Duration = Duration::from_secs(20);

/// The measurements.
#[derive(Clone, Debug)]
pub struct Traffic {
    /// For each of [`RATES`]: what arrived in percent of it, with TCP and UDP, in both directions, on one node and between
    /// nodes.
    pub limits: Vec<Vec<(String, f64)>>,
    /// The times from an annotation with a higher limit to more packets.
    pub raised: Times,
    /// The rate of TCP on one node in Mbit/s, by run: plain, mirrored, and metered.
    pub forwarded: Vec<[f64; 3]>,
}

/// Measures with three pods on two nodes.
pub async fn measure(scene: &Scene, runs: usize) -> Result<Traffic> {
    scene.namespace(NAMESPACE, &[]).await?;
    let on = |name: &'static str, node: &'static str| scene.pod(NAMESPACE, name).on(node);
    let pods = tokio::try_join!(on("limited", "n1").ready(), on("near", "n1").ready(), on("far", "n2").ready());
    let (limited, near, far) = pods?;
    let forwarded = forwarded(&limited, &near, runs).await?;
    let raised = raised(&limited, &near).await?;
    let mut limits = Vec::new();
    for wanted in RATES {
        limits.push(limits_of(wanted, &limited, &[("one node", &near), ("two nodes", &far)]).await?);
    }
    Ok(Traffic { limits, raised, forwarded })
}

/// Takes one after the other in each run, so that all are measured under the same load.
async fn forwarded(pod: &Pod, other: &Pod, runs: usize) -> Result<Vec<[f64; 3]>> {
    let plain = json!({ MIRROR: null, INGRESS: null, EGRESS: null });
    let settings = [plain.clone(), json!({ MIRROR: "true" }), json!({ INGRESS: UNREACHED, EGRESS: UNREACHED })];
    let mut all = Vec::new();
    for _ in 0..runs {
        let mut run = [0.0; 3];
        for (figure, setting) in run.iter_mut().zip(&settings) {
            said(pod, &plain).await?;
            said(pod, setting).await?;
            *figure = rate(&other.netns().await?, &pod.netns().await?, &pod.ip4()?, None).await?;
        }
        all.push(run);
    }
    said(pod, &plain).await?;
    Ok(all)
}

/// Annotates a pod, and waits until that is certainly in force.
async fn said(pod: &Pod, annotations: &Value) -> Result<()> {
    pod.annotate(annotations.clone()).await?;
    tokio::time::sleep(Duration::from_secs(2)).await;
    Ok(())
}

/// Raises the limit of traffic into a pod that gets more than either allows, and waits until more arrives.
async fn raised(pod: &Pod, from: &Pod) -> Result<Times> {
    let (place, sender, address) = (pod.netns().await?, from.netns().await?, pod.ip4()?);
    let watched = async {
        let mut took = Vec::new();
        for _ in 0..RAISED {
            // The burst of the last limit passes.
            pod.annotate(json!({ INGRESS: "10" })).await?;
            tokio::time::sleep(Duration::from_secs(6)).await;
            let raised = Instant::now();
            pod.annotate(json!({ INGRESS: "40" })).await?;
            more_than(&place, 25.0, raised).await?;
            took.push(raised.elapsed());
        }
        Ok::<_, anyhow::Error>(took)
    };
    let took = tokio::select! {
        ended = rate_forever(&sender, &place, &address) => return ended.context("nothing is sent any more").map(|()| Times::default()),
        took = watched => took?,
    };
    pod.annotate(json!({ INGRESS: null })).await?;
    Ok(took.into_iter().collect())
}

async fn rate_forever(from: &Place, to: &Place, address: &str) -> Result<()> {
    loop {
        rate(from, to, address, Some(60)).await?;
    }
}

/// Waits until more than `least` Mbit/s arrive, seen twice in a row: a read that is late makes one look like more.
async fn more_than(place: &Place, least: f64, since: Instant) -> Result<()> {
    let look = async || {
        let bytes = received(place).await?;
        Ok::<_, anyhow::Error>((Instant::now(), bytes))
    };
    let (mut before, mut more) = (look().await?, false);
    loop {
        tokio::time::sleep(Duration::from_millis(40)).await;
        let now = look().await?;
        let is_more = mbit(now.1 - before.1, now.0 - before.0) > least;
        if is_more && more {
            return Ok(());
        }
        more = is_more;
        ensure!(since.elapsed() < PATIENCE, "the higher limit is not in force after {PATIENCE:?}");
        before = now;
    }
}

async fn limits_of(wanted: u32, pod: &Pod, others: &[(&str, &Pod)]) -> Result<Vec<(String, f64)>> {
    let text = wanted.to_string();
    said(pod, &json!({ INGRESS: text, EGRESS: text })).await?;
    let own = pod.netns().await?;
    let mut shares = Vec::new();
    for (where_, other) in others {
        let place = other.netns().await?;
        for (how, udp) in [("TCP", None), ("UDP", Some(wanted * 3 / 2))] {
            let into = rate(&place, &own, &pod.ip4()?, udp).await?;
            let out = rate(&own, &place, &other.ip4()?, udp).await?;
            for (way, figure) in [("in", into), ("out", out)] {
                shares.push((format!("{how} {way}, {where_}"), 100.0 * figure / f64::from(wanted)));
            }
        }
    }
    said(pod, &json!({ INGRESS: null, EGRESS: null })).await?;
    Ok(shares)
}
