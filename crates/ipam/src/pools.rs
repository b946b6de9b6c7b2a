//! Pools: addresses of a subnet that are chosen only for who asks for them.

use std::{net::IpAddr, sync::Arc};

use api::{Family, IpRange};

use crate::{Ipam, Ranges, Refusal, Usage};

impl Ipam {
    /// Adds a pool to a subnet, or changes or moves one. Who holds an address keeps it, whoever has it from now on. What of
    /// `ranges` lies outside the subnet's networks is ignored.
    ///
    /// `false` when it is so already. Refused when all of `ranges` lies outside, and when another pool has some of it.
    pub fn set_pool(&mut self, subnet: &str, name: &str, ranges: &[IpRange]) -> Result<bool, Refusal> {
        let Some(entry) = self.subnets.get_mut(subnet) else {
            return Err(Refusal::UnknownSubnet { subnet: subnet.into() });
        };
        let (subnet, pool): (Arc<str>, Arc<str>) = (Arc::clone(&entry.name), name.into());
        if !entry.spaces.iter().any(|space| space.meets(ranges)) {
            return Err(Refusal::PoolOutside { subnet, pool, cidrs: entry.network.cidrs });
        }
        if let Some((address, other)) = entry.spaces.iter().find_map(|space| space.contested(name, ranges)) {
            return Err(Refusal::PoolOverlap { subnet, pool, address, other: Arc::clone(other) });
        }
        let changed = entry.pools.get(name).is_none_or(|before| before != ranges);
        if changed {
            entry.pools.insert(Arc::clone(&pool), ranges.to_vec());
            entry.refresh();
        }
        match self.pools.insert(pool, Arc::clone(&subnet)) {
            Some(before) if before != subnet => self.take_pool_from(&before, name),
            _ => {}
        }
        Ok(changed)
    }

    /// Forgets a pool: who holds its addresses keeps them, and the others are anybody's. One that is not there is gone
    /// already.
    pub fn remove_pool(&mut self, name: &str) {
        if let Some(subnet) = self.pools.remove(name) {
            self.take_pool_from(&subnet, name);
        }
    }

    /// The pool that `address` belongs to.
    pub fn pool_of(&self, address: IpAddr) -> Option<&str> {
        let entry = self.subnets.get(self.subnet_of(address)?)?;
        entry.space(Family::of(address))?.pool_of(address).map(|pool| &**pool)
    }

    /// How much of a pool is in use. Constant time.
    pub fn pool_usage(&self, name: &str) -> Option<Usage> {
        let entry = self.subnets.get(self.pools.get(name)?)?;
        let counts = |family| entry.space(family).map(|space| space.pool_counts(name)).unwrap_or_default();
        Some(Usage { v4: counts(Family::V4), v6: counts(Family::V6) })
    }

    /// Which addresses of a pool are in use and free. Takes time and memory by the number in use.
    pub fn pool_ranges(&self, name: &str) -> Option<Ranges> {
        let entry = self.subnets.get(self.pools.get(name)?)?;
        let ranges = |family| entry.space(family).map(|space| space.pool_ranges(name)).unwrap_or_default();
        Some(Ranges { v4: ranges(Family::V4), v6: ranges(Family::V6) })
    }

    fn take_pool_from(&mut self, subnet: &str, name: &str) {
        if let Some(entry) = self.subnets.get_mut(subnet)
            && entry.pools.remove(name).is_some()
        {
            entry.refresh();
        }
    }
}
