//! An RFC 7047 client: values, operations, a local replica, and the session that keeps the replica current.
//!
//! The crate guarantees:
//!
//! - The replica contains what a transaction wrote before `Client::transact` returns.
//! - The replica is the server's last reported state, complete and in order. If an update does not fit, the client
//!   requests a new snapshot.
//! - With [`Accept::Leader`], the server is the leader of its cluster and is never behind a state seen before.
//! - Every change is reported after the replica contains it. Changes of one row are coalesced until the owner reads
//!   them.
//! - No request is sent twice. The client always knows whether it sent a request. It may not know whether the server
//!   carried the request out.
//! - No server input makes the client panic or grow without bound. The limits are 64 MiB for a message and 512 MiB for
//!   a snapshot.
//!
//! `make fuzz` feeds generated server messages to the crate. See `fuzz/run`.
//!
//! Without the feature `client`, the crate contains only values, operations and the replica, and does not depend on
//! tokio. The crate does not depend on OVN or Kubernetes.
#![cfg_attr(
    feature = "client",
    doc = r#"
```no_run
# async fn example() -> Result<(), Box<dyn std::error::Error>> {
use ovsdb::{Client, Config, Op, Row, Table, Uuid};

let switches = Table {
    name: "Logical_Switch",
    columns: &["name", "ports"],
    key: Some(|row| row["name"].as_str().map(str::to_owned)),
};
let config = Config::new(vec!["tcp:10.0.0.1:6641".parse()?], "OVN_Northbound", vec![switches]);
let (client, mut changes) = Client::spawn(config);
client.synced().await;

let uuid = Uuid::new_v4();
let row = Row::from([("name", "ovn-default".into())]);
client.transact(&[Op::Insert { table: "Logical_Switch", uuid: Some(uuid), row }]).await?;
assert!(client.read(|replica| replica.find("Logical_Switch", "ovn-default").any(|found| found == uuid)));

for (table, row) in changes.next().await.rows {
    println!("{table} {row} has changed");
}
# Ok(())
# }
```
"#
)]

#[cfg(feature = "client")]
pub mod client;
mod op;
mod replica;
mod schema;
#[cfg(feature = "testing")]
pub mod testing;
mod value;

#[cfg(feature = "client")]
pub use client::{
    Accept, Change, Changes, Client, Config, ConfigError, Endpoint, EndpointError, OpReply, TlsError, TlsFiles,
    TransactError,
};
pub use op::{Condition, Function, Mutation, Mutator, Op, Until, Where};
pub use replica::{Replica, Row, RowId, Table, UpdateError, Updates};
pub use schema::{ColumnType, Schema, SchemaError};
pub use uuid::Uuid;
pub use value::{Atom, Datum, Real};
