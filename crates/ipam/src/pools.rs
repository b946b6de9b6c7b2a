//! Pools: addresses of a subnet that are chosen only for holders that ask for the pool.

use std::{net::IpAddr, sync::Arc};

use api::{Family, IpRange};

use crate::{Ipam, Ranges, Refusal, Usage};

impl Ipam {
    /// Adds a pool to a subnet, or changes or moves one. Holders keep their addresses, whether or not the pool has them.
    /// Addresses outside of the subnet's networks are ignored.
    ///
    /// Returns `false` when nothing changes. Refused when all of `ranges` are outside of the networks, and when another pool
    /// has one of the addresses.
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

    /// Removes a pool, if there is one with this name. Holders keep their addresses. The others can be chosen for any holder.
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

    /// The subnet of a pool and the addresses that it was set to.
    pub fn pool(&self, name: &str) -> Option<(&str, &[IpRange])> {
        let subnet = self.pools.get(name)?;
        Some((subnet, self.subnets.get(subnet)?.pools.get(name)?))
    }

    /// The usage of a pool. Takes constant time.
    pub fn pool_usage(&self, name: &str) -> Option<Usage> {
        let entry = self.subnets.get(self.pools.get(name)?)?;
        let counts = |family| entry.space(family).map(|space| space.pool_counts(name)).unwrap_or_default();
        Some(Usage { v4: counts(Family::V4), v6: counts(Family::V6) })
    }

    /// The addresses of a pool that are in use and free. Time and memory grow with the number in use.
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
