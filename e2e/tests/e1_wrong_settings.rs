//! Row E1: what is set wrong after the install is said where its user looks, and nothing ends by it.

use std::fs;
use std::pin::pin;

use anyhow::{Context, Result, bail, ensure};
use e2e::Cluster;
use e2e::cluster::PATIENCE;
use e2e::layout::{Node, sibling};
use e2e::process;
use futures::TryStreamExt;
use k8s_openapi::api::core::v1::Event;
use k8s_openapi::api::networking::v1::ServiceCIDR;
use kube::api::{DeleteParams, ListParams};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, ResourceExt};
use serde_json::json;

/// What the agent of a node says of itself.
async fn ready(node: Node) -> Result<()> {
    process::run(process::on(node, sibling("kube-ovn-cni")?, &["check", "ready"])?).await.map(drop)
}

#[tokio::test]
async fn e1_a_file_that_comes_before_ours_makes_the_agent_not_ready_until_it_is_gone() -> Result<()> {
    let cluster = Cluster::running().await?;
    let node = *cluster.nodes().first().context("the lab has no nodes")?;
    let agent = format!("kube-ovn-cni-{}", node.name());
    ready(node).await?;
    let file = node.dir().join("root/etc/cni/net.d/00-other.conflist");
    // A runtime that reads it would give new pods no network at all; it is there for a moment.
    fs::write(&file, r#"{"cniVersion": "1.0.0", "name": "other", "plugins": [{"type": "loopback"}]}"#)?;
    let said = process::ready(&agent, PATIENCE, || async {
        match ready(node).await {
            Ok(()) => bail!("the agent is ready beside {}", file.display()),
            Err(said) => Ok(said.to_string()),
        }
    });
    let said = said.await;
    let kept = fs::read_to_string(&file);
    fs::remove_file(&file)?;
    let expected = "--cni-conf-dir /etc/cni/net.d: 00-other.conflist comes before 01-kube-ovn.conflist";
    ensure!(said.as_ref().is_ok_and(|said| said.contains(expected)), "{said:?}");
    ensure!(kept?.contains("loopback"), "the agent has changed another network's file");
    process::ready(&agent, PATIENCE, || ready(node)).await
}

#[tokio::test]
async fn e1_a_service_range_that_we_were_not_told_of_is_an_event_of_the_default_subnet() -> Result<()> {
    let cluster = Cluster::running().await?;
    let scene = cluster.scene("e1-services").await?;
    let events: Api<Event> = Api::namespaced(cluster.client(), "default");
    let fields = "involvedObject.kind=Subnet,involvedObject.name=ovn-default,reason=ServiceRangeDiffers";
    // Those of an earlier run.
    for event in events.list(&ListParams::default().fields(fields)).await? {
        events.delete(&event.name_any(), &DeleteParams::default()).await?;
    }
    let range = json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "ServiceCIDR", "metadata": { "name": "e1-more" },
        "spec": { "cidrs": ["10.200.0.0/24"] },
    });
    scene.create(range).await?;
    let mut heard = pin!(watcher(events, watcher::Config::default().fields(fields)).applied_objects());
    let wait = async {
        while let Some(event) = heard.try_next().await? {
            let said = event.message.unwrap_or_default();
            if said.contains("addresses of 10.200.0.0/24 (ServiceCIDR e1-more)") {
                ensure!(said.starts_with("--service-cluster-ip-range is 10.96.0.0/12,fd00:10:96::/112, but"), "{said}");
                return Ok(());
            }
        }
        bail!("the watch ended")
    };
    let heard = tokio::time::timeout(PATIENCE, wait).await.context("no such event of the default subnet");
    let ranges: Api<ServiceCIDR> = Api::all(cluster.client());
    ranges.delete("e1-more", &DeleteParams::default()).await?;
    heard??;
    cluster.until_gone(ranges, "e1-more").await
}
