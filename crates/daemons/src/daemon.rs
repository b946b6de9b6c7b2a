//! One daemon: its process, what it says, how it ends.

use std::io;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};
use tokio::process::Command;

use crate::line::{self, Line};
use crate::orphans::{self, Child};

/// A daemon that was started. Its lines come among ours, under its name.
#[derive(Debug)]
pub struct Daemon {
    name: &'static str,
    child: Child,
    /// Its lines are read until it ends.
    lines: [Option<tokio::task::JoinHandle<()>>; 2],
}

/// A command of one of OVN's or OVS's daemons, which writes its log where [`Daemon`] reads it.
pub fn command(program: &str) -> Command {
    let mut command = Command::new(program);
    command.args(line::OPTIONS);
    command
}

impl Daemon {
    /// Starts it, in a process group of its own: a signal from a terminal is for us alone.
    pub fn start(name: &'static str, mut command: Command) -> io::Result<Self> {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0).kill_on_drop(true);
        let mut child = orphans::spawn(&mut command)?;
        let (stdout, stderr) = child.outputs();
        let lines =
            [stdout.map(|pipe| tokio::spawn(tell(name, pipe))), stderr.map(|pipe| tokio::spawn(tell(name, pipe)))];
        tracing::info!(daemon = name, pid = child.pid(), "started");
        Ok(Self { name, child, lines })
    }

    /// Its number, as this process sees it.
    pub fn pid(&self) -> u32 {
        self.child.pid()
    }

    /// Waits for its end, after which all that it has said is in the log. Safe to cancel, and to ask again.
    pub async fn ended(&mut self) -> io::Result<ExitStatus> {
        let status = self.child.wait().await?;
        for lines in &mut self.lines {
            if let Some(task) = lines {
                // A grandchild may hold the pipe; nobody waits for it.
                let _ = tokio::time::timeout(Duration::from_millis(500), task).await;
            }
            *lines = None;
        }
        Ok(status)
    }

    /// Ends it: asks by `exit`, or by SIGTERM when that fails, and after `patience` by SIGKILL.
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

/// Hands on what it says, line by line, until it hangs up.
async fn tell(name: &'static str, pipe: impl AsyncRead + Unpin) {
    let mut pipe = BufReader::new(pipe);
    let mut line = Vec::new();
    while matches!(pipe.read_until(b'\n', &mut line).await, Ok(length) if length > 0) {
        let text = String::from_utf8_lossy(&line);
        Line::parse(text.trim_end()).tell(name);
        line.clear();
    }
}
