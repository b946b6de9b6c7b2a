//! A1: a namespace's annotations make a subnet, and its pods get addresses from it in order.

use anyhow::{Context, Result};
use api::Subnet;
use e2e::Cluster;
use e2e::cluster::{nb, subnet_ready};
use kube::Api;

/// The annotations of row A1.
const ANNOTATIONS: [(&str, &str); 4] = [
    ("ovn.kubernetes.io/logical_switch", "test-ns-subnet"),
    ("ovn.kubernetes.io/cidr", "10.17.0.0/24"),
    ("ovn.kubernetes.io/gateway", "10.17.0.1"),
    ("ovn.kubernetes.io/exclude_ips", "10.17.0.1..10.17.0.10"),
];

#[tokio::test]
async fn a1_namespace_annotations_make_a_subnet() -> Result<()> {
    let cluster = Cluster::running().await?;
    let scene = cluster.scene("a1").await?;
    scene.namespace("a1", &ANNOTATIONS).await?;

    let subnets: Api<Subnet> = Api::all(cluster.client());
    let subnet = cluster.until(subnets.clone(), "test-ns-subnet", subnet_ready).await?;
    scene.adopt(&subnets, "test-ns-subnet").await?;
    assert_eq!(subnet.spec.cidr_block, "10.17.0.0/24");
    assert_eq!(subnet.spec.gateway.as_deref(), Some("10.17.0.1"));
    assert_eq!(subnet.spec.namespaces, ["a1"]);
    assert_eq!(nb::find("Logical_Switch", &["name=test-ns-subnet"]).await?.len(), 1, "one logical switch of that name");

    // Create the pods one by one, because addresses are assigned in the order of creation.
    let first = scene.pod("a1", "first").on("n1").ready().await?;
    let second = scene.pod("a1", "second").on("n2").ready().await?;
    assert_eq!(first.ip4()?, "10.17.0.11");
    assert_eq!(second.ip4()?, "10.17.0.12");
    assert_eq!(first.annotation("ovn.kubernetes.io/logical_switch"), Some("test-ns-subnet"));
    let port = nb::find("Logical_Switch_Port", &["name=first.a1"]).await?;
    let addresses = port.first().context("no port first.a1")?["addresses"].as_str().unwrap_or_default().to_owned();
    assert!(addresses.ends_with(" 10.17.0.11"), "port first.a1 has {addresses:?}");

    scene.namespace("a1-elsewhere", &[]).await?;
    let elsewhere = scene.pod("a1-elsewhere", "third").on("n2").ready().await?;
    assert!(elsewhere.ip4()?.starts_with("10.16."), "a pod elsewhere has {}", elsewhere.ip4()?);

    // Check both directions across nodes and across subnets.
    for (from, to) in [(&first, &second), (&second, &first), (&first, &elsewhere), (&elsewhere, &first)] {
        let ip = to.ip4()?;
        from.place().ping(&ip).await?;
        let answer = from.place().tcp(&ip).await?;
        assert_eq!(
            (answer.who.as_str(), answer.seen.to_string()),
            (to.name(), from.ip4()?),
            "between pods nothing is translated"
        );
        assert_eq!(from.place().udp(&ip).await?.who, to.name());
    }
    // An unassigned address does not answer.
    first.place().no_ping("10.17.0.200").await
}
