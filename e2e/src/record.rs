//! Records of processes: a file with a pid and the kernel's start time of it, so that a number used again by somebody else is
//! never taken for the process.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

/// Writes the record of a running process.
pub fn write(file: &Path, pid: u32) -> Result<()> {
    let started = start_time(pid).with_context(|| format!("process {pid} ended at once"))?;
    fs::write(file, format!("{pid} {started}\n")).with_context(|| file.display().to_string())
}

/// The pid in a record, if that very process still runs.
pub fn recorded(file: &Path) -> Option<u32> {
    let text = fs::read_to_string(file).ok()?;
    let (pid, started) = text.trim().split_once(' ')?;
    let pid = pid.parse().ok()?;
    (start_time(pid)? == started).then_some(pid)
}

/// Field 22 of `/proc/<pid>/stat`; none for a process that is gone, or a zombie that has let go of everything: its sockets
/// and files are closed when its last thread has ended.
fn start_time(pid: u32) -> Option<String> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name in field 2 may hold anything, but not a `)` after its own.
    let fields: Vec<_> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let threads = || fs::read_dir(format!("/proc/{pid}/task")).map_or(0, Iterator::count);
    let ended = fields.first() == Some(&"Z") && threads() <= 1;
    (!ended).then(|| fields.get(19).map(ToString::to_string))?
}
