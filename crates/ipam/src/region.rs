//! A part of a space from which addresses are chosen in order: the addresses of one pool, or those outside of all pools.

use std::{collections::BTreeMap, sync::Arc};

use crate::ranges::Runs;

/// Addresses in the order in which they are chosen.
///
/// Below `cursor`, every address of the region is held or released. From `cursor` on, an address that is neither held nor
/// released was never given out. So the search for the next address moves the cursor up, and passes each address once.
#[derive(Clone, Debug, Default)]
pub(crate) struct Region {
    /// The addresses that can be chosen.
    open: Runs,
    /// The number of those that are free.
    available: u128,
    /// The next address to check; `None` at the end.
    cursor: Option<u128>,
    /// The released addresses by the order of their release, and that order by address.
    queue: BTreeMap<u64, u128>,
    queued: BTreeMap<u128, u64>,
}

impl Region {
    /// A region whose addresses in `used` are held, and whose addresses in `released` were released in that order. Addresses
    /// outside of the region are ignored.
    pub(crate) fn new(open: Runs, used: &BTreeMap<u128, Arc<str>>, released: &BTreeMap<u64, u128>) -> Self {
        let held = open.iter().map(|(start, end)| used.range(start..=end).count() as u128).sum::<u128>();
        let queue: BTreeMap<u64, u128> =
            released.iter().filter(|(_, address)| open.contains(**address)).map(|(at, a)| (*at, *a)).collect();
        let queued = queue.iter().map(|(order, address)| (*address, *order)).collect();
        Self { available: open.count().saturating_sub(held), cursor: Some(0), open, queue, queued }
    }

    pub(crate) fn open(&self) -> &Runs {
        &self.open
    }

    pub(crate) fn available(&self) -> u128 {
        self.available
    }

    /// The released addresses by the order of their release.
    pub(crate) fn released(&self) -> impl Iterator<Item = (u64, u128)> + '_ {
        self.queue.iter().map(|(order, address)| (*order, *address))
    }

    /// The next address. It stays free until `take`.
    pub(crate) fn next(&mut self, used: &BTreeMap<u128, Arc<str>>) -> Option<u128> {
        while let Some(at) = self.cursor {
            self.cursor = self.open.at_or_after(at);
            let Some(at) = self.cursor else { break };
            if !used.contains_key(&at) && !self.queued.contains_key(&at) {
                return Some(at);
            }
            self.cursor = at.checked_add(1);
        }
        self.queue.first_key_value().map(|(_, address)| *address)
    }

    /// Marks an address as held. An address outside of the region is ignored.
    pub(crate) fn take(&mut self, address: u128) {
        if !self.open.contains(address) {
            return;
        }
        if let Some(order) = self.queued.remove(&address) {
            self.queue.remove(&order);
        }
        self.available = self.available.saturating_sub(1);
    }

    /// Marks an address as free. `order` grows from one release to the next.
    pub(crate) fn release(&mut self, address: u128, order: u64) {
        if !self.open.contains(address) {
            return;
        }
        self.queue.insert(order, address);
        self.queued.insert(address, order);
        self.available = self.available.saturating_add(1);
    }
}
