//! What `sync` promises: the laws on a model of the database, from wants and from events; the same and
//! the fence on real servers; and how operations read.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod end_to_end;
mod laws;
mod model;
mod operations;
mod raft;
mod random;
mod scene;
mod server;
