//! What `sync` promises: the two laws on a model of the database, the same on a real `ovsdb-server`, and how operations read.

mod laws;
mod model;
mod operations;
mod random;
mod server;
