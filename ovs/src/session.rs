//! The session with the node's database: what this program reads and writes there.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use ovn::local::{self, Settings};
use ovsdb::client::{Client, Config, Endpoint, TransactError};
use ovsdb::{Datum, Mutation, Mutator, Op, Replica, Row, Until, Where};

/// The time limit for a session with a running server.
const PATIENCE: Duration = Duration::from_secs(20);

/// The time limit for ovs-vswitchd to apply the database. With thousands of ports it takes a few seconds, and longer on a
/// node that boots.
const CONFIGURED: Duration = Duration::from_mins(2);

/// Makes ovs-vswitchd wait before it changes the datapath (ovs-vswitchd.conf.db(5), `other_config:flow-restore-wait`).
const FLOW_RESTORE_WAIT: &str = "flow-restore-wait";

/// A session with the node's database. Clones share it.
#[derive(Clone, Debug)]
pub struct Session {
    socket: PathBuf,
    /// Set by the first [`Session::begin`].
    client: Arc<OnceLock<Client>>,
}

/// Why the database was not read or written.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    /// There is no session.
    #[error("no session with {} within {PATIENCE:?}", .0.display())]
    Away(PathBuf),
    /// The database refused the transaction.
    #[error("write the database of Open vSwitch: {0}")]
    Transact(#[from] TransactError),
    /// ovs-vswitchd answers but does not apply its configuration.
    #[error("ovs-vswitchd has not taken up its configuration within {CONFIGURED:?}")]
    NotConfigured,
}

impl Session {
    /// Creates a session with the server at this socket. [`Session::begin`] starts it.
    pub fn new(socket: PathBuf) -> Self {
        Self { socket, client: Arc::default() }
    }

    /// Starts the session with a running server. Inserts the only row of settings if it is missing.
    pub async fn begin(&self) -> Result<(), SessionError> {
        let client = self.client.get_or_init(|| {
            let endpoint = Endpoint::Unix(self.socket.clone());
            let mut config = Config::new(vec![endpoint], "Open_vSwitch", local::open_vswitch());
            // The server answers the wait for ovs-vswitchd at its own limit.
            config.request_timeout = CONFIGURED + PATIENCE;
            Client::spawn(config).0
        });
        let synced = tokio::time::timeout(PATIENCE, client.synced()).await;
        synced.map_err(|_| self.away())?;
        if client.read(|replica| Settings::find(replica).is_none()) {
            client.transact(&[Op::Insert { table: local::OPEN_VSWITCH, uuid: None, row: Row::new() }]).await?;
        }
        Ok(())
    }

    /// Reads the replica under a lock. The closure must be short.
    pub fn read<R>(&self, read: impl FnOnce(&Replica) -> R) -> Result<R, SessionError> {
        Ok(self.client()?.read(read))
    }

    /// Carries out the operations in one transaction. Nothing is sent if there are none.
    pub async fn write(&self, ops: &[Op]) -> Result<(), SessionError> {
        if !ops.is_empty() {
            self.client()?.transact(ops).await?;
        }
        Ok(())
    }

    /// Sets these keys of `external_ids`. Returns true if a value changed.
    pub async fn external_ids(&self, wanted: &BTreeMap<&str, String>) -> Result<bool, SessionError> {
        let ops: Vec<Op> = self
            .read(|replica| {
                Settings::find(replica)?.set_external_ids(wanted.iter().map(|(key, value)| (*key, value.as_str())))
            })?
            .into_iter()
            .collect();
        self.write(&ops).await?;
        Ok(!ops.is_empty())
    }

    /// Returns the value of a key in `external_ids`.
    pub fn external_id(&self, key: &str) -> Option<String> {
        self.client.get()?.read(|replica| Settings::find(replica)?.external_id(key).map(str::to_owned))
    }

    /// Sets whether ovs-vswitchd waits for its flows when it starts.
    pub async fn flow_restore_wait(&self, wait: bool) -> Result<(), SessionError> {
        let client = self.client()?;
        let Some(row) = client.read(|replica| Settings::find(replica).map(|settings| settings.id)) else {
            return Ok(());
        };
        let mutation = |mutator, value| Mutation { column: "other_config", mutator, value };
        let mut mutations = vec![mutation(Mutator::Delete, Datum::set([FLOW_RESTORE_WAIT]))];
        if wait {
            mutations.push(mutation(Mutator::Insert, Datum::map([(FLOW_RESTORE_WAIT, "true")])));
        }
        client.transact(&[Op::Mutate { table: local::OPEN_VSWITCH, on: Where::Row(row), mutations }]).await?;
        Ok(())
    }

    /// Waits until ovs-vswitchd has applied the whole database. ovs-vswitchd answers requests earlier. When it is done,
    /// it copies `next_cfg` to `cur_cfg`.
    pub async fn configured(&self) -> Result<(), SessionError> {
        let (table, on) = (local::OPEN_VSWITCH, Where::All);
        let next = Mutation { column: "next_cfg", mutator: Mutator::Add, value: 1_i64.into() };
        let read = Op::Select { table, on: on.clone(), columns: vec!["cur_cfg"] };
        let ask = Op::Mutate { table, on: on.clone(), mutations: vec![next] };
        let client = self.client()?;
        let replies = client.transact(&[read, ask]).await?;
        let before =
            replies.first().and_then(|reply| reply.rows.first()?.get("cur_cfg").cloned()).unwrap_or(0_i64.into());
        let (columns, rows) = (vec!["cur_cfg"], vec![Row::from([("cur_cfg", before)])]);
        let timeout_ms = u64::try_from(CONFIGURED.as_millis()).ok();
        let changed = Op::Wait { table, on, columns, until: Until::NotEqual, rows, timeout_ms };
        match client.transact(&[changed]).await {
            Err(TransactError::Refused { error, .. }) if error == "timed out" => Err(SessionError::NotConfigured),
            outcome => Ok(outcome.map(drop)?),
        }
    }

    /// Returns the names of the bridges.
    pub fn bridges(&self) -> Vec<String> {
        let name = |(_, row): (_, &Row)| row.get("name").and_then(Datum::as_str).map(str::to_owned);
        let bridges = |replica: &Replica| replica.rows(local::BRIDGE).filter_map(name).collect();
        self.client.get().map(|client| client.read(bridges)).unwrap_or_default()
    }

    /// Returns the addresses of the nodes to which ovn-controller wants tunnels, each with the error of ovs-vswitchd if it
    /// cannot make the tunnel.
    pub fn tunnels(&self) -> Vec<(String, Option<String>)> {
        let error =
            |row: &Row| row.get("error").and_then(Datum::as_str).filter(|error| !error.is_empty()).map(str::to_owned);
        let tunnel = |(_, row): (_, &Row)| Some((row.get("options")?.get("remote_ip")?.to_owned(), error(row)));
        let tunnels = |replica: &Replica| replica.rows(local::INTERFACE).filter_map(tunnel).collect();
        let mut tunnels: Vec<_> = self.client.get().map(|client| client.read(tunnels)).unwrap_or_default();
        tunnels.sort();
        tunnels
    }

    fn client(&self) -> Result<&Client, SessionError> {
        self.client.get().ok_or_else(|| self.away())
    }

    fn away(&self) -> SessionError {
        SessionError::Away(self.socket.clone())
    }
}
