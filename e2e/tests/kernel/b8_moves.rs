//! B8: the tunnels of a node move to the interface that its annotation names, with their address. One that names no
//! interface leaves them as they are.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use e2e::cluster::Place;
use e2e::layout::Node;
use e2e::{Cluster, process};
use k8s_openapi::api::core::v1::Node as NodeObject;
use kube::Api;
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};

use crate::stage::{echo, stage};

const ANNOTATION: &str = "ovn.kubernetes.io/tunnel_interface";
/// The time from the annotation to tunnels that carry packets.
const MOVED: Duration = Duration::from_secs(15);

#[tokio::test]
async fn b8_tunnels_move_with_the_annotation_of_the_node() -> Result<()> {
    let (cluster, stage) = (Cluster::running().await?, stage().await?);
    let nodes: Api<NodeObject> = Api::all(cluster.client());
    let say = async |value: Value| {
        let patch = Patch::Merge(json!({ "metadata": { "annotations": { ANNOTATION: value } } }));
        for node in [Node::ONE, Node::TWO] {
            nodes.patch(&node.name(), &PatchParams::default(), &patch).await.context("the annotation")?;
        }
        Ok::<_, anyhow::Error>(())
    };
    let moved = async |address: fn(Node) -> String| {
        let arrived = || async {
            let other = address(Node::TWO);
            let options = ["--bare", "--columns=options", "list", "interface"];
            let tunnels = Place::Node(Node::ONE).run("ovs-vsctl", &options).await?;
            ensure!(tunnels.contains(&format!("remote_ip={other}")), "no tunnel to {other}: {tunnels}");
            for to in stage.far.both()? {
                echo(&stage.near.place(), to).await?;
            }
            Ok(())
        };
        process::until(MOVED, arrived).await
    };
    let outcome = async {
        say(json!("eth0")).await?;
        moved(Node::ip4).await?;
        say(json!("eth9")).await?;
        let told = || async {
            let ready = Place::Node(Node::ONE).run("curl", &["-s", "http://127.0.0.1:10665/readyz"]).await?;
            ensure!(ready.contains("tunnel_interface eth9: this node has no such interface"), "{ready}");
            Ok(())
        };
        process::until(MOVED, told).await?;
        moved(Node::ip4).await
    };
    let outcome = outcome.await;
    say(Value::Null).await?;
    outcome?;
    moved(Node::tunnel_ip).await
}
