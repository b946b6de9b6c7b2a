//! Records of processes. A record contains the process ID and the start time from the kernel, so that a reused ID is
//! not mistaken for the process.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

/// Writes the record of a running process.
pub fn write(file: &Path, pid: u32) -> Result<()> {
    let started = start_time(pid).with_context(|| format!("process {pid} ended at once"))?;
    fs::write(file, format!("{pid} {started}\n")).with_context(|| file.display().to_string())
}

/// Returns the process ID in a record if the process is still running.
pub fn recorded(file: &Path) -> Option<u32> {
    let text = fs::read_to_string(file).ok()?;
    let (pid, started) = text.trim().split_once(' ')?;
    let pid = pid.parse().ok()?;
    (start_time(pid)? == started).then_some(pid)
}

/// Returns field 22 of `/proc/<pid>/stat`, or `None` for a process that has exited. A zombie counts as exited when its
/// last thread has ended, because only then are its sockets and files closed.
fn start_time(pid: u32) -> Option<String> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name in field 2 can contain any character, but the last `)` ends it.
    let fields: Vec<_> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let threads = || fs::read_dir(format!("/proc/{pid}/task")).map_or(0, Iterator::count);
    let ended = fields.first() == Some(&"Z") && threads() <= 1;
    (!ended).then(|| fields.get(19).map(ToString::to_string))?
}
