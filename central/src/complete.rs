//! Whether the databases are complete after one was founded empty.
//!
//! A northbound database that is founded empty has a mark, until the controller has written everything to it. northd would
//! translate a part of it, and so take away from the nodes what is not written again yet: it waits for the rest. It writes the
//! southbound database in one transaction.

use std::path::Path;
use std::time::Duration;

use ovsdb::Table;
use ovsdb::client::{Client, Config, Endpoint};
use serde_json::json;
use tokio::sync::watch;

use crate::database::Database;

/// The key in `NB_Global.external_ids`.
const KEY: &str = "kube-ovn-incomplete";

/// The table with the key.
const GLOBAL: Table = Table { name: "NB_Global", columns: &["external_ids"], key: None };

/// How long northd waits. The controllers of an installation that was updated in part may not know the mark.
pub const PATIENCE: Duration = Duration::from_mins(5);

/// Returns the transaction with which an empty database begins.
pub fn first() -> String {
    let row = json!({"external_ids": ["map", [[KEY, "true"]]]});
    json!(["OVN_Northbound", {"op": "insert", "table": GLOBAL.name, "row": row}]).to_string()
}

/// Follows whether the northbound database of this member is complete. One whose server does not run is not.
pub fn follow(northbound: &Database) -> watch::Receiver<bool> {
    let config = Config::new(vec![Endpoint::Unix(northbound.socket())], northbound.which().schema(), vec![GLOBAL]);
    let (sender, receiver) = watch::channel(false);
    tokio::spawn(async move {
        let (client, mut changes) = Client::spawn(config);
        let mut connected = client.connected();
        loop {
            let complete = *connected.borrow_and_update()
                && client.read(|replica| {
                    let mut rows = replica.rows(GLOBAL.name);
                    !rows.any(|(_, row)| row.get("external_ids").is_some_and(|ids| ids.get(KEY).is_some()))
                });
            sender.send_if_modified(|before| std::mem::replace(before, complete) != complete);
            tokio::select! {
                _ = changes.next() => {}
                _ = connected.changed() => {}
                () = sender.closed() => return,
            }
        }
    });
    receiver
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
