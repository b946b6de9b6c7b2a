//! E1: a tunnel address belongs to one chassis. A machine that was set up anew gets that of its former chassis, and two
//! machines with one address are named.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use api::annotations::CHASSIS;
use e2e::cluster::nb;
use e2e::layout::Node;
use e2e::{Cluster, ledger, node, process, up};
use kube::ResourceExt;

const NODE: &str = "n2";
/// The chassis of the machine that was set up anew.
const ANOTHER: &str = "00000000-0000-4000-8000-000000000002";

#[tokio::test]
async fn e1_tunnel_address_of_a_machine_that_was_set_up_anew() -> Result<()> {
    let cluster = Cluster::running().await?;
    let scene = cluster.scene("e1-anew").await?;
    scene.namespace("e1-anew", &[]).await?;
    let machine = Node::named(NODE).context("no such node")?;
    let here = scene.pod("e1-anew", "here").on("n1").ready().await?;
    let before = cluster.node_object(NODE).await?.annotations().get(CHASSIS).cloned().context("a chassis")?;

    node::lose(machine).await?;
    let state = machine.dir().join("root/etc/origin/openvswitch");
    fs::remove_dir_all(&state).with_context(|| state.display().to_string())?;
    fs::create_dir_all(&state)?;
    fs::write(state.join("system-id.conf"), ANOTHER)?;
    up::node_again(machine).await?;

    let registered = async || {
        let object = cluster.node_object(NODE).await?;
        let chassis = object.annotations().get(CHASSIS).cloned().unwrap_or_default();
        ensure!(chassis == ANOTHER, "{NODE} has chassis {chassis}");
        let all = nb::find_southbound("Chassis", &[&format!("hostname={NODE}")]).await?;
        ensure!(all.len() == 1, "{before} is still there: {all:?}");
        Ok(())
    };
    process::until(Duration::from_mins(1), registered).await?;
    let fresh = scene.pod("e1-anew", "fresh").on(NODE).ready().await?;
    fresh.place().ping(&here.ip4()?).await?;
    here.place().tcp(&fresh.ip4()?).await?;
    ledger::agree(&cluster).await.map(drop)
}

#[tokio::test]
async fn e1_tunnel_address_of_two_machines() -> Result<()> {
    let cluster = Cluster::running().await?;
    let scene = cluster.scene("e1-twice").await?;
    scene.namespace("e1-twice", &[]).await?;
    let here = scene.pod("e1-twice", "here").on("n1").ready().await?;
    let there = scene.pod("e1-twice", "there").on(NODE).ready().await?;
    let place = cluster.node(NODE)?;
    let addresses = async |steps: [&str; 2]| {
        for step in steps {
            let words: Vec<_> = step.split(' ').collect();
            place.run("ip", &[&["address"], words.as_slice(), &["dev", "br-phy"]].concat()).await?;
        }
        Ok::<_, anyhow::Error>(())
    };

    addresses(["del 172.31.0.2/24", "add 172.31.0.1/24"]).await?;
    let outcome = async {
        for (name, other) in [("n1", NODE), (NODE, "n1")] {
            let fields = format!("involvedObject.kind=Node,involvedObject.name={name},reason=NodeAddressConflict");
            let said = format!("node {name}: its tunnel address 172.31.0.1 is that of {other} as well");
            cluster.told("default", &fields, &[&said]).await?;
        }
        let ready = async || {
            let url = format!("http://{}:10665/readyz", Node::named(NODE).context("no such node")?.ip4());
            let said = cluster.node("n1")?.run("curl", &["-sS", "--noproxy", "*", &url]).await?;
            ensure!(said.contains("the tunnel's address 172.31.0.1 is that of chassis"), "{said}");
            Ok(())
        };
        process::until(Duration::from_secs(20), ready).await
    };
    let outcome = outcome.await;
    addresses(["del 172.31.0.1/24", "add 172.31.0.2/24"]).await?;
    outcome?;

    let (from, to) = (here.place(), there.ip4()?);
    process::until(Duration::from_secs(30), || from.ping(&to)).await?;
    let fresh = scene.pod("e1-twice", "fresh").on(NODE).ready().await?;
    fresh.place().ping(&here.ip4()?).await
}
