//! A part of a space that addresses are chosen from in order: what one pool has, or what no pool has.

use std::{collections::BTreeMap, sync::Arc};

use crate::ranges::Runs;

/// Which address is next.
///
/// Below `cursor` every address of the region is held or released; at and above it, whatever is neither held nor released
/// was never given out. So the next address is found by walking the cursor up, and each address is walked over once.
#[derive(Clone, Debug, Default)]
pub(crate) struct Region {
    /// What may be chosen.
    open: Runs,
    /// How many of those nobody holds.
    available: u128,
    /// The next address to look at; none when the end was reached.
    cursor: Option<u128>,
    /// Released addresses by the order of their release, and the order by address.
    queue: BTreeMap<u64, u128>,
    queued: BTreeMap<u128, u64>,
}

impl Region {
    /// A region of which `used` are held, and from which `released` were, in that order; what lies outside of it counts for
    /// nothing.
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

    /// Released addresses by the order of their release.
    pub(crate) fn released(&self) -> impl Iterator<Item = (u64, u128)> + '_ {
        self.queue.iter().map(|(order, address)| (*order, *address))
    }

    /// The address that is next; it stays free until `take`.
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

    /// Somebody holds an address from now on; one that may not be chosen counts for nothing.
    pub(crate) fn take(&mut self, address: u128) {
        if !self.open.contains(address) {
            return;
        }
        if let Some(order) = self.queued.remove(&address) {
            self.queue.remove(&order);
        }
        self.available = self.available.saturating_sub(1);
    }

    /// An address is free again; `order` grows from one release to the next.
    pub(crate) fn release(&mut self, address: u128, order: u64) {
        if !self.open.contains(address) {
            return;
        }
        self.queue.insert(order, address);
        self.queued.insert(address, order);
        self.available = self.available.saturating_add(1);
    }
}
