//! The CPU time and the memory of the node's own programs while nothing happens.

use std::time::Duration;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use super::usage::{self, Memory};
use crate::layout::Node;
use crate::part::Part;

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
    /// Measures the programs of a node, which must have nothing to do. Takes more than a minute.
    pub fn measure(node: Node) -> Result<Self> {
        let pid = |part: Part| part.pid().with_context(|| format!("{} does not run", part.name()));
        let [agent, supervisor] = [pid(Part::Agent(node))?, pid(Part::Ovs(node))?];
        let cpu = || [agent, supervisor].map(usage::ticks_with_children);
        std::thread::sleep(BEFORE);
        let before = cpu();
        std::thread::sleep(MINUTE);
        let after = cpu();
        let quiet = |at: usize, pid| {
            let spent = after[at].saturating_sub(before[at]);
            usage::memory_of(pid).map(|memory| Quiet { cpu: spent.as_secs_f64(), memory })
        };
        Ok(Self { agent: quiet(0, agent)?, supervisor: quiet(1, supervisor)? })
    }
}
