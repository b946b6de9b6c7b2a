//! A4: a pod gets the address that it requests, and a pod of a `StatefulSet` gets its address back.

use anyhow::{Context, Result, ensure};
use api::Ip;
use e2e::Cluster;
use e2e::cluster::{Place, is_ready};
use e2e::layout::IMAGE;
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::{DeleteParams, Patch, PatchParams};
use serde_json::json;

#[tokio::test]
async fn a4_a_static_address_has_one_holder_at_a_time() -> Result<()> {
    let cluster = Cluster::running().await?;
    let scene = cluster.scene("a4").await?;
    scene.subnet("a4", "10.42.0.0/24").await?;
    let fixed = |name: &str, node: &str| {
        scene.pod("a4", name).on(node).annotation("ovn.kubernetes.io/ip_address", "10.42.0.50")
    };
    let first = fixed("first", "n1").annotation("ovn.kubernetes.io/mac_address", "00:00:00:AA:BB:CC").ready().await?;
    assert_eq!(first.ip4()?, "10.42.0.50");
    let mac = first.place().run("cat", &["/sys/class/net/eth0/address"]).await?;
    assert_eq!(mac.trim(), "00:00:00:aa:bb:cc");

    let second = fixed("second", "n2").create().await?;
    second.told("AcquireAddressFailed", &["10.42.0.50", "first.a4"]).await?;
    let list = |name| scene.pod("a4", name).on("n2").annotation("ovn.kubernetes.io/ip_pool", "10.42.0.60,10.42.0.61");
    let (one, two) = tokio::try_join!(list("one").ready(), list("two").ready())?;
    let mut listed = [one.ip4()?, two.ip4()?];
    listed.sort();
    assert_eq!(listed, ["10.42.0.60", "10.42.0.61"]);
    one.place().ping("10.42.0.50").await?;

    first.delete().await?;
    // Neighbors have cached the MAC address of the first pod. The second pod has announced its own.
    let second = second.ready().await?;
    assert_eq!(second.ip4()?, "10.42.0.50");
    one.place().ping("10.42.0.50").await?;
    assert_eq!(two.place().tcp("10.42.0.50").await?.who, "second");
    Ok(())
}

/// For [`Cluster::until`]: the pod is Ready and does not have this UID.
fn ready_again(before: Option<String>) -> impl Fn(&Pod) -> Result<()> {
    move |pod| {
        ensure!(pod.metadata.uid != before, "it is the old one still");
        is_ready(pod)
    }
}

fn ip_of(pod: &Pod) -> Result<String> {
    pod.status.as_ref().and_then(|status| status.pod_ip.clone()).context("it has no address")
}

#[tokio::test]
async fn a4_a_stateful_sets_pod_comes_back_with_its_address() -> Result<()> {
    let cluster = Cluster::running().await?;
    let scene = cluster.scene("a4-set").await?;
    scene.subnet("a4-set", "10.43.0.0/24").await?;
    let pod = json!({
        "terminationGracePeriodSeconds": 0, "tolerations": [{"operator": "Exists"}],
        "containers": [{"name": "peer", "image": IMAGE, "imagePullPolicy": "Never", "args": ["serve"]}],
    });
    scene
        .create(json!({
            "apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": {"name": "db", "namespace": "a4-set"},
            "spec": {
                "serviceName": "db", "replicas": 2, "podManagementPolicy": "Parallel",
                "selector": {"matchLabels": {"app": "db"}},
                "template": {"metadata": {"labels": {"app": "db"}}, "spec": pod},
            },
        }))
        .await?;
    let pods: Api<Pod> = Api::namespaced(cluster.client(), "a4-set");
    let first = cluster.until(pods.clone(), "db-0", ready_again(None)).await?;
    let other = cluster.until(pods.clone(), "db-1", ready_again(None)).await?;

    pods.delete("db-0", &DeleteParams::default()).await?;
    let back = cluster.until(pods.clone(), "db-0", ready_again(first.metadata.uid.clone())).await?;
    assert_eq!(ip_of(&back)?, ip_of(&first)?);
    let place = Place::Pod { namespace: "a4-set".into(), name: "db-1".into() };
    place.ping(&ip_of(&back)?).await?;

    // After the StatefulSet is scaled down, the address is free, because the pod will not return.
    let ips: Api<Ip> = Api::all(cluster.client());
    ips.get("db-1.a4-set").await?;
    let sets: Api<StatefulSet> = Api::namespaced(cluster.client(), "a4-set");
    sets.patch("db", &PatchParams::default(), &Patch::Merge(json!({"spec": {"replicas": 1}}))).await?;
    cluster.until_gone(ips, "db-1.a4-set").await?;
    ensure!(ip_of(&other)? != ip_of(&back)?, "they never had the same");
    Ok(())
}
