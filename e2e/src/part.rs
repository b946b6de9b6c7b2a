//! What tests take away and bring back: daemons that are killed (`kill -9`), paused, and started again.
//!
//! A daemon that the lab runs itself is known by its record, and the lab starts it again. Any other runs in a pod or in a unit, or
//! is a child of one of our programs: it is found by the network namespace that it shares with its node and by its program, and it
//! is for kubelet or systemd, or for what it is a child of, to start it again; here that is waited for.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::layout::{Node, state};
use crate::{by_hand, central, kube, kubelet, ours, process};

/// How long kubelet may take to start a container again whose process was killed; its pause between restarts is
/// [`kubelet::MOST_PAUSE`] in the lab. systemd's is a second.
const PATIENCE: Duration = Duration::from_secs(30);

/// A daemon of the lab.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Part {
    /// A replica of our controller, by its place in [`ours::controllers`].
    Controller(usize),
    /// Our agent on a node.
    Agent(Node),
    /// A node's containerd. The shims of running containers stay.
    Containerd(Node),
    /// A node's ovn-controller.
    OvnController(Node),
    /// The northbound database; its file stays.
    Northbound,
    /// The API server; etcd stays.
    ApiServer,
}

impl Part {
    /// The controller that leads now.
    pub async fn leader() -> Result<Self> {
        let (name, _) = ours::leader().await?;
        Ok(Self::Controller(ours::place(&name)?))
    }

    /// What it is called, and its record where the lab runs it.
    pub fn name(self) -> String {
        match self {
            Self::Controller(replica) => ours::controllers()[replica].clone(),
            Self::Agent(node) => by_hand::name(node, by_hand::AGENT),
            Self::Containerd(node) => format!("containerd-{}", node.name()),
            Self::OvnController(node) => format!("ovn-controller-{}", node.name()),
            Self::Northbound => "nb".to_owned(),
            Self::ApiServer => "kube-apiserver".to_owned(),
        }
    }

    /// Its process, by the host's number; none while it does not run.
    pub fn pid(self) -> Option<u32> {
        if self.is_the_labs() {
            let pid = process::recorded(&state("pid").join(self.name()))?;
            return process::itself(pid).first().copied();
        }
        match self {
            Self::Controller(replica) => on(&ours::controller_host(replica).0, "kube-ovn-controller", is_no_probe),
            Self::Agent(node) => on(&node.netns(), "kube-ovn-cni", is_no_probe),
            Self::OvnController(node) => on(&node.netns(), "ovn-controller", |_| true),
            Self::Northbound => on(&central::NODE.netns(), "ovsdb-server", is_northbound),
            Self::Containerd(_) | Self::ApiServer => None, // the lab's own
        }
    }

    /// Sends it a signal.
    pub fn signal(self, signal: Signal) -> Result<()> {
        if self.is_the_labs() {
            return process::signal(&self.name(), signal);
        }
        let pid = self.pid().with_context(|| format!("{} does not run", self.name()))?;
        kill(Pid::from_raw(i32::try_from(pid)?), signal).with_context(|| format!("{signal} to {}", self.name()))
    }

    /// Kills it unasked, and starts it again at once; it has a process when this returns.
    pub async fn revive(self) -> Result<()> {
        if self.is_the_labs() {
            process::kill_now(&self.name()).await?;
            return self.start().await;
        }
        let old = self.pid();
        self.signal(Signal::SIGKILL)?;
        self.again(old).await
    }

    /// Starts it after it was killed; or waits until whoever runs it has.
    pub async fn start(self) -> Result<()> {
        match self {
            Self::Containerd(node) => kubelet::start_containerd(node).await,
            Self::ApiServer => kube::start_apiserver().await,
            _ => self.again(None).await,
        }
    }

    /// It is there but does nothing, until what this returns is dropped.
    pub fn pause(self) -> Result<Paused> {
        let pid = self.pid();
        self.signal(Signal::SIGSTOP)?;
        Ok(Paused { part: self, pid })
    }

    /// It hangs for a while and is gone for another, each as long as its future takes; then it is started again, whatever
    /// came of them.
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
        }
        hung.and(outcome)
    }

    /// Whether the lab starts it itself; else whoever kills it sees it come back.
    fn is_the_labs(self) -> bool {
        matches!(self, Self::Containerd(_) | Self::ApiServer)
    }

    /// Until it has a process, and that is another one than `old`.
    async fn again(self, old: Option<u32>) -> Result<()> {
        let again = async || {
            let new = self.pid().filter(|pid| Some(*pid) != old);
            new.map(drop).with_context(|| format!("{} was not started again", self.name()))
        };
        process::until(PATIENCE, again).await
    }
}

/// A part that does nothing until this is dropped.
#[derive(Debug)]
pub struct Paused {
    part: Part,
    pid: Option<u32>,
}

impl Drop for Paused {
    fn drop(&mut self) {
        // One that has been killed needs nothing, and another in its place neither.
        if self.part.is_the_labs() || self.part.pid() == self.pid {
            let _ = self.part.signal(Signal::SIGCONT);
        }
    }
}

/// The process that runs `program` in a named network namespace itself, which no pod with a network of its own does, and is
/// the `right` one of them.
fn on(netns: &str, program: &str, right: fn(&Path) -> bool) -> Option<u32> {
    let namespace = fs::metadata(Path::new("/run/netns").join(netns)).ok()?.ino();
    let is_it = |pid: u32| {
        let process = Path::new("/proc").join(pid.to_string());
        process::program(pid).is_some_and(|name| name == program)
            && fs::metadata(process.join("ns/net")).is_ok_and(|own| own.ino() == namespace)
            && right(&process)
    };
    let names = fs::read_dir("/proc").into_iter().flatten().flatten().map(|entry| entry.file_name());
    names.filter_map(|name| name.to_str()?.parse().ok()).find(|pid| is_it(*pid))
}

/// Whether it is not a probe, which runs the same program (`check ready`).
fn is_no_probe(process: &Path) -> bool {
    let line = fs::read_to_string(process.join("cmdline")).unwrap_or_default();
    line.split('\0').nth(1) != Some("check")
}

/// Whether this database server has the northbound database.
fn is_northbound(process: &Path) -> bool {
    fs::read_to_string(process.join("cmdline")).is_ok_and(|line| line.contains("ovnnb"))
}
