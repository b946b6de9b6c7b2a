//! Saves and restores the flows of all bridges across a restart of ovs-vswitchd, with the same script as
//! `ovs-ctl restart`.
//!
//! ovs-vswitchd keeps flows only in memory. Without them, a restarted ovs-vswitchd would remove the flows of its
//! predecessor from the kernel datapath and drop packets until ovn-controller has recomputed all flows.

use std::io;
use std::path::{Path, PathBuf};

use daemons::tool::{self, ToolError};
use tokio::process::Command;

/// The directory for saved flows.
#[derive(Clone, Debug)]
pub struct Flows {
    directory: PathBuf,
    script: PathBuf,
    run_directory: PathBuf,
}

/// Why flows were not saved or restored.
#[derive(Debug, thiserror::Error)]
pub enum FlowsError {
    /// A tool that reads or writes flows failed.
    #[error(transparent)]
    Tool(#[from] ToolError),
    /// The flows cannot be saved.
    #[error("{}: {source}", path.display())]
    Io {
        /// The directory.
        path: PathBuf,
        /// The error.
        source: io::Error,
    },
}

impl Flows {
    /// Saves flows next to the sockets. A reboot of the machine removes them, because flows differ after a reboot.
    pub fn new(run_directory: &Path, data_directory: &Path) -> Self {
        Self {
            directory: run_directory.join("flows"),
            script: data_directory.join("scripts/ovs-save"),
            run_directory: run_directory.to_owned(),
        }
    }

    /// Returns true if there are saved flows.
    pub fn kept(&self) -> bool {
        self.restore_script().exists()
    }

    /// Saves the flows of these bridges. ovs-vswitchd must be running.
    pub async fn save(&self, bridges: &[String]) -> Result<(), FlowsError> {
        self.forget()?;
        if bridges.is_empty() {
            return Ok(());
        }
        std::fs::create_dir_all(&self.directory).map_err(|source| self.io(source))?;
        let mut command = self.command("sh");
        command.arg(&self.script).arg("save-flows").args(bridges);
        let restore = tool::finish(command).await?;
        // A part of it must not be taken for all of them.
        kit::file::write(&self.restore_script(), restore.as_bytes(), 0o600).map_err(|source| self.io(source))
    }

    /// Restores the saved flows and removes them. ovs-vswitchd must be running and waiting for them.
    pub async fn restore(&self) -> Result<(), FlowsError> {
        let mut command = self.command("sh");
        command.arg("-e").arg(self.restore_script());
        let restored = tool::finish(command).await;
        self.forget()?;
        restored?;
        Ok(())
    }

    /// Waits until a bridge has a flow. Returns at once if it has some. Cancel safe.
    pub async fn first(&self, bridge: &str) -> Result<(), FlowsError> {
        let mut command = self.command("ovs-ofctl");
        command.args(["monitor", bridge, "watch:!actions"]);
        Ok(tool::run_until(command, |line| line.contains("event=ADDED")).await?)
    }

    /// Removes the saved flows.
    pub fn forget(&self) -> Result<(), FlowsError> {
        match std::fs::remove_dir_all(&self.directory) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(self.io(error)),
            _ => Ok(()),
        }
    }

    fn restore_script(&self) -> PathBuf {
        self.directory.join("restore")
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.env("OVS_RUNDIR", &self.run_directory).env("TMPDIR", &self.directory);
        command
    }

    fn io(&self, source: io::Error) -> FlowsError {
        FlowsError::Io { path: self.directory.clone(), source }
    }
}
