//! The request of a holder.

use std::sync::Arc;

use api::{Addresses, Families, Mac};

/// The request of a holder. When two holders without addresses make equal requests, one is refused if the other is.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Want {
    /// The addresses.
    pub ips: WantIps,
    /// The families of the addresses; `None` means all families of the subnet.
    pub families: Option<Families<()>>,
    /// The MAC; `None` means one that is generated from the address.
    pub mac: Option<Mac>,
}

/// The addresses that a holder asks for. For a family that it does not name, or of which the pool has no addresses, it gets
/// an address outside of all pools.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum WantIps {
    /// The next addresses outside of all pools.
    #[default]
    Any,
    /// These addresses.
    Exact(Addresses),
    /// The first entry of the list that is free.
    FirstFree(Vec<Addresses>),
    /// The next addresses of the first of these pools that has free ones.
    Pools(Vec<Arc<str>>),
}

impl Want {
    /// A request for the next addresses.
    pub fn any() -> Self {
        Self::default()
    }

    /// A request for these addresses.
    pub fn exact(ips: Addresses) -> Self {
        Self { ips: WantIps::Exact(ips), ..Self::default() }
    }

    /// A request for the next addresses of a pool.
    pub fn pool(name: &str) -> Self {
        Self { ips: WantIps::Pools(vec![name.into()]), ..Self::default() }
    }
}
