//! The addresses of one family of a subnet, as numbers, with their holders and pools.

use std::{collections::BTreeMap, net::IpAddr, sync::Arc};

use api::{Cidr, Family, IpRange};

use crate::{
    Counts, FamilyRanges, Network,
    ranges::{Growing, Runs},
    region::Region,
};

/// The ranges of each pool of a subnet, by the name of the pool.
pub(crate) type Pools = BTreeMap<Arc<str>, Vec<IpRange>>;

/// One family of a subnet.
#[derive(Clone, Debug)]
pub(crate) struct Space {
    cidr: Cidr,
    first: u128,
    last: u128,
    /// The gateways and the addresses that the network keeps back. They are never given out.
    kept: Runs,
    /// `kept` and the excluded addresses. They are never chosen.
    reserved: Runs,
    used: BTreeMap<u128, Arc<str>>,
    /// The same addresses as runs.
    used_runs: Growing,
    /// The addresses outside of all pools.
    common: Region,
    /// The pools with addresses in this space, sorted by name.
    pools: Vec<Pool>,
    /// The runs of the pools by their first address: the last address, and the index of the pool in `pools`.
    owners: BTreeMap<u128, (u128, usize)>,
    releases: u64,
}

/// The addresses of a pool in one space.
#[derive(Clone, Debug)]
struct Pool {
    name: Arc<str>,
    runs: Runs,
    /// The addresses of the pool that are not reserved.
    region: Region,
    /// The number of held addresses of the pool.
    used: u128,
}

impl Space {
    pub(crate) fn new(cidr: Cidr, network: &Network, pools: &Pools) -> Self {
        let mut space = Self {
            cidr,
            first: 0,
            last: 0,
            kept: Runs::default(),
            reserved: Runs::default(),
            used: BTreeMap::new(),
            used_runs: Growing::default(),
            common: Region::default(),
            pools: Vec::new(),
            owners: BTreeMap::new(),
            releases: 0,
        };
        space.set(cidr, network, pools);
        space
    }

    /// Changes the network, the reservations and the pools. The caller checks that the holders' addresses are inside.
    pub(crate) fn set(&mut self, cidr: Cidr, network: &Network, pools: &Pools) {
        self.cidr = cidr;
        self.first = bits(cidr.network());
        self.last = bits(cidr.last());
        let gateways = network.gateway.iter().chain(&network.retired_gateways).copied();
        let gateways = gateways.filter(|gateway| cidr.contains(*gateway));
        let kept: Vec<_> = cidr.kept_back().chain(gateways).map(|address| (bits(address), bits(address))).collect();
        self.reserved = Runs::new(kept.iter().copied().chain(self.inside(&network.exclude)).collect());
        self.kept = Runs::new(kept);

        let regions = self.pools.iter().map(|pool| &pool.region).chain([&self.common]);
        let released: BTreeMap<u64, u128> = regions.flat_map(Region::released).collect();
        let mut taken = Runs::default();
        self.owners.clear();
        self.pools.clear();
        for (name, ranges) in pools {
            // `set_pool` refuses pools with a common address, but a network that grows can contain one. The first pool has it.
            let runs = Runs::new(self.inside(ranges).collect()).without(&taken);
            if runs.is_empty() {
                continue;
            }
            taken = Runs::new(taken.iter().chain(runs.iter()).collect());
            let at = self.pools.len();
            self.owners.extend(runs.iter().map(|(start, end)| (start, (end, at))));
            let used = runs.iter().map(|(start, end)| self.used.range(start..=end).count() as u128).sum();
            let region = Region::new(runs.without(&self.reserved), &self.used, &released);
            self.pools.push(Pool { name: Arc::clone(name), runs, region, used });
        }
        let common = self.whole().without(&self.reserved).without(&taken);
        self.common = Region::new(common, &self.used, &released);
    }

    pub(crate) fn cidr(&self) -> Cidr {
        self.cidr
    }

    pub(crate) fn family(&self) -> Family {
        self.cidr.family()
    }

    /// The first address in use, and its holder.
    pub(crate) fn first_used(&self) -> Option<(IpAddr, &Arc<str>)> {
        self.used.first_key_value().map(|(address, holder)| (self.address(*address), holder))
    }

    /// The first address in use outside of `cidr`, its holder, and the number of others outside of it.
    pub(crate) fn used_outside(&self, cidr: Option<&Cidr>) -> Option<(IpAddr, &Arc<str>, usize)> {
        if cidr.is_some_and(|cidr| cidr.covers(&self.cidr)) {
            return None;
        }
        let held = self.used.iter().map(|(address, holder)| (self.address(*address), holder));
        let mut outside = held.filter(|(address, _)| !cidr.is_some_and(|cidr| cidr.contains(*address)));
        let (address, holder) = outside.next()?;
        Some((address, holder, outside.count()))
    }

    pub(crate) fn holder(&self, address: IpAddr) -> Option<&Arc<str>> {
        self.used.get(&bits(address))
    }

    /// Whether `address` is never given out.
    pub(crate) fn keeps(&self, address: IpAddr) -> bool {
        self.kept.contains(bits(address))
    }

    /// The holders in the order of their addresses.
    pub(crate) fn holders(&self) -> impl Iterator<Item = &Arc<str>> {
        self.used.values()
    }

    pub(crate) fn used(&self) -> usize {
        self.used.len()
    }

    /// The index of the pool among those with addresses in this space.
    pub(crate) fn pool(&self, name: &str) -> Option<usize> {
        self.pools.binary_search_by(|pool| (*pool.name).cmp(name)).ok()
    }

    /// The number of pools with addresses in this space.
    pub(crate) fn pools(&self) -> usize {
        self.pools.len()
    }

    /// The pool of `address`.
    pub(crate) fn pool_of(&self, address: IpAddr) -> Option<&Arc<str>> {
        self.pools.get(self.owner(bits(address))?).map(|pool| &pool.name)
    }

    /// The first address of `ranges` that belongs to a pool other than `name`, and that pool.
    pub(crate) fn contested(&self, name: &str, ranges: &[IpRange]) -> Option<(IpAddr, &Arc<str>)> {
        self.inside(ranges).find_map(|(start, end)| {
            let before = self.owners.range(..start).next_back();
            let mut runs = before.into_iter().chain(self.owners.range(start..=end));
            runs.find_map(|(first, (last, owner))| {
                let owner = &self.pools.get(*owner)?.name;
                (*last >= start && **owner != *name).then(|| (self.address(*first.max(&start)), owner))
            })
        })
    }

    /// Whether any of `ranges` has an address inside the network.
    pub(crate) fn meets(&self, ranges: &[IpRange]) -> bool {
        self.inside(ranges).next().is_some()
    }

    /// The next address of a pool, or outside of all pools. It stays free until `take`.
    pub(crate) fn next(&mut self, pool: Option<usize>) -> Option<IpAddr> {
        let region = match pool {
            None => &mut self.common,
            Some(at) => &mut self.pools.get_mut(at)?.region,
        };
        let address = region.next(&self.used)?;
        Some(self.address(address))
    }

    pub(crate) fn take(&mut self, address: IpAddr, holder: Arc<str>) {
        let address = bits(address);
        if self.used.insert(address, holder).is_none() {
            self.used_runs.insert(address);
        }
        let pool = self.owner(address).and_then(|at| self.pools.get_mut(at));
        let region = match pool {
            None => &mut self.common,
            Some(pool) => {
                pool.used += 1;
                &mut pool.region
            }
        };
        region.take(address);
    }

    pub(crate) fn release(&mut self, address: IpAddr) {
        let address = bits(address);
        if self.used.remove(&address).is_none() {
            return;
        }
        self.used_runs.remove(address);
        self.releases += 1;
        let pool = self.owner(address).and_then(|at| self.pools.get_mut(at));
        let region = match pool {
            None => &mut self.common,
            Some(pool) => {
                pool.used -= 1;
                &mut pool.region
            }
        };
        region.release(address, self.releases);
    }

    /// The counts of the whole space with its pools.
    pub(crate) fn counts(&self) -> Counts {
        let regions = self.pools.iter().map(|pool| &pool.region).chain([&self.common]);
        let available = regions.fold(0, |sum: u128, region| sum.saturating_add(region.available()));
        Counts { used: self.used.len() as u128, available }
    }

    /// The ranges of the whole space with its pools.
    pub(crate) fn ranges(&self) -> FamilyRanges {
        let using = self.used_runs.within(&self.whole());
        self.family_ranges(&using, &self.whole().without(&self.reserved))
    }

    /// The counts of one pool.
    pub(crate) fn pool_counts(&self, pool: &str) -> Counts {
        let counts = |pool: &Pool| Counts { used: pool.used, available: pool.region.available() };
        self.pool(pool).and_then(|at| self.pools.get(at)).map(counts).unwrap_or_default()
    }

    /// The ranges of one pool.
    pub(crate) fn pool_ranges(&self, pool: &str) -> FamilyRanges {
        let ranges = |pool: &Pool| self.family_ranges(&self.used_runs.within(&pool.runs), pool.region.open());
        self.pool(pool).and_then(|at| self.pools.get(at)).map(ranges).unwrap_or_default()
    }

    fn family_ranges(&self, using: &Runs, open: &Runs) -> FamilyRanges {
        let ranges = |runs: &Runs| {
            let ends = runs.iter().map(|(start, end)| (self.address(start), self.address(end)));
            // Both ends are of this family and in order, so every range is valid.
            ends.filter_map(|(start, end)| IpRange::new(start, end).ok()).collect()
        };
        FamilyRanges { using: ranges(using), free: ranges(&open.without(using)) }
    }

    fn whole(&self) -> Runs {
        Runs::new(vec![(self.first, self.last)])
    }

    /// The part of `ranges` inside the network.
    fn inside(&self, ranges: &[IpRange]) -> impl Iterator<Item = (u128, u128)> {
        let (family, first, last) = (self.family(), self.first, self.last);
        ranges.iter().filter(move |range| range.family() == family).filter_map(move |range| {
            let (start, end) = (bits(range.start()).max(first), bits(range.end()).min(last));
            (start <= end).then_some((start, end))
        })
    }

    /// The index of the pool of `address`.
    fn owner(&self, address: u128) -> Option<usize> {
        let (_, (end, at)) = self.owners.range(..=address).next_back()?;
        (address <= *end).then_some(*at)
    }

    fn address(&self, bits: u128) -> IpAddr {
        match self.cidr.family() {
            // Every number in this space comes from an address of this family.
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
