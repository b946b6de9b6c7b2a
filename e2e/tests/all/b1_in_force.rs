//! B1: nodes follow the definition of a Subnet that is in force, not its spec.

use anyhow::{Context, Result, ensure};
use api::Subnet;
use e2e::cluster::{Place, subnet_ready};
use e2e::part::Part;
use e2e::{Cluster, process};
use kube::Api;
use kube::api::{DeleteParams, Patch, PatchParams};
use serde_json::{Value, json};
use std::time::Duration;

async fn patch(subnets: &Api<Subnet>, name: &str, patch: Value) -> Result<Subnet> {
    Ok(subnets.patch(name, &PatchParams::default(), &Patch::Merge(patch)).await?)
}

/// For [`Cluster::until`]: the Subnet is refused, and the message contains these words.
fn refused(words: &'static [&'static str]) -> impl Fn(&Subnet) -> Result<()> {
    move |subnet| {
        let conditions = subnet.status.as_ref().map(|status| status.conditions.as_slice()).unwrap_or_default();
        let error = conditions.iter().find(|c| c.type_ == "Error" && c.status == "True").context("no error")?;
        ensure!(words.iter().all(|word| error.message.contains(word)), "{}", error.message);
        Ok(())
    }
}

/// Returns the routes of a node on `ovn0`.
async fn routes(node: &Place) -> Result<String> {
    node.run("ip", &["route", "show", "dev", "ovn0"]).await
}

async fn has_route(node: &Place, network: &str, there: bool) -> Result<()> {
    let check = || async {
        let routes = routes(node).await?;
        ensure!(routes.contains(network) == there, "{node}: {network} is to be there: {there}, but: {routes}");
        Ok(())
    };
    process::until(Duration::from_secs(10), check).await
}

#[tokio::test]
async fn b1_an_edit_that_is_refused_changes_nothing_on_the_nodes() -> Result<()> {
    let cluster = Cluster::running().await?;
    let scene = cluster.scene("b1-refused").await?;
    let subnets: Api<Subnet> = Api::all(cluster.client());
    scene.subnet("b1-refused", "10.56.0.0/24").await?;
    patch(&subnets, "b1-refused", json!({"spec": {"natOutgoing": true}})).await?;
    let pod = scene.pod("b1-refused", "pod").on("n1").ready().await?;
    let node = cluster.node("n1")?;
    has_route(&node, "10.56.0.0/24", true).await?;
    // The sources in the last rule, that for traffic that leaves the cluster.
    let masquerade = async || {
        let rules = node.run("nft", &["list", "chain", "ip", "kube-ovn", "postrouting"]).await?;
        let last = rules.lines().rfind(|line| line.contains("goto masquerading")).unwrap_or_default();
        Ok::<_, anyhow::Error>(last.split(" ip daddr ").next().unwrap_or_default().to_owned())
    };
    process::until(Duration::from_secs(10), || async {
        ensure!(masquerade().await?.contains("10.56.0.0/24"));
        Ok(())
    })
    .await?;

    // The rules of the CRD cannot compare the ends of a range.
    patch(&subnets, "b1-refused", json!({"spec": {"excludeIps": ["10.56.0.9..10.56.0.5"], "natOutgoing": false}}))
        .await?;
    let subnet = cluster.until(subnets.clone(), "b1-refused", refused(&["spec.excludeIps"])).await?;
    let in_force = subnet.status.and_then(|status| status.in_force).context("nothing is in force")?;
    assert_eq!((in_force.networks[0].cidr.as_str(), in_force.nat_outgoing), ("10.56.0.0/24", true));
    ensure!(Some(in_force.generation) < subnet.metadata.generation, "it is from the spec before");
    ensure!(routes(&node).await?.contains("10.56.0.0/24"));
    ensure!(masquerade().await?.contains("10.56.0.0/24"));
    pod.place().tcp(e2e::layout::OUTSIDE).await?;
    patch(&subnets, "b1-refused", json!({"spec": {"excludeIps": [], "natOutgoing": false}})).await?;
    cluster.until(subnets, "b1-refused", subnet_ready).await?;
    process::until(Duration::from_secs(10), || async {
        ensure!(!masquerade().await?.contains("10.56.0.0/24"));
        Ok(())
    })
    .await
}

#[tokio::test]
async fn b1_a_network_of_the_nodes_is_not_taken() -> Result<()> {
    let cluster = Cluster::running().await?;
    let scene = cluster.scene("b1-lan").await?;
    let subnets: Api<Subnet> = Api::all(cluster.client());
    for (name, cidr, words) in [
        ("b1-lan", "172.30.0.128/25", &["spec.cidrBlock", "172.30.0.0/24 of interface eth0 of node n"] as &[_]),
        ("b1-tunnels", "172.31.0.0/16", &["spec.cidrBlock", "172.31.0.0/24 of interface br-phy of node n"]),
        ("b1-lan6", "fd00:30::/80", &["spec.cidrBlock", "fd00:30::/64 of interface eth0 of node n"]),
    ] {
        let spec = json!({"cidrBlock": cidr, "namespaces": []});
        scene
            .create(json!({"apiVersion": "kubeovn.io/v1", "kind": "Subnet", "metadata": {"name": name}, "spec": spec}))
            .await?;
        cluster.until(subnets.clone(), name, refused(words)).await?;
        for node in cluster.nodes() {
            let node = cluster.node(&node.name())?;
            node.ping(e2e::layout::CONTROL_PLANE).await?;
            ensure!(!routes(&node).await?.contains(cidr));
        }
        subnets.delete(name, &DeleteParams::default()).await?;
        cluster.until_gone(subnets.clone(), name).await?;
    }
    Ok(())
}

#[tokio::test]
async fn b1_a_subnet_that_is_deleted_by_force_stays_until_its_last_pod_is_gone() -> Result<()> {
    let cluster = Cluster::running().await?;
    let scene = cluster.scene("b1-force").await?;
    let subnets: Api<Subnet> = Api::all(cluster.client());
    scene.subnet("b1-force", "10.57.0.0/24").await?;
    let pod = scene.pod("b1-force", "pod").on("n1").ready().await?;
    let node = cluster.node("n2")?;
    has_route(&node, "10.57.0.0/24", true).await?;
    subnets.delete("b1-force", &DeleteParams::default()).await?;
    patch(&subnets, "b1-force", json!({"metadata": {"finalizers": null}})).await?;
    cluster.until_gone(subnets.clone(), "b1-force").await?;
    node.ping(&pod.ip4()?).await?;
    ensure!(routes(&node).await?.contains("10.57.0.0/24"));

    // A restarted agent knows it, too, and repairs what belongs to it.
    let place = cluster.nodes().into_iter().find(|place| place.name() == "n2").context("no node n2")?;
    Part::Agent(place).revive().await?;
    node.run("ip", &["route", "del", "10.57.0.0/24"]).await?;
    has_route(&node, "10.57.0.0/24", true).await?;
    node.ping(&pod.ip4()?).await?;

    // Create it again with another network.
    let spec = json!({"cidrBlock": "10.58.0.0/24", "namespaces": ["b1-force"]});
    scene
        .create(
            json!({"apiVersion": "kubeovn.io/v1", "kind": "Subnet", "metadata": {"name": "b1-force"}, "spec": spec}),
        )
        .await?;
    cluster.until(subnets.clone(), "b1-force", refused(&["10.57.0.2", "pod.b1-force"])).await?;
    ensure!(routes(&node).await?.contains("10.57.0.0/24") && !routes(&node).await?.contains("10.58.0.0/24"));
    node.ping(&pod.ip4()?).await?;
    pod.delete().await?;
    cluster.until(subnets, "b1-force", subnet_ready).await?;
    has_route(&node, "10.57.0.0/24", false).await?;
    has_route(&node, "10.58.0.0/24", true).await?;
    let next = scene.pod("b1-force", "next").on("n1").ready().await?;
    assert_eq!(next.ip4()?, "10.58.0.2");
    node.ping("10.58.0.2").await
}
