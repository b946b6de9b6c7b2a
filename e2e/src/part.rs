//! What tests take away and bring back: processes of the lab that are killed (`kill -9`), paused, and started again.

use anyhow::Result;
use nix::sys::signal::Signal;

use crate::layout::Node;
use crate::{central, kube, kubelet, ours, ovs, process};

/// A process of the lab.
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
    /// What its process is called.
    pub fn process(self) -> String {
        match self {
            Self::Controller(replica) => ours::controllers()[replica].clone(),
            Self::Agent(node) => format!("kube-ovn-cni-{}", node.name()),
            Self::Containerd(node) => format!("containerd-{}", node.name()),
            Self::OvnController(node) => format!("ovn-controller-{}", node.name()),
            Self::Northbound => "nb".to_owned(),
            Self::ApiServer => "kube-apiserver".to_owned(),
        }
    }

    /// Starts it; it must not run.
    pub async fn start(self) -> Result<()> {
        match self {
            Self::Controller(replica) => ours::controller(replica),
            Self::Agent(node) => ours::agent(node),
            Self::Containerd(node) => kubelet::start_containerd(node).await,
            Self::OvnController(node) => ovs::controller(node),
            Self::Northbound => central::start_northbound().await,
            Self::ApiServer => kube::start_apiserver().await,
        }
    }

    /// Kills it and starts it again at once.
    pub async fn revive(self) -> Result<()> {
        process::kill_now(&self.process()).await?;
        self.start().await
    }

    /// It is there but does nothing, until what this returns is dropped.
    pub fn pause(self) -> Result<Paused> {
        process::signal(&self.process(), Signal::SIGSTOP)?;
        Ok(Paused(self))
    }

    /// It hangs for a while and is gone for another, each as long as its future takes; then it is started again, whatever
    /// came of them.
    pub async fn away(
        self,
        hangs: impl Future<Output = Result<()>>,
        gone: impl Future<Output = Result<()>>,
    ) -> Result<()> {
        let paused = self.pause()?;
        let hung = hangs.await;
        process::kill_now(&self.process()).await?;
        drop(paused);
        let outcome = if hung.is_ok() { gone.await } else { Ok(()) };
        self.start().await?;
        hung.and(outcome)
    }
}

/// A part that does nothing until this is dropped.
#[derive(Debug)]
pub struct Paused(Part);

impl Drop for Paused {
    fn drop(&mut self) {
        let _ = process::signal(&self.0.process(), Signal::SIGCONT); // one that has been killed needs nothing
    }
}
