//! Whether the server is the one to talk to: what it says of itself in the table `Database` of its own database
//! `_Server` (ovsdb-server(7), "_Server Database"), watched for as long as a session lasts.
//!
//! A member of a cluster that is not its leader, or that has lost the others, may serve what is old. So may one that calls
//! itself leader when it has just begun to: hence nobody is listened to whose log is behind what was seen of that cluster.

use std::sync::{Mutex, PoisonError};

use serde_json::{Value, json};
use uuid::Uuid;

use super::wire::SERVER;
use crate::{Datum, Replica, Row, Schema, Table, UpdateError, Updates};

/// The table that tells.
pub(super) const DATABASE: Table = Table {
    name: "Database",
    columns: &["name", "model", "leader", "connected", "cid", "index"],
    key: Some(|row| row.get("name")?.as_str().map(str::to_owned)),
};

/// Why a server is not the one to talk to.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum NotLeader {
    #[error("the server has no database {0}")]
    Absent(&'static str),
    #[error("the server is not connected to its cluster")]
    CutOff,
    #[error("the server is not the leader of its cluster")]
    Follower,
    #[error("the server is a relay, not the leader of a cluster")]
    Relay,
    #[error("the server is behind its cluster: its log is at {index}, and {seen} was seen before")]
    Behind { index: i64, seen: i64 },
}

/// What one server says of itself.
#[derive(Debug)]
pub(super) struct Member(Mutex<Replica>);

/// How far the log of a cluster was seen, over all sessions.
#[derive(Debug, Default)]
pub(super) struct Seen(Mutex<Option<(Uuid, i64)>>);

impl Member {
    pub(super) fn new() -> Member {
        Member(Mutex::new(Replica::new([DATABASE])))
    }

    /// The parameters that ask for the row of this database, with the schema of [`SERVER`].
    pub(super) fn monitor_params(&self, schema: &Schema, database: &str) -> Vec<Value> {
        let mut replica = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        replica.adopt(schema);
        let columns: Vec<_> = replica.columns(DATABASE.name).collect();
        let row = json!([{ "columns": columns, "where": [["name", "==", database]] }]);
        vec![json!(SERVER), json!(SERVER), json!({ DATABASE.name: row }), json!(Uuid::nil())]
    }

    /// Takes in what the server says.
    pub(super) fn updated(&self, updates: Updates) -> Result<(), UpdateError> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).apply(updates).map(drop)
    }

    /// Whether the server leads, as far as it knows, and is as far as was seen before. Remembers how far it is.
    pub(super) fn check(&self, database: &'static str, seen: &Seen) -> Result<(), NotLeader> {
        let replica = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let row = replica.find(DATABASE.name, database).next();
        let row = row.and_then(|row| replica.get(DATABASE.name, row)).ok_or(NotLeader::Absent(database))?;
        let is = |column| row.get(column).and_then(Datum::as_bool) == Some(true);
        match row.get("model").and_then(Datum::as_str) {
            Some("clustered") if !is("connected") => Err(NotLeader::CutOff),
            Some("clustered") if !is("leader") => Err(NotLeader::Follower),
            Some("clustered") => seen.check(row),
            Some("relay") => Err(NotLeader::Relay),
            // Standalone: there is nobody else to lead.
            _ => Ok(()),
        }
    }
}

impl Seen {
    fn check(&self, row: &Row) -> Result<(), NotLeader> {
        let cluster = row.get("cid").and_then(Datum::as_uuid);
        let (Some(cluster), Some(index)) = (cluster, row.get("index").and_then(Datum::as_int)) else {
            return Ok(());
        };
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match *seen {
            Some((of, seen)) if of == cluster && index < seen => Err(NotLeader::Behind { index, seen }),
            _ => {
                *seen = Some((cluster, index));
                Ok(())
            }
        }
    }
}
