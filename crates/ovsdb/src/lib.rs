//! An RFC 7047 client: values, operations, a local replica, and the session that keeps the replica true.
//!
//! It promises:
//!
//! - What a transaction wrote is in the replica before `Client::transact` returns.
//! - The replica is what the server last said, whole and in order; what does not fit brings a new snapshot.
//! - With `Config::leader_only` that server leads its cluster, and is never one that is behind what was seen before.
//! - Every change is reported, after the replica has it; changes of one row coalesce while nobody asks.
//! - No request is sent twice. Whether one was sent at all is always known; only whether it was carried out may not be.
//! - Nothing that a server says makes it panic or grow without bound: a message has 64 MiB, a snapshot 512 MiB at most.
//!
//! `make fuzz` makes up what a server might say, for as long as one likes; `fuzz/run` says how.
//!
//! Without the feature `client` only plain values remain, free of tokio. It knows neither OVN nor Kubernetes.
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
    Change, Changes, Client, Config, ConfigError, Endpoint, EndpointError, OpReply, TlsError, TlsFiles, TransactError,
};
pub use op::{Condition, Function, Mutation, Mutator, Op, Until, Where};
pub use replica::{Replica, Row, RowId, Table, UpdateError, Updates};
pub use schema::{ColumnType, Schema, SchemaError};
pub use uuid::Uuid;
pub use value::{Atom, Datum, Real};
