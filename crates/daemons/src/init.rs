//! What process 1 does before it runs daemons.

use std::fmt;
use std::io;
use std::path::Path;

use nix::sys::resource::{Resource, getrlimit, setrlimit};

use crate::orphans;
use crate::turn::Turn;

/// A directory, a socket or a limit cannot be set up.
#[derive(Debug, thiserror::Error)]
#[error("{what}: {source}")]
pub struct InitError {
    what: String,
    source: io::Error,
}

impl InitError {
    /// Returns a function that names what failed.
    pub fn on(what: &dyn fmt::Display) -> impl FnOnce(io::Error) -> Self {
        let what = what.to_string();
        move |source| Self { what, source }
    }
}

/// Takes in orphans if this is process 1, and raises the limit of open files, which it returns. Needs a tokio runtime.
pub fn begin() -> Result<u64, InitError> {
    if std::process::id() == 1 {
        tokio::spawn(async {
            let Err(error) = orphans::reap().await;
            tracing::error!(%error, "orphans are not taken in");
        });
    }
    raise_open_files().map_err(InitError::on(&"raise the number of open files"))
}

/// Creates the directory of the sockets and the other ones, and waits until no other process runs the daemons of this
/// directory. Returns `None` if `stop` comes first.
pub async fn take_turn(sockets: &Path, others: &[&Path], stop: impl Future) -> Result<Option<Turn>, InitError> {
    for path in [sockets].iter().chain(others) {
        std::fs::create_dir_all(path).map_err(InitError::on(&path.display()))?;
    }
    tokio::select! {
        turn = Turn::take(sockets) => turn.map(Some).map_err(InitError::on(&format_args!("lock {}", sockets.display()))),
        _ = stop => Ok(None),
    }
}

/// Raises the limit of open files for processes started from now on. A database needs one for each client, and
/// ovs-vswitchd several for each port.
fn raise_open_files() -> io::Result<u64> {
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE)?;
    // Some programs loop over all possible file descriptors. With a million of them, they are slow.
    let soft = most.min(65_536);
    setrlimit(Resource::RLIMIT_NOFILE, soft, most)?;
    Ok(soft)
}
