//! A6: a dual-stack subnet gives its pods an IPv4 and an IPv6 address, and both are routed and masqueraded.

use anyhow::Result;
use api::Subnet;
use e2e::Cluster;
use e2e::cluster::subnet_ready;
use e2e::layout::{OUTSIDE, OUTSIDE_6};
use kube::Api;
use serde_json::json;

#[tokio::test]
async fn a6_both_families_are_routed_and_masqueraded() -> Result<()> {
    let cluster = Cluster::running().await?;
    let scene = cluster.scene("a6").await?;
    scene
        .create(json!({
            "apiVersion": "kubeovn.io/v1", "kind": "Subnet", "metadata": {"name": "a6"},
            "spec": {"cidrBlock": "10.18.0.0/24,fd00:18::/64", "namespaces": ["a6"], "natOutgoing": true},
        }))
        .await?;
    let subnets: Api<Subnet> = Api::all(cluster.client());
    cluster.until(subnets, "a6", subnet_ready).await?;
    scene.namespace("a6", &[]).await?;
    scene.namespace("a6-elsewhere", &[]).await?;
    let one = scene.pod("a6", "one").on("n1").ready().await?;
    let two = scene.pod("a6", "two").on("n2").ready().await?;
    let other = scene.pod("a6-elsewhere", "other").on("n2").ready().await?;

    assert_eq!(one.ips().len(), 2, "Kubernetes says {:?}", one.ips());
    assert!(one.ip4()?.starts_with("10.18.0."), "{}", one.ip4()?);
    assert!(one.ip6()?.starts_with("fd00:18::"), "{}", one.ip6()?);

    for (from, to) in [(&one, &two), (&two, &one), (&one, &other), (&other, &one)] {
        for (ip, own) in [(to.ip4()?, from.ip4()?), (to.ip6()?, from.ip6()?)] {
            from.place().ping(&ip).await?;
            assert_eq!(from.place().tcp(&ip).await?.seen.to_string(), own, "between pods nothing is translated");
        }
    }
    for (outside, expected) in [(OUTSIDE, "172.30.0.1"), (OUTSIDE_6, "fd00:30::1")] {
        assert_eq!(one.place().tcp(outside).await?.seen.to_string(), expected, "masqueraded as its node");
    }
    Ok(())
}

#[tokio::test]
async fn a6_a_pod_may_be_of_one_family_alone() -> Result<()> {
    let cluster = Cluster::running().await?;
    let scene = cluster.scene("a6-one").await?;
    scene
        .create(json!({
            "apiVersion": "kubeovn.io/v1", "kind": "Subnet", "metadata": {"name": "a6-one"},
            "spec": {"cidrBlock": "10.48.0.0/24,fd00:48::/64", "namespaces": ["a6-one"]},
        }))
        .await?;
    cluster.until(Api::<Subnet>::all(cluster.client()), "a6-one", subnet_ready).await?;
    let four_only = json!({"cidrBlock": "10.49.0.0/24"});
    scene
        .create(json!({"apiVersion": "kubeovn.io/v1", "kind": "Subnet", "metadata": {"name": "a6-four"}, "spec": four_only}))
        .await?;
    cluster.until(Api::<Subnet>::all(cluster.client()), "a6-four", subnet_ready).await?;
    scene.namespace("a6-one", &[]).await?;
    let of = |family: &str, node: &str| {
        scene.pod("a6-one", family).on(node).annotation("ovn.kubernetes.io/ip_family", family)
    };
    let (four, six, dual) =
        tokio::try_join!(of("ipv4", "n1").ready(), of("ipv6", "n1").ready(), of("dual", "n2").ready())?;
    assert_eq!([four.ips().len(), six.ips().len(), dual.ips().len()], [1, 1, 2]);
    for (one, of, other) in [(&four, dual.ip4()?, " fd00:48:"), (&six, dual.ip6()?, " 10.48.")] {
        one.place().ping(&of).await?;
        assert_eq!(one.place().tcp(&of).await?.seen, one.ips()[0]);
        let addresses = one.place().run("ip", &["-o", "addr", "show", "eth0"]).await?;
        assert!(!addresses.contains(other), "{addresses}");
    }
    let lost = scene
        .pod("a6-one", "lost")
        .on("n1")
        .annotation("ovn.kubernetes.io/ip_family", "ipv6")
        .annotation("ovn.kubernetes.io/logical_switch", "a6-four")
        .create()
        .await?;
    lost.told("AcquireAddressFailed", &["subnet a6-four", "IPv6", "10.49.0.0/24"]).await
}
