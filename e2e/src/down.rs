//! `lab down`: removes all that `up` made, whatever state it is in, and goes on after an error.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::cgroup::Hierarchies;
use crate::layout::{STATE, state};
use crate::{net, node, process};

/// Processes by their records, then namespaces and links by their names, control groups, and the state itself. On an error
/// the state stays, so that the next try still knows what was recorded.
pub async fn down() -> Result<()> {
    let mut errors = Vec::new();
    let records: Vec<_> = fs::read_dir(state("pid")).into_iter().flatten().flatten().map(|e| e.path()).collect();
    // A node's process 1 takes everything on the node with it, and nothing of it needs a farewell.
    let (inits, others): (Vec<_>, Vec<_>) = records
        .into_iter()
        .partition(|p| p.file_name().is_some_and(|n| crate::layout::Node::named(&n.to_string_lossy()).is_some()));
    let ends = inits.iter().map(|r| process::stop(r, Duration::ZERO)).collect::<Vec<_>>();
    errors.extend(futures::future::join_all(ends).await.into_iter().filter_map(Result::err));
    let ends = others.iter().map(|r| process::stop(r, Duration::from_secs(3))).collect::<Vec<_>>();
    errors.extend(futures::future::join_all(ends).await.into_iter().filter_map(Result::err));
    errors.extend(net::down().await);
    errors.extend(Hierarchies::here().and_then(|h| h.remove()).err());
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
