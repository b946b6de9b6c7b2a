//! `ovn-northd`, which translates the northbound into the southbound database. Each member has one. It works with the leaders
//! of both databases, wherever they are ([`crate::leader`]), and a lock in the southbound database chooses the active one.

use std::path::PathBuf;

use daemons::control::{self, ControlError};
use tokio::process::Command;

use crate::args::Run;
use crate::database::{Database, DatabaseError};
use crate::leader;

/// `ovn-northd` for the two databases.
#[derive(Clone, Debug)]
pub struct Northd {
    run_directory: PathBuf,
    /// The sockets of the leaders of the northbound and the southbound database.
    leaders: [PathBuf; 2],
    southbound: Box<Database>,
    threads: u16,
}

/// The name of northd among the daemons.
pub const NAME: &str = "northd";

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
            leaders: [northbound, southbound].map(leader::path),
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
        let [northbound, southbound] = self.leaders.each_ref().map(|socket| format!("unix:{}", socket.display()));
        command.env("OVN_RUNDIR", &self.run_directory).args([
            format!("--ovnnb-db={northbound}"),
            format!("--ovnsb-db={southbound}"),
            format!("--pidfile={}", self.run_directory.join("ovn-northd.pid").display()),
            format!("--n-threads={}", self.threads),
        ]);
        command
    }

    /// Has northd forget how long the log of a database was, `nb` or `sb`, so that it accepts another cluster.
    pub async fn reset(&self, pid: u32, database: &str) -> Result<(), ControlError> {
        control::ask(&self.control(pid), &format!("{database}-cluster-state-reset"), &[]).await.map(drop)
    }

    /// Returns whether northd says that it is the active one.
    pub async fn is_active(&self, pid: u32) -> bool {
        control::ask(&self.control(pid), "status", &[]).await.is_ok_and(|said| said.trim() == "Status: active")
    }

    /// Checks that northd is active, or waits: for the one of another member to end, or for the controller to fill a southbound
    /// database that was founded empty.
    pub async fn check(&self, pid: u32) -> Result<(), NorthdError> {
        let said = control::ask(&self.control(pid), "status", &[]).await?;
        match said.trim() {
            "Status: active" => Ok(()),
            "Status: standby" if !self.southbound.is_open() || self.southbound.standing().await?.servers.len() > 1 => {
                Ok(())
            }
            other => Err(NorthdError::NotActive(other.to_owned())),
        }
    }

    /// Asks northd to exit.
    pub async fn exit(&self, pid: u32) -> Result<(), NorthdError> {
        control::ask(&self.control(pid), "exit", &[]).await?;
        Ok(())
    }
}
