//! `lab bench`: what the whole does on this machine, with real API server, etcd and OVN beside it on the same cores.
//!
//! It measures three things, in an order that needs each program started once: pods that get their addresses ([`pods`]),
//! containers that are plugged and unplugged ([`plugin`]), and what the API server takes of the same writes when nobody
//! else is there ([`alone`]). A pod without its port or its IP object, or a plugin that fails, is an error and not a figure.

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::core::v1::Node as NodeObject;
use kube::Api;
use kube::api::DeleteParams;
use serde_json::json;

use crate::cluster::{Cluster, Scene};
use crate::layout::state;
use crate::{ours, process};

pub mod alone;
pub mod bed;
pub mod machine;
pub mod plugin;
pub mod pods;
pub mod report;
pub mod seen;
pub mod stats;
pub mod usage;

use bed::Bed;
use stats::median;

/// What is measured, and how often.
#[derive(clap::Args, Clone, Debug)]
pub struct Options {
    /// How many pods are created at once; several counts with commas.
    #[arg(long, value_delimiter = ',', default_value = "1000")]
    pub pods: Vec<usize>,
    /// How often that is repeated; medians are printed.
    #[arg(long, default_value_t = 3)]
    pub runs: usize,
    /// How many pods the plugin is run for.
    #[arg(long, default_value_t = 100)]
    pub plugged: usize,
}

/// The scene, the namespace and the node of all pods that are only looked at: there is no machine behind that node.
const NAME: &str = "bench";
/// How many pods come one after the other, and at which pace.
const PACED: usize = 200;
const PER_SECOND: u32 = 10;

/// Measures on the lab that is up, and prints.
pub async fn run(options: Options) -> Result<()> {
    ensure!(options.runs > 0 && options.plugged >= 10, "at least one run, and ten plugged pods");
    let cluster = Cluster::running().await?;
    println!("{}", machine::facts(&cluster).await?);
    let nodes: Api<NodeObject> = Api::all(cluster.client());
    let _ = nodes.delete(NAME, &DeleteParams::default()).await; // of a run that was ended
    let scene = cluster.scene(NAME).await?;
    scene.namespace(NAME, &[]).await?;
    scene.create(json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": NAME}})).await?;
    let outcome = measure(&options, &scene).await;
    nodes.delete(NAME, &DeleteParams::default()).await.context("deleting the node of the bench")?;
    outcome
}

async fn measure(options: &Options, scene: &Scene) -> Result<()> {
    let bed = Bed::new(scene.cluster(), NAME, NAME).await?;
    let paced = pods::paced(&bed, PACED, PER_SECOND).await?;
    report::paced(PACED, PER_SECOND, &paced);
    let mut ours = Vec::new();
    for count in &options.pods {
        let mut runs = Vec::new();
        for _ in 0..options.runs {
            runs.push(pods::burst(&bed, *count).await?);
        }
        report::bursts(*count, &runs);
        ours.push((*count, median(runs.iter().map(pods::Burst::per_second)), runs.swap_remove(0).template));
    }
    report::plugged(&plugin::measure(scene, options.plugged).await?);

    // Without our controllers: the API server then has the writes of this program and nothing else.
    for record in ours::controllers() {
        process::stop(&state("pid").join(record), std::time::Duration::from_secs(10)).await?;
    }
    for (count, per_second, template) in ours {
        let mut alone = Vec::new();
        for _ in 0..options.runs {
            alone.push(alone::burst(&bed, count, &template).await?);
        }
        report::alone(count, per_second, &alone);
    }
    ours::restart("controller").await
}
