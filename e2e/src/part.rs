//! The daemons that tests kill (`kill -9`), pause and start again.
//!
//! The lab finds its own daemons by their records and restarts them itself. Other daemons run in a pod or a unit, or
//! are children of our programs. They are found by program name in the node's network namespace. The kubelet, systemd
//! or the parent restarts them, and the lab waits for that.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::layout::{MAX_NODES, Node, state};
use crate::{by_hand, central, kube, kubelet, ours, process};

/// The time limit for the kubelet to restart a killed container. Its backoff is [`kubelet::MOST_PAUSE`] in the lab, and
/// systemd's is one second.
const PATIENCE: Duration = Duration::from_secs(30);

/// A daemon of the lab.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Part {
    /// A replica of our controller, by its number in [`ours::controllers`].
    Controller(usize),
    /// Our agent on a node.
    Agent(Node),
    /// A node's containerd. The shims of running containers keep running.
    Containerd(Node),
    /// A node's kubelet. Running containers keep running, and are not restarted without it.
    Kubelet(Node),
    /// A node's ovn-controller.
    OvnController(Node),
    /// A node's ovs-vswitchd.
    Vswitchd(Node),
    /// The northbound database. Its file stays.
    Northbound,
    /// The API server. etcd keeps running.
    ApiServer,
}

impl Part {
    /// Returns the current leader.
    pub async fn leader() -> Result<Self> {
        let (name, _) = ours::leader().await?;
        Ok(Self::Controller(ours::place(&name)?))
    }

    /// Returns the name, which is also the name of the lab's record.
    pub fn name(self) -> String {
        match self {
            Self::Controller(replica) => ours::controllers()[replica].clone(),
            Self::Agent(node) => by_hand::name(node, by_hand::AGENT),
            Self::Containerd(node) => format!("containerd-{}", node.name()),
            Self::Kubelet(node) => format!("kubelet-{}", node.name()),
            Self::OvnController(node) => format!("ovn-controller-{}", node.name()),
            Self::Vswitchd(node) => format!("ovs-vswitchd-{}", node.name()),
            Self::Northbound => "nb".to_owned(),
            Self::ApiServer => "kube-apiserver".to_owned(),
        }
    }

    /// Returns the host's process ID, or `None` if the daemon is not running.
    pub fn pid(self) -> Option<u32> {
        if self.is_the_labs() {
            let pid = process::recorded(&state("pid").join(self.name()))?;
            return process::itself(pid).first().copied();
        }
        match self {
            Self::Controller(replica) => on(&ours::controller_host(replica).0, "kube-ovn-controller", is_no_probe),
            Self::Agent(node) => on(&node.netns(), "kube-ovn-cni", is_no_probe),
            Self::OvnController(node) => on(&node.netns(), "ovn-controller", |_| true),
            Self::Vswitchd(node) => on(&node.netns(), "ovs-vswitchd", |_| true),
            Self::Northbound => on(&central::NODE.netns(), "ovsdb-server", is_northbound),
            Self::Containerd(_) | Self::Kubelet(_) | Self::ApiServer => None, // run by the lab
        }
    }

    /// Sends a signal.
    pub fn signal(self, signal: Signal) -> Result<()> {
        if self.is_the_labs() {
            return process::signal(&self.name(), signal);
        }
        let pid = self.pid().with_context(|| format!("{} does not run", self.name()))?;
        kill(Pid::from_raw(i32::try_from(pid)?), signal).with_context(|| format!("{signal} to {}", self.name()))
    }

    /// Kills the daemon and starts it again at once. On return, it has a new process.
    pub async fn revive(self) -> Result<()> {
        if self.is_the_labs() {
            process::kill_now(&self.name()).await?;
            return self.start().await;
        }
        let old = self.pid();
        self.signal(Signal::SIGKILL)?;
        self.again(old).await
    }

    /// Starts the daemon after a kill, or waits until it is restarted.
    pub async fn start(self) -> Result<()> {
        match self {
            Self::Containerd(node) => kubelet::start_containerd(node).await,
            Self::Kubelet(node) => kubelet::start(node),
            Self::ApiServer => kube::start_apiserver().await,
            _ => self.again(None).await,
        }
    }

    /// Kills a controller that runs in a pod. Its kubelet is paused before, so that it is not restarted until the result
    /// is dropped: a successor in the same pod would go on under the same Lease.
    pub fn kill_for_good(self) -> Result<Paused> {
        let Self::Controller(replica) = self else { bail!("{} is no controller", self.name()) };
        let paused = Self::Kubelet(ours::NODES[replica]).pause()?;
        self.signal(Signal::SIGKILL)?;
        Ok(paused)
    }

    /// Stops the daemon with SIGSTOP. Dropping the result resumes it.
    pub fn pause(self) -> Result<Paused> {
        let pid = self.pid();
        self.signal(Signal::SIGSTOP)?;
        Ok(Paused { part: self, pid })
    }

    /// Pauses the daemon while `hangs` runs, stops it while `gone` runs, and starts it again even if one of them
    /// failed.
    pub async fn away(
        self,
        hangs: impl Future<Output = Result<()>>,
        gone: impl Future<Output = Result<()>>,
    ) -> Result<()> {
        let (hangs, gone) = (Box::pin(hangs), Box::pin(gone)); // both are large
        let paused = self.pause()?;
        let hung = hangs.await;
        if !self.is_the_labs() {
            ensure!(self == Self::Northbound, "{} does not stay away: it is started again", self.name());
            return central::away(async {
                drop(paused);
                if hung.is_ok() { gone.await } else { hung }
            })
            .await;
        }
        process::kill_now(&self.name()).await?;
        drop(paused);
        let outcome = if hung.is_ok() { gone.await } else { Ok(()) };
        self.start().await?;
        if self == Self::ApiServer {
            kube::restart_controllers().await?;
            // A kubelet looks for an API server that was away every 30 to 60 s, which is not ours to wait for.
            for node in Node::first(MAX_NODES).filter(|node| process::runs(&Self::Kubelet(*node).name())) {
                Self::Kubelet(node).revive().await?;
            }
        }
        hung.and(outcome)
    }

    /// Returns true if the lab runs the daemon. Other daemons are restarted by their parent.
    fn is_the_labs(self) -> bool {
        matches!(self, Self::Containerd(_) | Self::Kubelet(_) | Self::ApiServer)
    }

    /// Waits until the daemon has a process other than `old`.
    async fn again(self, old: Option<u32>) -> Result<()> {
        let again = async || {
            let new = self.pid().filter(|pid| Some(*pid) != old);
            new.map(drop).with_context(|| format!("{} was not started again", self.name()))
        };
        process::until(PATIENCE, again).await
    }
}

/// A paused daemon. Dropping it resumes the daemon.
#[derive(Debug)]
pub struct Paused {
    part: Part,
    pid: Option<u32>,
}

impl Drop for Paused {
    fn drop(&mut self) {
        // A killed daemon and its successor need no signal.
        if self.part.is_the_labs() || self.part.pid() == self.pid {
            let _ = self.part.signal(Signal::SIGCONT);
        }
    }
}

/// Returns the process of `program` in a named network namespace for whose command line `right` is true: the arguments, each
/// followed by a null byte. Pods with their own network are in other namespaces.
pub fn on(netns: &str, program: &str, right: impl Fn(&str) -> bool) -> Option<u32> {
    let namespace = fs::metadata(Path::new("/run/netns").join(netns)).ok()?.ino();
    let is_it = |pid: u32| {
        let process = Path::new("/proc").join(pid.to_string());
        process::program(pid).is_some_and(|name| name == program)
            && fs::metadata(process.join("ns/net")).is_ok_and(|own| own.ino() == namespace)
            && right(&fs::read_to_string(process.join("cmdline")).unwrap_or_default())
    };
    let names = fs::read_dir("/proc").into_iter().flatten().flatten().map(|entry| entry.file_name());
    names.filter_map(|name| name.to_str()?.parse().ok()).find(|pid| is_it(*pid))
}

/// Returns true if this is not the command line of a probe, which runs the same program (`check ready`).
pub(crate) fn is_no_probe(line: &str) -> bool {
    line.split('\0').nth(1) != Some("check")
}

/// Returns true if this database server serves the northbound database.
fn is_northbound(line: &str) -> bool {
    line.contains("ovnnb")
}
