//! Pods that get their addresses, on a node that is only an object: no kubelet takes part, so all that is measured is the
//! way from the API server through the controller and the northbound database back to the pod's annotations.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use api::{Ip, PodView};
use kube::Api;
use serde_json::{Value, json};

use super::bed::Bed;
use super::stats::Times;
use super::usage::{Usage, Used};

/// Many at once.
#[derive(Clone, Debug)]
pub struct Burst {
    pods: usize,
    /// From the first create to the last POST's return.
    pub posted: Duration,
    /// From the first create to the last pod annotated.
    pub took: Duration,
    /// How long after that the last IP object was there.
    pub records: Duration,
    /// From each POST's return to that pod's annotations.
    pub latencies: Times,
    /// What the lab's processes used.
    pub used: Used,
    /// The leader's memory at the end, now and at most, in MiB.
    pub memory: (u64, u64),
    /// How long the API server took to delete all of them, and how long after that the last port was gone.
    pub cleared: (Duration, Duration),
    /// What was written about a pod.
    pub template: Template,
}

/// What the controller writes about a pod.
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
    /// Pods per second, all of the way.
    #[allow(clippy::cast_precision_loss)] // a count of pods
    pub fn per_second(&self) -> f64 {
        self.pods as f64 / self.took.as_secs_f64()
    }

    /// The leader's processor time for one pod.
    pub fn cpu_per_pod(&self) -> Duration {
        self.used.leader / u32::try_from(self.pods).unwrap_or(u32::MAX)
    }
}

/// Creates `count` pods at once, waits until each has its address, checks that nothing is missing, and deletes them.
pub async fn burst(bed: &Bed, count: usize) -> Result<Burst> {
    let names = Bed::names(count);
    let before = Usage::now().await?;
    let start = Instant::now();
    let taken = bed.create_all(&names, |_| ()).await?;
    let posted = start.elapsed();
    bed.pods.count(count).await.context("annotated pods")?;
    bed.ips.count(count).await.context("IP objects")?;
    let after = Usage::now().await?;
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
        memory: after.memory,
        template: template(bed, &names[0]).await?,
        cleared: bed.clear().await?,
    })
}

/// Creates `count` pods, so many per second; how long after its POST's return each was annotated.
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
