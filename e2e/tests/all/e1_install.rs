//! Row E1 on a lab that was brought up by `lab up`: a cluster without a network, our image, the chart, and kubectl.

use std::fs;
use std::pin::pin;

use anyhow::{Context, Result, bail, ensure};
use e2e::cluster::{PATIENCE, is_ready};
use e2e::{Cluster, by_hand};
use futures::TryStreamExt;
use k8s_openapi::api::core::v1::{Event, Pod};
use kube::api::ListParams;
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, ResourceExt};

/// What runs, by the label that kube-ovn gives it too, and how often on two nodes.
const WORKLOADS: [(&str, usize); 4] = [("ovn-central", 1), ("ovs", 2), ("kube-ovn-cni", 2), ("kube-ovn-controller", 2)];

#[tokio::test]
async fn e1_installed_all_of_it_runs_in_pods() -> Result<()> {
    let cluster = Cluster::running().await?;
    let pods: Api<Pod> = Api::namespaced(cluster.client(), "kube-system");
    for (app, count) in WORKLOADS {
        let found = pods.list(&ListParams::default().labels(&format!("app={app}"))).await?;
        let ready = found.items.iter().filter(|pod| is_ready(pod).is_ok()).count();
        ensure!((found.items.len(), ready) == (count, count), "of {app} {ready} of {} are ready", found.items.len());
    }
    ensure!(!by_hand::is_up(), "this lab was brought up by hand, and is not an installed one");
    Ok(())
}

/// What the probe prints is what `kubectl describe pod` shows.
#[tokio::test]
async fn e1_installed_why_an_agent_is_not_ready_is_an_event_of_its_pod() -> Result<()> {
    let cluster = Cluster::running().await?;
    let node = *cluster.nodes().first().context("the lab has no nodes")?;
    let pods: Api<Pod> = Api::namespaced(cluster.client(), "kube-system");
    let of_node = ListParams::default().labels("app=kube-ovn-cni").fields(&format!("spec.nodeName={}", node.name()));
    let agent = pods.list(&of_node).await?.items.into_iter().next().context("the node has no agent")?.name_any();
    let file = node.dir().join("root/etc/cni/net.d/00-other.conflist");
    fs::write(&file, r#"{"cniVersion": "1.0.0", "name": "other", "plugins": [{"type": "loopback"}]}"#)?;
    let events: Api<Event> = Api::namespaced(cluster.client(), "kube-system");
    let config = watcher::Config::default().fields(&format!("involvedObject.name={agent},reason=Unhealthy"));
    let mut heard = pin!(watcher(events, config).applied_objects());
    let wait = async {
        while let Some(event) = heard.try_next().await? {
            let said = event.message.unwrap_or_default();
            if said.contains("Readiness probe failed: kube-ovn-cni: --cni-conf-dir /etc/cni/net.d: 00-other.conflist") {
                return Ok(());
            }
        }
        bail!("the watch ended")
    };
    let heard = tokio::time::timeout(PATIENCE, wait).await.context("no event of the agent's pod says why");
    fs::remove_file(&file)?;
    heard??;
    cluster.until(pods, &agent, is_ready).await.map(drop)
}
