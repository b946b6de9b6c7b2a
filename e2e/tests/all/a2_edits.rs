//! A2: edits of a Subnet in use have the effects in the table of docs/subnets.md.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use api::Subnet;
use e2e::cluster::{Pod, nb};
use e2e::{Cluster, process};
use kube::Api;
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};

struct Edited {
    cluster: Cluster,
    subnets: Api<Subnet>,
    name: &'static str,
}

impl Edited {
    fn new(cluster: &Cluster, name: &'static str) -> Self {
        Self { cluster: cluster.clone(), subnets: Api::all(cluster.client()), name }
    }

    /// Edits the spec and waits until this spec is in force.
    async fn accepted(&self, spec: Value) -> Result<()> {
        let patch = Patch::Merge(json!({ "spec": spec }));
        let generation = self.subnets.patch(self.name, &PatchParams::default(), &patch).await?.metadata.generation;
        let in_force = move |subnet: &Subnet| {
            let shown =
                subnet.status.as_ref().and_then(|status| status.in_force.as_ref()).context("nothing is in force")?;
            ensure!(Some(shown.generation) >= generation, "in force is generation {}", shown.generation);
            Ok(())
        };
        self.cluster.until(self.subnets.clone(), self.name, in_force).await.map(drop)
    }

    /// Edits the spec and waits until it is refused with a message that contains these words.
    async fn refused(&self, spec: Value, words: &[&str]) -> Result<()> {
        self.subnets.patch(self.name, &PatchParams::default(), &Patch::Merge(json!({ "spec": spec }))).await?;
        let says = |subnet: &Subnet| {
            let conditions = subnet.status.as_ref().map(|status| status.conditions.as_slice()).unwrap_or_default();
            let error = conditions.iter().find(|c| c.type_ == "Error" && c.status == "True").context("no error")?;
            ensure!(words.iter().all(|word| error.message.contains(word)), "{}", error.message);
            Ok(())
        };
        self.cluster.until(self.subnets.clone(), self.name, says).await.map(drop)
    }
}

/// Pings an outside host from a pod every 20 ms during `work`. Returns the number of missing answers.
async fn lost_during(pod: &Pod, to: &str, work: impl Future<Output = Result<()>>) -> Result<u32> {
    let place = pod.place();
    let script = format!("ping -i 0.02 -w 6 -q {to} | grep transmitted");
    let arguments = ["-c", script.as_str()];
    let (summary, worked) = tokio::join!(place.run("sh", &arguments), work);
    worked?;
    let summary = summary?;
    let numbers: Vec<u32> = summary.split(|c: char| !c.is_ascii_digit()).filter_map(|word| word.parse().ok()).collect();
    let [sent, received, ..] = numbers.as_slice() else { anyhow::bail!("{summary}") };
    ensure!(*sent > 100, "{summary}");
    println!("{summary}");
    // The last request can be unanswered when ping ends.
    Ok(sent.saturating_sub(*received).saturating_sub(1))
}

#[tokio::test]
async fn a2_a_gateway_moves_without_a_packet_lost() -> Result<()> {
    let cluster = Cluster::running().await?;
    let scene = cluster.scene("a2-gateway").await?;
    scene.subnet("a2-gateway", "10.59.0.0/24,fd00:59::/64").await?;
    let edit = Edited::new(&cluster, "a2-gateway");
    edit.accepted(json!({"natOutgoing": true})).await?;
    let old = scene.pod("a2-gateway", "old").on("n1").ready().await?;
    edit.refused(
        json!({"gateway": format!("{},fd00:59::1", old.ip4()?)}),
        &["spec.gateway", &old.ip4()?, "old.a2-gateway"],
    )
    .await?;

    let moved = async {
        tokio::time::sleep(Duration::from_secs(1)).await; // some pings before the edit
        edit.accepted(json!({"gateway": "10.59.0.254,fd00:59::254"})).await
    };
    let lost = lost_during(&old, e2e::layout::OUTSIDE, moved).await?;
    ensure!(lost == 0, "{lost} packets were lost");
    let new = scene.pod("a2-gateway", "new").on("n2").ready().await?;
    ensure!(new.ip4()? != "10.59.0.1", "the old gateway's address is given to nobody");
    for (pod, gateway) in [(&old, "10.59.0.1"), (&new, "10.59.0.254")] {
        let routes = pod.place().run("ip", &["route"]).await?;
        ensure!(routes.contains(&format!("default via {gateway} ")), "{routes}");
        // arping does not use the neighbor cache of the pod: the router still answers for the address.
        pod.place().run("arping", &["-c", "2", "-I", "eth0", gateway]).await?;
        pod.place().ping(gateway).await?;
        pod.place().tcp(e2e::layout::OUTSIDE).await?;
        pod.place().tcp(e2e::layout::OUTSIDE_6).await?;
    }
    old.place().ping(&new.ip4()?).await?;
    let shown = old.api().get("old").await?.metadata.annotations.unwrap_or_default();
    assert_eq!(shown["ovn.kubernetes.io/gateway"], "10.59.0.1,fd00:59::1", "what it was given");

    old.delete().await?;
    let gone = || async {
        let rows = nb::find("Logical_Router_Port", &["name=ovn-cluster-a2-gateway"]).await?;
        let networks = rows[0]["networks"].to_string();
        ensure!(!networks.contains("10.59.0.1/") && networks.contains("10.59.0.254/24"), "{networks}");
        Ok(())
    };
    process::until(Duration::from_secs(10), gone).await?;
    new.place().tcp(e2e::layout::OUTSIDE).await.map(drop)
}

#[tokio::test]
async fn a2_a_network_grows_under_running_pods() -> Result<()> {
    let cluster = Cluster::running().await?;
    let scene = cluster.scene("a2-grow").await?;
    scene.subnet("a2-grow", "10.60.0.0/30").await?;
    let edit = Edited::new(&cluster, "a2-grow");
    let first = scene.pod("a2-grow", "first").on("n1").ready().await?;
    let second = scene.pod("a2-grow", "second").on("n2").create().await?;
    second.told("AcquireAddressFailed", &["a2-grow"]).await?;
    edit.accepted(json!({"cidrBlock": "10.60.0.0/24,fd00:60::/64", "gateway": "10.60.0.1,fd00:60::1"})).await?;
    let second = second.ready().await?;
    assert_eq!((second.ip4()?.as_str(), second.ip6()?.as_str()), ("10.60.0.4", "fd00:60::2"));
    assert_eq!(first.clone().ready().await?.ip4()?, first.ip4()?);
    first.place().ping("10.60.0.4").await?;
    second.place().ping(&first.ip4()?).await?;
    second.place().ping("fd00:60::1").await?;
    edit.refused(json!({"cidrBlock": "10.60.0.0/30,fd00:60::/64"}), &["spec.cidrBlock", "10.60.0.4", "second.a2-grow"])
        .await
}
