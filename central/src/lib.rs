//! `ovn-central`: one member of OVN's centre, as process 1 of its container.
//!
//! - [`args`]: flags and environment;
//! - [`file`]: what is done about a database's file before it is opened;
//! - [`database`]: the northbound and the southbound database, each a server of a raft cluster of one;
//! - [`northd`]: what translates between them;
//! - [`member`]: all three, kept and asked.
//!
//! It promises that a file is never opened for writing before it is known whose it is, that nothing is deleted which holds
//! data, and that being ready means: a client that comes to the ports is served, by a leader, and northd follows.

pub mod args;
pub mod database;
pub mod file;
pub mod member;
pub mod northd;
