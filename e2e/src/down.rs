//! `lab down`: removes everything that `up` creates, in whatever state it is. Continues after an error.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use futures::future::join_all;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::cgroup::Hierarchies;
use crate::layout::{STATE, state};
use crate::{net, node, process};

/// Removes the recorded processes, then namespaces and links by name, the cgroups, and the state directory. After an
/// error the state directory stays, so that the next attempt has the records.
pub async fn down() -> Result<()> {
    let mut errors = Vec::new();
    let records: Vec<_> = fs::read_dir(state("pid")).into_iter().flatten().flatten().map(|e| e.path()).collect();
    // No process needs a graceful stop, because its data is removed. Killing a node's process 1 kills all processes on
    // it.
    let ends = records.iter().map(|r| process::stop(r, Duration::ZERO));
    errors.extend(join_all(ends).await.into_iter().filter_map(Result::err));
    let groups = Hierarchies::here()?;
    for process in groups.processes() {
        let _ = kill(Pid::from_raw(process), Signal::SIGKILL); // of a node that failed before it was recorded
    }
    errors.extend(net::down().await);
    errors.extend(groups.remove().err());
    if fs::read_to_string("/proc/self/mountinfo")?.contains(STATE) {
        bail!("something is mounted under {STATE}; unmount it before its files are removed");
    }
    node::remove_mount_points();
    if errors.is_empty() {
        match fs::remove_dir_all(STATE) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(e).context(STATE),
            _ => return Ok(()),
        }
    }
    bail!("{}", errors.iter().map(|e| format!("{e:#}")).collect::<Vec<_>>().join("\n"))
}
