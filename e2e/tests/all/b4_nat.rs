//! B4: whether traffic that leaves the cluster has the address of the node, of the pod, or another one, as the Subnet says,
//! changed while connections run.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use api::Subnet;
use e2e::bare::Probe;
use e2e::cluster::{Place, Pod, subnet_ready};
use e2e::layout::{Node, OUTSIDE, OUTSIDE_6};
use e2e::{Cluster, process};
use kube::Api;
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};

/// The time from an edit to its effect on new connections.
const SOON: Duration = Duration::from_secs(5);

async fn edit(cluster: &Cluster, fields: Value) -> Result<()> {
    let subnets = Api::<Subnet>::all(cluster.client());
    let patch = Patch::Merge(json!({ "spec": fields }));
    subnets.patch("b4", &PatchParams::default(), &patch).await.map(drop).context("the edit")
}

/// Waits until the hosts outside see these sources of a pod's new connections, over both families.
async fn is_seen(pod: &Pod, expected: [&str; 2]) -> Result<()> {
    let place = pod.place();
    process::until(SOON, || async {
        let (four, six) = tokio::try_join!(place.tcp(OUTSIDE), place.tcp(OUTSIDE_6))?;
        let seen = [four.seen.to_string(), six.seen.to_string()];
        ensure!(seen == expected, "pod {} is seen as {seen:?} instead of {expected:?}", pod.name());
        Ok(())
    })
    .await
}

#[tokio::test]
async fn b4_the_source_outside_is_what_the_subnet_says() -> Result<()> {
    let cluster = Cluster::running().await?;
    let scene = cluster.scene("b4").await?;
    let spec = json!({ "cidrBlock": "10.48.0.0/24,fd00:48::/64", "natOutgoing": true, "namespaces": ["b4"] });
    scene
        .create(json!({ "apiVersion": "kubeovn.io/v1", "kind": "Subnet", "metadata": { "name": "b4" }, "spec": spec }))
        .await?;
    cluster.until(Api::<Subnet>::all(cluster.client()), "b4", subnet_ready).await?;
    scene.namespace("b4", &[]).await?;
    let (one, two) =
        tokio::try_join!(scene.pod("b4", "one").on("n1").ready(), scene.pod("b4", "two").on("n2").ready())?;
    let node = |name| Node::named(name).context("no such node");
    let (n1, n2) = (node("n1")?, node("n2")?);
    let (by1, by2) = ([n1.ip4(), n1.ip6()], [n2.ip4(), n2.ip6()]);
    let (by1, by2) = (by1.each_ref().map(String::as_str), by2.each_ref().map(String::as_str));
    is_seen(&one, by1).await?;
    is_seen(&two, by2).await?;

    // Connections that run are kept as they are.
    let inside = one.netns().await?;
    let running = Probe::start("while the subnet is edited", &inside, OUTSIDE, Duration::from_millis(20)).await?;

    // Outside, there is a way to the pods.
    let outside = cluster.outside();
    let (own1, own2) = ([one.ip4()?, one.ip6()?], [two.ip4()?, two.ip6()?]);
    let (own1, own2) = (own1.each_ref().map(String::as_str), own2.each_ref().map(String::as_str));
    for (own, by) in [(own1, by1), (own2, by2)] {
        for (to, via) in own.iter().zip(by) {
            outside.run("ip", &["route", "replace", to, "via", via]).await?;
        }
    }
    edit(&cluster, json!({ "natOutgoing": false })).await?;
    is_seen(&one, own1).await?;
    is_seen(&two, own2).await?;
    // Both ways.
    ensure!(outside.tcp(own1[0]).await?.who == "one" && outside.tcp(own2[1]).await?.who == "two");

    // Rules, in order; what none of them matches is translated.
    let rule =
        |src: &str, dst: &str, action: &str| json!({ "match": { "srcIPs": src, "dstIPs": dst }, "action": action });
    let rules = json!([rule(own1[0], OUTSIDE, "forward"), rule("fd00:48::/64", "", "forward")]);
    edit(&cluster, json!({ "natOutgoing": true, "natOutgoingPolicyRules": rules })).await?;
    is_seen(&one, own1).await?;
    is_seen(&two, [by2[0], own2[1]]).await?;
    let rules = json!([rule(own1[0], "", "nat"), rule("10.48.0.0/24", OUTSIDE, "forward")]);
    edit(&cluster, json!({ "natOutgoingPolicyRules": rules })).await?;
    is_seen(&one, by1).await?;
    is_seen(&two, [own2[0], by2[1]]).await?;
    // A rule that is not readable changes nothing, and is told.
    edit(&cluster, json!({ "natOutgoingPolicyRules": [rule("10.48.0.300", "", "nat")] })).await?;
    let fields = "involvedObject.name=b4,reason=ValidateSubnetFailed";
    cluster.told("default", fields, &["natOutgoingPolicyRules[0].match.srcIPs"]).await?;
    is_seen(&two, [own2[0], by2[1]]).await?;
    edit(&cluster, json!({ "natOutgoingPolicyRules": null })).await?;
    is_seen(&two, by2).await?;

    // A gateway node with addresses for the subnet.
    let (snat, snat6) = ("172.30.0.77", "fd00:30::77");
    let host = Place::Node(n1);
    host.run("ip", &["address", "replace", &format!("{snat}/32"), "dev", "eth0"]).await?;
    host.run("ip", &["address", "replace", &format!("{snat6}/128"), "dev", "eth0", "nodad"]).await?;
    let gateway = format!("n1:{snat},n1:{snat6}");
    edit(&cluster, json!({ "gatewayType": "centralized", "gatewayNode": gateway })).await?;
    is_seen(&one, [snat, snat6]).await?;
    is_seen(&two, [snat, snat6]).await?;
    edit(&cluster, json!({ "gatewayNode": "n1" })).await?;
    host.run("ip", &["address", "delete", &format!("{snat}/32"), "dev", "eth0"]).await?;
    host.run("ip", &["address", "delete", &format!("{snat6}/128"), "dev", "eth0"]).await?;
    is_seen(&two, by1).await?;

    let outcome = running.end().await?;
    ensure!(outcome.sent == outcome.answered, "a connection lost packets while the subnet was edited: {outcome:?}");
    for to in own1.iter().chain(&own2) {
        outside.run("ip", &["route", "delete", to]).await?;
    }
    Ok(())
}

/// The traffic of a pod leaves by another pod, which gives it an address of its own.
#[tokio::test]
async fn b4_a_pod_leaves_by_the_next_hop_that_it_names() -> Result<()> {
    let cluster = Cluster::running().await?;
    let scene = cluster.scene("b4-north").await?;
    let spec = json!({ "cidrBlock": "10.51.0.0/24,fd00:51::/64", "natOutgoing": true, "namespaces": ["b4-north"] });
    let metadata = json!({ "name": "b4-north" });
    scene
        .create(json!({ "apiVersion": "kubeovn.io/v1", "kind": "Subnet", "metadata": metadata, "spec": spec }))
        .await?;
    cluster.until(Api::<Subnet>::all(cluster.client()), "b4-north", subnet_ready).await?;
    scene.namespace("b4-north", &[]).await?;
    let gateway = scene.pod("b4-north", "gateway").on("n2").ready().await?;
    let next = format!("{},{}", gateway.ip4()?, gateway.ip6()?);
    let pod = scene.pod("b4-north", "one").on("n1").ready().await?;
    let node = |name| Node::named(name).context("no such node");
    let (by1, by2) = (node("n1")?, node("n2")?);
    let (by1, by2) = ([by1.ip4(), by1.ip6()], [by2.ip4(), by2.ip6()]);
    let (by1, by2) = (by1.each_ref().map(String::as_str), by2.each_ref().map(String::as_str));
    let inside = gateway.netns().await?;
    for (setting, value) in [
        ("net.ipv4.ip_forward", "1"),
        ("net.ipv6.conf.all.forwarding", "1"),
        ("net.ipv4.conf.eth0.send_redirects", "0"),
    ] {
        inside.run("sysctl", &["-w", &format!("{setting}={value}")]).await?;
    }
    let masquerade = "table inet north { chain out { type nat hook postrouting priority 100; masquerade; }; }";
    inside.run("nft", &[masquerade]).await?;
    is_seen(&pod, by1).await?;
    pod.annotate(json!({ "ovn.kubernetes.io/north_gateway": next })).await?;
    is_seen(&pod, by2).await?;
    // Pods and nodes are reached as before.
    let answer = pod.place().tcp(&gateway.ip4()?).await?;
    ensure!(answer.seen.to_string() == pod.ip4()?, "{answer:?}");
    cluster.node("n2")?.ping(&pod.ip4()?).await?;
    // A value that cannot be read changes nothing, and is told.
    pod.annotate(json!({ "ovn.kubernetes.io/north_gateway": "gateway" })).await?;
    pod.told("UnreadableAnnotation", &["north_gateway"]).await?;
    is_seen(&pod, by2).await?;
    pod.annotate(json!({ "ovn.kubernetes.io/north_gateway": null })).await?;
    is_seen(&pod, by1).await
}
