//! What a holder wants.

use std::sync::Arc;

use api::{Addresses, Families, Mac};

/// What a holder wants. Of two that want the same and hold nothing, one is refused when the other is.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Want {
    /// Which addresses.
    pub ips: WantIps,
    /// Of which families; none: of all that the subnet has.
    pub families: Option<Families<()>>,
    /// Which MAC; none: one is made from the address.
    pub mac: Option<Mac>,
}

/// Which addresses a holder wants. Where a family is not named, or the pool has none of it, any address outside of all pools
/// will do.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum WantIps {
    /// The next ones outside of all pools.
    #[default]
    Any,
    /// These.
    Exact(Addresses),
    /// The first entry of the list that is free.
    FirstFree(Vec<Addresses>),
    /// The next ones of the first of these pools that has some.
    Pools(Vec<Arc<str>>),
}

impl Want {
    /// Whatever is next.
    pub fn any() -> Self {
        Self::default()
    }

    /// These addresses.
    pub fn exact(ips: Addresses) -> Self {
        Self { ips: WantIps::Exact(ips), ..Self::default() }
    }

    /// The next ones of a pool.
    pub fn pool(name: &str) -> Self {
        Self { ips: WantIps::Pools(vec![name.into()]), ..Self::default() }
    }
}
