//! Children of this process: those that it has started itself, and those that process 1 is given when their parents end.
//!
//! Who has started a process waits for it; [`reap`] takes in all others, so that none stays a zombie. To tell them apart
//! every process of this crate is started by [`spawn`].

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::io;
use std::process::{ExitStatus, Output};
use std::sync::{Mutex, MutexGuard, PoisonError};

use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use tokio::process::Command;
use tokio::signal::unix::{SignalKind, signal};

/// Those that somebody waits for. Held while one is started, so that none can end before it is in here.
static AWAITED: Mutex<BTreeSet<u32>> = Mutex::new(BTreeSet::new());

/// A child that was started here, and is waited for by its holder.
#[derive(Debug)]
pub(crate) struct Child {
    child: tokio::process::Child,
    pid: u32,
}

/// Starts a process.
pub(crate) fn spawn(command: &mut Command) -> io::Result<Child> {
    let mut awaited = awaited();
    let child = command.spawn()?;
    // Only one that has been waited for has none.
    let pid = child.id().unwrap_or_default();
    awaited.insert(pid);
    Ok(Child { child, pid })
}

impl Child {
    /// Its number, as this process sees it.
    pub(crate) fn pid(&self) -> u32 {
        self.pid
    }

    /// Its two outputs, when they are pipes, once.
    pub(crate) fn outputs(&mut self) -> (Option<tokio::process::ChildStdout>, Option<tokio::process::ChildStderr>) {
        (self.child.stdout.take(), self.child.stderr.take())
    }

    /// Waits for its end. Safe to cancel, and to ask again.
    pub(crate) async fn wait(&mut self) -> io::Result<ExitStatus> {
        let status = self.child.wait().await;
        awaited().remove(&self.pid);
        status
    }

    /// Waits for its end, and gives all that it has written.
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

    /// Ends it by SIGKILL.
    pub(crate) fn kill(&mut self) -> io::Result<()> {
        self.child.start_kill()
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        awaited().remove(&self.pid);
    }
}

/// Takes in what ends and was started by somebody else, for as long as this process lives. For process 1 only: another one
/// is given nobody's children. Fails when the signal's handler cannot be installed.
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

/// Children of this process that have ended and have not been taken in.
fn zombies() -> io::Result<Vec<u32>> {
    let ours = std::process::id();
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc")? {
        let name = entry?.file_name();
        let Some(pid) = name.to_str().and_then(|name| name.parse().ok()) else { continue };
        // It may have gone meanwhile.
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        if state_and_parent(&stat) == Some(('Z', ours)) {
            found.push(pid);
        }
    }
    Ok(found)
}

/// The third and the fourth field of `/proc/<pid>/stat` (proc(5)); the second may hold blanks and brackets.
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
