//! A2: an error is reported on the object that causes it, with the names of object and field, and does not affect
//! others.

use anyhow::{Context, Result, ensure};
use api::Subnet;
use e2e::Cluster;
use e2e::cluster::{Scene, subnet_ready};
use kube::Api;
use kube::api::DeleteParams;
use serde_json::{Value, json};

fn subnet(name: &str, spec: &Value) -> Value {
    json!({"apiVersion": "kubeovn.io/v1", "kind": "Subnet", "metadata": {"name": name}, "spec": spec})
}

async fn make(scene: &Scene, name: &str, spec: Value) -> Result<()> {
    scene.create(subnet(name, &spec)).await.map(drop)
}

/// For [`Cluster::until`]: a condition has this status, and its message contains these words.
fn says(type_: &'static str, status: &'static str, words: &'static [&'static str]) -> impl Fn(&Subnet) -> Result<()> {
    move |subnet| {
        let conditions = subnet.status.as_ref().map(|s| s.conditions.as_slice()).unwrap_or_default();
        let condition = conditions.iter().find(|c| c.type_ == type_).context("no such condition yet")?;
        let right = condition.status == status && words.iter().all(|word| condition.message.contains(word));
        ensure!(right, "{type_} is {}: {:?}", condition.status, condition.message);
        Ok(())
    }
}

#[tokio::test]
async fn a2_a_subnet_in_conflict_says_with_whom() -> Result<()> {
    let cluster = Cluster::running().await?;
    let scene = cluster.scene("a2-conflict").await?;
    let subnets: Api<Subnet> = Api::all(cluster.client());
    make(&scene, "a2-inside", json!({"cidrBlock": "10.16.8.0/24"})).await?;
    make(&scene, "a2-services", json!({"cidrBlock": "10.96.8.0/24"})).await?;
    make(&scene, "a2-good", json!({"cidrBlock": "10.50.0.0/24"})).await?;
    cluster.until(subnets.clone(), "a2-inside", says("Error", "True", &["a2-inside", "ovn-default"])).await?;
    let words = &["a2-services", "spec.cidrBlock", "service range"];
    cluster.until(subnets.clone(), "a2-services", says("Validated", "False", words)).await?;
    cluster.until(subnets, "a2-good", subnet_ready).await.map(drop)
}

#[tokio::test]
async fn a2_a_full_subnet_refuses_until_an_address_is_free() -> Result<()> {
    let cluster = Cluster::running().await?;
    let scene = cluster.scene("a2-full").await?;
    let subnets: Api<Subnet> = Api::all(cluster.client());
    make(&scene, "a2-full", json!({"cidrBlock": "10.50.0.0/30", "namespaces": ["a2-full"]})).await?;
    cluster.until(subnets.clone(), "a2-full", subnet_ready).await?;
    scene.namespace("a2-full", &[]).await?;
    let first = scene.pod("a2-full", "first").on("n1").ready().await?;
    assert_eq!(first.ip4()?, "10.50.0.2");
    let second = scene.pod("a2-full", "second").on("n1").create().await?;
    second.told("AcquireAddressFailed", &["a2-full", "IPv4"]).await?;

    // A Subnet in use is not deleted, and its status names the pods that use it, until the last one is gone.
    subnets.delete("a2-full", &DeleteParams::default()).await?;
    cluster.until(subnets.clone(), "a2-full", says("Ready", "False", &["first.a2-full"])).await?;
    second.delete().await?;
    first.place().ping("10.50.0.1").await?;
    first.delete().await?;
    cluster.until_gone(subnets, "a2-full").await
}

#[tokio::test]
async fn a2_a_pod_that_asks_for_nonsense_is_told_and_the_next_is_served() -> Result<()> {
    let cluster = Cluster::running().await?;
    let scene = cluster.scene("a2-pods").await?;
    scene.namespace("a2-pods", &[]).await?;
    let asks = |name: &str, annotation: &str, value: &str| {
        scene.pod("a2-pods", name).on("n1").annotation(&format!("ovn.kubernetes.io/{annotation}"), value)
    };
    let bad = asks("bad", "ip_address", "10.16.0.300").create().await?;
    let lost = asks("lost", "logical_switch", "nowhere").create().await?;
    let outside = asks("outside", "ip_address", "10.77.0.7").create().await?;
    bad.told("AcquireAddressFailed", &["pod a2-pods/bad", "ovn.kubernetes.io/ip_address", "10.16.0.300"]).await?;
    lost.told("AcquireAddressFailed", &["subnet nowhere", "metadata.name"]).await?;
    outside.told("AcquireAddressFailed", &["10.77.0.7", "ovn-default"]).await?;
    let good = scene.pod("a2-pods", "good").on("n1").ready().await?;
    good.place().ping("10.16.0.1").await
}
