//! Row E1 on an installed lab: wrong settings after the installation are reported to the user, and no program exits.

use std::fs;

use anyhow::{Context, Result, ensure};
use e2e::Cluster;
use e2e::cluster::{Scene, is_ready};
use k8s_openapi::api::core::v1::{Event, Pod};
use k8s_openapi::api::networking::v1::ServiceCIDR;
use kube::api::{DeleteParams, ListParams};
use kube::{Api, ResourceExt};
use serde_json::json;

/// Deletes events of an earlier run with these fields.
async fn forget(cluster: &Cluster, namespace: &str, fields: &str) -> Result<()> {
    let events: Api<Event> = Api::namespaced(cluster.client(), namespace);
    for event in events.list(&ListParams::default().fields(fields)).await? {
        events.delete(&event.name_any(), &DeleteParams::default()).await?;
    }
    Ok(())
}

#[tokio::test]
async fn e1_a_file_that_comes_before_ours_makes_the_agent_not_ready_until_it_is_gone() -> Result<()> {
    let cluster = Cluster::running().await?;
    let node = *cluster.nodes().first().context("the lab has no nodes")?;
    let pods: Api<Pod> = Api::namespaced(cluster.client(), "kube-system");
    let agents = ListParams::default().labels("app=kube-ovn-cni").fields(&format!("spec.nodeName={}", node.name()));
    let agent =
        pods.list(&agents).await?.items.pop().context("no agent runs in a pod: this lab is not an installed one")?;
    let (name, fields) = (agent.name_any(), format!("reason=Unhealthy,involvedObject.name={}", agent.name_any()));
    forget(&cluster, "kube-system", &fields).await?;
    cluster.until(pods.clone(), &name, is_ready).await?;

    let file = node.dir().join("root/etc/cni/net.d/00-other.conflist");
    // A runtime that reads this file would give new pods no network. It exists only for a moment.
    fs::write(&file, r#"{"cniVersion": "1.0.0", "name": "other", "plugins": [{"type": "loopback"}]}"#)?;
    let said = "Readiness probe failed: kube-ovn-cni: --cni-conf-dir /etc/cni/net.d: 00-other.conflist comes before \
                01-kube-ovn.conflist";
    let told = cluster.told("kube-system", &fields, &[said]).await;
    let unready = cluster.until(pods.clone(), &name, |pod: &Pod| {
        ensure!(is_ready(pod).is_err(), "it is Ready");
        Ok(())
    });
    let unready = unready.await;
    let kept = fs::read_to_string(&file);
    fs::remove_file(&file)?;
    told?;
    unready?;
    ensure!(kept?.contains("loopback"), "the agent has changed another network's file");
    cluster.until(pods, &name, is_ready).await.map(drop)
}

/// Creates a `ServiceCIDR` that is not in the controller's flags, and waits until this is reported.
async fn another_range(cluster: &Cluster, scene: &Scene, fields: &str) -> Result<()> {
    let range = json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "ServiceCIDR", "metadata": { "name": "e1-more" },
        "spec": { "cidrs": ["10.200.0.0/24"] },
    });
    scene.create(range).await?;
    let said = "--service-cluster-ip-range is 10.96.0.0/12,fd00:10:96::/112, but the API server gives Services addresses of \
                10.200.0.0/24 (ServiceCIDR e1-more)";
    cluster.told("default", fields, &[said]).await
}

#[tokio::test]
async fn e1_a_service_range_that_we_were_not_told_of_is_an_event_of_the_default_subnet() -> Result<()> {
    let cluster = Cluster::running().await?;
    let scene = cluster.scene("e1-services").await?;
    let fields = "involvedObject.kind=Subnet,involvedObject.name=ovn-default,reason=ServiceRangeDiffers";
    forget(&cluster, "default", fields).await?;
    let told = another_range(&cluster, &scene, fields).await;
    let ranges: Api<ServiceCIDR> = Api::all(cluster.client());
    ranges.delete("e1-more", &DeleteParams::default()).await?;
    told?;
    cluster.until_gone(ranges, "e1-more").await
}
