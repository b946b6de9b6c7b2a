//! Tests the guarantees of `sync`: the laws on a model of the database, the laws and the fence on real servers, and the
//! format of operations.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod end_to_end;
mod groups;
mod laws;
mod model;
mod operations;
mod raft;
mod random;
mod references;
mod scene;
mod server;
