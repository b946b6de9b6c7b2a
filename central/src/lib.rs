//! `ovn-central`: one member of the OVN central, as process 1 of its container.
//!
//! - [`args`]: flags and environment variables;
//! - [`own_key`], [`signer`]: the member's own key, and those of its clients;
//! - [`transport`], [`gate`]: what is open to other machines, and to whom;
//! - [`address`]: the address of a server in its cluster;
//! - [`file`]: a database file, and how another one takes its place;
//! - [`listed`]: prepares the file of a member that knows the others from a list;
//! - [`agreed`]: prepares the file of a member that agrees with the others in Kubernetes, and keeps their cluster whole;
//! - [`database`]: the northbound and the southbound database, each a server of a Raft cluster;
//! - [`standing`]: the place of a server in its cluster;
//! - [`backup`]: backups of the northbound database;
//! - [`complete`]: whether the databases are complete after one was founded empty;
//! - [`leader`]: a socket by which northd reaches the leader of a database;
//! - [`northd`]: ovn-northd, which translates between them;
//! - [`server`]: what a running server says of its role;
//! - [`roles`]: the labels of the pods whose servers lead;
//! - [`member`]: runs and checks all three.
//!
//! The program identifies the owner of a file before a server opens it for writing. It never deletes data. The member
//! is ready when its databases are connected to the leaders of their clusters and answer on their ports, and northd is active
//! or on standby.

pub mod address;
pub mod agreed;
pub mod args;
pub mod backup;
pub mod complete;
pub mod database;
pub mod file;
pub mod gate;
pub mod leader;
pub mod listed;
pub mod member;
pub mod northd;
pub mod own_key;
pub mod roles;
pub mod server;
pub mod signer;
pub mod standing;
pub mod transport;
