//! What `sync` promises: the two laws on a model of the database, the same on a real `ovsdb-server`, and how operations read.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod laws;
mod model;
mod operations;
mod random;
mod server;
