//! The CPU time and the memory of the node's own programs while nothing happens, not even probes of a kubelet.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use super::usage::{self, Memory};
use crate::by_hand::{AGENT, OVS};
use crate::process;

/// How long the programs are left alone before.
const BEFORE: Duration = Duration::from_secs(5);
/// How long they are measured.
const MINUTE: Duration = Duration::from_mins(1);

/// The usage of the node's own programs in a minute.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Idle {
    /// The agent, `kube-ovn-cni`.
    pub agent: Quiet,
    /// The parent of Open vSwitch's daemons and ovn-controller, `ovs-ovn`, without them.
    pub supervisor: Quiet,
}

/// The usage of one program.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Quiet {
    /// The CPU time in seconds, with that of the tools that it has run.
    pub cpu: f64,
    /// The memory at the end.
    pub memory: Memory,
}

impl Idle {
    /// Measures the programs of the node on which this process runs. Takes more than a minute.
    pub fn measure() -> Result<Self> {
        let pids = [first(AGENT)?, first(OVS)?];
        std::thread::sleep(BEFORE);
        let before = pids.map(usage::ticks_with_children);
        std::thread::sleep(MINUTE);
        let after = pids.map(usage::ticks_with_children);
        let quiet = |at: usize| {
            let cpu = after[at].saturating_sub(before[at]).as_secs_f64();
            usage::memory_of(pids[at]).map(|memory| Quiet { cpu, memory })
        };
        Ok(Self { agent: quiet(0)?, supervisor: quiet(1)? })
    }
}

/// Returns the first process of a program in this PID namespace. Probes run the same program, but later.
fn first(program: &str) -> Result<u32> {
    let names = fs::read_dir("/proc")?.flatten().map(|entry| entry.file_name());
    let pids = names.filter_map(|name| name.to_str()?.parse::<u32>().ok());
    let found = pids.filter(|pid| process::program(*pid).is_some_and(|name| name == program)).min();
    found.with_context(|| format!("{program} does not run on this node"))
}
