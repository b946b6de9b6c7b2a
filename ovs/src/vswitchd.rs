//! ovs-vswitchd: how it takes over the datapath of its predecessor, and how it leaves it.
//!
//! The kernel datapath forwards without ovs-vswitchd, with the flows that it has. A new ovs-vswitchd has no flows of
//! its bridges, and would remove these flows from the datapath and drop all packets until ovn-controller has written the table.
//! With `flow-restore-wait`, it leaves the datapath alone until it has its table: from a file if its predecessor was asked to
//! exit, else from ovn-controller.

use std::path::{Path, PathBuf};
use std::time::Duration;

use daemons::control::{self, ControlError};
use links::{LinkError, Links};
use ovn::local::{INTEGRATION_BRIDGE, UNDERLAY};
use tokio::process::Command;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::datapath::Datapath;
use crate::flows::{Flows, FlowsError};
use crate::places::VSWITCHD;
use crate::routes::Routes;
use crate::session::{Session, SessionError};
use crate::underlay::{Underlay, UnderlayError};

/// The device of the kernel datapath. It stays when ovs-vswitchd is killed, with its ports and its flows.
const DEVICE: &str = "ovs-system";
/// The longest time that the datapath is left alone. Without flows, new connections of pods would fail all the same.
const PATIENCE: Duration = Duration::from_mins(2);
/// The same if there are other bridges, which may need new flows of their own: the interface by which ovn-controller reaches
/// its database can be on one.
const PATIENCE_OF_OTHERS: Duration = Duration::from_secs(10);
/// The pause after a failure while flows are awaited.
const RETRY: Duration = Duration::from_secs(1);

/// The state of the flows of the running ovs-vswitchd.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Table {
    /// ovs-vswitchd leaves the datapath alone and handles no packets of new flows, until the table is complete.
    #[default]
    Awaited,
    /// ovs-vswitchd has all flows that its predecessor had, or needs none.
    Complete,
    /// The time to wait is over. ovs-vswitchd has flows as soon as ovn-controller writes them.
    Late,
}

/// The switch.
#[derive(Debug)]
pub struct Vswitchd {
    session: Session,
    run_directory: PathBuf,
    datapath: Datapath,
    flows: Flows,
    underlay: Option<Underlay>,
    /// Whether ovs-vswitchd was started with `flow-restore-wait` and still has it.
    held_back: bool,
    table: watch::Sender<Table>,
    /// Waits for the flows of ovn-controller.
    waiter: Option<JoinHandle<()>>,
    /// Keeps the routes of the tunnels.
    routes: Option<JoinHandle<()>>,
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
    /// Creates the description. `underlay` is only used with the userspace datapath. `table` gets the state of the flows.
    pub fn new(
        session: Session,
        run_directory: PathBuf,
        datapath: Datapath,
        flows: Flows,
        underlay: Option<Underlay>,
        table: watch::Sender<Table>,
    ) -> Self {
        let underlay = underlay.filter(|_| datapath == Datapath::Netdev);
        Self { session, run_directory, datapath, flows, underlay, held_back: false, table, waiter: None, routes: None }
    }

    /// Returns the control socket of the process with this ID.
    pub fn control(&self, pid: u32) -> PathBuf {
        self.run_directory.join(format!("{VSWITCHD}.{pid}.ctl"))
    }

    /// Prepares the start. ovs-vswitchd waits if its predecessor has left flows, in a file or in the kernel.
    pub async fn prepare(&mut self) -> Result<Command, VswitchdError> {
        self.stop_tasks();
        self.table.send_replace(Table::Awaited);
        self.held_back = self.flows.kept() || self.has_orphaned_datapath().await?;
        self.session.flow_restore_wait(self.held_back).await?;
        let mut command = daemons::daemon::command(VSWITCHD);
        command.env("OVS_RUNDIR", &self.run_directory).args([
            format!("unix:{}", self.run_directory.join("db.sock").display()),
            format!("--pidfile={}", self.run_directory.join(format!("{VSWITCHD}.pid")).display()),
        ]);
        Ok(command)
    }

    fn stop_tasks(&mut self) {
        for task in [self.waiter.take(), self.routes.take()].into_iter().flatten() {
            task.abort();
        }
    }

    async fn has_orphaned_datapath(&self) -> Result<bool, VswitchdError> {
        let has_bridge = self.session.bridges().iter().any(|bridge| bridge == INTEGRATION_BRIDGE);
        if self.datapath != Datapath::System || !has_bridge {
            return Ok(false);
        }
        let links = Links::here().map_err(VswitchdError::Netlink)?;
        Ok(links.find(DEVICE).await?.is_some())
    }

    /// Finishes the start of a running ovs-vswitchd, which listens on `control`. It may still wait for flows then, because
    /// ovn-controller is started afterwards.
    pub async fn finish_start(&mut self, control: &Path) -> Result<(), VswitchdError> {
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
                self.held_back = false;
            }
        }
        if let Some(underlay) = &self.underlay {
            underlay.bridge(&self.session).await?;
            let routes = Routes::new(underlay.links(), UNDERLAY, control.to_owned());
            self.routes = Some(tokio::spawn(async move {
                if let Err(error) = routes.keep().await {
                    tracing::error!(%error, "the routes of the tunnels are not kept");
                }
            }));
        }
        if self.held_back {
            let (session, flows, table) = (self.session.clone(), self.flows.clone(), self.table.clone());
            self.waiter = Some(tokio::spawn(wait_for_flows(session, flows, table)));
        } else {
            self.table.send_replace(Table::Complete);
        }
        Ok(())
    }

    /// Saves the flows, gives the interface for tunnels its addresses back, and asks ovs-vswitchd to exit.
    pub async fn exit(&mut self, control: &Path) -> Result<(), VswitchdError> {
        self.stop_tasks();
        // A table that is not complete must not be taken for all flows. Those that were saved before are for the next start.
        if *self.table.borrow() != Table::Complete {
            tracing::info!("the flows are not saved, because they are not complete");
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
async fn wait_for_flows(session: Session, flows: Flows, table: watch::Sender<Table>) {
    tracing::info!("the datapath keeps the flows that it has, until ovn-controller has written new ones");
    let patience = if session.bridges() == [INTEGRATION_BRIDGE] { PATIENCE } else { PATIENCE_OF_OTHERS };
    let written = async {
        while let Err(error) = flows.first(INTEGRATION_BRIDGE).await {
            tracing::warn!(%error, "the flows cannot be watched; trying again");
            tokio::time::sleep(RETRY).await;
        }
    };
    let state = match tokio::time::timeout(patience, written).await {
        Ok(()) => Table::Complete,
        Err(_) => Table::Late,
    };
    // The database server may be about to be started again. As long as the setting stays, new flows are not handled.
    while let Err(error) = session.flow_restore_wait(false).await {
        tracing::error!(%error, "ovs-vswitchd still leaves the datapath alone; trying again");
        tokio::time::sleep(RETRY).await;
    }
    table.send_replace(state);
    if state == Table::Complete {
        tracing::info!("ovn-controller has written the flows");
    } else {
        tracing::warn!("ovn-controller has written no flows within {patience:?}");
    }
}
