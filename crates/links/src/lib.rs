//! Links, addresses and routes of the node and of pods' network namespaces, through rtnetlink.
//!
//! - [`Links`]: the requests, over a netlink socket of one namespace;
//! - [`Link`], [`Assigned`], [`Route`], [`MovedRoute`]: what they are about;
//! - [`events`]: the kernel's announcements of changes;
//! - [`netns`]: runs code in another namespace;
//! - [`sysctl`]: what rtnetlink cannot set.
//!
//! The crate has no state: every call queries the kernel. It starts no processes and does not change what is already
//! correct.

mod address;
mod error;
mod events;
mod link;
mod moved;
pub mod netns;
mod route;
mod socket;
pub mod sysctl;

pub use address::{Assigned, Standing, is_link_local, own_address};
pub use error::LinkError;
pub use events::{Event, concerns, concerns_address, concerns_link, events, skip_arrived};
pub use link::{Link, LinkKind};
pub use moved::MovedRoute;
pub use route::{Route, is_default};
pub use socket::{Links, alone, on_a_thread};
