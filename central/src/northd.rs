//! `ovn-northd`, which translates the northbound into the southbound database. Each member has one. It connects to the leaders
//! of both databases, wherever they are, and a lock in the southbound database chooses the active one.

use std::path::PathBuf;

use daemons::control::{self, ControlError};
use tokio::process::Command;

use crate::args::Run;
use crate::database::{Database, DatabaseError};

/// `ovn-northd` for the two databases.
#[derive(Clone, Debug)]
pub struct Northd {
    run_directory: PathBuf,
    /// The servers of the northbound and the southbound database.
    servers: [String; 2],
    southbound: Box<Database>,
    threads: u16,
}

/// Why northd does not translate.
#[derive(Debug, thiserror::Error)]
pub enum NorthdError {
    /// northd does not answer.
    #[error(transparent)]
    Control(#[from] ControlError),
    /// The southbound database does not answer.
    #[error(transparent)]
    Database(#[from] DatabaseError),
    /// northd is on standby or paused.
    #[error("it is not active: {0}")]
    NotActive(String),
}

impl Northd {
    /// Creates the description of northd for these databases.
    pub fn new(northbound: &Database, southbound: &Database, run: &Run) -> Self {
        Self {
            run_directory: run.directory.run_directory.clone(),
            servers: [northbound.servers(), southbound.servers()],
            southbound: Box::new(southbound.clone()),
            threads: run.northd_threads,
        }
    }

    /// Returns the control socket, the default of `ovn-appctl -t ovn-northd`.
    pub fn control(&self, pid: u32) -> PathBuf {
        self.run_directory.join(format!("ovn-northd.{pid}.ctl"))
    }

    /// Returns the command that starts northd.
    pub fn command(&self) -> Command {
        let mut command = daemons::daemon::command("ovn-northd");
        let [northbound, southbound] = &self.servers;
        command.env("OVN_RUNDIR", &self.run_directory).args([
            format!("--ovnnb-db={northbound}"),
            format!("--ovnsb-db={southbound}"),
            format!("--pidfile={}", self.run_directory.join("ovn-northd.pid").display()),
            format!("--n-threads={}", self.threads),
        ]);
        command
    }

    /// Checks that northd is active, or waits for the one of another member to end.
    pub async fn check(&self, pid: u32) -> Result<(), NorthdError> {
        let said = control::ask(&self.control(pid), "status", &[]).await?;
        match said.trim() {
            "Status: active" => Ok(()),
            "Status: standby" if self.southbound.standing().await?.servers.len() > 1 => Ok(()),
            other => Err(NorthdError::NotActive(other.to_owned())),
        }
    }

    /// Asks northd to exit.
    pub async fn exit(&self, pid: u32) -> Result<(), NorthdError> {
        control::ask(&self.control(pid), "exit", &[]).await?;
        Ok(())
    }
}
