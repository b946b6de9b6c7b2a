//! Row E1 on a lab started with `lab up --by-hand`: the commands of `docs/by-hand.md` create a working network without
//! pods, and the sections on checks, updates and stopping are correct.

use std::fs;
use std::ops::RangeInclusive;

use anyhow::{Context, Result, ensure};
use e2e::cluster::{PATIENCE, Scene};
use e2e::layout::OUTSIDE;
use e2e::part::Part;
use e2e::systemd::systemctl;
use e2e::{Cluster, by_hand, central, ledger, ours, process, rootfs};
use k8s_openapi::api::core::v1::{Node as NodeObject, Pod};
use kube::Api;
use kube::api::ListParams;

/// The UIDs that systemd allocates for `DynamicUser=`.
const DYNAMIC_USERS: RangeInclusive<u32> = 61184..=65519;

/// Returns the running lab. Fails if it was not made by hand.
async fn lab() -> Result<Cluster> {
    let cluster = Cluster::running().await?;
    ensure!(by_hand::is_up(), "this lab was not brought up by hand: run lab up --by-hand");
    Ok(cluster)
}

/// Checks the Ready condition of a node.
fn is_ready(node: &NodeObject) -> Result<()> {
    let conditions = node.status.iter().flat_map(|status| status.conditions.iter().flatten());
    let ready = conditions.into_iter().find(|condition| condition.type_ == "Ready");
    ensure!(ready.is_some_and(|ready| ready.status == "True"), "{ready:?}");
    Ok(())
}

/// Starts a pod on each of the first two nodes. Checks that they reach each other and the outside host.
async fn talk(scene: &Scene, namespace: &str) -> Result<()> {
    scene.namespace(namespace, &[]).await?;
    let (one, two) =
        tokio::try_join!(scene.pod(namespace, "one").on("n1").ready(), scene.pod(namespace, "two").on("n2").ready())?;
    one.place().ping(&two.ip4()?).await?;
    two.place().tcp(&one.ip4()?).await?;
    for (pod, node) in [(&one, ours::NODES[0]), (&two, ours::NODES[1])] {
        pod.place().ping(OUTSIDE).await?;
        let seen = pod.place().tcp(OUTSIDE).await?.seen.to_string();
        ensure!(seen == node.ip4(), "the outside sees {seen}, not {}", node.ip4());
    }
    Ok(())
}

#[tokio::test]
async fn e1_by_hand_all_nodes_are_ready_without_a_pod_of_ours() -> Result<()> {
    let cluster = lab().await?;
    for node in cluster.nodes() {
        is_ready(&cluster.node_object(&node.name()).await?).with_context(|| node.name())?;
    }
    let pods: Api<Pod> = Api::namespaced(cluster.client(), "kube-system");
    for app in ["ovn-central", "ovs", "kube-ovn-cni", "kube-ovn-controller"] {
        let found = pods.list(&ListParams::default().labels(&format!("app={app}"))).await?.items;
        ensure!(found.is_empty(), "{} pods of {app} run", found.len());
    }
    process::all_run()
}

#[tokio::test]
async fn e1_by_hand_looking_shows_what_the_page_says() -> Result<()> {
    let cluster = lab().await?;
    let said = by_hand::section(by_hand::LOOK, &cluster.nodes()).await?;
    for word in
        ["node/n1 condition met", "node/n2 condition met", "subnet.kubeovn.io/ovn-default", "hostname: n1", "active"]
    {
        ensure!(said.contains(word), "no {word:?} in what was seen: {said}");
    }
    let leads = said.lines().find(|line| line.starts_with("kube-ovn-controller ")).unwrap_or_default();
    ensure!(ours::controllers().iter().any(|name| leads.contains(name.as_str())), "who leads? {leads:?}");
    Ok(())
}

#[tokio::test]
async fn e1_by_hand_the_controller_is_nobody_and_alone_reads_its_kubeconfig() -> Result<()> {
    lab().await?;
    for (replica, node) in ours::NODES.into_iter().enumerate() {
        let pid = Part::Controller(replica).pid().context("it does not run")?;
        let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
        let field = |field: &str| status.lines().find_map(|line| line.strip_prefix(field)).unwrap_or_default().trim();
        let ids = field("Uid:").split_whitespace().map(str::parse).collect::<Result<Vec<u32>, _>>()?;
        ensure!(ids.iter().all(|id| DYNAMIC_USERS.contains(id)), "it is {ids:?}");
        ensure!(field("CapBnd:").trim_start_matches('0').is_empty(), "it may {}", field("CapBnd:"));
        ensure!((field("NoNewPrivs:"), field("Seccomp:")) == ("1", "2"), "{status}");
        // Check the copy that systemd passes to the service, and the original.
        for path in
            ["/run/credentials/kube-ovn-controller.service/kubeconfig", "/etc/kubernetes/kube-ovn-controller.conf"]
        {
            let another = ["--reuid=65534", "--regid=65534", "--clear-groups", "cat", path];
            let read = process::run(rootfs::on(node, "setpriv", &another)?).await.map_err(|e| e.to_string());
            ensure!(read.as_ref().is_err_and(|e| e.contains("Permission denied")), "another reads {path}: {read:?}");
        }
    }
    Ok(())
}

#[tokio::test]
async fn e1_by_hand_what_dies_is_started_again() -> Result<()> {
    let cluster = lab().await?;
    let scene = cluster.scene("e1-dies").await?;
    let main = async |node, unit| systemctl(node, &["show", "--property=MainPID", "--value", unit]).await;
    let all = [
        (central::NODE, by_hand::CENTRAL),
        (ours::NODES[0], by_hand::CONTROLLER),
        (ours::NODES[1], by_hand::CONTROLLER),
        (ours::NODES[1], by_hand::OVS),
        (ours::NODES[1], by_hand::AGENT),
    ];
    for (node, unit) in all {
        let old = main(node, unit).await?;
        systemctl(node, &["kill", "--signal=KILL", unit]).await?;
        let again = async || {
            let new = main(node, unit).await?;
            ensure!(new != old && new.trim() != "0", "{unit} was not started again");
            Ok(())
        };
        process::until(PATIENCE, again).await?;
    }
    let nodes = cluster.nodes();
    process::until(PATIENCE, || by_hand::section(by_hand::LOOK, &nodes)).await?;
    Box::pin(talk(&scene, "e1-dies")).await?;
    ledger::agree(&cluster).await.map(drop)
}

#[tokio::test]
async fn e1_by_hand_units_of_debian_are_started_by_nobody() -> Result<()> {
    let cluster = lab().await?;
    for node in cluster.nodes() {
        let failed = systemctl(node, &["list-units", "--failed", "--plain", "--no-legend"]).await?;
        ensure!(failed.trim().is_empty(), "{}: {failed}", node.name());
        let masked = systemctl(node, &["list-unit-files", "--state=masked", "--no-legend"]).await?;
        for unit in ["openvswitch-switch", "ovs-vswitchd", "ovn-controller"] {
            ensure!(masked.contains(&format!("{unit}.service")), "{unit} is not masked on {}: {masked}", node.name());
        }
    }
    Ok(())
}

#[tokio::test]
async fn e1_by_hand_pods_reach_each_other_and_the_outside() -> Result<()> {
    let cluster = lab().await?;
    let scene = cluster.scene("e1-hand").await?;
    Box::pin(talk(&scene, "e1-hand")).await?;
    ledger::agree(&cluster).await.map(drop)
}

#[tokio::test]
async fn e1_by_hand_an_update_and_a_stop_go_as_the_page_says() -> Result<()> {
    let cluster = lab().await?;
    let scene = cluster.scene("e1-update").await?;
    let running = || [0, 1].map(|replica| Part::Controller(replica).pid());
    let old = running();
    by_hand::section("Updating", &cluster.nodes()).await?;
    let new = running();
    ensure!(old.iter().zip(&new).all(|(old, new)| new.is_some() && old != new), "{old:?} became {new:?}");
    Box::pin(talk(&scene, "e1-update")).await?;

    // A node without its conflist is NotReady. When its agent runs again, it is Ready.
    let nodes: Api<NodeObject> = Api::all(cluster.client());
    let node = ours::NODES[1];
    let name = node.name();
    by_hand::section_on("Stopping", node).await?;
    let is_stopped = |object: &NodeObject| {
        ensure!(is_ready(object).is_err(), "it is Ready");
        Ok(())
    };
    let stopped = cluster.until(nodes.clone(), &name, is_stopped).await;
    systemctl(node, &["enable", "--now", by_hand::OVS, by_hand::AGENT]).await?;
    stopped?;
    cluster.until(nodes, &name, is_ready).await?;
    let again = scene.pod("e1-update", "again").on(&name).ready();
    tokio::time::timeout(PATIENCE, again).await??.place().ping(OUTSIDE).await?;
    ledger::agree(&cluster).await.map(drop)
}
