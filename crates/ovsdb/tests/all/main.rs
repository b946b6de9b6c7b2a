//! The client against real servers, a real cluster, and servers that say what no server should.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on fails")]

mod client;
mod garbage;
mod hostile;
mod leader;
mod raft;
mod script;
mod tls;

/// Shelves, which are roots, and goods, which are there for as long as a shelf holds them.
const SCHEMA: &str = include_str!("../shop.ovsschema");
