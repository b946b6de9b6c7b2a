//! `lab up`: starts all parts that do not depend on each other at the same time.

use std::fs;
use std::os::unix::fs::symlink;
use std::time::{Duration, Instant};

use ::kube::{Api, ResourceExt};
use anyhow::{Context, Result, ensure};
use futures::future::{try_join, try_join_all};
use k8s_openapi::api::core::v1::Node as NodeObject;

use crate::install::Way;
use crate::layout::{self, MAX_NODES, Node, STATE, cache, lab, rootfs, state};
use crate::{by_hand, dns, install, kube, kubelet, net, node, pki, process, systemd};

/// Requirement E1: the maximum time from the apply on a bare cluster until all nodes are Ready and CoreDNS is Running.
const INSTALLED_IN: Duration = Duration::from_mins(1);

/// What to start.
#[derive(Clone, Copy, Debug)]
pub struct Spec {
    /// 1 to [`MAX_NODES`].
    pub nodes: u8,
    /// How the network is installed.
    pub network: Network,
}

/// How the network is installed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Network {
    /// Not at all. The nodes stay `NotReady`.
    None,
    /// Without pods, as described in `docs/by-hand.md`, from the current build.
    ByHand,
    /// As a user does it: with our image and pods.
    Installed(Way),
}

/// Starts the lab. After an error, the started parts keep running for inspection. [`crate::down::down`] removes them.
pub async fn up(spec: Spec) -> Result<()> {
    preconditions(spec)?;
    let nodes: Vec<_> = Node::first(spec.nodes).collect();
    begin(&nodes).await?;
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
    // The manifest names no interface, without which the userspace datapath has no tunnels.
    if ready && spec.network != Network::Installed(Way::Manifest) {
        timed("tunnels", tunnels(&nodes)).await?;
    }
    process::all_run()
}

/// Creates what every lab needs first: its directories, mount points, certificates and links.
pub async fn begin(nodes: &[Node]) -> Result<()> {
    ensure!(nix::unistd::geteuid().is_root(), "run this as root");
    ensure!(!state("").exists(), "{STATE} exists: a lab is up, or was not taken down (lab down)");
    for dir in ["bin", "log", "pid", "nodes"] {
        fs::create_dir_all(state(dir))?;
    }
    symlink(std::env::current_exe()?, lab())?;
    node::mount_points()?;
    if layout::control().is_none() {
        pki::make(nodes)?;
    }
    net::up().await
}

/// Restarts a node after [`node::lose`]: the machine, its container runtime and kubelet, and its systemd if it had one.
/// Everything else is on its disk.
pub async fn node_again(node: Node) -> Result<()> {
    node::up(node).await?;
    install::address(node).await?;
    kubelet::start_containerd(node).await?;
    kubelet::up(node)?;
    if by_hand::is_up() { systemd::boot(node).await } else { Ok(()) }
}

/// Prints how long a part took.
pub async fn timed<T>(what: &str, part: impl Future<Output = Result<T>>) -> Result<T> {
    let start = Instant::now();
    let value = part.await.with_context(|| what.to_owned())?;
    eprintln!("lab: {what} after {:.1} s", start.elapsed().as_secs_f32());
    Ok(value)
}

/// Prints whether requirement E1 is met. Fails if it is not.
fn in_time(took: Duration) -> Result<()> {
    let (took, most) = (took.as_secs_f32(), INSTALLED_IN.as_secs());
    eprintln!("lab: from the apply to nodes Ready and CoreDNS Running {took:.1} s; promised: {most} s at most");
    ensure!(took <= INSTALLED_IN.as_secs_f32(), "the installation took longer than promised");
    Ok(())
}

fn preconditions(spec: Spec) -> Result<()> {
    ensure!((1..=MAX_NODES).contains(&spec.nodes), "a lab has 1 to {MAX_NODES} nodes");
    for needed in [cache("bin/kube"), cache("bin/etcd"), cache("image.tar"), cache("systemd"), rootfs()] {
        ensure!(needed.exists(), "{} is missing: run e2e/setup lab, and e2e/build", needed.display());
    }
    match spec.network {
        Network::None => Ok(()),
        Network::ByHand => by_hand::present(spec.nodes),
        Network::Installed(_) => install::present(),
    }
}

/// Waits until each node reaches each other one through its tunnel.
///
/// The userspace datapath drops what it sends through a tunnel while it does not know the MAC address of the other end,
/// and only then asks for it. Without this, the first packet of the first test between two nodes may be lost.
async fn tunnels(nodes: &[Node]) -> Result<()> {
    let api: Api<NodeObject> = Api::all(kube::client().await?);
    let mut ends = Vec::new();
    for node in nodes {
        let object = api.get(&node.name()).await?;
        let addresses = object.annotations().get("ovn.kubernetes.io/ip_address");
        let addresses = addresses.with_context(|| format!("{} has no address in the join subnet", node.name()))?;
        ends.push((*node, addresses.split(',').next().unwrap_or_default().to_owned()));
    }
    let pairs =
        ends.iter().flat_map(|(from, _)| ends.iter().filter(move |(to, _)| to != from).map(move |to| (from, to)));
    try_join_all(pairs.map(|(from, (to, address))| async move {
        let ping = || async { process::run(process::on(*from, "ping", &["-c", "1", "-W", "0.3", address])?).await };
        let reached = process::until(Duration::from_secs(20), ping).await;
        reached.map(drop).with_context(|| format!("{} does not reach {} through the tunnel", from.name(), to.name()))
    }))
    .await
    .map(drop)
}

/// Waits until the API server knows every node, and until the nodes are Ready if a network is expected.
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
