//! A pure compiler from Kubernetes objects to northbound facts.
//!
//! [`World`] holds the decisions of the controller (subnets, nodes with their join address, pods with their address)
//! and records which [`Key`]s a change makes dirty. [`World::compile`] compiles one key to its facts, the wanted rows
//! in the northbound database. The facts of a key depend only on the current world, not on the order of changes, so
//! incremental compilation gives the same result as compilation from scratch. Restart, repair and garbage collection
//! rely on this property; `tests/laws.rs` tests it with random orders.
//!
//! This crate does no I/O, reads no clock and cannot fail, wait or log.

mod compile;
mod exits;
mod objects;
#[cfg(feature = "testing")]
pub mod testing;
mod world;

pub use compile::{GATEWAY, IN_FORCE, MIRRORED, NETWORKS, NORTH_GATEWAY, address_set_of_pool, exit_of, router_mac};
pub use exits::GatewayNodes;
pub use objects::{Key, Node, PoolSet, Port, Settings};
pub use world::World;
