//! The TCP ports of the databases. Those that kube-ovn has, too, have the same numbers.

/// The northbound database.
pub const NORTHBOUND: u16 = 6641;
/// The southbound database, where each key changes one chassis.
pub const SOUTHBOUND: u16 = 6642;
/// The other members of the northbound cluster.
pub const NORTHBOUND_RAFT: u16 = 6643;
/// The other members of the southbound cluster.
pub const SOUTHBOUND_RAFT: u16 = 6644;
/// The southbound database, for controllers and other members.
pub const SOUTHBOUND_ADMIN: u16 = 6645;
