//! What tests take away and bring back: daemons that are killed (`kill -9`), paused, and started again.
//!
//! A daemon that the lab runs itself is known by its record, and the lab starts it again. Any other runs in a pod, or is a child
//! of one of our programs: it is found by the network namespace that it shares with its node and by its program, and it is for
//! kubelet, or for what it is a child of, to start it again; here that is waited for.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::bench::usage;
use crate::by_hand::{self, systemctl};
use crate::layout::{Node, state};
use crate::{central, kube, kubelet, ours, process};

/// How long kubelet may take to start a container again whose process was killed; its pause between restarts is
/// [`kubelet::MOST_PAUSE`] in the lab.
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
        let (name, _) = usage::leader().await?;
        let replica = ours::controllers().iter().position(|other| *other == name);
        Ok(Self::Controller(replica.with_context(|| format!("no controller is {name}"))?))
    }

    /// What it is called, and its record, if the lab runs it.
    pub fn name(self) -> String {
        match self {
            Self::Controller(replica) => ours::controllers()[replica].clone(),
            Self::Agent(node) => systemctl::name(node, by_hand::AGENT),
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
            Self::Controller(replica) => on(&ours::controller_host(replica).0, "kube-ovn-controller", is_first),
            Self::Agent(node) => on(&node.netns(), "kube-ovn-cni", is_first),
            Self::OvnController(node) => on(&node.netns(), "ovn-controller", |_| true),
            Self::Northbound => on(&central::NODE.netns(), "ovsdb-server", is_northbound),
            Self::Containerd(_) | Self::ApiServer => None, // never in a pod
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
        if !self.is_the_labs() {
            return self.again(None).await;
        }
        match self {
            Self::Controller(replica) => systemctl::start(ours::NODES[replica], by_hand::CONTROLLER).await,
            Self::Agent(node) => systemctl::start(node, by_hand::AGENT).await,
            Self::Containerd(node) => kubelet::start_containerd(node).await,
            Self::OvnController(_) | Self::Northbound => self.again(None).await,
            Self::ApiServer => kube::start_apiserver().await,
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
            ensure!(self == Self::Northbound, "{} does not stay away: kubelet starts it again", self.name());
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

    /// Whether its process is the lab's own to start, running or not; else whoever kills it sees it come back.
    pub fn is_the_labs(self) -> bool {
        state("pid").join(self.name()).exists()
    }

    /// Until it has a process, and that is another one than `old`. What it is a child of may have ended over it, and is then
    /// started again by kubelet; on a lab made by hand, here.
    async fn again(self, old: Option<u32>) -> Result<()> {
        let again = async {
            while self.pid().is_none_or(|pid| Some(pid) == old) {
                if by_hand::is_up()
                    && let Some((node, unit)) = self.parent()
                {
                    systemctl::start(node, unit).await?;
                }
                tokio::time::sleep(Duration::from_millis(20)).await; // /proc tells nobody
            }
            Ok(())
        };
        let lacks = || format!("{} was not started again within {PATIENCE:?}", self.name());
        tokio::time::timeout(PATIENCE, again).await.with_context(lacks)?
    }

    /// The unit whose child it is.
    fn parent(self) -> Option<(Node, &'static str)> {
        match self {
            Self::OvnController(node) => Some((node, by_hand::OVS)),
            Self::Northbound => Some((central::NODE, by_hand::CENTRAL)),
            _ => None,
        }
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
    let is_it = |process: &Path| {
        let exe = fs::read_link(process.join("exe")); // a zombie has none
        exe.is_ok_and(|exe| exe.file_name().is_some_and(|name| name == program))
            && fs::metadata(process.join("ns/net")).is_ok_and(|own| own.ino() == namespace)
            && right(process)
    };
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    processes.map(|entry| entry.path()).find(|path| is_it(path))?.file_name()?.to_str()?.parse().ok()
}

/// Whether it is process 1 of its container: a probe runs the same program.
fn is_first(process: &Path) -> bool {
    let status = fs::read_to_string(process.join("status")).unwrap_or_default();
    let numbers = status.lines().find_map(|line| line.strip_prefix("NSpid:"));
    numbers.and_then(|numbers| numbers.split_whitespace().last()) == Some("1")
}

/// Whether this database server has the northbound database.
fn is_northbound(process: &Path) -> bool {
    fs::read_to_string(process.join("cmdline")).is_ok_and(|line| line.contains("ovnnb"))
}
