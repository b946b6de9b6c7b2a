//! An RFC 7047 client: values, operations, a local replica, and the session that keeps the replica true.
//!
//! What a transaction wrote is in the replica before [`Client::transact`](client::Client::transact) returns.
//! Without the feature `client` only plain values remain, free of tokio.

#[cfg(feature = "client")]
pub mod client;
mod op;
mod replica;
mod schema;
#[cfg(feature = "testing")]
pub mod testing;
mod value;

#[cfg(feature = "client")]
pub use client::{Change, Changes, Client, Config, Endpoint, EndpointError, OpReply, TransactError};
pub use op::{Condition, Function, Mutation, Mutator, Op, Until, Where};
pub use replica::{Replica, Row, RowId, Table, UpdateError, Updates};
pub use schema::{ColumnType, Schema, SchemaError};
pub use uuid::Uuid;
pub use value::{Atom, Datum, Real};
