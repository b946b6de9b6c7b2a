//! A pure address allocator: state and request in, address or reason out.
//!
//! [`Ipam`] knows subnets, the pools within them, and who holds which addresses. It promises: no address and no MAC has two
//! holders; what it chooses by itself lies in the subnet and outside of everything that is kept back; an address of a pool
//! is chosen only for who asks for that pool; a refusal is a value that names subnet, address and holder and changes
//! nothing. The same calls in the same order give the same answers: there is no clock, no I/O and no randomness here.
//!
//! **Order of allocation.** Addresses that were never given out come first, in address order; released ones come after
//! all of those, the one released first at the head. So a new pod does not get the address of one that has just gone,
//! which neighbours and connections may still remember. Each pool has an order of its own.
//!
//! **Cost.** Memory grows with the addresses in use and released, not with the subnet: a /8 and an IPv6 /64 are as
//! cheap as a /24. `assign` and `release` take O(log n), counted over many calls; `set_subnet` and `set_pool` take O(n)
//! when something changes.

mod ipam;
mod mac;
mod network;
mod pools;
mod ranges;
mod refusal;
mod region;
mod space;
mod subnet;
mod want;

pub use ipam::{Ipam, Lease};
pub use network::{Counts, FamilyRanges, Network, Ranges, Usage};
pub use refusal::Refusal;
pub use want::{Want, WantIps};
