//! The addresses of one family of one subnet, as numbers.

use std::{collections::BTreeMap, net::IpAddr, sync::Arc};

use api::{Cidr, Family, IpRange};

use crate::{Counts, FamilyRanges, Pool, ranges::Runs};

/// Who holds which address, and which one is next.
///
/// Below `cursor` every address is held, reserved or released; at and above it, whatever is neither held, reserved nor
/// released was never given out. So the next address is found by walking the cursor up, and each address is walked
/// over once.
#[derive(Clone, Debug)]
pub(crate) struct Space {
    cidr: Cidr,
    first: u128,
    last: u128,
    /// Gateway, first and last: never given out.
    kept: Runs,
    /// `kept` and what the user excludes: never chosen.
    reserved: Runs,
    reserved_count: u128,
    used: BTreeMap<u128, Arc<str>>,
    /// How many of `used` are not in `reserved`.
    used_unreserved: u128,
    /// The next address to look at; none when the end was reached.
    cursor: Option<u128>,
    /// Released addresses by the order of their release, and the order by address.
    queue: BTreeMap<u64, u128>,
    queued: BTreeMap<u128, u64>,
    releases: u64,
}

impl Space {
    pub(crate) fn new(cidr: Cidr, pool: &Pool) -> Self {
        let mut space = Self {
            cidr,
            first: 0,
            last: 0,
            kept: Runs::default(),
            reserved: Runs::default(),
            reserved_count: 0,
            used: BTreeMap::new(),
            used_unreserved: 0,
            cursor: None,
            queue: BTreeMap::new(),
            queued: BTreeMap::new(),
            releases: 0,
        };
        space.set(cidr, pool);
        space
    }

    /// Another network or other reservations for the same holders. Whoever calls has looked that they fit.
    pub(crate) fn set(&mut self, cidr: Cidr, pool: &Pool) {
        let family = cidr.family();
        self.cidr = cidr;
        self.first = bits(cidr.network());
        self.last = bits(cidr.last());
        let mut kept = Vec::new();
        if cidr.keeps_ends() {
            kept.extend([(self.first, self.first), (self.last, self.last)]);
        }
        if let Some(gateway) = pool.gateway.get(family).filter(|gateway| cidr.contains(**gateway)) {
            kept.push((bits(*gateway), bits(*gateway)));
        }
        let excluded = pool.exclude.iter().filter(|range| range.family() == family).filter_map(|range| {
            let (start, end) = (bits(range.start()).max(self.first), bits(range.end()).min(self.last));
            (start <= end).then_some((start, end))
        });
        self.reserved = Runs::new(kept.iter().copied().chain(excluded).collect());
        self.kept = Runs::new(kept);
        self.reserved_count = self.reserved.count();
        self.used_unreserved = self.used.keys().filter(|address| !self.reserved.contains(**address)).count() as u128;
        self.cursor = Some(self.first);
        let (first, last) = (self.first, self.last);
        self.queued.retain(|address, _| (first..=last).contains(address));
        self.queue.retain(|_, address| (first..=last).contains(address));
    }

    pub(crate) fn cidr(&self) -> Cidr {
        self.cidr
    }

    pub(crate) fn family(&self) -> Family {
        self.cidr.family()
    }

    /// The first holder of an address outside `cidr`.
    pub(crate) fn stray(&self, cidr: Option<Cidr>) -> Option<(IpAddr, &Arc<str>)> {
        let ends = [self.used.first_key_value(), self.used.last_key_value()];
        let mut ends = ends.into_iter().flatten().map(|(address, holder)| (self.address(*address), holder));
        ends.find(|(address, _)| cidr.is_none_or(|cidr| !cidr.contains(*address)))
    }

    pub(crate) fn holder(&self, address: IpAddr) -> Option<&Arc<str>> {
        self.used.get(&bits(address))
    }

    /// Whether `address` is never given out.
    pub(crate) fn keeps(&self, address: IpAddr) -> bool {
        self.kept.contains(bits(address))
    }

    /// Holders in address order.
    pub(crate) fn holders(&self) -> impl Iterator<Item = &Arc<str>> {
        self.used.values()
    }

    pub(crate) fn used(&self) -> usize {
        self.used.len()
    }

    /// The address that is next; it stays free until `take`.
    pub(crate) fn next(&mut self) -> Option<IpAddr> {
        while let Some(at) = self.cursor.filter(|at| *at <= self.last) {
            if let Some(end) = self.reserved.end_of(at) {
                self.cursor = end.checked_add(1);
            } else if self.used.contains_key(&at) || self.queued.contains_key(&at) {
                self.cursor = at.checked_add(1);
            } else {
                return Some(self.address(at));
            }
        }
        while let Some((order, address)) = self.queue.first_key_value().map(|(order, address)| (*order, *address)) {
            if !self.reserved.contains(address) {
                return Some(self.address(address));
            }
            // It was excluded after its release. Once it is not, `set` starts the cursor over and it counts as new.
            self.queue.remove(&order);
            self.queued.remove(&address);
        }
        None
    }

    pub(crate) fn take(&mut self, address: IpAddr, holder: Arc<str>) {
        let address = bits(address);
        if let Some(order) = self.queued.remove(&address) {
            self.queue.remove(&order);
        }
        if !self.reserved.contains(address) {
            self.used_unreserved += 1;
        }
        self.used.insert(address, holder);
    }

    pub(crate) fn release(&mut self, address: IpAddr) {
        let address = bits(address);
        if self.used.remove(&address).is_none() {
            return;
        }
        if self.reserved.contains(address) {
            return;
        }
        self.used_unreserved -= 1;
        self.releases += 1;
        self.queue.insert(self.releases, address);
        self.queued.insert(address, self.releases);
    }

    pub(crate) fn counts(&self) -> Counts {
        let available = (self.last - self.first).saturating_add(1) - self.reserved_count - self.used_unreserved;
        Counts { used: self.used.len() as u128, available }
    }

    pub(crate) fn ranges(&self) -> FamilyRanges {
        let using = Runs::new(self.used.keys().map(|address| (*address, *address)).collect());
        let not_free = Runs::new(using.iter().chain(self.reserved.iter()).collect());
        let ranges = |runs: Vec<(u128, u128)>| {
            let ends = runs.into_iter().map(|(start, end)| (self.address(start), self.address(end)));
            // Both ends are of this family and in order, so none is left out.
            ends.filter_map(|(start, end)| IpRange::new(start, end).ok()).collect()
        };
        FamilyRanges { using: ranges(using.iter().collect()), free: ranges(not_free.gaps(self.first, self.last)) }
    }

    fn address(&self, bits: u128) -> IpAddr {
        match self.cidr.family() {
            // Every number here came from an address of this family.
            #[allow(clippy::cast_possible_truncation)]
            Family::V4 => IpAddr::V4((bits as u32).into()),
            Family::V6 => IpAddr::V6(bits.into()),
        }
    }
}

pub(crate) fn bits(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(v4) => u128::from(v4.to_bits()),
        IpAddr::V6(v6) => v6.to_bits(),
    }
}
