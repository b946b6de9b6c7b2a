//! B8: Geneve and VXLAN both carry the traffic of pods between nodes, with the MTU that fits, and the type changes on a
//! running cluster.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use e2e::cluster::{Place, Pod};
use e2e::kube::kubectl;
use e2e::{Cluster, process};
use futures::future::try_join_all;

/// The time from the edit until all nodes have tunnels of the other type.
const CHANGED: Duration = Duration::from_mins(2);

/// Gives the agents this type of tunnels, as a `helm upgrade` with `tunnel.type` does.
async fn change(to: &str) -> Result<()> {
    let object = ["--namespace", "kube-system", "daemonset/kube-ovn-cni"];
    let output = "jsonpath={.spec.template.spec.containers[0].args}";
    let printed = kubectl(&[&["get"], object.as_slice(), &["--output", output]].concat()).await?;
    let arguments: Vec<String> = serde_json::from_str(&printed)?;
    let at = arguments.iter().position(|argument| argument.starts_with("--network-type=")).context("the flag")?;
    let patch = serde_json::json!([{
        "op": "replace", "path": format!("/spec/template/spec/containers/0/args/{at}"),
        "value": format!("--network-type={to}"),
    }]);
    kubectl(&[&["patch"], object.as_slice(), &["--type=json", "--patch", &patch.to_string()]].concat()).await?;
    kubectl(&[&["rollout", "status"], object.as_slice(), &["--timeout=180s"]].concat()).await.map(drop)
}

/// Sends the largest packets that the pods' MTU allows, in both families.
async fn carries(from: &Pod, to: &Pod, mtu: u32) -> Result<()> {
    let place = from.place();
    for (address, headers) in [(to.ip4()?, 28), (to.ip6()?, 48)] {
        let size = (mtu - headers).to_string();
        place.run("ping", &["-c", "3", "-i", "0.2", "-W", "2", "-M", "do", "-s", &size, &address]).await?;
    }
    ensure!(place.tcp(&to.ip4()?).await?.who == to.name());
    Ok(())
}

async fn mtu(pod: &Pod) -> Result<u32> {
    let link = pod.place().run("cat", &["/sys/class/net/eth0/mtu"]).await?;
    Ok(link.trim().parse()?)
}

#[tokio::test]
async fn b8_tunnels_of_both_types_carry_the_traffic_of_pods() -> Result<()> {
    let cluster = Cluster::running().await?;
    let scene = cluster.scene("b8").await?;
    scene.namespace("b8", &[]).await?;
    let on = |name: &'static str, node: &'static str| scene.pod("b8", name).on(node);
    let (one, two) = tokio::try_join!(on("one", "n1").ready(), on("two", "n2").ready())?;
    let geneve = mtu(&one).await?;
    carries(&one, &two, geneve).await?;

    let outcome = async {
        change("vxlan").await?;
        // Running pods keep their MTU.
        process::until(CHANGED, || carries(&one, &two, geneve)).await?;
        let nodes: Vec<Place> = cluster.nodes().into_iter().map(Place::Node).collect();
        let tunnels = try_join_all(
            nodes.iter().map(|node| node.run("ovs-vsctl", &["--bare", "--columns=type", "list", "interface"])),
        )
        .await?;
        ensure!(tunnels.iter().all(|types| types.contains("vxlan") && !types.contains("geneve")), "{tunnels:?}");
        let (three, four) = tokio::try_join!(on("three", "n1").ready(), on("four", "n2").ready())?;
        let vxlan = mtu(&three).await?;
        ensure!(vxlan == geneve + 50, "the MTU is {vxlan} with VXLAN and {geneve} with Geneve");
        carries(&three, &four, vxlan).await?;
        carries(&four, &one, geneve).await
    };
    let outcome = Box::pin(outcome).await;
    change("geneve").await?;
    process::until(CHANGED, || carries(&two, &one, geneve)).await?;
    outcome
}
