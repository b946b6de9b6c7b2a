//! Whether the databases are complete after one was founded empty.
//!
//! A database that is founded empty has a mark, until the controller has written to it: everything to the northbound database,
//! and to the southbound one what northd and the chassis cannot compute again ([`ovn::southbound::unfilled`]). northd would translate a
//! part of it, and so take away from the nodes what is not written again yet: it waits for the rest. It writes the
//! southbound database in one transaction.

use std::path::Path;
use std::time::Duration;

use daemons::member::Member;
use ovn::INCOMPLETE_KEY;
use ovsdb::client::{Client, Config, Endpoint};
use ovsdb::{Replica, Table};
use serde_json::json;
use tokio::sync::watch;

use crate::database::{Database, Which};
use crate::server;

/// How long northd waits for the northbound database. The controllers of an installation that was updated in part may not know
/// the mark.
const PATIENCE: Duration = Duration::from_mins(5);
/// How long it waits for the southbound one. Without what was there before, only packets are lost.
const PATIENCE_WITH_SOUTHBOUND: Duration = Duration::from_mins(1);

/// Returns how long northd waits for a database.
pub fn patience(which: Which) -> Duration {
    match which {
        Which::Northbound => PATIENCE,
        Which::Southbound => PATIENCE_WITH_SOUTHBOUND,
    }
}

/// Returns the transaction with which an empty database begins.
pub fn first(which: Which) -> String {
    let row = json!({"external_ids": ["map", [[INCOMPLETE_KEY, "true"]]]});
    json!([which.schema(), {"op": "insert", "table": which.global(), "row": row}]).to_string()
}

/// Follows whether a database of this member is complete. One whose server does not run is not. `members` are the daemons.
pub fn follow(database: &Database, members: watch::Receiver<Vec<Member>>) -> watch::Receiver<bool> {
    let global = Table { name: database.which().global(), columns: &["external_ids"], key: None };
    server::observe(database, database.which().schema(), global, members, move |replica| {
        let mut rows = replica.rows(global.name);
        !rows.any(|(_, row)| row.get("external_ids").is_some_and(|ids| ids.get(INCOMPLETE_KEY).is_some()))
    })
}

/// Waits until northd has written to the southbound database at this socket: it sets options of every one.
pub async fn written(southbound: &Path) {
    let global = Table { name: Which::Southbound.global(), columns: &["options"], key: None };
    let endpoints = vec![Endpoint::Unix(southbound.to_owned())];
    let (client, mut changes) = Client::spawn(Config::new(endpoints, Which::Southbound.schema(), vec![global]));
    let is_written = |replica: &Replica| {
        replica.rows(global.name).any(|(_, row)| row.get("options").is_some_and(|options| !options.is_empty()))
    };
    while !client.read(is_written) {
        changes.next().await;
    }
}
