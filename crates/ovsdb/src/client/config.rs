//! The configuration of a client: endpoints, timeouts and limits.

use std::time::Duration;

use super::endpoint::Endpoint;
use super::tls::{TlsError, TlsFiles};
use crate::{Condition, Replica, Table};

/// The servers to connect to and the tables to replicate.
#[derive(Clone, Debug)]
pub struct Config {
    /// The servers of one database. The client tries them in turn, starting after the endpoint of the last session.
    /// [`Client::use_endpoints`](super::Client::use_endpoints) replaces them.
    pub endpoints: Vec<Endpoint>,
    /// The database's name in its schema, such as `OVN_Northbound`.
    pub database: &'static str,
    /// Which servers to accept. Writers need the leader: followers can serve stale data and forward writes. When a server
    /// reports that it is not one of these any more, the session ends and the client tries the next endpoint at once.
    pub accept: Accept,
    /// The private key and certificates for `ssl:` endpoints. The client reads the files for each connection.
    pub tls: Option<TlsFiles>,
    /// The tables to replicate. Tables and columns that are missing in the server's schema are skipped with a warning.
    pub tables: Vec<Table>,
    /// Tables of which only some rows are replicated: those that meet one of the conditions of their table. A row that
    /// meets one after a change, or none any more, is reported like one that was inserted or deleted.
    pub only: Vec<(&'static str, Condition)>,
    /// Whether this is a database that was founded empty and is not filled yet. When such a one takes the place of another,
    /// [`Client::before`](super::Client::before) has the contents of the latter until it is filled. With `None`, they are dropped.
    pub unfilled: Option<fn(&Replica) -> bool>,
    /// How long the server may be silent before the client sends an echo request, and how long it waits for the reply.
    pub inactivity: Duration,
    /// The time limit for connecting and reading the schema.
    pub connect_timeout: Duration,
    /// The time limit for a transaction. When it expires, the session ends, because the outcome is unknown.
    pub request_timeout: Duration,
    /// The shortest and the longest pause after a round of all endpoints in which no session outlived the longest
    /// pause. The pause doubles from round to round and includes jitter.
    pub backoff: (Duration, Duration),
    /// The largest message to accept, in bytes. A larger update ends the session. The next session starts with the same
    /// changes, under the limit of [`Config::max_snapshot`].
    pub max_message: usize,
    /// The largest message to accept while a monitor request is pending. Its reply is one message, whatever the
    /// database size.
    pub max_snapshot: usize,
}

/// The servers that a client accepts, by what they report about themselves. A standalone server is always accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Accept {
    /// Any server that answers. A member of a cluster can be behind, or cut off.
    Any,
    /// A member that is connected to its cluster. It can be behind.
    Connected,
    /// The leader of the cluster, if it is not behind what the client has seen of it.
    Leader,
}

/// Why the client can never connect to some endpoints of a [`Config`].
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The list of endpoints is empty.
    #[error("no endpoint is given")]
    NoEndpoint,
    /// An `ssl:` endpoint without a private key and certificates.
    #[error("endpoint {0} needs a private key, a certificate and a CA certificate")]
    NoTls(Endpoint),
    /// An `ssl:` endpoint with files that cannot be used.
    #[error("endpoint {endpoint}: {source}")]
    Tls {
        /// The first `ssl:` endpoint.
        endpoint: Endpoint,
        /// The error in the files.
        source: Box<TlsError>,
    },
}

impl Config {
    /// Returns a configuration with the defaults: 30 s of inactivity, 10 s to connect, 60 s for a transaction, pauses
    /// from 50 ms to 2 s, messages of up to 64 MiB and snapshots of up to 512 MiB.
    pub fn new(endpoints: Vec<Endpoint>, database: &'static str, tables: Vec<Table>) -> Config {
        Config {
            endpoints,
            database,
            accept: Accept::Any,
            tls: None,
            tables,
            only: Vec::new(),
            unfilled: None,
            inactivity: Duration::from_secs(30),
            connect_timeout: Duration::from_secs(10),
            request_timeout: Duration::from_mins(1),
            backoff: (Duration::from_millis(50), Duration::from_secs(2)),
            max_message: 64 << 20,
            max_snapshot: 512 << 20,
        }
    }

    /// Checks that every endpoint can be tried with the current files. [`Client::spawn`](super::Client::spawn) does not
    /// check: it retries indefinitely.
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
