//! D3: 200 pods are created and deleted twice while our processes and their peers are killed at random.
//! Afterwards all records agree.
//!
//! [`REAL`] of the pods run on the two nodes, with kubelet, containerd and plugin. The others are bound to a node that
//! is only an object, so that the test takes a reasonable time on two processors. `KUBE_OVN_SEED` repeats a run.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use e2e::bench::bed::Bed;
use e2e::bench::seen::Seen;
use e2e::cluster::is_ready;
use e2e::part::Part;
use e2e::random::Random;
use e2e::{Cluster, ledger};
use futures::future::{try_join, try_join_all, try_join3};
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::{DeleteParams, ListParams};
use serde_json::json;

const ROUNDS: usize = 2;
const REAL: usize = 40;
const OTHERS: usize = 160;
const NAME: &str = "d3-churn";
const ON_NODES: &str = "d3-churn-real";

/// Kills random processes one by one until `done` is set.
async fn kill(random: &mut Random, parts: &[Part], done: &AtomicBool, killed: &mut Vec<String>) -> Result<()> {
    while !done.load(Ordering::Relaxed) {
        let part = *random.one_of(parts);
        part.revive().await.with_context(|| format!("{part:?}, after {killed:?}"))?;
        killed.push(part.name());
        tokio::time::sleep(Duration::from_millis(200 + random.below(1200))).await; // a random pause
    }
    Ok(())
}

/// Runs `work` while processes are killed.
async fn under_kills(
    random: &mut Random,
    parts: &[Part],
    killed: &mut Vec<String>,
    work: impl Future<Output = Result<()>>,
) -> Result<()> {
    let done = AtomicBool::new(false);
    let work = async {
        let outcome = work.await;
        done.store(true, Ordering::Relaxed);
        outcome
    };
    let (worked, killing) = tokio::join!(work, kill(random, parts, &done, killed));
    worked.and(killing)
}

#[tokio::test]
async fn d3_churn_under_random_kills_leaves_records_that_agree() -> Result<()> {
    let mut random = Random::from_environment()?;
    let seed = random.seed;
    let cluster = Cluster::running().await?;
    let scene = cluster.scene(NAME).await?;
    scene.create(json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": NAME}})).await?;
    scene.namespace(NAME, &[]).await?;
    scene.namespace(ON_NODES, &[]).await?;
    let bed = Bed::new(&cluster, NAME, [NAME.to_owned()]).await?;
    let [api, others] = [ON_NODES, NAME].map(|namespace| Api::<Pod>::namespaced(cluster.client(), namespace));
    let real = Seen::follow(api.clone(), |pod| is_ready(pod).is_ok()).await?;
    let nodes = cluster.nodes();
    let mut parts = vec![Part::Controller(0), Part::Controller(1), Part::Northbound];
    parts.extend(nodes.iter().flat_map(|node| [Part::Agent(*node), Part::OvnController(*node)]));

    let names = Bed::names(OTHERS);
    let on_nodes: Vec<(String, String)> = (0..REAL).map(|n| (format!("real-{n}"), nodes[n % 2].name())).collect();
    let mut killed = Vec::new();
    let start = Instant::now();
    for round in 1..=ROUNDS {
        let began = Instant::now();
        let create = async {
            let real_ones = on_nodes.iter().map(|(name, node)| scene.pod(ON_NODES, name).on(node).create());
            try_join(bed.create_all(&names, |_| {}), try_join_all(real_ones)).await?;
            try_join(bed.pods.count(OTHERS), real.count(REAL)).await.map(drop)
        };
        under_kills(&mut random, &parts, &mut killed, create).await?;
        let up = began.elapsed();
        let agreed = ledger::agree(&cluster).await.with_context(|| format!("seed {seed}, round {round}, all up"))?;
        let delete = async {
            for pods in [&api, &others] {
                pods.delete_collection(&DeleteParams::default().grace_period(0), &ListParams::default()).await?;
            }
            try_join3(bed.pods.count(0), bed.ips.count(0), real.count(0)).await.map(drop)
        };
        under_kills(&mut random, &parts, &mut killed, delete).await?;
        let cleared = ledger::agree(&cluster).await.with_context(|| format!("seed {seed}, round {round}, all gone"))?;
        println!(
            "round {round}: up after {up:.1?}, records agreed {agreed:.1?} later, and {cleared:.1?} after all were gone"
        );
    }
    println!("{} kills in {:.0?}", killed.len(), start.elapsed());
    Ok(())
}
