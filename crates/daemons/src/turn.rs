//! The right to run the daemons of a directory. Only one process at a time has it.
//!
//! A container can start while its predecessor on the same node still ends, for example when the pod was deleted with
//! `--force`. Daemons remove their sockets when they end, so the predecessor's would remove those of the successor's.

use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::path::Path;

use tokio::sync::oneshot;

/// The name of the locked file.
const FILE: &str = "kube-ovn.lock";

/// The right to run the daemons of a directory. It ends with the value, or with the process.
#[derive(Debug)]
pub struct Turn {
    _file: File,
}

impl Turn {
    /// Waits until no other process has the right for this directory.
    pub async fn take(directory: &Path) -> io::Result<Self> {
        let file = OpenOptions::new().create(true).truncate(false).write(true).open(directory.join(FILE))?;
        match file.try_lock() {
            Ok(()) => return Ok(Self { _file: file }),
            Err(TryLockError::Error(error)) => return Err(error),
            Err(TryLockError::WouldBlock) => {}
        }
        tracing::warn!(directory = %directory.display(), "another process still runs the daemons here; waiting for its end");
        let (sender, locked) = oneshot::channel();
        // Not a thread of the runtime: the runtime would wait for it when the process is to end.
        std::thread::spawn(move || sender.send(file.lock().map(|()| file)));
        let file = locked.await.map_err(io::Error::other)??;
        Ok(Self { _file: file })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn the_second_one_waits_for_the_end_of_the_first_one() {
        let dir = tempfile::tempdir().unwrap();
        let first = Turn::take(dir.path()).await.unwrap();
        let mut second = std::pin::pin!(Turn::take(dir.path()));
        assert!(tokio::time::timeout(Duration::from_millis(200), &mut second).await.is_err());
        drop(first);
        second.await.unwrap();
        Turn::take(tempfile::tempdir().unwrap().path()).await.unwrap();
    }
}
