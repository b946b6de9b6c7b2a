//! All subnets, and who holds what in them.

use std::{
    collections::{BTreeMap, HashMap},
    net::IpAddr,
    sync::Arc,
};

use api::{Addresses, Cidr, Family, Mac};

use crate::{
    Pool, Ranges, Refusal, Usage, mac,
    space::{Space, bits},
};

/// What a holder has: an address of each of the subnet's families, and a MAC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Lease {
    /// The addresses.
    pub ips: Addresses,
    /// The MAC, unique in the whole [`Ipam`].
    pub mac: Mac,
}

/// What a holder wants.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Want {
    /// Which addresses.
    pub ips: WantIps,
    /// Which MAC; none: one is made from the address.
    pub mac: Option<Mac>,
}

/// Which addresses a holder wants. Where a family of the subnet is not named, any address of it will do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum WantIps {
    /// The next ones.
    #[default]
    Any,
    /// These.
    Exact(Addresses),
    /// The first entry of the list that is free.
    FirstFree(Vec<Addresses>),
}

impl Want {
    /// Whatever is next.
    pub fn any() -> Self {
        Self::default()
    }

    /// These addresses.
    pub fn exact(ips: Addresses) -> Self {
        Self { ips: WantIps::Exact(ips), mac: None }
    }
}

/// The allocator: every subnet with its holders.
///
/// A holder (a port's name, `<pod>.<ns>` or `node-<n>`) has at most one lease, in one subnet.
#[derive(Clone, Debug, Default)]
pub struct Ipam {
    subnets: BTreeMap<Arc<str>, Subnet>,
    /// Which subnet a network belongs to, by its first address. Networks never overlap.
    networks: BTreeMap<(Family, u128), (Cidr, Arc<str>)>,
    // Looked up only, never walked, so that the order of a HashMap is not seen.
    holders: HashMap<Arc<str>, (Arc<str>, Lease)>,
    macs: HashMap<Mac, Arc<str>>,
}

#[derive(Clone, Debug)]
struct Subnet {
    pool: Pool,
    /// One for each family, IPv4 first.
    spaces: Vec<Space>,
}

impl Ipam {
    /// Adds a subnet, or changes one. Addresses in use stay held, also when they are excluded from now on.
    ///
    /// Refused when a network overlaps another subnet's, or when an address in use would lie outside.
    pub fn set_subnet(&mut self, name: &str, pool: &Pool) -> Result<(), Refusal> {
        if self.subnets.get(name).is_some_and(|subnet| subnet.pool == *pool) {
            return Ok(());
        }
        let subnet: Arc<str> = name.into();
        for cidr in pool.cidrs.iter() {
            if let Some((other_cidr, other)) = self.overlapping(*cidr).find(|(_, other)| **other != *name) {
                let (other, other_cidr) = (Arc::clone(other), *other_cidr);
                return Err(Refusal::Overlap { subnet, cidr: *cidr, other, other_cidr });
            }
        }
        if let Some(present) = self.subnets.get_mut(name) {
            for space in &present.spaces {
                if let Some((address, holder)) = space.stray(pool.cidrs.get(space.family()).copied()) {
                    return Err(Refusal::InUse { subnet, address, holder: Arc::clone(holder), count: space.used() });
                }
            }
            let mut old = std::mem::take(&mut present.spaces);
            let spaces = pool.cidrs.iter().map(|cidr| match old.iter().position(|old| old.family() == cidr.family()) {
                Some(at) => {
                    let mut space = old.swap_remove(at);
                    space.set(*cidr, pool);
                    space
                }
                None => Space::new(*cidr, pool),
            });
            present.spaces = spaces.collect();
            present.pool = pool.clone();
            self.networks.retain(|_, (_, owner)| **owner != *name);
        } else {
            let spaces = pool.cidrs.iter().map(|cidr| Space::new(*cidr, pool)).collect();
            self.subnets.insert(Arc::clone(&subnet), Subnet { pool: pool.clone(), spaces });
        }
        for (family, cidr) in pool.cidrs.each() {
            self.networks.insert((family, bits(cidr.network())), (*cidr, Arc::clone(&subnet)));
        }
        Ok(())
    }

    /// Forgets a subnet; refused while addresses are in use. One that is not there is gone already.
    pub fn remove_subnet(&mut self, name: &str) -> Result<(), Refusal> {
        let Some(subnet) = self.subnets.get(name) else { return Ok(()) };
        for space in &subnet.spaces {
            if let Some((address, holder)) = space.stray(None) {
                let (subnet, holder) = (name.into(), Arc::clone(holder));
                return Err(Refusal::InUse { subnet, address, holder, count: space.used() });
            }
        }
        self.subnets.remove(name);
        self.networks.retain(|_, (_, owner)| **owner != *name);
        Ok(())
    }

    /// Gives `holder` addresses in `subnet`. Who holds a lease there that fits `want` gets that same lease again.
    pub fn assign(&mut self, subnet: &str, holder: &str, want: Want) -> Result<Lease, Refusal> {
        if let Some((held_in, lease)) = self.holders.get(holder) {
            return if **held_in == *subnet && fits(lease, &want) {
                Ok(*lease)
            } else {
                Err(already(holder, held_in, lease))
            };
        }
        let Some((name, entry)) = self.subnets.get_key_value(subnet) else {
            return Err(Refusal::UnknownSubnet { subnet: subnet.into() });
        };
        let name = Arc::clone(name);
        if let Some(mac) = want.mac
            && let Some(holder) = self.macs.get(&mac)
        {
            return Err(Refusal::MacTaken { mac, holder: Arc::clone(holder) });
        }
        let given = match want.ips {
            WantIps::Any => None,
            WantIps::Exact(ips) => {
                entry.check(&name, &ips)?;
                Some(ips)
            }
            WantIps::FirstFree(list) => Some(entry.first_free(&name, &list)?),
        };
        let Some(entry) = self.subnets.get_mut(subnet) else {
            return Err(Refusal::UnknownSubnet { subnet: name });
        };
        let ips = entry.complete(&name, given)?;
        let mac = want.mac.or_else(|| mac::candidates(&ips).find(|mac| !self.macs.contains_key(mac)));
        let Some(mac) = mac else { return Err(Refusal::NoMac { subnet: name }) };
        let lease = Lease { ips, mac };
        self.hold(&name, holder.into(), lease);
        Ok(lease)
    }

    /// Takes a lease back in from a record. It may lie in an excluded range or on the gateway, since it is what is;
    /// only conflicts with other holders, and addresses outside the subnet, are refused.
    pub fn restore(&mut self, subnet: &str, holder: &str, lease: Lease) -> Result<(), Refusal> {
        if let Some((held_in, held)) = self.holders.get(holder) {
            return if **held_in == *subnet && *held == lease { Ok(()) } else { Err(already(holder, held_in, held)) };
        }
        let Some((name, entry)) = self.subnets.get_key_value(subnet) else {
            return Err(Refusal::UnknownSubnet { subnet: subnet.into() });
        };
        let name = Arc::clone(name);
        entry.check_free(&name, &lease.ips)?;
        if let Some(holder) = self.macs.get(&lease.mac) {
            return Err(Refusal::MacTaken { mac: lease.mac, holder: Arc::clone(holder) });
        }
        self.hold(&name, holder.into(), lease);
        Ok(())
    }

    /// Takes back what `holder` has; `None` when that is nothing.
    pub fn release(&mut self, holder: &str) -> Option<(Arc<str>, Lease)> {
        let (subnet, lease) = self.holders.remove(holder)?;
        self.macs.remove(&lease.mac);
        if let Some(entry) = self.subnets.get_mut(&subnet) {
            for (family, address) in lease.ips.each() {
                if let Some(space) = entry.space_mut(family) {
                    space.release(*address);
                }
            }
        }
        Some((subnet, lease))
    }

    /// What `holder` has, and in which subnet.
    pub fn lease(&self, holder: &str) -> Option<(&str, Lease)> {
        self.holders.get(holder).map(|(subnet, lease)| (&**subnet, *lease))
    }

    /// Who holds `address`.
    pub fn holder(&self, address: IpAddr) -> Option<&str> {
        let entry = self.subnets.get(self.subnet_of(address)?)?;
        entry.space(Family::of(address))?.holder(address).map(|holder| &**holder)
    }

    /// The subnet whose network `address` lies in.
    pub fn subnet_of(&self, address: IpAddr) -> Option<&str> {
        let key = (Family::of(address), bits(address));
        let (_, (cidr, subnet)) = self.networks.range(..=key).next_back()?;
        cidr.contains(address).then_some(&**subnet)
    }

    /// Whether there is a subnet of that name.
    pub fn has_subnet(&self, subnet: &str) -> bool {
        self.subnets.contains_key(subnet)
    }

    /// Who holds addresses in `subnet`: in order of their IPv4 addresses (IPv6 without those), each once.
    pub fn holders(&self, subnet: &str) -> impl Iterator<Item = (&str, Lease)> {
        let spaces = self.subnets.get(subnet).into_iter().flat_map(|entry| &entry.spaces);
        spaces.flat_map(move |space| {
            space.holders().filter_map(move |holder| {
                let (_, lease) = self.holders.get(holder)?;
                // Who has both families is met twice.
                (lease.ips.families().next() == Some(space.family())).then_some((&**holder, *lease))
            })
        })
    }

    /// How much of `subnet` is in use. Constant time.
    pub fn usage(&self, subnet: &str) -> Option<Usage> {
        let entry = self.subnets.get(subnet)?;
        let counts = |family| entry.space(family).map(Space::counts).unwrap_or_default();
        Some(Usage { v4: counts(Family::V4), v6: counts(Family::V6) })
    }

    /// Which addresses of `subnet` are in use and free. Takes time and memory by the number in use.
    pub fn ranges(&self, subnet: &str) -> Option<Ranges> {
        let entry = self.subnets.get(subnet)?;
        let ranges = |family| entry.space(family).map(Space::ranges).unwrap_or_default();
        Some(Ranges { v4: ranges(Family::V4), v6: ranges(Family::V6) })
    }

    fn hold(&mut self, subnet: &Arc<str>, holder: Arc<str>, lease: Lease) {
        if let Some(entry) = self.subnets.get_mut(subnet) {
            for (family, address) in lease.ips.each() {
                if let Some(space) = entry.space_mut(family) {
                    space.take(*address, Arc::clone(&holder));
                }
            }
        }
        self.macs.insert(lease.mac, Arc::clone(&holder));
        self.holders.insert(holder, (Arc::clone(subnet), lease));
    }

    /// Networks that share an address with `cidr`, the one that starts last at the front.
    fn overlapping(&self, cidr: Cidr) -> impl Iterator<Item = &(Cidr, Arc<str>)> {
        let family = cidr.family();
        // Networks nest or are apart: one that overlaps starts inside, or is the last that starts before.
        let before = self.networks.range(..(family, bits(cidr.network()))).next_back();
        let inside = self.networks.range((family, bits(cidr.network()))..=(family, bits(cidr.last())));
        let all = inside.chain(before).map(|(_, network)| network);
        all.filter(move |(other, _)| other.overlaps(&cidr))
    }
}

impl Subnet {
    fn space(&self, family: Family) -> Option<&Space> {
        self.spaces.iter().find(|space| space.family() == family)
    }

    fn space_mut(&mut self, family: Family) -> Option<&mut Space> {
        self.spaces.iter_mut().find(|space| space.family() == family)
    }

    /// Whether `ips` can be given out on request.
    fn check(&self, name: &Arc<str>, ips: &Addresses) -> Result<(), Refusal> {
        self.check_free(name, ips)?;
        match ips.each().find(|(family, ip)| self.space(*family).is_some_and(|space| space.keeps(**ip))) {
            Some((_, address)) => Err(Refusal::Reserved { subnet: Arc::clone(name), address: *address }),
            None => Ok(()),
        }
    }

    /// Whether `ips` lie inside and nobody holds them.
    fn check_free(&self, name: &Arc<str>, ips: &Addresses) -> Result<(), Refusal> {
        for (family, address) in ips.each() {
            let (subnet, address) = (Arc::clone(name), *address);
            let Some(space) = self.space(family).filter(|space| space.cidr().contains(address)) else {
                return Err(Refusal::Outside { subnet, address, cidrs: self.pool.cidrs });
            };
            if let Some(holder) = space.holder(address) {
                return Err(Refusal::Taken { subnet, address, holder: Arc::clone(holder) });
            }
        }
        Ok(())
    }

    fn first_free(&self, name: &Arc<str>, list: &[Addresses]) -> Result<Addresses, Refusal> {
        let mut refused = None;
        for ips in list {
            match self.check(name, ips) {
                Ok(()) => return Ok(*ips),
                Err(refusal) => refused = Some(Box::new(refusal)),
            }
        }
        let subnet = Arc::clone(name);
        Err(match refused {
            Some(why) => Refusal::NoneOfList { subnet, count: list.len(), last: why },
            None => Refusal::EmptyList { subnet },
        })
    }

    /// `given`, and the next address of every family that it lacks.
    fn complete(&mut self, name: &Arc<str>, given: Option<Addresses>) -> Result<Addresses, Refusal> {
        let cidrs = self.pool.cidrs;
        let mut pick = |family, cidr: &Cidr| {
            let space = self.space_mut(family);
            let used = space.as_ref().map_or(0, |space| space.used());
            let address = given.and_then(|ips| ips.get(family).copied()).or_else(|| space?.next());
            address.ok_or_else(|| Refusal::Full { subnet: Arc::clone(name), family, cidr: *cidr, used })
        };
        cidrs.try_map(|cidr| pick(cidr.family(), &cidr))
    }
}

fn fits(lease: &Lease, want: &Want) -> bool {
    let has = |ips: &Addresses| ips.each().all(|(family, ip)| lease.ips.get(family) == Some(ip));
    let ips = match &want.ips {
        WantIps::Any => true,
        WantIps::Exact(ips) => has(ips),
        WantIps::FirstFree(list) => list.iter().any(has),
    };
    ips && want.mac.is_none_or(|mac| mac == lease.mac)
}

fn already(holder: &str, subnet: &Arc<str>, lease: &Lease) -> Refusal {
    Refusal::AlreadyHolds { holder: holder.into(), subnet: Arc::clone(subnet), ips: lease.ips, mac: lease.mac }
}
