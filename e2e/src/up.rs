//! `lab up`: everything that does not need something else starts at the same time.

use std::fs;
use std::os::unix::fs::symlink;
use std::time::{Duration, Instant};

use ::kube::Api;
use anyhow::{Context, Result, ensure};
use futures::future::{try_join, try_join_all};
use k8s_openapi::api::core::v1::Node as NodeObject;

use crate::install::Way;
use crate::layout::{MAX_NODES, Node, STATE, cache, lab, rootfs, state};
use crate::{by_hand, dns, install, kube, kubelet, net, node, pki, process, systemd};

/// What E1 promises: so long at most from the apply on a bare cluster until all nodes are Ready, and all pods, DNS among them.
const INSTALLED_IN: Duration = Duration::from_mins(1);

/// What to bring up.
#[derive(Clone, Copy, Debug)]
pub struct Spec {
    /// 1 to [`MAX_NODES`].
    pub nodes: u8,
    /// How the network comes to it.
    pub network: Network,
}

/// How the network comes to the lab.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Network {
    /// Not at all: the nodes stay `NotReady`.
    None,
    /// Without pods of ours, as `docs/by-hand.md` says, from the programs that have been built.
    ByHand,
    /// As a user installs it: our image, and pods.
    Installed(Way),
}

/// Brings it up. An error leaves what came up as it is, to be looked at; [`crate::down::down`] removes it.
pub async fn up(spec: Spec) -> Result<()> {
    preconditions(spec)?;
    let nodes: Vec<_> = Node::first(spec.nodes).collect();
    for dir in ["bin", "log", "pid", "nodes"] {
        fs::create_dir_all(state(dir))?;
    }
    symlink(std::env::current_exe()?, lab())?;
    node::mount_points()?;
    pki::make(&nodes)?;
    net::up().await?;
    let machines = try_join_all(nodes.iter().map(|node| async move {
        node::up(*node).await?;
        kubelet::containerd(*node).await?;
        match spec.network {
            Network::None => Ok(()),
            Network::ByHand => install::address(*node).await,
            Network::Installed(_) => install::prepare(*node).await,
        }
    }));
    try_join(timed("control plane", kube::up()), timed("nodes", machines)).await?;
    net::outside()?;
    for node in &nodes {
        kubelet::up(*node)?;
    }
    timed("registration", registered(&nodes, false)).await?;
    let applied = Instant::now();
    match spec.network {
        Network::None => {}
        Network::ByHand => timed("by hand", try_join(by_hand::up(&nodes), dns::up())).await.map(drop)?,
        Network::Installed(way) => timed("apply", try_join(install::up(&nodes, way), dns::up())).await.map(drop)?,
    }
    let ready = spec.network != Network::None;
    timed("nodes' readiness", try_join(kube::settled(), registered(&nodes, ready))).await?;
    if let Network::Installed(_) = spec.network {
        timed("rollout", try_join(install::settled(), dns::settled())).await?;
        in_time(applied.elapsed())?;
    }
    process::all_run()
}

/// Turns a node on again that was lost ([`node::lose`]): the machine, its container runtime and kubelet, and its systemd where it
/// had one. All else is on its disk.
pub async fn node_again(node: Node) -> Result<()> {
    node::up(node).await?;
    install::address(node).await?;
    kubelet::start_containerd(node).await?;
    kubelet::up(node)?;
    if by_hand::is_up() { systemd::boot(node).await } else { Ok(()) }
}

/// Says how long a part took: a lab that gets slow should say where.
async fn timed<T>(what: &str, part: impl Future<Output = Result<T>>) -> Result<T> {
    let start = Instant::now();
    let value = part.await.with_context(|| what.to_owned())?;
    eprintln!("lab: {what} after {:.1} s", start.elapsed().as_secs_f32());
    Ok(value)
}

/// Says what became of the promise; an error when it was broken.
fn in_time(took: Duration) -> Result<()> {
    let (took, most) = (took.as_secs_f32(), INSTALLED_IN.as_secs());
    eprintln!("lab: from the apply to nodes Ready and CoreDNS Running {took:.1} s; promised: {most} s at most");
    ensure!(took <= INSTALLED_IN.as_secs_f32(), "the installation took longer than promised");
    Ok(())
}

fn preconditions(spec: Spec) -> Result<()> {
    ensure!((1..=MAX_NODES).contains(&spec.nodes), "a lab has 1 to {MAX_NODES} nodes");
    ensure!(nix::unistd::geteuid().is_root(), "run this as root");
    ensure!(!state("").exists(), "{STATE} exists: a lab is up, or was not taken down (lab down)");
    for needed in [cache("bin/kube"), cache("bin/etcd"), cache("image.tar"), cache("systemd"), rootfs()] {
        ensure!(needed.exists(), "{} is missing: run e2e/setup lab, and e2e/build", needed.display());
    }
    match spec.network {
        Network::None => Ok(()),
        Network::ByHand => by_hand::present(spec.nodes),
        Network::Installed(_) => install::present(),
    }
}

/// Until every node is known to the API server, and Ready where a network is to be expected.
async fn registered(nodes: &[Node], ready: bool) -> Result<()> {
    let api: Api<NodeObject> = Api::all(kube::client().await?);
    for node in nodes {
        let name = node.name();
        process::ready(&format!("kubelet-{name}"), Duration::from_mins(1), || async {
            let object = api.get(&name).await?;
            let conditions = object.status.unwrap_or_default().conditions.unwrap_or_default();
            let condition = conditions.iter().find(|c| c.type_ == "Ready").context("no condition yet")?;
            ensure!(!ready || condition.status == "True", "{}", condition.message.as_deref().unwrap_or_default());
            Ok(())
        })
        .await?;
    }
    Ok(())
}
