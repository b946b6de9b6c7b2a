//! E1: an update of the agents while pods start fails none of them. `KUBE_OVN_PODS` is their number.

use std::time::Instant;

use anyhow::{Context, Result, ensure};
use e2e::bench::seen::Seen;
use e2e::cluster::is_ready;
use e2e::kube::kubectl;
use e2e::{Cluster, ledger};
use futures::future::try_join_all;
use k8s_openapi::api::core::v1::{Event, Pod};
use kube::Api;
use kube::api::ListParams;

const NAME: &str = "e1-update";
const PODS: usize = 40;

#[tokio::test]
async fn e1_update_of_the_agents_fails_no_pod_that_starts() -> Result<()> {
    let count = std::env::var("KUBE_OVN_PODS").ok().and_then(|count| count.parse().ok()).unwrap_or(PODS);
    let cluster = Cluster::running().await?;
    let scene = cluster.scene(NAME).await?;
    scene.namespace(NAME, &[]).await?;
    let pods: Api<Pod> = Api::namespaced(cluster.client(), NAME);
    let ready = Seen::follow(pods, |pod| is_ready(pod).is_ok()).await?;
    let names: Vec<(String, &str)> = (0..count).map(|n| (format!("p{n}"), ["n1", "n2"][n % 2])).collect();
    try_join_all(names.iter().map(|(name, node)| scene.pod(NAME, name).on(node).create())).await?;

    let agents = "daemonset/kube-ovn-cni";
    let mut updates = Vec::new();
    while ready.len() < count {
        let (start, before) = (Instant::now(), ready.len());
        kubectl(&["-n", "kube-system", "rollout", "restart", agents]).await?;
        kubectl(&["-n", "kube-system", "rollout", "status", agents, "--timeout=120s"]).await?;
        updates.push(format!("{:.1?} with {} to {} pods Ready", start.elapsed(), before, ready.len()));
        if updates.len() == 3 {
            break;
        }
    }
    ready.count(count).await?;
    println!("updates of the agents under {count} pods: {updates:?}");

    let events: Api<Event> = Api::namespaced(cluster.client(), NAME);
    let failed = ListParams::default().fields("reason=FailedCreatePodSandBox");
    let failed: Vec<_> = events.list(&failed).await?.into_iter().filter_map(|event| event.message).collect();
    ensure!(failed.is_empty(), "{} sandboxes failed: {failed:#?}", failed.len());
    ledger::agree(&cluster).await.map(drop).context("all pods are Ready")
}
