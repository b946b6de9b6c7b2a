//! `ovn-central`: one member of the OVN central, as process 1 of its container.
//!
//! - [`args`]: flags and environment variables;
//! - [`file`]: prepares a database file before it is opened;
//! - [`database`]: the northbound and the southbound database, each a server of a Raft cluster;
//! - [`standing`]: the place of a server in its cluster;
//! - [`northd`]: ovn-northd, which translates between them;
//! - [`member`]: runs and checks all three.
//!
//! The program identifies the owner of a file before a server opens it for writing. It never deletes data. The member
//! is ready when its databases are connected to the leaders of their clusters and answer on their ports, and northd is active
//! or on standby.

pub mod args;
pub mod database;
pub mod file;
pub mod member;
pub mod northd;
pub mod standing;
