//! D1: the API server, the northbound database, or both are away. For half of the time, a process hangs; for the other half, it is
//! stopped. No other process exits, running pods keep their connectivity, and what was created in the meantime is served within
//! seconds. `KUBE_OVN_AWAY` is the time in seconds.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use e2e::bench::bed::Bed;
use e2e::bench::seen::Seen;
use e2e::cluster::{Scene, is_ready};
use e2e::part::Part;
use e2e::{Cluster, ledger, process};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::jiff::Timestamp;
use kube::{Api, ResourceExt};
use serde_json::json;

/// The time limit from the return until all waiting pods have addresses: a few times the measured value.
const CAUGHT_UP: Duration = Duration::from_secs(10);
/// The time limit until a real pod is Ready, from when its kubelet knows it.
const RUNS: Duration = Duration::from_secs(20);

/// Pings a pod from a node for half of the time. No packet may be lost.
async fn half(cluster: &Cluster, pod: &str) -> Result<()> {
    let seconds = std::env::var("KUBE_OVN_AWAY").ok().and_then(|text| text.parse().ok()).unwrap_or(24) / 2;
    let (count, patience) = ((2 * seconds + 1).to_string(), (seconds + 10).to_string());
    let printed = cluster.node("n1")?.run("ping", &["-i", "0.5", "-c", &count, "-w", &patience, pod]).await?;
    ensure!(printed.contains(" 0% packet loss"), "{printed}");
    Ok(())
}

/// Returns the time from the return of what was away until the pod was Ready, without the time in which its kubelet did
/// not know the pod. The times of a Pod are in whole seconds.
async fn started(pod: &e2e::cluster::Pod, back: Timestamp) -> Result<Duration> {
    let status = pod.api().get_status(pod.name()).await?.status.context("it has no status")?;
    let known = status.start_time.context("its kubelet does not know it")?.0;
    let ready = status.conditions.into_iter().flatten().find(|is| is.type_ == "Ready" && is.status == "True");
    let ready = ready.and_then(|is| is.last_transition_time).context("it is not Ready")?.0;
    Ok(Duration::try_from(ready.duration_since(known.max(back))).unwrap_or_default())
}

/// What is away.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Away {
    ApiServer,
    Northbound,
    Both,
}

/// Checks that pods created while something was away are served afterwards, and how soon.
async fn away(cluster: &Cluster, scene: &Scene, name: &str, what: Away) -> Result<()> {
    scene.create(json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}})).await?;
    scene.namespace(name, &[]).await?;
    let bed = Bed::new(cluster, name, [name.to_owned()]).await?;
    let far = scene.pod("default", &format!("{name}-far")).on("n2").ready().await?;
    let ip = far.ip4()?;
    let prefix = format!("{name}-late-");
    let late = |node: &str| scene.pod("default", &format!("{prefix}{node}")).on(node);
    let is_late = {
        let prefix = prefix.clone();
        move |pod: &Pod| pod.name_any().starts_with(&prefix) && is_ready(pod).is_ok()
    };
    let runs = Seen::follow(Api::namespaced(cluster.client(), "default"), is_late).await?;
    let names = Bed::names(50);
    // One pod on each node: both agents were cut off.
    let late = async || tokio::try_join!(late("n1").create(), late("n2").create());
    let mut created = None;
    let hangs = async {
        if what == Away::Northbound {
            bed.create_all(&names, |_| {}).await?;
            created = Some(late().await?);
        }
        half(cluster, &ip).await
    };
    if what != Away::Northbound {
        // Create the pods just before the outage, because the API server accepts none during it.
        bed.create_all(&names, |_| {}).await?;
    }
    match what {
        Away::ApiServer => Part::ApiServer.away(hangs, half(cluster, &ip)).await?,
        Away::Northbound => Part::Northbound.away(hangs, half(cluster, &ip)).await?,
        Away::Both => {
            let both = Part::ApiServer.away(half(cluster, &ip), half(cluster, &ip));
            Part::Northbound.away(hangs, both).await?;
        }
    }
    let (back, back_at) = (Instant::now(), Timestamp::now());
    process::all_run()?;
    bed.pods.count(names.len()).await?;
    let annotated = back.elapsed();
    let (one, two) = match created {
        Some(pods) => pods,
        None => late().await?,
    };
    runs.count(2).await?;
    let ready = back.elapsed();
    let mut took = Duration::ZERO;
    for pod in [one, two] {
        took = took.max(started(&pod, back_at).await?);
        pod.place().ping(&ip).await?;
    }
    let agreed = ledger::agree(cluster).await?;
    println!(
        "{what:?} away: {} pods annotated {annotated:.1?} after its return, one on each node Ready after {ready:.1?} \
         and at most {took:.0?} after its kubelet knew it, \
         all records agreed {agreed:.1?} later",
        names.len()
    );
    ensure!(annotated < CAUGHT_UP, "it took {annotated:?} to catch up");
    ensure!(took < RUNS, "a pod was Ready {took:?} after its kubelet knew it");
    process::all_run()?;
    bed.clear().await.map(drop)
}

#[tokio::test]
async fn d1_the_api_server_is_away() -> Result<()> {
    let cluster = Cluster::running().await?;
    let scene = cluster.scene("d1-api").await?;
    Box::pin(away(&cluster, &scene, "d1-api", Away::ApiServer)).await
}

#[tokio::test]
async fn d1_northbound_is_away() -> Result<()> {
    let cluster = Cluster::running().await?;
    let scene = cluster.scene("d1-nb").await?;
    Box::pin(away(&cluster, &scene, "d1-nb", Away::Northbound)).await
}

#[tokio::test]
async fn d1_the_api_server_and_northbound_are_away() -> Result<()> {
    let cluster = Cluster::running().await?;
    let scene = cluster.scene("d1-both").await?;
    Box::pin(away(&cluster, &scene, "d1-both", Away::Both)).await
}
