//! Tests the client against real servers, a real cluster, and scripted servers that send invalid messages.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on fails")]

mod client;
mod garbage;
mod hostile;
mod leader;
mod raft;
mod script;
mod tls;

/// `Shelf` is a root table. A row of `Good` exists as long as a shelf refers to it.
const SCHEMA: &str = include_str!("../shop.ovsschema");
