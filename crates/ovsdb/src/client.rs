//! The live client: one background task that keeps a session and the replica, and handles to read and write.
//!
//! It promises that the replica holds what a transaction wrote before [`Client::transact`] returns,
//! that no change is lost or reported before the replica has it, and that no request is ever sent twice.

mod backoff;
mod changes;
mod endpoint;
mod frame;
mod session;
mod state;
mod ticket;
mod tls;
mod transact;
mod transport;
mod wire;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use crate::{Op, Replica, Table};

pub use changes::{Change, Changes};
pub use endpoint::{Endpoint, EndpointError};
pub use frame::{FrameError, Framer};
pub use tls::{TlsError, TlsFiles};
pub use transact::{OpReply, TransactError};

use state::State;

/// What to connect to, and what to keep a copy of.
#[derive(Clone, Debug)]
pub struct Config {
    /// The servers of one database, tried in turn.
    pub endpoints: Vec<Endpoint>,
    /// The database's name in its schema, such as `OVN_Northbound`.
    pub database: &'static str,
    /// Key and certificates for `ssl:` endpoints. They are read for each connection.
    pub tls: Option<TlsFiles>,
    /// The tables to copy. Tables and columns that the server's schema lacks are left out, with a warning.
    pub tables: Vec<Table>,
    /// How long the server may be silent before it is asked for a sign of life, and how long that may then take.
    pub inactivity: Duration,
    /// How long connecting and reading the schema may take.
    pub connect_timeout: Duration,
    /// How long a transaction may take. Then the session is given up, since its outcome cannot be known on it.
    pub request_timeout: Duration,
    /// The shortest and the longest pause between attempts to connect; jitter is added.
    pub backoff: (Duration, Duration),
    /// The largest message to accept, in bytes. A snapshot is one message.
    pub max_message: usize,
}

/// Why a [`Config`] can never connect to some of its endpoints.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// There is nothing to connect to.
    #[error("no endpoint is given")]
    NoEndpoint,
    /// An `ssl:` endpoint, and no key and certificates.
    #[error("endpoint {0} needs a private key, a certificate and a CA certificate")]
    NoTls(Endpoint),
    /// An `ssl:` endpoint, and files that cannot be used.
    #[error("endpoint {endpoint}: {source}")]
    Tls {
        /// The first such endpoint.
        endpoint: Endpoint,
        /// What is wrong with the files.
        source: Box<TlsError>,
    },
}

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

impl Config {
    /// A configuration with the usual times: 30 s of inactivity, 10 s to connect, 60 s for a transaction,
    /// pauses from 50 ms to 2 s, messages of up to 512 MiB.
    pub fn new(endpoints: Vec<Endpoint>, database: &'static str, tables: Vec<Table>) -> Config {
        Config {
            endpoints,
            database,
            tls: None,
            tables,
            inactivity: Duration::from_secs(30),
            connect_timeout: Duration::from_secs(10),
            request_timeout: Duration::from_mins(1),
            backoff: (Duration::from_millis(50), Duration::from_secs(2)),
            max_message: frame::MAX_MESSAGE,
        }
    }

    /// Whether every endpoint can be tried, as the files are now. [`Client::spawn`] does not ask: it tries, for ever.
    pub fn check(&self) -> Result<(), ConfigError> {
        if self.endpoints.is_empty() {
            return Err(ConfigError::NoEndpoint);
        }
        let ssl = self.endpoints.iter().find(|endpoint| matches!(endpoint, Endpoint::Ssl { .. }));
        match (ssl, &self.tls) {
            (None, _) => Ok(()),
            (Some(endpoint), None) => Err(ConfigError::NoTls(endpoint.clone())),
            (Some(endpoint), Some(files)) => {
                files.check().map_err(|error| ConfigError::Tls { endpoint: endpoint.clone(), source: Box::new(error) })
            }
        }
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
