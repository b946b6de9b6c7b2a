//! The packets that a device of a node shows, in a file that tcpdump has written.

use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

use crate::layout::Node;
use crate::{pace, process};

/// A running `tcpdump`. It ends when this value is dropped.
pub struct Capture {
    /// Ends with this value.
    _child: Child,
    file: tempfile::NamedTempFile,
}

impl Capture {
    /// Starts to capture the packets of `device` that match the filter (pcap-filter(7)). On return, it captures.
    pub async fn start(node: Node, device: &str, filter: &str) -> Result<Self> {
        let file = tempfile::NamedTempFile::new()?;
        let pid = node.pid().with_context(|| format!("{} does not run", node.name()))?.to_string();
        let words = [
            "--target",
            &pid,
            "--net",
            "--",
            "tcpdump",
            "--immediate-mode",
            "--packet-buffered",
            "-i",
            device,
            "-w",
            "-",
            filter,
        ];
        let mut command = Command::from(process::command("nsenter", &words));
        command.stdin(Stdio::null()).stdout(file.reopen()?).stderr(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn()?;
        let mut said = BufReader::new(child.stderr.take().context("a pipe")?).lines();
        let listens = async {
            while let Some(line) = said.next_line().await? {
                if line.contains("listening on") {
                    // The rest of what it says goes nowhere.
                    tokio::spawn(async move { while let Ok(Some(_)) = said.next_line().await {} });
                    return Ok(());
                }
            }
            bail!("tcpdump on {device} of {} has ended", node.name())
        };
        tokio::time::timeout(pace::limit(Duration::from_secs(10)), listens).await.context("tcpdump is silent")??;
        Ok(Self { _child: child, file })
    }

    /// Returns the packets so far, a line for each, with the names of hosts and ports as numbers.
    pub async fn packets(&self) -> Result<Vec<String>> {
        let path = self.file.path().display().to_string();
        let printed = process::run(process::command("tcpdump", &["-nn", "-r", &path])).await?;
        Ok(printed.lines().map(str::to_owned).collect())
    }
}
