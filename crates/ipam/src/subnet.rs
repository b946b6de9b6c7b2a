//! One subnet, and the choice of addresses in it.

use std::sync::Arc;

use api::{Addresses, Cidrs, Families, Family};

use crate::{
    Lease, Network, Refusal, Want, WantIps,
    space::{Pools, Space},
};

/// A subnet with its holders and its pools.
#[derive(Clone, Debug)]
pub(crate) struct Subnet {
    pub(crate) name: Arc<str>,
    pub(crate) network: Network,
    pub(crate) pools: Pools,
    /// The space of each family, IPv4 first.
    pub(crate) spaces: Vec<Space>,
}

impl Subnet {
    pub(crate) fn new(name: Arc<str>, network: &Network) -> Self {
        let pools = Pools::new();
        let spaces = network.cidrs.iter().map(|cidr| Space::new(*cidr, network, &pools)).collect();
        Self { name, network: network.clone(), pools, spaces }
    }

    /// Updates all spaces after a change of the network or of the pools. The space of a new family is empty.
    pub(crate) fn refresh(&mut self) {
        let mut old = std::mem::take(&mut self.spaces);
        let spaces =
            self.network.cidrs.iter().map(|cidr| match old.iter().position(|old| old.family() == cidr.family()) {
                Some(at) => {
                    let mut space = old.swap_remove(at);
                    space.set(*cidr, &self.network, &self.pools);
                    space
                }
                None => Space::new(*cidr, &self.network, &self.pools),
            });
        self.spaces = spaces.collect();
    }

    pub(crate) fn space(&self, family: Family) -> Option<&Space> {
        self.spaces.iter().find(|space| space.family() == family)
    }

    pub(crate) fn space_mut(&mut self, family: Family) -> Option<&mut Space> {
        self.spaces.iter_mut().find(|space| space.family() == family)
    }

    /// Refuses when an address is in use.
    pub(crate) fn check_unused(&self) -> Result<(), Refusal> {
        let used = self.spaces.iter().find_map(|space| Some((space.first_used()?, space.used())));
        let Some(((address, holder), count)) = used else { return Ok(()) };
        Err(Refusal::InUse { subnet: Arc::clone(&self.name), address, holder: Arc::clone(holder), count })
    }

    /// Refuses when an address outside of `cidrs` is in use.
    pub(crate) fn check_inside(&self, cidrs: &Cidrs) -> Result<(), Refusal> {
        let outside = self.spaces.iter().find_map(|space| space.used_outside(cidrs.get(space.family())));
        let Some((address, holder, others)) = outside else { return Ok(()) };
        let (subnet, holder) = (Arc::clone(&self.name), Arc::clone(holder));
        Err(Refusal::LeftOutside { subnet, cidrs: *cidrs, address, holder, others })
    }

    /// Refuses when a gateway of `network` differs from the current one and has a holder. A gateway that stays can have a
    /// holder from a record, and a refusal would not change that.
    pub(crate) fn check_gateway(&self, network: &Network) -> Result<(), Refusal> {
        for (family, address) in network.gateway.each() {
            let stays = self.network.gateway.get(family) == Some(address);
            if let Some(holder) = self.space(family).and_then(|space| space.holder(*address)).filter(|_| !stays) {
                let (subnet, holder) = (Arc::clone(&self.name), Arc::clone(holder));
                return Err(Refusal::GatewayHeld { subnet, address: *address, holder });
            }
        }
        Ok(())
    }

    /// Chooses addresses for `want`. They stay free until they are taken.
    pub(crate) fn choose(&mut self, want: &Want) -> Result<Addresses, Refusal> {
        let families = self.families(want)?;
        match &want.ips {
            WantIps::Any => self.complete(families, None, None),
            WantIps::Exact(ips) => {
                self.check(ips)?;
                self.complete(families, Some(ips), None)
            }
            WantIps::FirstFree(list) => {
                let ips = self.first_free(list)?;
                self.complete(families, Some(&ips), None)
            }
            WantIps::Pools(pools) => self.first_of_pools(families, pools),
        }
    }

    /// Refuses when one of `ips` is outside of the subnet or has a holder.
    pub(crate) fn check_free(&self, ips: &Addresses) -> Result<(), Refusal> {
        for (family, address) in ips.each() {
            let (subnet, address) = (Arc::clone(&self.name), *address);
            let Some(space) = self.space(family).filter(|space| space.cidr().contains(address)) else {
                return Err(Refusal::Outside { subnet, address, cidrs: self.network.cidrs });
            };
            if let Some(holder) = space.holder(address) {
                return Err(Refusal::Taken { subnet, address, holder: Arc::clone(holder) });
            }
        }
        Ok(())
    }

    /// Whether `lease` satisfies `want`.
    pub(crate) fn fits(&self, lease: &Lease, want: &Want) -> bool {
        let has = |ips: &Addresses| ips.each().all(|(family, ip)| lease.ips.get(family) == Some(ip));
        let in_pool = |pool: &Arc<str>| {
            let met = lease.ips.each().filter_map(|(family, ip)| Some((self.space(family)?, ip)));
            let mut met = met.filter(|(space, _)| space.pool(pool).is_some()).peekable();
            met.peek().is_some() && met.all(|(space, ip)| space.pool_of(*ip) == Some(pool))
        };
        let ips = match &want.ips {
            WantIps::Any => true,
            WantIps::Exact(ips) => has(ips),
            WantIps::FirstFree(list) => list.iter().any(has),
            WantIps::Pools(pools) => pools.iter().any(in_pool),
        };
        let families = want.families.is_none_or(|families| families.families().eq(lease.ips.families()));
        ips && families && want.mac.is_none_or(|mac| mac == lease.mac)
    }

    /// The families of `want`, or else those of the subnet. Refuses when the subnet lacks one of them.
    fn families(&self, want: &Want) -> Result<Families<()>, Refusal> {
        let Some(families) = want.families else { return Ok(self.network.cidrs.map(drop)) };
        match families.families().find(|family| self.space(*family).is_none()) {
            None => Ok(families),
            Some(family) => {
                Err(Refusal::NoFamily { subnet: Arc::clone(&self.name), family, cidrs: self.network.cidrs })
            }
        }
    }

    /// Refuses when one of `ips` cannot be given out on request.
    fn check(&self, ips: &Addresses) -> Result<(), Refusal> {
        self.check_free(ips)?;
        match ips.each().find(|(family, ip)| self.space(*family).is_some_and(|space| space.keeps(**ip))) {
            Some((_, address)) => Err(Refusal::Reserved { subnet: Arc::clone(&self.name), address: *address }),
            None => Ok(()),
        }
    }

    fn first_free(&self, list: &[Addresses]) -> Result<Addresses, Refusal> {
        let mut refused = None;
        for ips in list {
            match self.check(ips) {
                Ok(()) => return Ok(*ips),
                Err(refusal) => refused = Some(Box::new(refusal)),
            }
        }
        let subnet = Arc::clone(&self.name);
        Err(match refused {
            Some(why) => Refusal::NoneOfList { subnet, count: list.len(), last: why },
            None => Refusal::EmptyList { subnet },
        })
    }

    fn first_of_pools(&mut self, families: Families<()>, pools: &[Arc<str>]) -> Result<Addresses, Refusal> {
        let mut refused = Refusal::EmptyList { subnet: Arc::clone(&self.name) };
        for pool in pools {
            if !self.pools.contains_key(pool) {
                refused = Refusal::UnknownPool { subnet: Arc::clone(&self.name), pool: Arc::clone(pool) };
                continue;
            }
            match self.complete(families, None, Some(pool)) {
                Ok(ips) => return Ok(ips),
                Err(refusal) => refused = refusal,
            }
        }
        Err(refused)
    }

    /// Adds an address to `given` for each further family of `families`: the next one of the pool, or of the subnet when the
    /// pool has no addresses of that family. Refuses when the pool has none of any of the families.
    fn complete(
        &mut self,
        families: Families<()>,
        given: Option<&Addresses>,
        pool: Option<&Arc<str>>,
    ) -> Result<Addresses, Refusal> {
        let (mut v4, mut v6) = (None, None);
        let mut met = false;
        for space in &mut self.spaces {
            let family = space.family();
            let slot = if family == Family::V4 { &mut v4 } else { &mut v6 };
            *slot = given.and_then(|ips| ips.get(family).copied());
            if slot.is_some() || families.get(family).is_none() {
                continue;
            }
            let at = pool.and_then(|pool| space.pool(pool));
            met |= at.is_some();
            *slot = space.next(at);
            if slot.is_none() {
                return Err(full(&self.name, space, pool.filter(|_| at.is_some())));
            }
        }
        let subnet = || Arc::clone(&self.name);
        match pool.filter(|_| !met) {
            // There is at least one family, so there is an address.
            None => Addresses::from_options(v4, v6).ok_or_else(|| Refusal::EmptyList { subnet: subnet() }),
            Some(pool) => {
                let family = families.families().next().unwrap_or(Family::V4);
                Err(Refusal::PoolFull { subnet: subnet(), pool: Arc::clone(pool), family, used: 0 })
            }
        }
    }
}

fn full(subnet: &Arc<str>, space: &Space, pool: Option<&Arc<str>>) -> Refusal {
    let subnet = Arc::clone(subnet);
    let family = space.family();
    match pool {
        Some(pool) => Refusal::PoolFull { subnet, pool: Arc::clone(pool), family, used: space.pool_counts(pool).used },
        None => Refusal::Full { subnet, family, cidr: space.cidr(), used: space.used(), pools: space.pools() },
    }
}
