//! Several members of the OVN central: which nodes they are on, whether their clusters are whole, and how they are harmed.

use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use futures::future::try_join_all;
use k8s_openapi::api::core::v1::Pod;
use kube::api::ListParams;
use kube::{Api, ResourceExt};
use nix::sys::signal::Signal;
use ovn_central::address;
use ovn_central::standing::Standing;

use crate::central::directory;
use crate::cluster::{Cluster, is_ready};
use crate::kube::kubectl;
use crate::layout::Node;
use crate::{part, process, rootfs};

/// A database of the members.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Database {
    /// The northbound database.
    Nb,
    /// The southbound database.
    Sb,
}

/// Both databases.
pub const BOTH: [Database; 2] = [Database::Nb, Database::Sb];

impl Database {
    /// Returns the short name, as in the names of its files.
    pub fn name(self) -> &'static str {
        match self {
            Self::Nb => "nb",
            Self::Sb => "sb",
        }
    }

    /// Returns the name of its schema.
    pub fn schema(self) -> &'static str {
        match self {
            Self::Nb => "OVN_Northbound",
            Self::Sb => "OVN_Southbound",
        }
    }

    /// Returns the address in the cluster of the server on a node.
    fn address_on(self, node: Node) -> Result<String> {
        Ok(address::of(SocketAddr::new(node.ip4().parse()?, self.raft_port())))
    }

    fn raft_port(self) -> u16 {
        match self {
            Self::Nb => 6643,
            Self::Sb => 6644,
        }
    }

    /// Returns the file of a member.
    pub fn file(self, node: Node) -> PathBuf {
        directory(node).join(format!("ovn{}_db.db", self.name()))
    }

    /// Returns the host's process ID of the server of a member.
    pub fn pid(self, node: Node) -> Result<u32> {
        let file = format!("ovn{}", self.name());
        let pid = part::on(&node.netns(), "ovsdb-server", |line| line.contains(&file));
        pid.with_context(|| format!("{} has no server of the {} database", node.name(), self.name()))
    }

    /// Sends a signal to the server of a member.
    pub fn signal(self, node: Node, signal: Signal) -> Result<()> {
        send(self.pid(node)?, signal)
    }

    /// Returns what the server of a member says of its cluster.
    pub async fn standing(self, node: Node) -> Result<Standing> {
        let control = format!("{}/ovn{}_db.ctl", super::run_directory(), self.name());
        let command = rootfs::on(node, "ovn-appctl", &["-t", &control, "cluster/status", self.schema()])?;
        Ok(Standing::parse(&process::run(command).await?))
    }

    /// Returns the node of the leader.
    pub async fn leader(self) -> Result<Node> {
        for node in Node::running() {
            if self.standing(node).await.is_ok_and(|standing| standing.leads) {
                return Ok(node);
            }
        }
        bail!("no member leads the {} database", self.name())
    }
}

/// The directory of the files on a node.
const DIRECTORY: &str = "/etc/origin/ovn";

/// Labels exactly these nodes as those with members.
pub async fn label(nodes: &[Node]) -> Result<()> {
    let all = Node::running();
    let (with, without): (Vec<Node>, Vec<Node>) = all.into_iter().partition(|node| nodes.contains(node));
    for (nodes, label) in [(with, "kube-ovn/role=master"), (without, "kube-ovn/role-")] {
        let names: Vec<_> = nodes.into_iter().map(Node::name).collect();
        let mut words = vec!["label", "node", "--overwrite"];
        words.extend(names.iter().map(String::as_str));
        words.push(label);
        if !names.is_empty() {
            kubectl(&words).await?;
        }
    }
    Ok(())
}

/// Returns the host's process ID of `ovn-central` of a member.
pub fn pid(node: Node) -> Result<u32> {
    let pid = part::on(&node.netns(), "ovn-central", part::is_no_probe);
    pid.with_context(|| format!("{} has no ovn-central", node.name()))
}

/// Sends a signal to a process.
pub fn send(pid: u32, signal: Signal) -> Result<()> {
    Ok(nix::sys::signal::kill(nix::unistd::Pid::from_raw(i32::try_from(pid)?), signal)?)
}

/// Kills all processes of a member. The kubelet starts it again.
pub fn kill(node: Node) -> Result<()> {
    let pid = pid(node)?;
    send(pid, Signal::SIGKILL)?;
    // Its daemons die with process 1 of their namespace.
    let deadline = Instant::now() + Duration::from_secs(5);
    while fs::exists(format!("/proc/{pid}"))? && !is_zombie(pid) {
        ensure!(Instant::now() < deadline, "ovn-central on {} does not die", node.name());
        std::thread::sleep(Duration::from_millis(1));
    }
    Ok(())
}

fn is_zombie(pid: u32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| stat.contains(") Z "))
}

/// Kills a member and removes its files, as when its disk is lost.
pub fn lose_disk(node: Node) -> Result<()> {
    kill(node)?;
    let directory = directory(node);
    fs::remove_dir_all(&directory).with_context(|| directory.display().to_string())
}

/// Moves the files of a member to a disk of its own, of a few megabytes.
pub async fn on_a_small_disk(node: Node) -> Result<()> {
    let script = format!(
        "cp -a {DIRECTORY} /tmp/files && rm -r {DIRECTORY}/* && mount -t tmpfs -o size=6m tmpfs {DIRECTORY} &&
         cp -a /tmp/files/. {DIRECTORY} && rm -r /tmp/files"
    );
    between_kills(node, &script).await
}

/// Fills the small disk.
pub async fn fill(node: Node) -> Result<()> {
    let script = format!("cp /dev/zero {DIRECTORY}/filler 2>/dev/null; df {DIRECTORY} | grep ' 0 100% '");
    on_disk(node, &script).await
}

/// Makes space on the small disk.
pub async fn free(node: Node) -> Result<()> {
    on_disk(node, &format!("rm {DIRECTORY}/filler")).await
}

/// Takes the small disk away. The member has no files any more.
pub async fn on_the_nodes_disk(node: Node) -> Result<()> {
    between_kills(node, &format!("umount -l {DIRECTORY}")).await
}

/// Changes the disk of a member. A container has the disk that was there when it was started.
async fn between_kills(node: Node, script: &str) -> Result<()> {
    kill(node)?;
    on_disk(node, script).await?;
    process::until(Duration::from_secs(20), async || pid(node)).await?;
    kill(node)
}

async fn on_disk(node: Node, script: &str) -> Result<()> {
    process::run(process::on(node, "sh", &["-c", script])?).await.map(drop)
}

/// Waits until exactly these nodes have members, which are ready, form one cluster for each database, and have the labels of
/// leaders. Returns how long it took.
pub async fn whole(cluster: &Cluster, nodes: &[Node], within: Duration) -> Result<Duration> {
    let began = Instant::now();
    loop {
        let amiss = match Box::pin(check(cluster, nodes)).await {
            Ok(()) => return Ok(began.elapsed()),
            Err(amiss) => amiss,
        };
        if began.elapsed() > within {
            return Err(amiss.context(format!("the members are not whole after {within:?}")));
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

async fn check(cluster: &Cluster, nodes: &[Node]) -> Result<()> {
    let pods = Api::<Pod>::namespaced(cluster.client(), "kube-system");
    let pods = pods.list(&ListParams::default().labels("app=ovn-central")).await?.items;
    let node_of = |pod: &Pod| pod.spec.as_ref().and_then(|spec| spec.node_name.clone()).unwrap_or_default();
    let mut names: Vec<_> = pods.iter().map(node_of).collect();
    names.sort();
    let expected: Vec<_> = nodes.iter().map(|node| node.name()).collect();
    ensure!(names == expected, "pods are on {names:?} and not on {expected:?}");
    for pod in &pods {
        is_ready(pod).with_context(|| pod.name_any())?;
    }
    for database in BOTH {
        let standings = try_join_all(nodes.iter().map(|node| database.standing(*node))).await?;
        let mut addresses: Vec<_> = nodes.iter().map(|node| database.address_on(*node)).collect::<Result<_>>()?;
        addresses.sort();
        let mut leaders = Vec::new();
        for (node, standing) in nodes.iter().zip(standings) {
            let mut servers: Vec<_> = standing.servers.iter().map(|server| server.address.clone()).collect();
            servers.sort();
            ensure!(standing.connected, "{database:?} of {}: {}", node.name(), standing.why());
            ensure!(servers == addresses, "{database:?} of {} has the servers {servers:?}", node.name());
            if standing.leads {
                leaders.push(node.name());
            }
        }
        ensure!(leaders.len() == 1, "{database:?} is led by {leaders:?}");
        ensure!(
            labelled(&pods, &format!("ovn-{}-leader", database.name()), node_of) == leaders,
            "{database:?}: labels"
        );
    }
    ensure!(labelled(&pods, "ovn-northd-leader", node_of).len() == 1, "northd: labels");
    Ok(())
}

/// Returns the nodes whose pods have a label of leaders.
fn labelled(pods: &[Pod], label: &str, node_of: impl Fn(&Pod) -> String) -> Vec<String> {
    let led = |pod: &&Pod| pod.labels().get(label).is_some_and(|value| value == "true");
    pods.iter().filter(led).map(node_of).collect()
}
