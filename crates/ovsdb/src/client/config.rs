//! Where a database is, and how patient a client of it is.

use std::time::Duration;

use super::endpoint::Endpoint;
use super::tls::{TlsError, TlsFiles};
use crate::Table;

/// What to connect to, and what to keep a copy of.
#[derive(Clone, Debug)]
pub struct Config {
    /// The servers of one database, tried in turn, from the one behind that of the last session on.
    pub endpoints: Vec<Endpoint>,
    /// The database's name in its schema, such as `OVN_Northbound`.
    pub database: &'static str,
    /// Whether only the leader of a cluster will do, as it must for whoever writes: other members may serve what is old,
    /// and pass writes on. A server says whether it leads; when that ends, so does the session, and the next endpoint is
    /// tried at once. A standalone database leads itself. When false the server is not asked.
    pub leader_only: bool,
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
    /// The shortest and the longest pause after a round of all endpoints in which no session outlived the longest pause.
    /// It doubles from round to round; jitter is added.
    pub backoff: (Duration, Duration),
    /// The largest message to accept, in bytes. An update that is larger ends the session, and the next one begins with
    /// what it told, under the limit of [`Config::max_snapshot`].
    pub max_message: usize,
    /// The largest message to accept while a monitor is asked for, whose reply is one message however large the database is.
    pub max_snapshot: usize,
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

impl Config {
    /// A configuration with the usual times: 30 s of inactivity, 10 s to connect, 60 s for a transaction,
    /// pauses from 50 ms to 2 s, messages of up to 64 MiB and snapshots of up to 512 MiB.
    pub fn new(endpoints: Vec<Endpoint>, database: &'static str, tables: Vec<Table>) -> Config {
        Config {
            endpoints,
            database,
            leader_only: false,
            tls: None,
            tables,
            inactivity: Duration::from_secs(30),
            connect_timeout: Duration::from_secs(10),
            request_timeout: Duration::from_mins(1),
            backoff: (Duration::from_millis(50), Duration::from_secs(2)),
            max_message: 64 << 20,
            max_snapshot: 512 << 20,
        }
    }

    /// Whether every endpoint can be tried, as the files are now. [`Client::spawn`](super::Client::spawn) does not ask: it tries, for ever.
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
