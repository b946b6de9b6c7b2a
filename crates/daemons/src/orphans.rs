//! Reaps the children of this process, including orphans that process 1 inherits.
//!
//! The code that starts a process waits for it. [`reap`] waits for all other children, so that none stays a zombie. All
//! processes of this crate are started with [`spawn`], which records them.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::io;
use std::process::{ExitStatus, Output};
use std::sync::{Mutex, MutexGuard, PoisonError};

use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use tokio::process::Command;
use tokio::signal::unix::{SignalKind, signal};

/// The processes that their starter waits for. The lock is held during the start, so that no exit is missed.
static AWAITED: Mutex<BTreeSet<u32>> = Mutex::new(BTreeSet::new());

/// A child process. Its holder waits for it.
#[derive(Debug)]
pub(crate) struct Child {
    child: tokio::process::Child,
    pid: u32,
}

/// Starts a process.
pub(crate) fn spawn(command: &mut Command) -> io::Result<Child> {
    let mut awaited = awaited();
    let child = command.spawn()?;
    // The ID is missing only after the process was waited for.
    let pid = child.id().unwrap_or_default();
    awaited.insert(pid);
    Ok(Child { child, pid })
}

impl Child {
    /// Returns the process ID in this process' PID namespace.
    pub(crate) fn pid(&self) -> u32 {
        self.pid
    }

    /// Takes the pipes of stdout and stderr. They are returned once.
    pub(crate) fn outputs(&mut self) -> (Option<tokio::process::ChildStdout>, Option<tokio::process::ChildStderr>) {
        (self.child.stdout.take(), self.child.stderr.take())
    }

    /// Waits for the exit. Cancel safe, and can be called again.
    pub(crate) async fn wait(&mut self) -> io::Result<ExitStatus> {
        let status = self.child.wait().await;
        awaited().remove(&self.pid);
        status
    }

    /// Waits for the exit and returns the output.
    pub(crate) async fn output(mut self) -> io::Result<Output> {
        use tokio::io::AsyncReadExt;
        let (stdout, stderr) = self.outputs();
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let read_out = async {
            match stdout {
                Some(mut pipe) => pipe.read_to_end(&mut out).await,
                None => Ok(0),
            }
        };
        let read_err = async {
            match stderr {
                Some(mut pipe) => pipe.read_to_end(&mut err).await,
                None => Ok(0),
            }
        };
        tokio::try_join!(read_out, read_err)?;
        Ok(Output { status: self.wait().await?, stdout: out, stderr: err })
    }

    /// Kills the process with SIGKILL.
    pub(crate) fn kill(&mut self) -> io::Result<()> {
        self.child.start_kill()
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        awaited().remove(&self.pid);
    }
}

/// Reaps exited children that another process started, for as long as this process runs. Only useful in process 1,
/// which inherits orphans. Fails if the signal handler cannot be installed.
pub async fn reap() -> io::Result<Infallible> {
    let mut ends = signal(SignalKind::child())?;
    loop {
        for pid in zombies()? {
            let awaited = awaited();
            if awaited.contains(&pid) {
                continue;
            }
            let Ok(number) = i32::try_from(pid) else { continue };
            if let Ok(WaitStatus::Exited(..) | WaitStatus::Signaled(..)) =
                waitpid(Pid::from_raw(number), Some(WaitPidFlag::WNOHANG))
            {
                tracing::debug!(pid, "took in a process whose parent has ended");
            }
        }
        ends.recv().await;
    }
}

/// Returns the exited children that have not been waited for.
fn zombies() -> io::Result<Vec<u32>> {
    let ours = std::process::id();
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc")? {
        let name = entry?.file_name();
        let Some(pid) = name.to_str().and_then(|name| name.parse().ok()) else { continue };
        // The process may have disappeared in the meantime.
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        if state_and_parent(&stat) == Some(('Z', ours)) {
            found.push(pid);
        }
    }
    Ok(found)
}

/// Returns the third and fourth field of `/proc/<pid>/stat` (proc(5)). The second field can contain spaces and
/// parentheses.
fn state_and_parent(stat: &str) -> Option<(char, u32)> {
    let mut fields = stat.rsplit_once(") ")?.1.split(' ');
    Some((fields.next()?.chars().next()?, fields.next()?.parse().ok()?))
}

fn awaited() -> MutexGuard<'static, BTreeSet<u32>> {
    AWAITED.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_known_by_its_state_and_parent_whatever_it_is_called() {
        assert_eq!(state_and_parent("42 (sh) Z 7 42 42 0"), Some(('Z', 7)));
        assert_eq!(state_and_parent("42 (a) Z 1 (b)) S 7 42"), Some(('S', 7)));
        assert_eq!(state_and_parent(""), None);
    }
}
