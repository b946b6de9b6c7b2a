//! B6: the rate of a pod's traffic follows its annotations, or those of its namespace and subnet, in both directions, with
//! TCP and UDP, while the pod runs.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use api::Subnet;
use e2e::cluster::subnet_ready;
use e2e::cluster::traffic::rate;
use e2e::layout::Node;
use e2e::{Cluster, process, rootfs};
use k8s_openapi::api::core::v1::Namespace;
use kube::Api;
use kube::api::{Patch, PatchParams};
use serde_json::json;

#[tokio::test]
async fn b6_bandwidth_follows_the_annotations() -> Result<()> {
    let cluster = Cluster::running().await?;
    let scene = cluster.scene("b6").await?;
    scene.namespace("b6", &[]).await?;
    let limited = scene.pod("b6", "limited").on("n1").annotation("ovn.kubernetes.io/ingress_rate", "10");
    let limited = limited.annotation("ovn.kubernetes.io/egress_rate", "10").ready().await?;
    let near = scene.pod("b6", "near").on("n1").ready().await?;
    let far = scene.pod("b6", "far").on("n2").ready().await?;
    let own = limited.netns().await?;
    let mut amiss = Vec::new();
    let mut check = |what: String, rate: f64, wanted: f64| {
        println!("{what}: {rate:.1} of {wanted} Mbit/s");
        if (rate - wanted).abs() > wanted / 10.0 {
            amiss.push(format!("{what}: {rate:.1} instead of {wanted} Mbit/s"));
        }
    };
    let places = (near.netns().await?, far.netns().await?);
    let (near, far) = ((&places.0, near.ip4()?), (&places.1, far.ip4()?));
    // A pod on one node sends while the pod sends to one on the other.
    for ((from, to), where_) in
        [((&near, &far), "same node in, other node out"), ((&far, &near), "other node in, same node out")]
    {
        for (how, udp) in [("TCP", None), ("UDP", Some(30))] {
            let own4 = limited.ip4()?;
            let (into, out) = tokio::try_join!(rate(from.0, &own, &own4, udp), rate(&own, to.0, &to.1, udp))?;
            check(format!("{how} in, {where_}"), into, 10.0);
            check(format!("{how} out, {where_}"), out, 10.0);
        }
    }
    // Changed while the pod runs, the Kubernetes way, and over IPv6.
    let annotations = json!({
        "ovn.kubernetes.io/ingress_rate": null, "ovn.kubernetes.io/egress_rate": null,
        "kubernetes.io/ingress-bandwidth": "100M",
    });
    limited.annotate(annotations).await?;
    let place = places.1.clone();
    let changed = || async {
        let now = rate(&place, &own, &limited.ip6()?, None).await?;
        ensure!((90.0..=110.0).contains(&now), "{now:.1} Mbit/s of 100 arrive");
        Ok(())
    };
    process::until(Duration::from_secs(20), changed).await?;
    let free = rate(&own, &place, &far.1, None).await?;
    ensure!(free > 150.0, "without a limit, {free:.1} Mbit/s leave");
    ensure!(amiss.is_empty(), "{}", amiss.join("\n"));

    // What cannot be read changes nothing, and is told.
    limited.annotate(json!({ "kubernetes.io/ingress-bandwidth": "10Mbit" })).await?;
    limited.told("UnreadableAnnotation", &["kubernetes.io/ingress-bandwidth"]).await?;
    changed().await
}

#[tokio::test]
async fn b6_a_namespace_and_a_subnet_limit_their_pods() -> Result<()> {
    const SUBNET: &str = "b6-net";
    let cluster = Cluster::running().await?;
    let scene = cluster.scene("b6-defaults").await?;
    let spec = json!({ "cidrBlock": "10.88.0.0/24", "namespaces": [SUBNET] });
    let metadata = json!({ "name": SUBNET, "annotations": { "ovn.kubernetes.io/egress_rate": "20" } });
    scene
        .create(json!({ "apiVersion": "kubeovn.io/v1", "kind": "Subnet", "metadata": metadata, "spec": spec }))
        .await?;
    cluster.until(Api::<Subnet>::all(cluster.client()), SUBNET, subnet_ready).await?;
    scene.namespace(SUBNET, &[("ovn.kubernetes.io/ingress_rate", "10")]).await?;
    let plain = scene.pod(SUBNET, "plain").on("n1").ready().await?;
    let own = scene.pod(SUBNET, "own").on("n2").annotation("ovn.kubernetes.io/ingress_rate", "0");
    let own = own.annotation("ovn.kubernetes.io/egress_rate", "0").ready().await?;
    let (here, there) = (plain.netns().await?, own.netns().await?);
    let within = |rate: f64, wanted: f64| {
        println!("{rate:.1} of {wanted} Mbit/s");
        ensure!((rate - wanted).abs() <= wanted / 10.0, "{rate:.1} instead of {wanted} Mbit/s");
        Ok(())
    };
    within(rate(&there, &here, &plain.ip4()?, Some(60)).await?, 10.0).context("the namespace's, into the pod")?;
    within(rate(&here, &there, &own.ip4()?, Some(60)).await?, 20.0).context("the subnet's, out of the pod")?;
    plain.check().await.context("CHECK of a pod with the limits of others")?;
    own.check().await.context("CHECK of a pod without limits")?;
    let meter = |rate: u32, other: u32| {
        format!(
            "id=$(ovs-ofctl -O OpenFlow15 dump-meters br-int | awk '/^meter=/ {{id = $1}} / rate={rate} / {{print id}}')
             ovs-ofctl -O OpenFlow15 mod-meter br-int \"$id,kbps,burst,band=type=drop,rate={other},burst_size=8000\""
        )
    };
    let set = async |rate, other| process::run(rootfs::on(Node::ONE, "sh", &["-c", &meter(rate, other)])?).await;
    set(10_000, 11_000).await?;
    let differs = plain.check().await.err().map(|error| format!("{error:#}")).unwrap_or_default();
    ensure!(differs.contains("no meter limits to 10000 kbit/s with a burst of 8000 kbit"), "{differs:?}");
    set(11_000, 10_000).await?;
    plain.check().await?;

    let namespaces: Api<Namespace> = Api::all(cluster.client());
    let say = async |value: &str| {
        let patch = json!({ "metadata": { "annotations": { "ovn.kubernetes.io/ingress_rate": value } } });
        namespaces.patch(SUBNET, &PatchParams::default(), &Patch::Merge(patch)).await.context("the annotation")
    };
    say("30").await?;
    let changed = || async { within(rate(&there, &here, &plain.ip4()?, Some(60)).await?, 30.0) };
    process::until(Duration::from_secs(20), changed).await?;
    say("fast").await?;
    let fields = format!("involvedObject.name={SUBNET},reason=UnreadableAnnotation");
    cluster.told("default", &fields, &["namespace b6-net: annotation ovn.kubernetes.io/ingress_rate"]).await?;
    changed().await
}
