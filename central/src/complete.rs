//! Whether the databases are complete after one was founded empty.
//!
//! A northbound database that is founded empty has a mark, until the controller has written everything to it. northd would
//! translate a part of it, and so take away from the nodes what is not written again yet: it waits for the rest. It writes the
//! southbound database in one transaction.

use std::path::Path;
use std::time::Duration;

use daemons::member::Member;
use ovn::INCOMPLETE_KEY;
use ovsdb::Table;
use ovsdb::client::{Client, Config, Endpoint};
use serde_json::json;
use tokio::sync::watch;

use crate::database::Database;
use crate::server;

/// The table with the key.
const GLOBAL: Table = Table { name: "NB_Global", columns: &["external_ids"], key: None };

/// How long northd waits. The controllers of an installation that was updated in part may not know the mark.
pub const PATIENCE: Duration = Duration::from_mins(5);

/// Returns the transaction with which an empty database begins.
pub fn first() -> String {
    let row = json!({"external_ids": ["map", [[INCOMPLETE_KEY, "true"]]]});
    json!(["OVN_Northbound", {"op": "insert", "table": GLOBAL.name, "row": row}]).to_string()
}

/// Follows whether the northbound database of this member is complete. One whose server does not run is not. `members` are the
/// daemons.
pub fn follow(northbound: &Database, members: watch::Receiver<Vec<Member>>) -> watch::Receiver<bool> {
    server::observe(northbound, northbound.which().schema(), GLOBAL, members, |replica| {
        let mut rows = replica.rows(GLOBAL.name);
        !rows.any(|(_, row)| row.get("external_ids").is_some_and(|ids| ids.get(INCOMPLETE_KEY).is_some()))
    })
}

/// Waits until the southbound database at this socket has been written to by northd.
pub async fn written(southbound: &Path) {
    let datapaths = Table { name: "Datapath_Binding", columns: &["tunnel_key"], key: None };
    let config = Config::new(vec![Endpoint::Unix(southbound.to_owned())], "OVN_Southbound", vec![datapaths]);
    let (client, mut changes) = Client::spawn(config);
    while client.read(|replica| replica.is_empty(datapaths.name)) {
        changes.next().await;
    }
}
