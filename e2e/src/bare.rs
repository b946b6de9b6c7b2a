//! A lab without kubelets, container runtimes and systemd, for a machine that is too slow for them: the virtual machine
//! in which the kernel's Open vSwitch is tested. See `e2e/vm/run`.
//!
//! Real are etcd, the API server (both outside of the machine, see [`crate::control`]), kube-proxy, OVN and Open vSwitch in
//! the nodes' Debian, our programs, and the links. No controller of Kubernetes runs, so the lab writes what they would
//! write: Nodes, service accounts, the status of pods, and `EndpointSlices`. A pod is a network namespace that the real
//! plugin attaches ([`Pod`]).
//!
//! The network is that of an ordinary node: the datapath is the kernel's, and it takes over no interface. Tunnels use the
//! address of `eth1`.

use std::fs;
use std::process::Command;
use std::time::{Duration, Instant};

use ::kube::api::{DynamicObject, PostParams};
use ::kube::core::{ApiResource, GroupVersionKind};
use ::kube::{Api, Client};
use anyhow::{Context, Result, ensure};
use futures::future::try_join_all;
use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::by_hand::stand_in::PLUGINS;
use crate::by_hand::{AGENT, CENTRAL, CONTROLLER, OVS, name};
use crate::layout::{self, Node, SERVICES, cache, rootfs as base, sibling, state};
use crate::pki::file;
use crate::{central, install, kube, kubelet, net, node, ours, pace, process, rootfs, up};

mod pod;
mod probe;
mod service;

pub use pod::Pod;
pub use probe::{Outcome, Probe};
pub use service::{Exposed, expose};

/// The directory of our programs in a node's Debian: the directory in which they were built.
const PROGRAMS: &str = "/usr/lib/kube-ovn";
/// The directory of the CNI project's plugins in a node's Debian.
const OTHERS: &str = "/usr/lib/cni-plugins";
/// The address of the machine outside in the network that qemu emulates, see `e2e/vm/run`.
const HOST: &str = "10.0.2.2";

/// A program of the network, which is a process of the lab here.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Daemon {
    /// The databases and northd, on the first node.
    Central,
    /// Open vSwitch and ovn-controller of a node.
    Ovs(Node),
    /// The agent of a node.
    Agent(Node),
    /// The only controller, on the first node.
    Controller,
}

/// Starts the lab with two nodes. After an error, the started parts keep running for inspection.
pub async fn up() -> Result<()> {
    let nodes = [Node::ONE, Node::TWO];
    ensure!(layout::control().is_some(), "no control plane: this lab is started by e2e/kernel");
    for needed in [cache("bin/kube"), cache("plugins"), base(), sibling("static/kube-ovn")?, sibling("ovs-ovn")?] {
        ensure!(needed.exists(), "{} is missing: run e2e/setup lab, and e2e/build", needed.display());
    }
    up::begin(&nodes).await?;
    kube::link_programs()?;
    control_plane().await?;
    up::timed("nodes", try_join_all(nodes.iter().map(|node| machine(*node)))).await?;
    net::outside()?;
    Daemon::Central.start()?;
    for node in nodes {
        Daemon::Ovs(node).start()?;
    }
    Daemon::Controller.start()?;
    for node in nodes {
        Daemon::Agent(node).start()?;
        kubelet::proxy(node, kubelet::ProxyMode::Iptables)?;
    }
    up::timed("network", try_join_all(nodes.iter().map(|node| Daemon::Agent(*node).ready()))).await?;
    process::all_run()
}

/// Makes the control plane available at its address in the lab.
async fn control_plane() -> Result<()> {
    fs::write("/proc/sys/net/ipv4/ip_forward", "1")?;
    let (to, port) = (layout::CONTROL_PLANE, layout::api_port());
    for chain in ["PREROUTING", "OUTPUT"] {
        let rule = format!("-d {to} -p tcp --dport {port} -j DNAT --to-destination {HOST}:{port}");
        process::sh(&format!("iptables -t nat -A {chain} {rule}")).await?;
    }
    process::sh(&format!("iptables -t nat -A POSTROUTING -d {HOST} -j MASQUERADE")).await?;
    kube::client().await?.apiserver_version().await.map(drop).context("the control plane outside")
}

/// Creates a node. Makes our programs and the certificates available in its Debian.
async fn machine(node: Node) -> Result<()> {
    node::up(node).await?;
    install::address(node).await?;
    let built = sibling("")?;
    let others = cache("plugins").join(PLUGINS.trim_start_matches('/'));
    for (from, to) in [(&built, PROGRAMS), (&others, OTHERS), (&layout::pki(), file("").as_str())] {
        fs::create_dir_all(rootfs::file(node, to)?)?;
        let (from, to) = (from.display().to_string(), format!("{}{to}", rootfs::root(node).display()));
        process::run(process::on(node, "mount", &["--bind", &from, &to])?).await?;
    }
    Ok(())
}

/// Creates an object from the JSON of its manifest. Returns the existing one if an earlier run of the tests made it.
pub async fn create(client: &Client, manifest: Value) -> Result<DynamicObject> {
    let object: DynamicObject = serde_json::from_value(manifest).context("a manifest has apiVersion and kind")?;
    let types = object.types.clone().context("a manifest has apiVersion and kind")?;
    let resource = ApiResource::from_gvk(&GroupVersionKind::try_from(&types)?);
    let api: Api<DynamicObject> = match &object.metadata.namespace {
        Some(namespace) => Api::namespaced_with(client.clone(), namespace, &resource),
        None => Api::all_with(client.clone(), &resource),
    };
    let name = object.metadata.name.clone().unwrap_or_default();
    let created = match api.create(&PostParams::default(), &object).await {
        Err(::kube::Error::Api(refused)) if refused.is_already_exists() => api.get(&name).await,
        other => other,
    };
    created.with_context(|| format!("creating {} {name}", types.kind))
}

/// Creates a namespace with its service account.
pub async fn namespace(client: &Client, name: &str) -> Result<()> {
    create(client, json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})).await?;
    account(client, name).await
}

/// Creates the service account that pods of a namespace have by default.
pub async fn account(client: &Client, namespace: &str) -> Result<()> {
    let metadata = json!({"namespace": namespace, "name": "default"});
    create(client, json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata})).await.map(drop)
}

impl Daemon {
    /// Returns the name of the process in the lab's records.
    pub fn name(self) -> String {
        match self {
            Self::Central => name(Node::ONE, CENTRAL),
            Self::Ovs(node) => name(node, OVS),
            Self::Agent(node) => name(node, AGENT),
            Self::Controller => name(Node::ONE, CONTROLLER),
        }
    }

    /// Starts the program. Does not wait until it is ready.
    pub fn start(self) -> Result<()> {
        process::start(&self.name(), self.command()?)
    }

    /// Stops the program as a container runtime does, with SIGTERM. On return, it has ended.
    pub async fn stop(self) -> Result<()> {
        process::stop(&state("pid").join(self.name()), Duration::from_secs(30)).await
    }

    /// Kills the program as a container runtime does: all processes of its container end.
    pub async fn kill(self) -> Result<()> {
        process::kill_now(&self.name()).await
    }

    /// Sends a signal to the program itself.
    pub fn signal(self, signal: Signal) -> Result<()> {
        process::signal(&self.name(), signal)
    }

    /// Waits until the program says that it is ready.
    pub async fn ready(self) -> Result<()> {
        let check = async || match self {
            // Agents and controllers are asked as a probe asks them, by HTTP. That is cheaper than a process.
            Self::Agent(node) => probe(node, 10665).await,
            Self::Controller => probe(Node::ONE, 10660).await,
            Self::Central => check(central::NODE, "ovn-central").await,
            Self::Ovs(node) => check(node, "ovs-ovn").await,
        };
        let start = Instant::now();
        process::ready(&self.name(), Duration::from_mins(1), check).await?;
        eprintln!("lab: {} is ready after {:.1} s", self.name(), start.elapsed().as_secs_f32());
        Ok(())
    }

    fn command(self) -> Result<Command> {
        let central = central::NODE.ip4();
        match self {
            Self::Central => contained(
                central::NODE,
                "ovn-central",
                &[
                    "run",
                    &format!("--address={central}"),
                    "--database-directory=/etc/origin/ovn",
                    "--tls=false",
                    &grace(),
                ],
            ),
            Self::Ovs(node) => contained(
                node,
                "ovs-ovn",
                &[
                    "run",
                    &format!("--node-name={}", node.name()),
                    "--datapath=kernel",
                    "--database-directory=/etc/origin/openvswitch",
                    &grace(),
                ],
            ),
            Self::Agent(node) => rootfs::on(
                node,
                &format!("{PROGRAMS}/kube-ovn-cni"),
                &[
                    &format!("--node-name={}", node.name()),
                    &format!("--kubeconfig={}", file("kube-ovn-cni.conf")),
                    "--iface=eth1",
                    "--tls=false",
                    &format!("--service-cluster-ip-range={SERVICES}"),
                    &format!("--install-cni-config={PROGRAMS}/static/kube-ovn"),
                    &format!("--install-cni-plugins={OTHERS}"),
                    &format!("--add-timeout={}", pace::seconds(30)),
                ],
            ),
            Self::Controller => rootfs::on(
                Node::ONE,
                &format!("{PROGRAMS}/kube-ovn-controller"),
                &[
                    &format!("--kubeconfig={}", file("kube-ovn-controller.conf")),
                    &format!("--pod-name={}", self.name()),
                    &format!("--ovn-nb-addr=tcp:{central}:6641"),
                    &format!("--ovn-sb-addr=tcp:{central}:6642"),
                    "--default-cidr=10.16.0.0/16,fd00:10:16::/112",
                    "--node-switch-cidr=100.64.0.0/16,fd00:100:64::/112",
                    &format!("--service-cluster-ip-range={SERVICES}"),
                    &format!("--lease-duration={}", pace::seconds(15)),
                ],
            ),
        }
    }
}

/// Asks the health endpoint of a program.
async fn probe(node: Node, port: u16) -> Result<()> {
    let (status, body) = ours::get_at(&node.ip4(), port, "/readyz").await?;
    ensure!(status == 200, "{status}: {body}");
    Ok(())
}

/// Asks a program that has no endpoint.
async fn check(node: Node, program: &str) -> Result<()> {
    process::run(rootfs::on(node, &format!("{PROGRAMS}/{program}"), &["check", "ready"])?).await.map(drop)
}

/// The time that OVN's and OVS's daemons have to stop.
fn grace() -> String {
    format!("--grace={}", pace::seconds(8))
}

/// Returns a command that runs one of our programs as process 1, as in a container: when it is killed, so are all
/// processes that it has started.
fn contained(node: Node, program: &str, arguments: &[&str]) -> Result<Command> {
    let program = format!("{PROGRAMS}/{program}");
    let before = ["--pid", "--fork", "--kill-child", "--mount-proc", "--", &program];
    rootfs::on(node, "unshare", &[&before, arguments].concat())
}
