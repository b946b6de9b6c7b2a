//! Writes the settings of ovn-controller and ovs-vswitchd to the `Open_vSwitch` row.
//!
//! Only our own keys are written. The node agent writes `ovn-encap-ip`, `ovn-encap-type`, `ovn-encap-csum` and
//! `ovn-monitor-all`, because it reads the Node object. Other keys are unused or set by an operator.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use ovn::local::{self, Settings};
use ovsdb::client::{Client, Config, Endpoint, TransactError};
use ovsdb::{Datum, Mutation, Mutator, Op, Replica, Row, Until, Where};
use uuid::Uuid;

use crate::datapath::Datapath;

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

/// Why a setting was not written.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// There is no session.
    #[error("no session with {} within {PATIENCE:?}", .0.display())]
    Away(PathBuf),
    /// The database refused the transaction.
    #[error("write the node's settings: {0}")]
    Transact(#[from] TransactError),
    /// ovs-vswitchd answers but does not apply its configuration.
    #[error("ovs-vswitchd has not taken up its configuration within {CONFIGURED:?}")]
    NotConfigured,
    /// The chassis ID cannot be read or written.
    #[error("{}: {source}", path.display())]
    Id {
        /// The file with the chassis ID.
        path: PathBuf,
        /// The error.
        source: io::Error,
    },
}

impl Session {
    /// Creates a session with the server at this socket. [`Session::begin`] starts it.
    pub fn new(socket: PathBuf) -> Self {
        Self { socket, client: Arc::default() }
    }

    /// Starts the session with a running server. Inserts the only row of settings if it is missing.
    pub async fn begin(&self) -> Result<(), SettingsError> {
        let client = self.client.get_or_init(|| {
            let endpoint = Endpoint::Unix(self.socket.clone());
            Client::spawn(Config::new(vec![endpoint], "Open_vSwitch", local::open_vswitch())).0
        });
        let synced = tokio::time::timeout(PATIENCE, client.synced()).await;
        synced.map_err(|_| self.away())?;
        if client.read(|replica| Settings::find(replica).is_none()) {
            client.transact(&[Op::Insert { table: local::OPEN_VSWITCH, uuid: None, row: Row::new() }]).await?;
        }
        Ok(())
    }

    /// Sets these keys of `external_ids`. Returns true if a value changed.
    pub async fn external_ids(&self, wanted: &BTreeMap<&str, String>) -> Result<bool, SettingsError> {
        let client = self.client()?;
        let op = client.read(|replica| {
            let settings = Settings::find(replica)?;
            let differ = wanted.iter().filter(|(key, value)| settings.external_id(key) != Some(value.as_str()));
            let differ: Vec<_> = differ.map(|(key, value)| (*key, value.as_str())).collect();
            (!differ.is_empty()).then(|| local::set_external_ids(local::OPEN_VSWITCH, settings.id, differ))
        });
        let changes = op.is_some();
        if let Some(op) = op {
            client.transact(&[op]).await?;
        }
        Ok(changes)
    }

    /// Returns the value of a key in `external_ids`.
    pub fn external_id(&self, key: &str) -> Option<String> {
        self.client.get()?.read(|replica| Settings::find(replica)?.external_id(key).map(str::to_owned))
    }

    /// Sets whether ovs-vswitchd waits for its flows when it starts.
    pub async fn flow_restore_wait(&self, wait: bool) -> Result<(), SettingsError> {
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
    pub async fn configured(&self) -> Result<(), SettingsError> {
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
            Err(TransactError::Refused { error, .. }) if error == "timed out" => Err(SettingsError::NotConfigured),
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

    fn client(&self) -> Result<&Client, SettingsError> {
        self.client.get().ok_or_else(|| self.away())
    }

    fn away(&self) -> SettingsError {
        SettingsError::Away(self.socket.clone())
    }
}

/// Returns our keys. The intervals are kube-ovn's: in seconds for ovs-vswitchd, in milliseconds for the southbound
/// database.
pub fn ours(id: &str, node_name: &str, remote: &str, datapath: Datapath) -> BTreeMap<&'static str, String> {
    BTreeMap::from([
        ("system-id", id.to_owned()),
        ("hostname", node_name.to_owned()),
        ("ovn-remote", remote.to_owned()),
        ("ovn-remote-probe-interval", "10000".to_owned()),
        ("ovn-openflow-probe-interval", "180".to_owned()),
        ("ovn-bridge-datapath-type", datapath.as_str().to_owned()),
    ])
}

/// What the database says of the chassis.
#[derive(Clone, Debug, Default)]
pub struct Recorded {
    /// `external_ids:system-id`.
    pub id: Option<String>,
    /// `external_ids:hostname`: the name of the node that the database was written on.
    pub hostname: Option<String>,
}

/// Returns the chassis ID: from the file, otherwise from the database, otherwise [`derived_id`]. The ID must not change,
/// so it is written to the file. If the database is of another node, for example because the disk was copied, its ID is
/// not used: two nodes with one ID would take each other's ports.
pub fn system_id(file: &Path, recorded: Recorded, node_name: &str) -> Result<String, SettingsError> {
    let failed = |source| SettingsError::Id { path: file.to_owned(), source };
    // Other programs record the name with the domain.
    let own = |name: &String| name == node_name || name.split_once('.').is_some_and(|(host, _)| host == node_name);
    let other = recorded.hostname.filter(|name| !name.is_empty() && !own(name));
    if let Some(other) = &other {
        tracing::warn!(other, "the database of Open vSwitch is of another node: this one gets a chassis ID of its own");
    }
    match std::fs::read_to_string(file) {
        Ok(text) if !text.trim().is_empty() && other.is_none() => return Ok(text.trim().to_owned()),
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
        _ => {}
    }
    let known = recorded.id.filter(|id| !id.is_empty() && other.is_none());
    let id = known.unwrap_or_else(|| derived_id(node_name));
    kit::file::write(file, format!("{id}\n").as_bytes(), 0o644).map_err(failed)?;
    Ok(id)
}

/// Returns a UUID that follows from the node's name, because tools for kube-ovn expect a UUID. A node that has lost its
/// directory gets the same one again, so its chassis takes the place of the one that is registered.
fn derived_id(node_name: &str) -> String {
    const NAMESPACE: Uuid = Uuid::from_u128(0x3a1d_84f2_7c55_4e0b_b9d6_60e2_95c8_1f73);
    Uuid::new_v5(&NAMESPACE, node_name.as_bytes()).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chassis_keeps_the_id_it_has() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("system-id.conf");
        let recorded = |id: &str| Recorded { id: Some(id.to_owned()), hostname: None };
        let system_id = |recorded: Option<Recorded>, node| super::system_id(&file, recorded.unwrap_or_default(), node);
        assert_eq!(system_id(Some(recorded("random")), "n1").unwrap(), "random");
        assert_eq!(system_id(None, "n1").unwrap(), "random");
        let n1 = "f63c9655-17dc-58ef-9ad2-a901efce4ff3";
        std::fs::write(&file, "\n").unwrap();
        assert_eq!(system_id(None, "n1").unwrap(), n1);
        assert_eq!(system_id(Some(recorded("other")), "n2").unwrap(), n1);
        // A node that has lost its directory gets the ID again, and another node gets another one.
        std::fs::remove_file(&file).unwrap();
        assert_eq!(system_id(None, "n1").unwrap(), n1);
        // The disk of n1 was copied.
        let of = |hostname: &str| Some(Recorded { id: Some(n1.to_owned()), hostname: Some(hostname.to_owned()) });
        for hostname in ["n1", "n1.example.com", ""] {
            assert_eq!(system_id(of(hostname), "n1").unwrap(), n1);
        }
        let n2 = system_id(of("n1"), "n2").unwrap();
        assert_ne!(n2, n1);
        assert_eq!(system_id(of("n2"), "n2").unwrap(), n2);
        std::fs::remove_file(&file).unwrap();
        assert_eq!(system_id(Some(recorded("")), "n2").unwrap(), n2);
        let nowhere =
            super::system_id(Path::new("/no/such/directory/id"), Recorded::default(), "n1").unwrap_err().to_string();
        assert!(nowhere.starts_with("/no/such/directory/id: No such file"), "{nowhere}");
    }
}
