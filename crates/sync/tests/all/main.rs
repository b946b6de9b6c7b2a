//! What `sync` promises: the two laws on a model of the database, the same and the fence on real servers, and how operations read.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod laws;
mod model;
mod operations;
mod raft;
mod random;
mod server;
