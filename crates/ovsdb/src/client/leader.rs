//! Checks whether the server is one that the client accepts. It reports its role in the table `Database` of its own database
//! `_Server` (ovsdb-server(7), "_Server Database"). The client monitors this table for the whole session.
//!
//! A cluster member that is not the leader, or that lost its connection to the cluster, can serve stale data. A new
//! leader can, too, for a short time. The client therefore refuses a server whose log index is behind the highest index
//! that it has seen in this cluster.

use std::sync::{Mutex, PoisonError};

use serde_json::{Value, json};
use uuid::Uuid;

use super::config::Accept;
use super::wire::{ROLE, SERVER};
use crate::{Datum, Replica, Row, Schema, Table, UpdateError, Updates};

/// The table in which the server reports its role.
pub(super) const DATABASE: Table = Table {
    name: "Database",
    columns: &["name", "model", "leader", "connected", "cid", "index"],
    key: Some(|row| row.get("name")?.as_str().map(str::to_owned)),
};

/// Why the client refuses a server.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Unfit {
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

/// What one server reports about itself.
#[derive(Debug)]
pub(super) struct Member(Mutex<Replica>);

/// The cluster and the highest log index that any session has seen.
#[derive(Debug, Default)]
pub(super) struct Seen(Mutex<Option<(Uuid, i64)>>);

impl Member {
    pub(super) fn new() -> Member {
        Member(Mutex::new(Replica::new([DATABASE])))
    }

    /// The parameters of the monitor request for the row of this database. `schema` is the schema of [`SERVER`]. The log index, which
    /// changes with each transaction, is only for those who need the leader.
    pub(super) fn monitor_params(&self, schema: &Schema, database: &str, accept: Accept) -> Vec<Value> {
        let mut replica = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        replica.adopt(schema);
        let needed = |column: &&str| accept == Accept::Leader || !matches!(*column, "leader" | "cid" | "index");
        let columns: Vec<_> = replica.columns(DATABASE.name).filter(needed).collect();
        let row = json!([{ "columns": columns, "where": [["name", "==", database]] }]);
        vec![json!(SERVER), json!(ROLE), json!({ DATABASE.name: row }), json!(Uuid::nil())]
    }

    /// Applies an update of the `_Server` database.
    pub(super) fn updated(&self, updates: Updates) -> Result<(), UpdateError> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).apply(updates).map(drop)
    }

    /// Checks that the server is one of those, by what it reports, and that its log index is not behind. Records the log index.
    pub(super) fn check(&self, database: &'static str, accept: Accept, seen: &Seen) -> Result<(), Unfit> {
        let replica = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let row = replica.find(DATABASE.name, database).next();
        let row = row.and_then(|row| replica.get(DATABASE.name, row)).ok_or(Unfit::Absent(database))?;
        let is = |column| row.get(column).and_then(Datum::as_bool) == Some(true);
        match row.get("model").and_then(Datum::as_str) {
            Some("clustered" | "relay") if !is("connected") => Err(Unfit::CutOff),
            Some("clustered") if accept == Accept::Leader && !is("leader") => Err(Unfit::Follower),
            Some("clustered") if accept == Accept::Leader => seen.check(row),
            Some("relay") if accept == Accept::Leader => Err(Unfit::Relay),
            // A standalone database has no other leader.
            _ => Ok(()),
        }
    }
}

impl Seen {
    fn check(&self, row: &Row) -> Result<(), Unfit> {
        let cluster = row.get("cid").and_then(Datum::as_uuid);
        let (Some(cluster), Some(index)) = (cluster, row.get("index").and_then(Datum::as_int)) else {
            return Ok(());
        };
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match *seen {
            Some((of, seen)) if of == cluster && index < seen => Err(Unfit::Behind { index, seen }),
            _ => {
                *seen = Some((cluster, index));
                Ok(())
            }
        }
    }
}
