//! Row E1 on a lab that was brought up by `lab up --by-hand`: the commands of `docs/by-hand.md` have made a network that works, without
//! a pod of ours, and what the page says about looking, updating and stopping is so.

use anyhow::{Context, Result, ensure};
use e2e::by_hand::{self, systemctl};
use e2e::cluster::{PATIENCE, Scene};
use e2e::layout::OUTSIDE;
use e2e::{Cluster, ledger, ours, process};
use k8s_openapi::api::core::v1::{Node as NodeObject, Pod};
use kube::Api;
use kube::api::ListParams;

/// The lab, if it was made so.
async fn lab() -> Result<Cluster> {
    let cluster = Cluster::running().await?;
    ensure!(by_hand::is_up(), "this lab was not brought up by hand: run lab up --by-hand");
    Ok(cluster)
}

/// Ready or not, by the node's object.
fn is_ready(node: &NodeObject) -> Result<()> {
    let conditions = node.status.iter().flat_map(|status| status.conditions.iter().flatten());
    let ready = conditions.into_iter().find(|condition| condition.type_ == "Ready");
    ensure!(ready.is_some_and(|ready| ready.status == "True"), "{ready:?}");
    Ok(())
}

/// A pod on each of the first two nodes, which reach each other and the outside.
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
        ["node/n1 condition met", "node/n2 condition met", "subnet.kubeovn.io/ovn-default", "Chassis n1", "active"]
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
    for (node, name) in ours::NODES.into_iter().zip(ours::controllers()) {
        let pid = process::recorded(&e2e::layout::state("pid").join(&name))
            .and_then(|pid| process::itself(pid).first().copied());
        let pid = pid.ok_or_else(|| anyhow::anyhow!("{name} does not run"))?;
        let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
        let field = |field: &str| status.lines().find_map(|line| line.strip_prefix(field)).unwrap_or_default().trim();
        ensure!(field("Uid:").split_whitespace().all(|id| id == "65534"), "{name} is {}", field("Uid:"));
        ensure!(field("CapBnd:").trim_start_matches('0').is_empty(), "{name} may {}", field("CapBnd:"));
        let file = e2e::rootfs::file(node, "/etc/kubernetes/kube-ovn-controller.conf")?;
        let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&file)?.permissions());
        ensure!(mode & 0o777 == 0o600, "{}: {mode:o}", file.display());
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
    let old = ours::controllers().map(|name| process::recorded(&e2e::layout::state("pid").join(name)));
    by_hand::section("Updating", &cluster.nodes()).await?;
    let new = ours::controllers().map(|name| process::recorded(&e2e::layout::state("pid").join(name)));
    ensure!(old.iter().zip(&new).all(|(old, new)| new.is_some() && old != new), "{old:?} became {new:?}");
    Box::pin(talk(&scene, "e1-update")).await?;

    // A node without its conflist is NotReady; with its agent again it is Ready.
    let nodes: Api<NodeObject> = Api::all(cluster.client());
    let node = ours::NODES[1];
    let name = node.name();
    by_hand::section_on("Stopping", node).await?;
    let is_stopped = |object: &NodeObject| {
        ensure!(is_ready(object).is_err(), "it is Ready");
        Ok(())
    };
    let stopped = cluster.until(nodes.clone(), &name, is_stopped).await;
    let words = ["start", "ovs-ovn", by_hand::AGENT].map(str::to_owned);
    systemctl::run(node, &words).await?;
    stopped?;
    cluster.until(nodes, &name, is_ready).await?;
    let again = scene.pod("e1-update", "again").on(&name).ready();
    tokio::time::timeout(PATIENCE, again).await??.place().ping(OUTSIDE).await?;
    ledger::agree(&cluster).await.map(drop)
}
