//! `lab bench`: measures the whole system on this machine. The API server, etcd and OVN are real and share the same
//! cores.
//!
//! [`rows`] names every figure and its limit. The benchmark measures pods that get addresses ([`pods`]), the same
//! writes to an API server without our controllers ([`alone`]), leader changes and restarts with many existing pods
//! ([`held`]), large clusters ([`large`]), the CNI plugin ([`plugin`]), a node that rests ([`idle`]), the repair of a
//! node's rules ([`repair`]), the traffic of pods ([`traffic`]), the loss of a gateway ([`failover`]), and that of
//! members of the databases ([`members`]). A pod without its port or IP object, or a plugin call that fails, is an
//! error. A missed limit is only reported.

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::core::v1::Node as NodeObject;
use kube::Api;
use kube::api::DeleteParams;
use serde_json::json;

use crate::cluster::{Cluster, Scene};
use crate::ours;

pub mod alone;
pub mod bed;
pub mod failover;
pub mod held;
pub mod idle;
pub mod large;
pub mod log;
pub mod machine;
pub mod members;
pub mod plugin;
pub mod pods;
pub mod ports;
pub mod repair;
pub mod replicas;
pub mod report;
pub mod rows;
pub mod seen;
pub mod stats;
pub mod traffic;
pub mod usage;

use bed::Bed;
use held::End;
use report::Report;
use rows::Round;

/// What to measure, and how often.
#[derive(clap::Args, Clone, Debug)]
pub struct Options {
    /// Comma-separated parts to run. Default: all.
    #[arg(long, value_enum, value_delimiter = ',')]
    pub only: Vec<Part>,
    /// Numbers of pods to create at once, comma-separated, the smallest first.
    #[arg(long, value_delimiter = ',', default_value = "1000,3000")]
    pub pods: Vec<usize>,
    /// Number of pods that exist while the controller is killed and restarted.
    #[arg(long, default_value_t = 3000)]
    pub held: usize,
    /// Sizes of large clusters, as numbers of pods and of nodes, comma-separated. Each is measured once.
    #[arg(long, value_delimiter = ',', default_value = "10000/100,30000/300")]
    pub large: Vec<large::Size>,
    /// Number of repetitions. The report contains medians.
    #[arg(long, default_value_t = 3)]
    pub runs: usize,
    /// Number of pods to run the plugin for.
    #[arg(long, default_value_t = 100)]
    pub plugged: usize,
}

/// A part of the benchmark that can be selected.
#[derive(clap::ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
pub enum Part {
    /// Pods that are created at a constant rate.
    Paced,
    /// Pods that are created all at once, their deletion, and the same load on the API server alone.
    Bursts,
    /// A killed leader with a warm standby.
    Takeover,
    /// A restart of the only controller.
    Restart,
    /// Many pods on many nodes.
    Large,
    /// The CNI plugin, and the node's programs while it rests.
    Plugin,
    /// The firewall rules of a node.
    Rules,
    /// Limits and copies of the traffic of pods.
    Traffic,
    /// The loss of a gateway. It needs a cluster of three nodes.
    Failover,
    /// The loss of leaders and of all disks of the databases. It needs a cluster of three nodes, whose programs run in pods,
    /// and is measured alone.
    Members,
}

/// The name of the scene, of its namespace, and of the node of all pods that never run. That node has no machine.
const NAME: &str = "bench";
/// The number of pods created one by one, and their rate.
const PACED: usize = 200;
const PER_SECOND: u32 = 10;
/// The number of pods while the disks of the databases are lost.
const LOST_WITH: usize = 1000;
/// The number of times that a node's rules are deleted.
const REPAIRS: usize = 20;

/// Runs the measurements on the running lab and prints the report.
pub async fn run(options: Options) -> Result<()> {
    ensure!(options.runs > 0 && options.plugged >= 10, "at least one run, and ten plugged pods");
    ensure!(options.held > 0 && options.pods.iter().all(|count| *count > 0), "at least one pod");
    let cluster = Cluster::running().await?;
    println!("{}", machine::facts(&cluster).await?);
    let nodes: Api<NodeObject> = Api::all(cluster.client());
    let _ = nodes.delete(NAME, &DeleteParams::default()).await; // of an aborted run
    let alone = options.only == [Part::Members];
    if !alone {
        replicas::both().await?;
    }
    let scene = cluster.scene(NAME).await?;
    scene.namespace(NAME, &[]).await?;
    scene.create(json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": NAME}})).await?;
    let outcome = Box::pin(measure(&options, &scene)).await;
    let restored = if alone { Ok(()) } else { replicas::both().await };
    let deleted = nodes.delete(NAME, &DeleteParams::default()).await.context("deleting the node of the bench");
    outcome.and(restored).and(deleted.map(drop))
}

async fn measure(options: &Options, scene: &Scene) -> Result<()> {
    let asked = |part| options.only.is_empty() || options.only.contains(&part);
    let bed = Bed::new(scene.cluster(), NAME, [NAME.to_owned()]).await?;
    let mut report = Report::default();
    if asked(Part::Paced) {
        let mut runs = Vec::new();
        for _ in 0..options.runs {
            runs.push(pods::paced(&bed, PACED, PER_SECOND).await?);
        }
        rows::paced(&mut report, PACED, PER_SECOND, &runs);
    }
    if asked(Part::Bursts) {
        bursts(options, &bed, &mut report).await?;
    }
    if asked(Part::Takeover) || asked(Part::Restart) {
        bed.fill(options.held).await?;
        if asked(Part::Takeover) {
            takeovers(options, &bed, &mut report).await?;
        }
        if asked(Part::Restart) {
            restarts(options, &bed, &mut report).await?;
        }
        bed.audit(&Bed::names(options.held)).await.context("after all that")?;
        replicas::both().await?;
        bed.clear().await?;
    }
    drop(bed);
    if asked(Part::Large) {
        for size in &options.large {
            rows::large(&mut report, &large::measure(scene, NAME, *size).await?);
        }
    }
    if asked(Part::Plugin) {
        rows::plugged(&mut report, &plugin::measure(scene, options.plugged, options.runs).await?);
    }
    if asked(Part::Rules) {
        let node = scene.cluster().nodes().first().copied().context("a node")?;
        rows::repaired(&mut report, &repair::measure(node, REPAIRS).await?);
    }
    if asked(Part::Traffic) {
        rows::traffic(&mut report, &Box::pin(traffic::measure(scene, options.runs)).await?);
    }
    // With two nodes, none can tell which one is cut off.
    let enough = scene.cluster().nodes().len() > 2;
    ensure!(enough || !options.only.contains(&Part::Failover), "the part failover needs three nodes");
    if asked(Part::Failover) && enough {
        rows::failover(&mut report, &failover::measure(scene).await?);
    }
    if options.only.contains(&Part::Members) {
        ensure!(enough && options.only.len() == 1, "the part members needs three nodes, and is measured alone");
        let bed = Bed::new(scene.cluster(), NAME, [NAME.to_owned()]).await?;
        let (gaps, lost) = Box::pin(members::measure(scene, &bed, LOST_WITH, options.runs)).await?;
        rows::gaps(&mut report, &gaps);
        rows::lost(&mut report, &lost);
    }
    println!("\n{}", report.table());
    Ok(())
}

/// Interleaves the pod counts so that all are measured under the same load, and reverses the order in every second
/// round. Each round starts with new controllers and ends without any. The API server then has only the writes of this
/// program.
async fn bursts(options: &Options, bed: &Bed, report: &mut Report) -> Result<()> {
    let mut rounds = vec![Vec::new(); options.pods.len()];
    let mut before = Vec::new();
    for run in 0..options.runs {
        replicas::none().await?;
        replicas::both().await?;
        before.push(usage::memory(&ours::leader().await?.0)?);
        let mut order: Vec<_> = (0..options.pods.len()).collect();
        if run % 2 == 1 {
            order.reverse();
        }
        let mut ours = Vec::new();
        for at in order {
            let burst = pods::burst(bed, options.pods[at]).await?;
            ours.push((at, burst, bed.clear().await?));
        }
        replicas::none().await?;
        for (at, ours, cleared) in ours {
            let alone = alone::burst(bed, options.pods[at], &ours.template).await?;
            rounds[at].push(Round { ours, cleared, alone });
        }
    }
    replicas::both().await?;
    for (count, rounds) in options.pods.iter().zip(&rounds) {
        rows::bursts(report, *count, rounds);
    }
    let mut all = options.pods.iter().copied().zip(rounds.iter().map(Vec::as_slice));
    if let Some(few) = all.next() {
        all.for_each(|many| rows::flat(report, few, many));
    }
    rows::idle(report, &before);
    Ok(())
}

async fn takeovers(options: &Options, bed: &Bed, report: &mut Report) -> Result<()> {
    let lease = replicas::lease_time(bed.client()).await?;
    let mut runs = Vec::new();
    for run in 0..options.runs {
        runs.push(held::takeover(bed, &format!("takeover-{run}")).await?);
    }
    rows::takeovers(report, options.held, lease, &runs);
    Ok(())
}

async fn restarts(options: &Options, bed: &Bed, report: &mut Report) -> Result<()> {
    let mut runs: [Vec<held::Restart>; 3] = Default::default();
    for run in 0..options.runs {
        for (end, runs) in [End::Asked, End::Killed, End::Replaced].into_iter().zip(&mut runs) {
            runs.push(held::restart(bed, end, &format!("next-{run}-{end:?}").to_lowercase()).await?);
        }
    }
    rows::restarts(report, options.held, &runs);
    Ok(())
}
