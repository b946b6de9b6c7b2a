//! The flows of all bridges, over a restart of ovs-vswitchd: what `ovs-ctl restart` does, by the same script.
//!
//! ovs-vswitchd keeps flows in memory only. One that starts without them would take away from the kernel's datapath what
//! its predecessor has put there, and drop packets until ovn-controller has computed everything again. With
//! `flow-restore-wait` it leaves the datapath alone until the flows are back.

use std::io;
use std::path::{Path, PathBuf};

use daemons::tool::{self, ToolError};
use tokio::process::Command;

/// Where flows are kept meanwhile.
#[derive(Clone, Debug)]
pub struct Flows {
    directory: PathBuf,
    script: PathBuf,
    run_directory: PathBuf,
}

/// Why flows were not kept, or not put back.
#[derive(Debug, thiserror::Error)]
pub enum FlowsError {
    /// A program failed that reads or writes them.
    #[error(transparent)]
    Tool(#[from] ToolError),
    /// They cannot be kept.
    #[error("{}: {source}", path.display())]
    Io {
        /// The directory.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

impl Flows {
    /// Kept beside the sockets: a restart of the machine, which makes other flows, leaves none.
    pub fn new(run_directory: &Path, data_directory: &Path) -> Self {
        Self {
            directory: run_directory.join("flows"),
            script: data_directory.join("scripts/ovs-save"),
            run_directory: run_directory.to_owned(),
        }
    }

    /// Whether any are kept.
    pub fn kept(&self) -> bool {
        self.restore_script().exists()
    }

    /// Keeps those of these bridges. ovs-vswitchd must run.
    pub async fn save(&self, bridges: &[String]) -> Result<(), FlowsError> {
        self.forget()?;
        if bridges.is_empty() {
            return Ok(());
        }
        std::fs::create_dir_all(&self.directory).map_err(|source| self.io(source))?;
        let mut command = self.command("sh");
        command.arg(&self.script).arg("save-flows").args(bridges);
        let restore = tool::finish(command).await?;
        std::fs::write(self.restore_script(), restore).map_err(|source| self.io(source))
    }

    /// Puts those back that are kept, and keeps them no longer. ovs-vswitchd must run, and wait for it.
    pub async fn restore(&self) -> Result<(), FlowsError> {
        let mut command = self.command("sh");
        command.arg("-e").arg(self.restore_script());
        let restored = tool::finish(command).await;
        self.forget()?;
        restored?;
        Ok(())
    }

    /// Keeps none.
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
