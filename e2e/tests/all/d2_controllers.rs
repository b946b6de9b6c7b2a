//! D2: one controller leads, the other is a warm standby. No pod is lost and no address is assigned twice when the
//! leader dies, or when a paused leader resumes after the standby has taken over.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use e2e::bench::bed::Bed;
use e2e::cluster::Scene;
use e2e::part::Part;
use e2e::{Cluster, ledger, process};
use serde_json::json;

/// The time limit of a takeover. The Lease lasts 6 s; then the standby restores the state and writes missing rows.
const TAKEN_OVER: Duration = Duration::from_secs(10);

/// Creates a namespace whose pods are bound to a node without a kubelet, so that only the controllers handle them.
async fn bed(cluster: &Cluster, scene: &Scene, name: &str) -> Result<Bed> {
    scene.create(json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}})).await?;
    scene.namespace(name, &[]).await?;
    Bed::new(cluster, name, [name.to_owned()]).await
}

#[tokio::test]
async fn d2_a_leader_that_dies_amid_a_burst_loses_nothing() -> Result<()> {
    let cluster = Cluster::running().await?;
    let scene = cluster.scene("d2-killed").await?;
    let bed = bed(&cluster, &scene, "d2-killed").await?;
    let dying = Part::leader().await?;

    let names = Bed::names(200);
    let taken = AtomicUsize::new(0);
    let killed = OnceLock::new();
    bed.create_all(&names, |_| {
        if taken.fetch_add(1, Ordering::Relaxed) == 100 {
            let _ = killed.set((Instant::now(), dying.kill_for_good()));
        }
    })
    .await?;
    let (killed, gone) = killed.into_inner().context("it was not killed")?;
    let gone = gone?;
    bed.pods.count(names.len()).await?;
    let took = killed.elapsed();
    bed.ips.count(names.len()).await?;
    bed.audit(&names).await?;
    let other = Part::leader().await?;
    println!("the last pod was served {took:.1?} after {dying:?} was killed; {other:?} leads");
    ensure!(other != dying, "the leader that was killed leads again, nobody took over");
    ensure!(took < TAKEN_OVER, "the last of the pods was served {took:?} after the leader died");

    // The restarted controller is a standby, and pods are deleted normally.
    drop(gone);
    dying.start().await?;
    bed.clear().await?;
    ledger::agree(&cluster).await.map(drop)
}

#[tokio::test]
async fn d2_a_leader_that_wakes_up_too_late_writes_nothing() -> Result<()> {
    let cluster = Cluster::running().await?;
    let scene = cluster.scene("d2-paused").await?;
    let bed = bed(&cluster, &scene, "d2-paused").await?;
    let paused = Part::leader().await?;

    let pause = paused.pause()?;
    let names = Bed::names(40);
    let served = async {
        bed.create_all(&names, |_| {}).await?;
        bed.pods.count(names.len()).await
    };
    let served = tokio::time::timeout(TAKEN_OVER, served).await;
    // Resume the leader in any case, because other tests need it. It has unprocessed events of 40 pods and believes
    // that it still leads.
    drop(pause);
    served.context("nobody took over")??;
    let not_any_more = || async {
        let leads = Part::leader().await?;
        ensure!(leads != paused, "it leads, and it slept");
        Ok(())
    };
    process::until(Duration::from_secs(5), not_any_more).await?;
    bed.ips.count(names.len()).await?;
    bed.audit(&names).await?;
    bed.clear().await?;
    let more = Bed::names(10);
    bed.create_all(&more, |_| {}).await?;
    bed.pods.count(more.len()).await?;
    bed.ips.count(more.len()).await?;
    bed.audit(&more).await?;
    bed.clear().await?;
    ledger::agree(&cluster).await.map(drop)
}
