//! ovs-vswitchd: how it takes over the datapath of its predecessor, and how it leaves it.
//!
//! The kernel datapath forwards without ovs-vswitchd, with the flows that it has. A new ovs-vswitchd has no flows of
//! its bridges, and would remove these flows from the datapath and drop all packets until ovn-controller has written the table.
//! With `flow-restore-wait`, it leaves the datapath alone until it has its table: from a file if its predecessor was asked to
//! exit, else from ovn-controller.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use daemons::control::{self, ControlError};
use links::{LinkError, Links};
use tokio::process::Command;
use tokio::task::JoinHandle;

use crate::datapath::Datapath;
use crate::flows::{Flows, FlowsError};
use crate::places::VSWITCHD;
use crate::session::{Session, SessionError};
use crate::underlay::{Underlay, UnderlayError};

/// The bridge of ovn-controller.
const INTEGRATION: &str = "br-int";
/// The device of the kernel datapath. It stays when ovs-vswitchd is killed, with its ports and its flows.
const DEVICE: &str = "ovs-system";
/// The longest time that the datapath is left alone. Without flows, new connections of pods would fail all the same.
const PATIENCE: Duration = Duration::from_mins(2);
/// The same if there are other bridges, which may need new flows of their own: the interface by which ovn-controller reaches
/// its database can be on one.
const PATIENCE_OF_OTHERS: Duration = Duration::from_secs(10);

/// The switch.
#[derive(Debug)]
pub struct Vswitchd {
    session: Session,
    run_directory: PathBuf,
    datapath: Datapath,
    flows: Flows,
    underlay: Option<Underlay>,
    /// Whether ovs-vswitchd was started with `flow-restore-wait` and still has it.
    waits: bool,
    /// Whether the running ovs-vswitchd has all its flows.
    is_complete: Arc<AtomicBool>,
    /// Waits for the flows of ovn-controller.
    waiting: Option<JoinHandle<()>>,
}

/// Why ovs-vswitchd does not work.
#[derive(Debug, thiserror::Error)]
pub enum VswitchdError {
    /// The node's database.
    #[error(transparent)]
    Session(#[from] SessionError),
    /// The saved flows.
    #[error(transparent)]
    Flows(#[from] FlowsError),
    /// The interface for tunnels.
    #[error(transparent)]
    Underlay(#[from] UnderlayError),
    /// The kernel datapath cannot be looked up.
    #[error(transparent)]
    Link(#[from] LinkError),
    /// The netlink socket cannot be opened.
    #[error("open a netlink socket: {0}")]
    Netlink(std::io::Error),
    /// The running ovs-vswitchd does not answer.
    #[error(transparent)]
    Control(#[from] ControlError),
}

impl Vswitchd {
    /// Creates the description. `underlay` is only used with the userspace datapath.
    pub fn new(
        session: Session,
        run_directory: PathBuf,
        datapath: Datapath,
        flows: Flows,
        underlay: Option<Underlay>,
    ) -> Self {
        let underlay = underlay.filter(|_| datapath == Datapath::Netdev);
        Self {
            session,
            run_directory,
            datapath,
            flows,
            underlay,
            waits: false,
            is_complete: Arc::default(),
            waiting: None,
        }
    }

    /// Returns the control socket of the process with this ID.
    pub fn control(&self, pid: u32) -> PathBuf {
        self.run_directory.join(format!("{VSWITCHD}.{pid}.ctl"))
    }

    /// Prepares the start. ovs-vswitchd waits if its predecessor has left flows, in a file or in the kernel.
    pub async fn prepare(&mut self) -> Result<Command, VswitchdError> {
        self.is_complete.store(false, Ordering::Relaxed);
        if let Some(waiting) = self.waiting.take() {
            waiting.abort();
        }
        self.waits = self.flows.kept() || self.has_orphaned_datapath().await?;
        self.session.flow_restore_wait(self.waits).await?;
        let mut command = daemons::daemon::command(VSWITCHD);
        command.env("OVS_RUNDIR", &self.run_directory).args([
            format!("unix:{}", self.run_directory.join("db.sock").display()),
            format!("--pidfile={}", self.run_directory.join(format!("{VSWITCHD}.pid")).display()),
        ]);
        Ok(command)
    }

    async fn has_orphaned_datapath(&self) -> Result<bool, VswitchdError> {
        let has_bridge = self.session.bridges().iter().any(|bridge| bridge == INTEGRATION);
        if self.datapath != Datapath::System || !has_bridge {
            return Ok(false);
        }
        let links = Links::here().map_err(VswitchdError::Netlink)?;
        Ok(links.find(DEVICE).await?.is_some())
    }

    /// Finishes the start of a running ovs-vswitchd. It may still wait for flows then, because ovn-controller is started
    /// afterwards.
    pub async fn finish_start(&mut self) -> Result<(), VswitchdError> {
        self.session.configured().await?;
        if self.flows.kept() {
            let restored = self.flows.restore().await;
            match &restored {
                Ok(()) => tracing::info!("flows are as they were"),
                // ovn-controller recomputes the flows anyway, only later.
                Err(error) => tracing::warn!(%error, "flows are not restored"),
            }
            // The userspace datapath has lost its flows, so that there is nothing to wait for.
            if restored.is_ok() || self.datapath == Datapath::Netdev {
                self.session.flow_restore_wait(false).await?;
                self.waits = false;
            }
        }
        if let Some(underlay) = &self.underlay {
            underlay.bridge(&self.session).await?;
        }
        if self.waits {
            let (session, flows, is_complete) =
                (self.session.clone(), self.flows.clone(), Arc::clone(&self.is_complete));
            self.waiting = Some(tokio::spawn(wait_for_flows(session, flows, is_complete)));
        } else {
            self.is_complete.store(true, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Saves the flows, gives the interface for tunnels its addresses back, and asks ovs-vswitchd to exit.
    pub async fn exit(&self, control: &Path) -> Result<(), VswitchdError> {
        // One that still waits for its flows has none. The saved ones are for the next start.
        if !self.is_complete.load(Ordering::Relaxed) {
            tracing::info!("the flows stay as they were saved");
        } else if let Err(error) = self.flows.save(&self.session.bridges()).await {
            tracing::warn!(%error, "flows are not kept over the restart");
        }
        if let Some(underlay) = &self.underlay
            && let Err(error) = underlay.release().await
        {
            tracing::error!(%error, "the interface does not have its addresses back");
        }
        control::ask(control, "exit", &[]).await?;
        Ok(())
    }
}

/// Waits until ovn-controller has written its table, which it does in one transaction, and lets ovs-vswitchd use it.
async fn wait_for_flows(session: Session, flows: Flows, is_complete: Arc<AtomicBool>) {
    tracing::info!("the datapath keeps the flows that it has, until ovn-controller has written new ones");
    let patience = if session.bridges() == [INTEGRATION] { PATIENCE } else { PATIENCE_OF_OTHERS };
    match tokio::time::timeout(patience, flows.first(INTEGRATION)).await {
        Ok(Ok(())) => tracing::info!("ovn-controller has written the flows"),
        Ok(Err(error)) => tracing::warn!(%error, "the flows of ovn-controller cannot be watched"),
        Err(_) => tracing::warn!("ovn-controller has written no flows within {patience:?}"),
    }
    match session.flow_restore_wait(false).await {
        Ok(()) => is_complete.store(true, Ordering::Relaxed),
        // A new session follows with the next start of the database server, which starts ovs-vswitchd, too.
        Err(error) => tracing::error!(%error, "ovs-vswitchd still waits for its flows"),
    }
}
