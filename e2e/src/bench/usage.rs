//! What the lab's processes have used: processor time and memory from `/proc`, the leader's own counters, and how many
//! transactions the northbound database has taken.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::layout::state;
use crate::{net, ours, process};

/// The kernel counts processor time for `/proc` in hundredths of a second.
const TICK: Duration = Duration::from_millis(10);
/// This program, in a table of processes.
const MYSELF: &str = "(this bench)";

/// At one moment.
#[derive(Clone, Debug)]
pub struct Usage {
    cpu: BTreeMap<String, Duration>,
    /// Which controller leads.
    pub leader: String,
    /// How often it wrote to the northbound database, how many operations that were, and how many seconds they took.
    commits: [f64; 3],
    /// Transactions in the northbound database's file, whoever's.
    transactions: usize,
    /// The leader's memory now and at most, in MiB.
    pub memory: (u64, u64),
}

/// Between two moments.
#[derive(Clone, Debug)]
pub struct Used {
    /// Processor time by process, most first.
    pub cpu: Vec<(String, Duration)>,
    /// The leader's.
    pub leader: Duration,
    /// How often the leader wrote to the northbound database. Up to 500 operations it is one transaction.
    pub commits: f64,
    /// How many operations that were.
    pub operations: f64,
    /// How long one of them took, on average.
    pub commit: Duration,
    /// Everybody's transactions in the northbound database; northd writes there too.
    pub transactions: usize,
}

impl Usage {
    /// Now, when there is a leader.
    pub async fn now() -> Result<Self> {
        let (leader, metrics) = leader().await?;
        let counter = |name| value(&metrics, name).unwrap_or_default();
        let pid = process::recorded(&state("pid").join(&leader)).context("the leader has ended")?;
        Ok(Self {
            cpu: cpu()?,
            memory: memory(pid)?,
            commits: [
                "kube_ovn_nb_commit_seconds_count",
                "kube_ovn_nb_operations_total",
                "kube_ovn_nb_commit_seconds_sum",
            ]
            .map(counter),
            transactions: transactions()?,
            leader,
        })
    }

    /// What was used since `earlier`, if the same controller has led since then.
    pub fn since(&self, earlier: &Self) -> Result<Used> {
        ensure!(self.leader == earlier.leader, "{} took over meanwhile", self.leader);
        let cpu = spent(&earlier.cpu, &self.cpu);
        let [commits, operations, seconds] = std::array::from_fn(|i| self.commits[i] - earlier.commits[i]);
        Ok(Used {
            leader: cpu.iter().find(|(name, _)| *name == self.leader).map(|(_, time)| *time).unwrap_or_default(),
            cpu,
            commits,
            operations,
            commit: Duration::from_secs_f64((seconds / commits.max(1.0)).max(0.0)),
            transactions: self.transactions.saturating_sub(earlier.transactions),
        })
    }
}

/// Processor time of every process of the lab since its start, and of this one.
pub fn cpu() -> Result<BTreeMap<String, Duration>> {
    let mut all = BTreeMap::from([(MYSELF.to_owned(), ticks("self"))]);
    for entry in fs::read_dir(state("pid"))? {
        let path = entry?.path();
        let Some(pid) = process::recorded(&path) else { continue };
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        all.insert(name, process::itself(pid).iter().map(|pid| ticks(&pid.to_string())).sum());
    }
    Ok(all)
}

/// The difference of two [`cpu`], most first.
pub fn spent(before: &BTreeMap<String, Duration>, after: &BTreeMap<String, Duration>) -> Vec<(String, Duration)> {
    let since = |name: &str, now: Duration| now.saturating_sub(before.get(name).copied().unwrap_or_default());
    let mut cpu: Vec<_> = after.iter().map(|(name, now)| (name.clone(), since(name, *now))).collect();
    cpu.sort_by_key(|(_, time)| std::cmp::Reverse(*time));
    cpu
}

/// User and system time; zero for a process that is gone.
fn ticks(pid: &str) -> Duration {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // The name in field 2 may hold anything, but not a `)` after its own.
    let fields = stat.rsplit_once(')').map(|(_, rest)| rest.split_whitespace()).into_iter().flatten();
    let ticks: u32 = fields.skip(11).take(2).filter_map(|field| field.parse::<u32>().ok()).sum();
    TICK * ticks
}

fn memory(pid: u32) -> Result<(u64, u64)> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let kib = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        line.and_then(|value| value.trim().trim_end_matches(" kB").parse::<u64>().ok()).unwrap_or_default()
    };
    Ok((kib("VmRSS") >> 10, kib("VmHWM") >> 10))
}

/// Every record of the database's file is one transaction.
fn transactions() -> Result<usize> {
    let path = state("central/var/lib/ovn/nb.db");
    let mut text = Vec::new();
    fs::File::open(&path).with_context(|| path.display().to_string())?.read_to_end(&mut text)?;
    Ok(text.split(|byte| *byte == b'\n').filter(|line| line.starts_with(b"OVSDB ")).count())
}

/// The leader's name, and what its `/metrics` say.
pub async fn leader() -> Result<(String, String)> {
    for ((_, address, _), name) in net::CONTROLLERS.into_iter().zip(ours::controllers()) {
        let Ok(metrics) = metrics(address).await else { continue };
        if value(&metrics, "kube_ovn_controller_leader") == Some(1.0) {
            return Ok((name, metrics));
        }
    }
    anyhow::bail!("no controller leads; see {}", state("log").display())
}

async fn metrics(address: &str) -> Result<String> {
    let mut stream = TcpStream::connect((address, 10660)).await?;
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: lab\r\nConnection: close\r\n\r\n").await?;
    let mut text = String::new();
    stream.read_to_string(&mut text).await?;
    Ok(text)
}

fn value(metrics: &str, name: &str) -> Option<f64> {
    metrics.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.trim().parse().ok())
}
