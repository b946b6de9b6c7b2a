//! The resources that the lab's processes use: CPU time and memory from `/proc`, and the leader's metrics.

use std::collections::BTreeMap;
use std::fs;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};

use crate::layout::{Node, state};
use crate::part::Part;
use crate::{by_hand, ours, process, rootfs};

/// The unit of CPU time in `/proc`.
const TICK: Duration = Duration::from_millis(10);
/// The name of this program in a table of processes.
const MYSELF: &str = "(this bench)";

/// The resources used up to a moment.
#[derive(Clone, Debug)]
pub struct Usage {
    cpu: BTreeMap<String, Duration>,
    /// The name of the leader.
    pub leader: String,
    /// The number of northbound commits, the number of operations in them, and their total duration in seconds.
    commits: [f64; 3],
}

/// The memory of a process in MiB.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub struct Memory {
    /// The current resident size.
    pub now: f64,
    /// The maximum resident size since the start or the last [`forget_peak`].
    pub most: f64,
    /// The anonymous part of the current resident size, without the files of the program and libraries.
    pub data: f64,
}

/// The resources used between two moments.
#[derive(Clone, Debug)]
pub struct Used {
    /// CPU time by process, in descending order.
    pub cpu: Vec<(String, Duration)>,
    /// The CPU time of the leader.
    pub leader: Duration,
    /// The number of operations in the leader's northbound commits.
    pub operations: f64,
    /// The average duration of a commit.
    pub commit: Duration,
}

impl Used {
    /// Returns the CPU time of all processes whose name contains one of these words.
    pub fn by(&self, words: &[&str]) -> Duration {
        let named = |name: &str| words.iter().any(|word| name.contains(word));
        self.cpu.iter().filter(|(name, _)| named(name)).map(|(_, time)| *time).sum()
    }
}

impl Usage {
    /// Reads the current values. Fails without a leader.
    pub async fn now() -> Result<Self> {
        let (leader, metrics) = ours::leader().await?;
        let counter = |name| ours::value(&metrics, name).unwrap_or_default();
        Ok(Self {
            cpu: cpu()?,
            commits: [
                "kube_ovn_nb_commit_seconds_count",
                "kube_ovn_nb_operations_total",
                "kube_ovn_nb_commit_seconds_sum",
            ]
            .map(counter),
            leader,
        })
    }

    /// Returns the difference from `earlier`. Fails if the leader has changed.
    pub fn since(&self, earlier: &Self) -> Result<Used> {
        ensure!(self.leader == earlier.leader, "{} took over meanwhile", self.leader);
        let cpu = spent(&earlier.cpu, &self.cpu);
        let [commits, operations, seconds] = std::array::from_fn(|i| self.commits[i] - earlier.commits[i]);
        Ok(Used {
            leader: cpu.iter().find(|(name, _)| *name == self.leader).map(|(_, time)| *time).unwrap_or_default(),
            cpu,
            operations,
            commit: Duration::from_secs_f64((seconds / commits.max(1.0)).max(0.0)),
        })
    }
}

/// Returns the total CPU time of every process of the lab, of its units, and of this process. A child is named after
/// its parent and its program. Processes with the same name are added up.
pub fn cpu() -> Result<BTreeMap<String, Duration>> {
    let mut all = BTreeMap::from([(MYSELF.to_owned(), ticks("self"))]);
    for entry in fs::read_dir(state("pid"))? {
        let path = entry?.path();
        let Some(pid) = process::recorded(&path) else { continue };
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        for pid in process::itself(pid) {
            add(&mut all, &name, pid);
        }
    }
    for node in Node::running() {
        for pid in rootfs::systemd(node).map(process::children).unwrap_or_default() {
            if let Some(program) = process::program(pid) {
                add(&mut all, &by_hand::name(node, &program), pid);
            }
        }
    }
    Ok(all)
}

/// Adds a process and its children.
fn add(all: &mut BTreeMap<String, Duration>, name: &str, pid: u32) {
    *all.entry(name.to_owned()).or_default() += ticks(&pid.to_string());
    for child in process::children(pid) {
        let program = fs::read_to_string(format!("/proc/{child}/comm")).unwrap_or_default();
        *all.entry(format!("{name} {}", program.trim())).or_default() += ticks(&child.to_string());
    }
}

/// Returns the difference of two [`cpu`] results, in descending order.
pub fn spent(before: &BTreeMap<String, Duration>, after: &BTreeMap<String, Duration>) -> Vec<(String, Duration)> {
    let since = |name: &str, now: Duration| now.saturating_sub(before.get(name).copied().unwrap_or_default());
    let mut cpu: Vec<_> = after.iter().map(|(name, now)| (name.clone(), since(name, *now))).collect();
    cpu.sort_by_key(|(_, time)| std::cmp::Reverse(*time));
    cpu
}

/// Returns the user and system time of a process. Zero if it has exited.
fn ticks(pid: &str) -> Duration {
    ticks_of(pid, 2)
}

/// Returns the user and system time of a process and of its children that have exited.
pub fn ticks_with_children(pid: u32) -> Duration {
    ticks_of(&pid.to_string(), 4)
}

/// Adds up this many of the fields `utime`, `stime`, `cutime` and `cstime` (proc(5)).
fn ticks_of(pid: &str, fields: usize) -> Duration {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // The name in field 2 can contain any character, but the last `)` ends it.
    let words = stat.rsplit_once(')').map(|(_, rest)| rest.split_whitespace()).into_iter().flatten();
    let ticks: u32 = words.skip(11).take(fields).filter_map(|field| field.parse::<u32>().ok()).sum();
    TICK * ticks
}

/// Returns the memory of the controller `name`.
pub fn memory(name: &str) -> Result<Memory> {
    memory_of(pid(name)?)
}

/// Returns the memory of a process.
pub fn memory_of(pid: u32) -> Result<Memory> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let mebibytes = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        line.and_then(|value| value.trim().trim_end_matches(" kB").parse::<f64>().ok()).unwrap_or_default() / 1024.0
    };
    Ok(Memory { now: mebibytes("VmRSS"), most: mebibytes("VmHWM"), data: mebibytes("RssAnon") })
}

/// Resets the kernel's maximum resident size of the controller `name`.
pub fn forget_peak(name: &str) -> Result<()> {
    Ok(fs::write(format!("/proc/{}/clear_refs", pid(name)?), "5")?)
}

fn pid(controller: &str) -> Result<u32> {
    let part = Part::Controller(ours::place(controller)?);
    part.pid().with_context(|| format!("{controller} does not run"))
}
