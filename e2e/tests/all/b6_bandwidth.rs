//! B6: the rate of a pod's traffic follows its annotations, or those of its namespace and subnet, in both directions, with
//! TCP and UDP, while the pod runs.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use api::Subnet;
use e2e::cluster::{Place, Pod, subnet_ready};
use e2e::{Cluster, process};
use k8s_openapi::api::core::v1::Namespace;
use kube::Api;
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};

/// The bytes that a place has received by `eth0`.
async fn received(place: &Place) -> Result<u64> {
    let text = place.run("cat", &["/proc/net/dev"]).await?;
    let line = text.lines().find_map(|line| line.trim().strip_prefix("eth0:")).context("eth0")?;
    line.split_whitespace().next().and_then(|bytes| bytes.parse().ok()).context("bytes")
}

/// Sends from one pod to another, more than the limits. Returns the rate in Mbit/s that arrives.
async fn rate(from: &Place, to: &Place, address: &str, udp: bool) -> Result<f64> {
    let serve = process::run(to.command("iperf3", &["--server", "--one-off"])?);
    let ask = async {
        let listens = async || {
            let sockets = to.run("ss", &["--listening", "--numeric", "--tcp"]).await?;
            ensure!(sockets.contains(":5201"), "{sockets}");
            Ok(())
        };
        process::until(Duration::from_secs(5), listens).await?;
        let how: &[&str] = if udp { &["--udp", "--bitrate", "100M"] } else { &[] };
        from.run("iperf3", &[&["--client", address, "--time", "6"], how].concat()).await
    };
    let measure = async {
        // At first, the burst passes.
        tokio::time::sleep(Duration::from_millis(2500)).await;
        let (before, start) = (received(to).await?, Instant::now());
        tokio::time::sleep(Duration::from_secs(3)).await;
        let bytes = received(to).await? - before;
        Ok(8e-6 * f64::from(u32::try_from(bytes)?) / start.elapsed().as_secs_f64())
    };
    let (_, _, rate) = tokio::try_join!(serve, ask, measure)?;
    Ok(rate)
}

#[tokio::test]
async fn b6_bandwidth_follows_the_annotations() -> Result<()> {
    let cluster = Cluster::running().await?;
    let scene = cluster.scene("b6").await?;
    scene.namespace("b6", &[]).await?;
    let limited = scene.pod("b6", "limited").on("n1").annotation("ovn.kubernetes.io/ingress_rate", "10");
    let limited = limited.annotation("ovn.kubernetes.io/egress_rate", "10").ready().await?;
    let near = scene.pod("b6", "near").on("n1").ready().await?;
    let far = scene.pod("b6", "far").on("n2").ready().await?;
    let own = limited.inside().await?;
    let mut amiss = Vec::new();
    let mut check = |what: String, rate: f64, wanted: f64| {
        println!("{what}: {rate:.1} of {wanted} Mbit/s");
        if (rate - wanted).abs() > wanted / 10.0 {
            amiss.push(format!("{what}: {rate:.1} instead of {wanted} Mbit/s"));
        }
    };
    for (where_, other) in [("same node", &near), ("other node", &far)] {
        let place = other.inside().await?;
        for (how, udp) in [("TCP", false), ("UDP", true)] {
            check(format!("{how}, in, {where_}"), rate(&place, &own, &limited.ip4()?, udp).await?, 10.0);
            check(format!("{how}, out, {where_}"), rate(&own, &place, &other.ip4()?, udp).await?, 10.0);
        }
    }
    // Changed while the pod runs, the Kubernetes way, and over IPv6.
    let annotations = json!({
        "ovn.kubernetes.io/ingress_rate": null, "ovn.kubernetes.io/egress_rate": null,
        "kubernetes.io/ingress-bandwidth": "100M",
    });
    annotate(&limited, annotations).await?;
    let place = far.inside().await?;
    let changed = || async {
        let now = rate(&place, &own, &limited.ip6()?, false).await?;
        ensure!((90.0..=110.0).contains(&now), "{now:.1} Mbit/s of 100 arrive");
        Ok(())
    };
    process::until(Duration::from_secs(20), changed).await?;
    let free = rate(&own, &place, &far.ip4()?, false).await?;
    ensure!(free > 150.0, "without a limit, {free:.1} Mbit/s leave");
    ensure!(amiss.is_empty(), "{}", amiss.join("\n"));

    // What cannot be read changes nothing, and is told.
    annotate(&limited, json!({ "kubernetes.io/ingress-bandwidth": "10Mbit" })).await?;
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
    let (here, there) = (plain.inside().await?, own.inside().await?);
    let within = |rate: f64, wanted: f64| {
        println!("{rate:.1} of {wanted} Mbit/s");
        ensure!((rate - wanted).abs() <= wanted / 10.0, "{rate:.1} instead of {wanted} Mbit/s");
        Ok(())
    };
    within(rate(&there, &here, &plain.ip4()?, false).await?, 10.0).context("the namespace's, into the pod")?;
    within(rate(&here, &there, &own.ip4()?, false).await?, 20.0).context("the subnet's, out of the pod")?;

    let namespaces: Api<Namespace> = Api::all(cluster.client());
    let say = async |value: &str| {
        let patch = json!({ "metadata": { "annotations": { "ovn.kubernetes.io/ingress_rate": value } } });
        namespaces.patch(SUBNET, &PatchParams::default(), &Patch::Merge(patch)).await.context("the annotation")
    };
    say("30").await?;
    let changed = || async { within(rate(&there, &here, &plain.ip4()?, false).await?, 30.0) };
    process::until(Duration::from_secs(20), changed).await?;
    say("fast").await?;
    let fields = format!("involvedObject.name={SUBNET},reason=UnreadableAnnotation");
    cluster.told("default", &fields, &["namespace b6-net: annotation ovn.kubernetes.io/ingress_rate"]).await?;
    changed().await
}

async fn annotate(pod: &Pod, annotations: Value) -> Result<()> {
    let patch = Patch::Merge(json!({ "metadata": { "annotations": annotations } }));
    pod.api().patch(pod.name(), &PatchParams::default(), &patch).await.map(drop).context("the annotations")
}
