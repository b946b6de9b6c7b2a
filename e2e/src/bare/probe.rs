//! Packets with sequence numbers between two places, while something happens. See `e2e/peer/src/probe.rs`.

use std::collections::BTreeMap;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};

use crate::cluster::Place;
use crate::layout::sibling;
use crate::pace;

/// A running probe.
pub struct Probe {
    what: String,
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

/// What both ends of a probe have counted.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The packets that were sent, that arrived, and that came back.
    pub sent: u64,
    /// See [`Outcome::sent`].
    pub arrived: u64,
    /// See [`Outcome::sent`].
    pub answered: u64,
    /// The longest time without a packet at the other end, in milliseconds.
    pub pause_there: u64,
    /// The same for answers.
    pub pause_here: u64,
    /// When the first and the last packet without an answer were sent, in milliseconds after the start.
    pub lost: (u64, u64),
}

impl Probe {
    /// Starts a probe with a packet each `interval`. On return, the first packet was answered.
    pub async fn start(what: &str, from: &Place, to: &str, interval: Duration) -> Result<Self> {
        let peer = sibling("static/lab-peer")?.display().to_string();
        let mut command = Command::from(from.command(&peer, &["probe", to, &interval.as_micros().to_string()])?);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn()?;
        let lines = BufReader::new(child.stdout.take().context("a pipe")?).lines();
        let mut probe = Self { what: what.to_owned(), child, lines };
        let line = probe.line().await?;
        ensure!(line == "flows", "{what}: {line}");
        Ok(probe)
    }

    /// Ends the probe and returns what both ends have counted.
    pub async fn end(mut self) -> Result<Outcome> {
        drop(self.child.stdin.take());
        let line = self.line().await?;
        let words: Vec<_> = line.split(' ').collect();
        let numbers: BTreeMap<&str, u64> =
            words.chunks(2).filter_map(|w| Some((*w.first()?, w.get(1)?.parse().ok()?))).collect();
        let number = |name| numbers.get(name).copied().with_context(|| format!("{}: {line}", self.what));
        Ok(Outcome {
            sent: number("sent")?,
            arrived: number("arrived")?,
            answered: number("answered")?,
            pause_there: number("pause-there")?,
            pause_here: number("pause-here")?,
            lost: (number("lost-from")?, number("lost-to")?),
        })
    }

    async fn line(&mut self) -> Result<String> {
        let line = tokio::time::timeout(pace::limit(Duration::from_secs(5)), self.lines.next_line()).await;
        line.with_context(|| format!("{}: silent", self.what))??.with_context(|| format!("{}: ended", self.what))
    }
}
