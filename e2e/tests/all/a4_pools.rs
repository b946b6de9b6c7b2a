//! A4: only pods that name an IPPool, or whose namespace is bound to it, get addresses from it.

use std::collections::BTreeSet;

use anyhow::{Context, Result, ensure};
use api::IpPool;
use e2e::Cluster;
use e2e::cluster::Scene;
use e2e::layout::IMAGE;
use k8s_openapi::api::core::v1::{Namespace, Pod};
use kube::Api;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams};
use serde_json::json;

async fn pool(scene: &Scene, name: &str, subnet: &str, ips: &[&str], namespaces: &[&str]) -> Result<()> {
    let spec = json!({"subnet": subnet, "ips": ips, "namespaces": namespaces});
    let object = json!({"apiVersion": "kubeovn.io/v1", "kind": "IPPool", "metadata": {"name": name}, "spec": spec});
    scene.create(object).await.map(drop)
}

/// For [`Cluster::until`]: the Ready condition has this status, and its message contains these words.
fn says(ready: &'static str, words: &'static [&'static str]) -> impl Fn(&IpPool) -> Result<()> {
    move |pool| {
        let conditions = pool.status.as_ref().map(|s| s.conditions.as_slice()).unwrap_or_default();
        let condition = conditions.iter().find(|c| c.type_ == "Ready").context("no such condition yet")?;
        let right = condition.status == ready && words.iter().all(|word| condition.message.contains(word));
        ensure!(right, "Ready is {}: {:?}", condition.status, condition.message);
        Ok(())
    }
}

/// For [`Cluster::until`]: the status has these counts of used and available IPv4 addresses, and these used addresses.
fn counts(used: u32, available: u32, using: &'static str) -> impl Fn(&IpPool) -> Result<()> {
    move |pool| {
        let status = pool.status.clone().unwrap_or_default();
        let seen = (status.v4_using_ips, status.v4_available_ips, status.v4_using_ip_range.as_str());
        ensure!(seen == (f64::from(used), f64::from(available), using), "it says {seen:?}");
        Ok(())
    }
}

fn edit(spec: &serde_json::Value) -> Patch<serde_json::Value> {
    Patch::Merge(json!({"spec": spec}))
}

#[tokio::test]
async fn a4_a_pool_s_addresses_go_to_pods_that_name_it() -> Result<()> {
    let cluster = Cluster::running().await?;
    let scene = cluster.scene("a4-pool").await?;
    scene.subnet("a4-pool", "10.44.0.0/24").await?;
    let pools: Api<IpPool> = Api::all(cluster.client());
    let named =
        |name: &str, node: &str| scene.pod("a4-pool", name).on(node).annotation("ovn.kubernetes.io/ip_pool", "a4-few");

    // A pod that names a missing pool gets an event. It gets an address when the pool is created.
    let first = named("first", "n1").create().await?;
    first.told("AcquireAddressFailed", &["pod a4-pool/first", "ovn.kubernetes.io/ip_pool", "a4-few"]).await?;
    pool(&scene, "a4-few", "a4-pool", &["10.44.0.2..10.44.0.3"], &[]).await?;
    let first = first.ready().await?;
    assert_eq!(first.ip4()?, "10.44.0.2");
    let second = named("second", "n2").ready().await?;
    assert_eq!(second.ip4()?, "10.44.0.3");
    let other = scene.pod("a4-pool", "other").on("n2").ready().await?;
    assert_eq!(other.ip4()?, "10.44.0.4", "the first one that is in no pool");
    other.place().ping("10.44.0.2").await?;
    assert_eq!(first.place().tcp("10.44.0.3").await?.who, "second");
    cluster.until(pools.clone(), "a4-few", counts(2, 0, "10.44.0.2-10.44.0.3")).await?;

    // A full pool assigns no addresses until it is extended.
    let third = named("third", "n1").create().await?;
    third.told("AcquireAddressFailed", &["subnet a4-pool", "pool a4-few", "IPv4"]).await?;
    let more = edit(&json!({"ips": ["10.44.0.2..10.44.0.3", "10.44.0.64/31"]}));
    pools.patch("a4-few", &PatchParams::default(), &more).await?;
    let third = third.ready().await?;
    assert_eq!(third.ip4()?, "10.44.0.64");
    cluster.until(pools.clone(), "a4-few", counts(3, 1, "10.44.0.2-10.44.0.3,10.44.0.64")).await?;

    // A pool in use can be deleted. Its pods keep their addresses and connections.
    pools.delete("a4-few", &DeleteParams::default()).await?;
    cluster.until_gone(pools, "a4-few").await?;
    first.place().ping("10.44.0.64").await?;
    let late = scene.pod("a4-pool", "late").on("n1").ready().await?;
    assert_eq!(late.ip4()?, "10.44.0.5");
    Ok(())
}

#[tokio::test]
async fn a4_a_deployment_s_pods_share_a_pool() -> Result<()> {
    let cluster = Cluster::running().await?;
    let scene = cluster.scene("a4-share").await?;
    scene.subnet("a4-share", "10.45.0.0/24").await?;
    pool(&scene, "a4-share", "a4-share", &["10.45.0.100..10.45.0.101", "10.45.0.110"], &[]).await?;
    let pod = json!({
        "terminationGracePeriodSeconds": 0, "tolerations": [{"operator": "Exists"}],
        "containers": [{"name": "peer", "image": IMAGE, "imagePullPolicy": "Never", "args": ["serve"]}],
    });
    let annotations = json!({"ovn.kubernetes.io/ip_pool": "a4-share"});
    scene
        .create(json!({
            "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web", "namespace": "a4-share"},
            "spec": {
                "replicas": 3, "selector": {"matchLabels": {"app": "web"}},
                "template": {"metadata": {"labels": {"app": "web"}, "annotations": annotations}, "spec": pod},
            },
        }))
        .await?;
    let deployments: Api<k8s_openapi::api::apps::v1::Deployment> = Api::namespaced(cluster.client(), "a4-share");
    cluster
        .until(deployments, "web", |web| {
            let ready = web.status.as_ref().and_then(|status| status.ready_replicas);
            ensure!(ready == Some(3), "{ready:?} are ready");
            Ok(())
        })
        .await?;
    let pods = Api::<Pod>::namespaced(cluster.client(), "a4-share").list(&ListParams::default()).await?;
    let ips: BTreeSet<String> = pods.items.into_iter().filter_map(|pod| pod.status?.pod_ip).collect();
    let expected = ["10.45.0.100", "10.45.0.101", "10.45.0.110"].map(str::to_owned);
    assert_eq!(ips, BTreeSet::from(expected));
    Ok(())
}

#[tokio::test]
async fn a4_a_namespace_is_bound_to_a_pool_and_told_so() -> Result<()> {
    let cluster = Cluster::running().await?;
    let scene = cluster.scene("a4-bound").await?;
    let pools: Api<IpPool> = Api::all(cluster.client());
    scene.namespace("a4-bound", &[]).await?;
    scene.namespace("a4-free", &[]).await?;
    // A pool in the default subnet, as in kube-ovn's documentation.
    pool(&scene, "a4-bound", "ovn-default", &["10.16.99.0/30"], &["a4-bound"]).await?;
    let bound = |expected: Option<&'static str>| {
        move |namespace: &Namespace| {
            let annotations = namespace.metadata.annotations.as_ref();
            let found = annotations.and_then(|a| a.get("ovn.kubernetes.io/ip_pool")).map(String::as_str);
            ensure!(found == expected, "its ip_pool is {found:?}");
            Ok(())
        }
    };
    let namespaces: Api<Namespace> = Api::all(cluster.client());
    cluster.until(namespaces.clone(), "a4-bound", bound(Some("a4-bound"))).await?;
    let inside = scene.pod("a4-bound", "inside").on("n1").ready().await?;
    assert_eq!(inside.ip4()?, "10.16.99.0");
    let free = scene.pod("a4-free", "free").on("n2").ready().await?;
    ensure!(!free.ip4()?.starts_with("10.16.99."), "{} is the pool's", free.ip4()?);
    free.place().ping("10.16.99.0").await?;

    pools.patch("a4-bound", &PatchParams::default(), &edit(&json!({"namespaces": []}))).await?;
    cluster.until(namespaces, "a4-bound", bound(None)).await?;
    let outside = scene.pod("a4-bound", "outside").on("n1").ready().await?;
    ensure!(!outside.ip4()?.starts_with("10.16.99."), "{} is the pool's", outside.ip4()?);
    Ok(())
}

#[tokio::test]
async fn a4_a_pool_that_cannot_be_says_what_is_wrong() -> Result<()> {
    let cluster = Cluster::running().await?;
    let scene = cluster.scene("a4-wrong").await?;
    let pools: Api<IpPool> = Api::all(cluster.client());
    pool(&scene, "a4-orphan", "a4-nowhere", &["10.16.98.1"], &[]).await?;
    pool(&scene, "a4-afar", "ovn-default", &["10.77.0.1"], &[]).await?;
    pool(&scene, "a4-good", "ovn-default", &["10.16.98.16/28"], &[]).await?;
    cluster.until(pools.clone(), "a4-good", says("True", &[])).await?;
    pool(&scene, "a4-clash", "ovn-default", &["10.16.98.20"], &[]).await?;
    cluster.until(pools.clone(), "a4-orphan", says("False", &["a4-orphan", "spec.subnet", "a4-nowhere"])).await?;
    cluster.until(pools.clone(), "a4-afar", says("False", &["spec.ips", "10.16.0.0/16", "ovn-default"])).await?;
    cluster.until(pools.clone(), "a4-clash", says("False", &["spec.ips", "10.16.98.20", "a4-good"])).await?;
    // The conflicting pool is deleted.
    pools.delete("a4-good", &DeleteParams::default()).await?;
    cluster.until(pools, "a4-clash", says("True", &[])).await.map(drop)
}
