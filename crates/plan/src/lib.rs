//! A pure compiler: the world of Kubernetes objects in, northbound facts out.
//!
//! [`World`] holds what the controller has decided so far (subnets, nodes with their join address, pods with their
//! address) and knows which [`Key`]s an event makes dirty. [`World::compile`] turns one key into the facts that it wants in
//! the northbound database. A key's facts depend on the world alone, never on the order of events: compiling every key
//! from scratch gives what any order of single events gives. That law is what restart, repair and garbage collection
//! stand on, and `tests/laws.rs` holds it under random orders.
//!
//! No I/O, no clock, no tokio, no database: this crate cannot fail, wait or log.

mod compile;
#[cfg(feature = "testing")]
pub mod testing;
mod world;

pub use compile::{GATEWAY, IN_FORCE, NETWORKS, address_set_of_pool, router_mac};
pub use world::{Key, Node, PoolSet, Port, Settings, World};
