//! A daemon: its process, its output and its exit.

use std::io;
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};
use tokio::process::Command;

use crate::line::{self, Line};
use crate::orphans::{self, Child};

/// A running daemon. Its output goes to our log, with its name.
#[derive(Debug)]
pub struct Daemon {
    name: &'static str,
    child: Child,
    /// The tasks that read the output until the daemon exits.
    lines: [Option<tokio::task::JoinHandle<()>>; 2],
}

/// Takes what a daemon writes to its log, message by message.
pub type Hear = Arc<dyn Fn(&str) + Send + Sync>;

/// Returns the command of an OVN or OVS daemon, with the log format that [`Daemon`] reads.
pub fn command(program: &str) -> Command {
    let mut command = Command::new(program);
    command.args(line::OPTIONS);
    command
}

impl Daemon {
    /// Starts the daemon in its own process group, so that a signal from the terminal reaches only this process.
    /// `hear` gets the messages of its log.
    pub fn start(name: &'static str, mut command: Command, hear: Option<&Hear>) -> io::Result<Self> {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0).kill_on_drop(true);
        let mut child = orphans::spawn(&mut command)?;
        let (stdout, stderr) = child.outputs();
        let lines = [
            stdout.map(|pipe| tokio::spawn(tell(name, pipe, hear.cloned()))),
            stderr.map(|pipe| tokio::spawn(tell(name, pipe, hear.cloned()))),
        ];
        tracing::info!(daemon = name, pid = child.pid(), "started");
        Ok(Self { name, child, lines })
    }

    /// Returns the process ID in this process' PID namespace.
    pub fn pid(&self) -> u32 {
        self.child.pid()
    }

    /// Waits for the exit. On return, the log contains all output. Cancel safe, and can be called again.
    pub async fn ended(&mut self) -> io::Result<ExitStatus> {
        let status = self.child.wait().await?;
        for lines in &mut self.lines {
            if let Some(task) = lines {
                // A grandchild can keep the pipe open. Do not wait for it.
                let _ = tokio::time::timeout(Duration::from_millis(500), task).await;
            }
            *lines = None;
        }
        Ok(status)
    }

    /// Stops the daemon: with `exit`, with SIGTERM if that fails, and with SIGKILL after `patience`.
    pub async fn stop<E: std::fmt::Display>(
        &mut self,
        exit: impl Future<Output = Result<(), E>>,
        patience: Duration,
    ) -> io::Result<ExitStatus> {
        let name = self.name;
        let end = {
            let asked = async {
                if let Err(error) = exit.await {
                    tracing::warn!(daemon = name, %error, "cannot be asked to end, so it is told by SIGTERM");
                    terminate(self.child.pid())?;
                }
                self.child.wait().await
            };
            tokio::time::timeout(patience, asked).await
        };
        if let Ok(status) = end {
            status?;
        } else {
            tracing::warn!(daemon = name, "has not ended within {patience:?}, so it is killed");
            self.child.kill()?;
        }
        let status = self.ended().await?;
        tracing::info!(daemon = name, %status, "stopped");
        Ok(status)
    }
}

fn terminate(pid: u32) -> io::Result<()> {
    let pid = i32::try_from(pid).map_err(io::Error::other)?;
    Ok(kill(Pid::from_raw(pid), Signal::SIGTERM)?)
}

/// Copies the output to the log, line by line, until the pipe closes.
async fn tell(name: &'static str, pipe: impl AsyncRead + Unpin, hear: Option<Hear>) {
    let mut pipe = BufReader::new(pipe);
    let mut line = Vec::new();
    while matches!(pipe.read_until(b'\n', &mut line).await, Ok(length) if length > 0) {
        let text = String::from_utf8_lossy(&line);
        let parsed = Line::parse(text.trim_end());
        parsed.tell(name);
        if let Some(hear) = &hear {
            hear(parsed.message);
        }
        line.clear();
    }
}
