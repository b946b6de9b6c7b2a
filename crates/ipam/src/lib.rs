//! A pure address allocator: state and request in, address or reason out.
//!
//! [`Ipam`] has the subnets, their pools, and the holders of addresses. It guarantees:
//!
//! - No address and no MAC has two holders.
//! - An address that it chooses lies inside the subnet, and is neither kept back nor excluded.
//! - It chooses an address of a pool only for holders that ask for the pool.
//! - A refusal changes nothing. It names the subnet, the address and the holder.
//! - The same calls in the same order give the same answers. There is no clock, no I/O and no randomness.
//!
//! **Order of allocation.** Addresses that were never given out come first, in the order of the addresses. Released
//! addresses come after all of those, in the order of their release. So a new pod does not get the address of a pod that
//! has just gone, which neighbours and connections may still remember. Each pool has an order of its own.
//!
//! **Cost.** Memory grows with the number of addresses in use and released, and not with the size of the subnet: a /8 and
//! an IPv6 /64 cost as little as a /24. `assign` and `release` take amortized O(log n). `set_subnet` and `set_pool` take
//! O(n) when something changes.

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
