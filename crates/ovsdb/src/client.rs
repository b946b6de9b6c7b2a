//! The live client: one background task that keeps a session and the replica, and handles to read and write.
//!
//! It promises that the replica holds what a transaction wrote before [`Client::transact`] returns,
//! that no change is lost or reported before the replica has it, and that no request is ever sent twice.

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

use crate::{Op, Replica};

pub use changes::{Change, Changes};
pub use config::{Config, ConfigError};
pub use endpoint::{Endpoint, EndpointError};
pub use frame::{FrameError, Framer};
pub use tls::{TlsError, TlsFiles};
pub use transact::{OpReply, TransactError};

use state::State;

/// A handle to the database. Clones share one session, which ends with the last of them.
#[derive(Clone)]
pub struct Client {
    state: Arc<State>,
    /// Its only use is to be dropped with the last handle.
    _alive: Arc<watch::Sender<()>>,
}

/// Only what it is connected to: the replica may be large.
impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("database", &self.state.config.database).finish_non_exhaustive()
    }
}

impl Client {
    /// Starts the session in the background and returns at once. It connects, and connects again, for ever.
    ///
    /// Must be called within a tokio runtime.
    pub fn spawn(config: Config) -> (Client, Changes) {
        let (alive, handles) = watch::channel(());
        let (state, changes) = State::new(config);
        let state = Arc::new(state);
        tokio::spawn(session::run(state.clone(), handles));
        (Client { state, _alive: Arc::new(alive) }, changes)
    }

    /// Waits until a live session's snapshot is in the replica.
    pub async fn synced(&self) {
        // The sender lives as long as `self`.
        let _ = self.connected().wait_for(|connected| *connected).await;
    }

    /// True while a session is live and the replica current.
    pub fn connected(&self) -> watch::Receiver<bool> {
        self.state.connected.subscribe()
    }

    /// Why there is no session: the endpoint tried last, and what went wrong with it. `None` while one is live.
    pub fn failure(&self) -> watch::Receiver<Option<Arc<str>>> {
        self.state.failure.subscribe()
    }

    /// Reads the replica under a short lock. While there is no session it is as it last was.
    pub fn read<R>(&self, f: impl FnOnce(&Replica) -> R) -> R {
        f(&self.state.replica())
    }

    /// Runs the operations as one transaction. On `Ok` everything it wrote is in the replica.
    ///
    /// A future that is dropped before the request is written takes it back; later that cannot be told.
    pub async fn transact(&self, ops: &[Op]) -> Result<Vec<OpReply>, TransactError> {
        transact::transact(&self.state, ops).await
    }
}
