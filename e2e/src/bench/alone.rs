//! Measures the API server with the same writes but without our controllers: for each pod its creation, one IP object
//! and one patch of its annotations, with the same concurrency as our controller.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use api::{Ip, PodView};
use futures::channel::mpsc;
use futures::future::try_join;
use futures::{StreamExt, TryStreamExt};
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, Client};
use serde_json::json;

use super::bed::{Bed, delete_all};
use super::pods::Template;
use super::usage;

/// The number of pods whose writes are in flight in the controller, two writes for each.
const WRITERS: usize = 24;

/// The result of a burst.
#[derive(Clone, Debug)]
pub struct Alone {
    /// Pods per second.
    pub per_second: f64,
    /// CPU time by process.
    pub cpu: Vec<(String, Duration)>,
}

/// Runs the writes for `count` pods, then removes everything.
#[allow(clippy::cast_precision_loss)] // a count of pods
pub async fn burst(bed: &Bed, count: usize, template: &Template) -> Result<Alone> {
    let names = Bed::names(count);
    let (created, taken) = mpsc::unbounded();
    let before = usage::cpu()?;
    let start = Instant::now();
    let creations = async {
        let creations = bed.create_all(&names, |name| {
            let _ = created.unbounded_send(name.to_owned()); // if the receiver is gone, the other half has the error
        });
        let result = creations.await;
        created.close_channel();
        result
    };
    let writes = taken.map(|name| {
        let (client, namespace, template) = (bed.client(), bed.namespace().to_owned(), template.clone());
        tokio::spawn(async move { write(client, &namespace, &name, &template).await })
    });
    let writes =
        writes.buffer_unordered(WRITERS).map_err(anyhow::Error::from).try_for_each(|written| async { written });
    try_join(creations, writes).await?;
    bed.pods.count(count).await.context("annotated pods")?;
    bed.ips.count(count).await.context("IP objects")?;
    let took = start.elapsed();
    let cpu = usage::spent(&before, &usage::cpu()?);
    clear(bed, names).await?;
    Ok(Alone { per_second: count as f64 / took.as_secs_f64(), cpu })
}

async fn write(client: Client, namespace: &str, name: &str, template: &Template) -> Result<()> {
    let (ips, pods) = (Api::<Ip>::all(client.clone()), Api::<PodView>::namespaced(client, namespace));
    let ip = json!({
        "apiVersion": "kubeovn.io/v1", "kind": "IP",
        "metadata": {"name": api::pod_port(name, namespace), "labels": template.labels}, "spec": template.spec,
    });
    let ip: Ip = serde_json::from_value(ip)?;
    let (patch, creation) = (json!({"metadata": {"annotations": template.annotations}}), PostParams::default());
    let (patch, parameters) = (Patch::Merge(patch), PatchParams::default());
    let recorded = async { ips.create(&creation, &ip).await.map_err(anyhow::Error::from) };
    let patched = async { pods.patch_metadata(name, &parameters, &patch).await.map_err(anyhow::Error::from) };
    try_join(recorded, patched).await.with_context(|| format!("writing about pod {name}")).map(drop)
}

async fn clear(bed: &Bed, names: Vec<String>) -> Result<()> {
    delete_all(&Api::<Ip>::all(bed.client()), bed.ports(&names)).await?;
    delete_all(&Api::<PodView>::namespaced(bed.client(), bed.namespace()), names).await?;
    bed.pods.count(0).await?;
    bed.ips.count(0).await
}
