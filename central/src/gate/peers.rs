//! The other servers of the clusters: each has a socket in this container.

use std::collections::BTreeSet;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::mpsc;

use crate::address;

/// Sockets of servers that are new, and the addresses of their gates.
pub type Queue = mpsc::UnboundedReceiver<(UnixListener, SocketAddr)>;

/// The servers that are known. Clones share them.
#[derive(Clone, Debug)]
pub struct Peers {
    run_directory: PathBuf,
    known: Arc<Mutex<BTreeSet<SocketAddr>>>,
    new: mpsc::UnboundedSender<(UnixListener, SocketAddr)>,
}

impl Peers {
    /// Makes the directory of the sockets, and removes what a killed process has left there. `own` are the servers of this
    /// member, which have their sockets themselves.
    pub fn new(run_directory: &Path, own: impl IntoIterator<Item = SocketAddr>) -> io::Result<(Self, Queue)> {
        let directory = address::directory(run_directory);
        match std::fs::remove_dir_all(&directory) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&directory)?;
        let (new, queue) = mpsc::unbounded_channel();
        let known = Arc::new(Mutex::new(own.into_iter().collect()));
        Ok((Self { run_directory: run_directory.to_owned(), known, new }, queue))
    }

    /// Makes a socket for each of these servers that has none.
    pub fn know(&self, servers: impl IntoIterator<Item = SocketAddr>) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        for server in servers {
            if known.contains(&server) {
                continue;
            }
            match self.bind(server) {
                Ok(listener) => {
                    known.insert(server);
                    // The gate ends with the process.
                    let _ = self.new.send((listener, server));
                }
                Err(error) => tracing::warn!(%server, %error, "another server is not reached"),
            }
        }
    }

    fn bind(&self, server: SocketAddr) -> io::Result<UnixListener> {
        let listener = UnixListener::bind(address::socket(&self.run_directory, server))?;
        listener.set_nonblocking(true)?;
        Ok(listener)
    }
}
