//! Measures pods that get addresses on a node without a kubelet. The measurement covers only the path from the API
//! server through the controller and the northbound database back to the pod's annotations.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use api::{Ip, PodView};
use kube::Api;
use serde_json::{Value, json};

use super::bed::Bed;
use super::log::{Mark, Record};
use super::replicas;
use super::stats::Times;
use super::usage::{Memory, Usage, Used, forget_peak, memory};
use crate::ours;

/// The measurements of a burst of pods.
#[derive(Clone, Debug)]
pub struct Burst {
    pods: usize,
    /// From the first POST to the return of the last POST.
    pub posted: Duration,
    /// From the first POST to the last annotated pod.
    pub took: Duration,
    /// From then to the last IP object.
    pub records: Duration,
    /// From the return of each POST to the pod's annotations.
    pub latencies: Times,
    /// The resources that the lab's processes used.
    pub used: Used,
    /// The leader's transactions in the northbound database, and all transactions including northd's.
    pub transactions: (usize, usize),
    /// The leader's memory when all pods have addresses.
    pub leader: Memory,
    /// The standby's memory at that time.
    pub standby: Memory,
    /// What the controller wrote for a pod.
    pub template: Template,
}

/// What the controller writes for a pod.
#[derive(Clone, Debug)]
pub struct Template {
    /// The pod's annotations.
    pub annotations: Value,
    /// The IP object's labels.
    pub labels: Value,
    /// Its spec.
    pub spec: Value,
}

impl Burst {
    /// Returns pods per second until the last pod is annotated and can start.
    #[allow(clippy::cast_precision_loss)] // a count of pods
    pub fn per_second(&self) -> f64 {
        self.pods as f64 / self.took.as_secs_f64()
    }

    /// Returns pods per second until the last IP object exists, which is the last write to the API server.
    #[allow(clippy::cast_precision_loss)] // a count of pods
    pub fn written_per_second(&self) -> f64 {
        self.pods as f64 / (self.took + self.records).as_secs_f64()
    }

    /// Returns the leader's transactions per thousand pods.
    #[allow(clippy::cast_precision_loss)] // counts are small
    pub fn transactions_per_1000(&self) -> f64 {
        self.transactions.0 as f64 * 1e3 / self.pods as f64
    }

    /// Returns the leader's CPU time per pod.
    pub fn cpu_per_pod(&self) -> Duration {
        self.used.leader / u32::try_from(self.pods).unwrap_or(u32::MAX)
    }
}

/// Creates `count` pods at once, waits until each has its address, and checks the result. Keeps the pods.
pub async fn burst(bed: &Bed, count: usize) -> Result<Burst> {
    let names = Bed::names(count);
    for name in ours::controllers() {
        forget_peak(&name)?;
    }
    let log = Mark::now().await?;
    let before = Usage::now().await?;
    let start = Instant::now();
    let taken = bed.create_all(&names, |_| ()).await?;
    let posted = start.elapsed();
    bed.pods.count(count).await.context("annotated pods")?;
    bed.ips.count(count).await.context("IP objects")?;
    let after = Usage::now().await?;
    let records = log.records()?;
    let (_, standby) = replicas::standby(&after.leader).context("there is no standby")?;
    let (leader, standby) = (memory(&after.leader)?, memory(&standby)?);
    bed.audit(&names).await?;
    let annotated = bed.pods.when(&names)?;
    let last = |when: &[Instant]| when.iter().max().map(|when| when.duration_since(start)).unwrap_or_default();
    let took = last(&annotated);
    Ok(Burst {
        pods: count,
        posted,
        took,
        records: last(&bed.ips.when(&bed.ports(&names))?).saturating_sub(took),
        latencies: latencies(&taken, &annotated),
        used: after.since(&before)?,
        transactions: (records.iter().filter(|record| !Record::is_northd(record)).count(), records.len()),
        leader,
        standby,
        template: template(bed, &names[0]).await?,
    })
}

/// Creates `count` pods at a constant rate. Returns the time from each POST's return to the pod's annotations.
pub async fn paced(bed: &Bed, count: usize, per_second: u32) -> Result<Times> {
    let names = Bed::names(count);
    let mut ticks = tokio::time::interval(Duration::from_secs(1) / per_second);
    let mut taken = Vec::new();
    for name in &names {
        ticks.tick().await;
        taken.push(bed.create(name).await?);
    }
    bed.pods.count(count).await.context("annotated pods")?;
    bed.ips.count(count).await.context("IP objects")?;
    bed.audit(&names).await?;
    let annotated = bed.pods.when(&names)?;
    bed.clear().await?;
    Ok(latencies(&taken, &annotated))
}

fn latencies(taken: &[Instant], annotated: &[Instant]) -> Times {
    taken.iter().zip(annotated).map(|(taken, annotated)| annotated.saturating_duration_since(*taken)).collect()
}

async fn template(bed: &Bed, pod: &str) -> Result<Template> {
    let ip: Ip = Api::all(bed.client()).get(&format!("{pod}.{}", bed.namespace())).await?;
    let pod: PodView = Api::namespaced(bed.client(), bed.namespace()).get(pod).await?;
    let (annotations, labels) = (pod.metadata.annotations, ip.metadata.labels);
    Ok(Template { annotations: json!(annotations), labels: json!(labels), spec: json!(ip.spec) })
}
