//! Whether the databases are complete after one was founded empty.
//!
//! A database that is founded empty has a mark, until the controller has written to it: everything to the northbound database, and
//! to the southbound one what northd and the chassis cannot compute again ([`ovn::southbound::unfilled`]). northd would translate a
//! part, and so take away from the nodes what is not written again yet: it waits for the rest. Then it writes all the rest
//! of the southbound database in one transaction.

use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

use daemons::control::{self, ControlError};
use daemons::member::Member;
use ovn::INCOMPLETE_KEY;
use ovn::southbound::{DATAPATH_BINDING, unfilled};
use ovsdb::client::{Client, Config, Endpoint};
use ovsdb::{Replica, Table};
use serde_json::{Value, json};
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

/// Follows whether a database of this member is complete. It is not known while its server does not run. `members` are the daemons.
pub fn follow(database: &Database, members: watch::Receiver<Vec<Member>>) -> watch::Receiver<Option<bool>> {
    let which = database.which();
    let global = Table { name: which.global(), columns: &["external_ids", "options"], key: None };
    server::observe(database, server::session(database, which.schema(), global), members, move |replica| {
        Some(match which {
            Which::Northbound => !ovn::is_incomplete(replica?, global.name),
            Which::Southbound => !unfilled::is_unfilled(replica?),
        })
    })
}

/// Asks another member whether a database is complete.
pub async fn is_complete_at(member: IpAddr, database: &Database) -> Result<bool, ControlError> {
    let which = database.which();
    let mark = json!([["external_ids", "includes", ["map", [[INCOMPLETE_KEY, "true"]]]]]);
    let select = json!({"op": "select", "table": which.global(), "where": mark, "columns": ["options"]});
    let answer = control::read(&member.to_string(), database.connect(member), which.schema(), &[select]).await?;
    let marked = answer[0]["rows"].as_array().and_then(|rows| rows.first());
    // northd may have begun without waiting.
    let has_begun =
        |row: &Value| which == Which::Southbound && row["options"][1].as_array().is_some_and(|all| !all.is_empty());
    Ok(marked.is_none_or(has_begun))
}

/// Waits until northd has written the contents of a northbound database to the southbound one at this socket.
pub async fn written(southbound: &Path) {
    let global = Table { name: Which::Southbound.global(), columns: &["options"], key: None };
    let datapaths = Table { name: DATAPATH_BINDING, columns: &["tunnel_key"], key: None };
    let endpoints = vec![Endpoint::Unix(southbound.to_owned())];
    let (client, mut changes) =
        Client::spawn(Config::new(endpoints, Which::Southbound.schema(), vec![global, datapaths]));
    let is_written = |replica: &Replica| unfilled::has_begun(replica) && !replica.is_empty(datapaths.name);
    while !client.read(is_written) {
        changes.next().await;
    }
}
