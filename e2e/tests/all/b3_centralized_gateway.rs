//! B3: all pods of a centralized subnet leave the cluster by its gateway node, and by the next one when that is gone.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use api::Subnet;
use e2e::cluster::traffic::longest_pause;
use e2e::cluster::{Answer, Place, Pod, Scene};
use e2e::layout::{Node, OUTSIDE, OUTSIDE_6};
use e2e::{Cluster, net, process};
use futures::future::try_join_all;
use kube::Api;
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};
use tokio::try_join;

/// The time within which an edit is in force on all nodes, with the time that the requests take.
const SOON: Duration = Duration::from_secs(10);
/// The longest pause when the active gateway is lost.
const FAILOVER: Duration = Duration::from_secs(2);

/// A centralized dual-stack subnet with the namespace of the same name.
async fn subnet(scene: &Scene, name: &str, net: u8, fields: Value) -> Result<()> {
    let mut spec = json!({
        "cidrBlock": format!("10.{net}.0.0/24,fd00:{net}::/64"), "natOutgoing": true, "gatewayType": "centralized",
        "namespaces": [name],
    });
    let all = spec.as_object_mut().context("an object")?;
    all.extend(fields.as_object().context("fields")?.clone());
    scene
        .create(json!({"apiVersion": "kubeovn.io/v1", "kind": "Subnet", "metadata": {"name": name}, "spec": spec}))
        .await?;
    scene.namespace(name, &[]).await
}

async fn edit(cluster: &Cluster, name: &str, fields: Value) -> Result<()> {
    let subnets = Api::<Subnet>::all(cluster.client());
    let patch = Patch::Merge(json!({ "spec": fields }));
    subnets.patch(name, &PatchParams::default(), &patch).await.map(drop).context("the edit")
}

/// Waits until the Subnet shows this gateway as the active one.
async fn shows(cluster: &Cluster, name: &str, active: &str) -> Result<()> {
    let check = |subnet: &Subnet| {
        let shown = subnet.status.as_ref().map(|status| status.activate_gateway.as_str()).unwrap_or_default();
        ensure!(shown == active, "status.activateGateway is {shown:?}");
        Ok(())
    };
    cluster.until(Api::<Subnet>::all(cluster.client()), name, check).await.map(drop)
}

/// Asks the host outside with TCP and UDP, over both families. Returns the nodes by which the pod left.
async fn leaves_by(pod: &Pod) -> Result<BTreeSet<String>> {
    let place = pod.place();
    let (a, b, c, d) = try_join!(place.tcp(OUTSIDE), place.udp(OUTSIDE), place.tcp(OUTSIDE_6), place.udp(OUTSIDE_6))?;
    let node = |answer: Answer| {
        let seen = answer.seen.to_string();
        let node = Node::running().into_iter().find(|node| [node.ip4(), node.ip6()].contains(&seen));
        node.map_or(seen, Node::name)
    };
    Ok([a, b, c, d].map(node).into())
}

async fn leave_by(pods: &[&Pod], expected: &[&str]) -> Result<()> {
    process::until(SOON, || async {
        let all = try_join_all(pods.iter().map(|pod| leaves_by(pod))).await?;
        let right = all.iter().zip(expected).all(|(nodes, expected)| nodes.iter().eq([expected]));
        ensure!(right, "the pods leave by {all:?}");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn b3_pods_leave_by_the_gateway_node() -> Result<()> {
    let cluster = Cluster::running().await?;
    let scene = cluster.scene("b3").await?;
    subnet(&scene, "b3", 43, json!({ "gatewayNode": "n1" })).await?;
    let one = scene.pod("b3", "one").on("n1").ready().await?;
    let two = scene.pod("b3", "two").on("n2").ready().await?;
    let pods = [&one, &two];
    leave_by(&pods, &["n1", "n1"]).await?;
    shows(&cluster, "b3", "n1").await?;
    // In the cluster, nothing changes.
    two.place().ping(&one.ip4()?).await?;
    two.place().ping(&one.ip6()?).await?;
    two.place().ping(&Node::TWO.ip4()).await?;

    edit(&cluster, "b3", json!({ "gatewayNode": "n2" })).await?;
    leave_by(&pods, &["n2", "n2"]).await?;
    shows(&cluster, "b3", "n2").await?;
    edit(&cluster, "b3", json!({ "gatewayType": "distributed" })).await?;
    leave_by(&pods, &["n1", "n2"]).await?;
    shows(&cluster, "b3", "").await?;

    let selectors = json!([{ "matchLabels": { "kubernetes.io/hostname": "n2" } }]);
    let fields = json!({ "gatewayType": "centralized", "gatewayNode": "", "gatewayNodeSelectors": selectors });
    edit(&cluster, "b3", fields).await?;
    leave_by(&pods, &["n2", "n2"]).await?;

    // Nobody leaves without a gateway node, and the Subnet says so.
    edit(&cluster, "b3", json!({ "gatewayNodeSelectors": [] })).await?;
    let subnets = Api::<Subnet>::all(cluster.client());
    let no_gateway = |subnet: &Subnet| {
        let mut conditions = subnet.status.iter().flat_map(|status| &status.conditions);
        let is = |condition: &api::Condition| condition.type_ == "GatewayReady" && condition.status == "False";
        ensure!(conditions.any(is), "{:?}", subnet.status);
        Ok(())
    };
    cluster.until(subnets, "b3", no_gateway).await?;
    one.place().no_ping(OUTSIDE).await?;
    two.place().no_ping(OUTSIDE_6).await?;

    // With ECMP, connections of a pod leave by all gateway nodes, and each by one.
    edit(&cluster, "b3", json!({ "gatewayNode": "n1,n2", "enableEcmp": true })).await?;
    let by_both = || async {
        let mut nodes = BTreeSet::new();
        for _ in 0..8 {
            nodes.extend(leaves_by(&two).await?);
        }
        ensure!(nodes.iter().eq(["n1", "n2"]), "it leaves by {nodes:?}");
        Ok(())
    };
    process::until(SOON, by_both).await?;
    shows(&cluster, "b3", "n1,n2").await
}

#[tokio::test]
async fn b3_the_next_gateway_takes_over() -> Result<()> {
    let cluster = Cluster::running().await?;
    let scene = cluster.scene("b3-next").await?;
    subnet(&scene, "b3-next", 44, json!({ "gatewayNode": "n2,n1" })).await?;
    let pod = scene.pod("b3-next", "pod").on("n1").ready().await?;
    leave_by(&[&pod], &["n2"]).await?;
    let active = Node::TWO;

    let place = pod.place();
    // The answers that are missing are counted here.
    let script = format!("ping -D -i 0.01 -w 8 {OUTSIDE} || true");
    let script = ["-c", script.as_str()];
    let lost = async {
        let unplug = async {
            tokio::time::sleep(Duration::from_secs(1)).await;
            net::cables(active, "down").await
        };
        let (printed, unplugged) = tokio::join!(place.run("sh", &script), unplug);
        unplugged?;
        let longest = longest_pause(&printed?)?;
        shows(&cluster, "b3-next", "n1").await?;
        leave_by(&[&pod], &["n1"]).await?;
        let fields = "involvedObject.kind=Subnet,involvedObject.name=b3-next,reason=SubnetGatewayNodeChanged";
        cluster.told("default", fields, &["its pods leave by node n1 now, no longer by n2"]).await?;
        Ok::<_, anyhow::Error>(longest)
    };
    let lost = lost.await;
    let (back, up) = tokio::join!(place.run("sh", &script), net::cables(active, "up"));
    up?;
    let lost = lost?;
    let back = back.context("when the former gateway came back")?;
    println!(
        "the next gateway took over after {lost:.0?}; when the former one came back, the pause was {:.0?}",
        longest_pause(&back)?
    );
    ensure!(lost <= FAILOVER, "the next gateway took over after {lost:.0?}");
    let lost_again = back.lines().rfind(|line| line.contains("packet loss")).context("a summary")?;
    ensure!(lost_again.contains(" 0% packet loss"), "when the former gateway came back: {lost_again}");
    process::until(Duration::from_secs(30), || reaches(active, &pod)).await?;
    leave_by(&[&pod], &["n1"]).await?;
    shows(&cluster, "b3-next", "n1").await
}

async fn reaches(node: Node, pod: &Pod) -> Result<()> {
    Place::Node(node).ping(&pod.ip4()?).await
}
