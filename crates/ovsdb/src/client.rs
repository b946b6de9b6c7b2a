//! The OVSDB client: one background task keeps a session and the replica up to date, and handles read and write.
//!
//! The client guarantees that:
//!
//! - the replica contains what a transaction wrote before [`Client::transact`] returns;
//! - no change is lost, and no change is reported before the replica contains it;
//! - no request is sent twice.

mod backoff;
mod changes;
mod config;
mod endpoint;
mod error;
mod frame;
mod leader;
mod session;
mod state;
mod ticket;
mod tls;
mod transact;
mod transport;
mod turns;
mod wire;

use std::fmt;
use std::sync::Arc;

use tokio::sync::watch;
use uuid::Uuid;

use crate::{Op, Replica};

pub use changes::{Change, Changes};
pub use config::{Accept, Config, ConfigError};
pub use endpoint::{Endpoint, EndpointError};
pub use frame::{FrameError, Framer};
pub use tls::{TlsError, TlsFiles};
pub use transact::{OpReply, TransactError};

use state::State;

/// A handle to the database. Clones share one session. The session ends when the last clone is dropped.
#[derive(Clone)]
pub struct Client {
    state: Arc<State>,
    /// Signals the session task when the last handle is dropped.
    _alive: Arc<watch::Sender<()>>,
}

/// Prints only the database name, because the replica can be large.
impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("database", &self.state.config.database).finish_non_exhaustive()
    }
}

impl Client {
    /// Starts the session in the background and returns at once. The session task reconnects for as long as a handle
    /// exists.
    ///
    /// Must be called within a tokio runtime.
    pub fn spawn(config: Config) -> (Client, Changes) {
        let (alive, handles) = watch::channel(());
        let (state, changes) = State::new(config);
        let state = Arc::new(state);
        tokio::spawn(session::run(state.clone(), handles));
        (Client { state, _alive: Arc::new(alive) }, changes)
    }

    /// Waits until the replica contains the snapshot of a live session.
    pub async fn synced(&self) {
        // The sender lives as long as `self`.
        let _ = self.connected().wait_for(|connected| *connected).await;
    }

    /// True while a session is live and the replica is current.
    pub fn connected(&self) -> watch::Receiver<bool> {
        self.state.connected.subscribe()
    }

    /// Replaces the servers of the configuration. A session goes on if its server is among them, and ends otherwise. Without any
    /// server, the client waits.
    pub fn use_endpoints(&self, endpoints: Vec<Endpoint>) {
        self.state.endpoints.send_if_modified(|before| {
            let changed = *before != endpoints;
            *before = endpoints;
            changed
        });
    }

    /// The last connection error, with the endpoint that failed. `None` while a session is live.
    pub fn failure(&self) -> watch::Receiver<Option<Arc<str>>> {
        self.state.failure.subscribe()
    }

    /// Reads the replica under a short lock. Without a session, the replica keeps its last state.
    pub fn read<R>(&self, f: impl FnOnce(&Replica) -> R) -> R {
        f(&self.state.replica())
    }

    /// The contents of the database whose place one took that was founded empty, until that is filled ([`Config::unfilled`]).
    pub fn before(&self) -> Option<Arc<Replica>> {
        self.state.before().clone()
    }

    /// Asks the server of the live session for the ID of its cluster, which no other cluster has. `None` for a standalone
    /// database.
    pub async fn cluster(&self) -> Result<Option<Uuid>, TransactError> {
        transact::cluster(&self.state).await
    }

    /// Runs the operations as one transaction. On `Ok`, the replica contains everything that the transaction wrote.
    ///
    /// Dropping the future before the request is written cancels the request. After that, the outcome is unknown.
    pub async fn transact(&self, ops: &[Op]) -> Result<Vec<OpReply>, TransactError> {
        transact::transact(&self.state, ops).await
    }
}
