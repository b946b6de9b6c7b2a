//! All subnets, with the holders of their addresses.

use std::{
    collections::{BTreeMap, HashMap},
    net::IpAddr,
    sync::Arc,
};

use api::{Addresses, Cidr, Family, Mac};

use crate::{
    Network, Ranges, Refusal, Usage, Want, WantIps, mac,
    space::{Space, bits},
    subnet::Subnet,
};

/// The addresses and the MAC of a holder.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Lease {
    /// The addresses.
    pub ips: Addresses,
    /// The MAC. It is unique in the whole [`Ipam`].
    pub mac: Mac,
}

/// The allocator: all subnets with their holders.
///
/// A holder (a port's name, `<pod>.<ns>` or `node-<n>`) has at most one lease, in one subnet.
#[derive(Clone, Debug, Default)]
pub struct Ipam {
    pub(crate) subnets: BTreeMap<Arc<str>, Subnet>,
    /// The subnet of each pool.
    pub(crate) pools: BTreeMap<Arc<str>, Arc<str>>,
    /// All networks with their subnets, by family and first address. Networks never overlap.
    networks: BTreeMap<(Family, u128), (Cidr, Arc<str>)>,
    // The maps are never iterated, so the order of a HashMap has no effect.
    holders: HashMap<Arc<str>, (Arc<str>, Lease)>,
    macs: HashMap<Mac, Arc<str>>,
}

impl Ipam {
    /// Adds a subnet, or changes one. Holders keep their addresses, even those that are now excluded.
    ///
    /// Refused when a network overlaps a network of another subnet, when an address in use is outside of the new networks,
    /// and when the address of a new gateway has a holder.
    pub fn set_subnet(&mut self, name: &str, network: &Network) -> Result<(), Refusal> {
        if self.subnets.get(name).is_some_and(|subnet| subnet.network == *network) {
            return Ok(());
        }
        let subnet: Arc<str> = name.into();
        for cidr in network.cidrs.iter() {
            if let Some((other_cidr, other)) = self.overlapping(*cidr).find(|(_, other)| **other != *name) {
                let (other, other_cidr) = (Arc::clone(other), *other_cidr);
                return Err(Refusal::Overlap { subnet, cidr: *cidr, other, other_cidr });
            }
        }
        if let Some(present) = self.subnets.get_mut(name) {
            present.check_inside(&network.cidrs)?;
            present.check_gateway(network)?;
            present.network = network.clone();
            present.refresh();
            self.networks.retain(|_, (_, owner)| **owner != *name);
        } else {
            self.subnets.insert(Arc::clone(&subnet), Subnet::new(Arc::clone(&subnet), network));
        }
        for (family, cidr) in network.cidrs.each() {
            self.networks.insert((family, bits(cidr.network())), (*cidr, Arc::clone(&subnet)));
        }
        Ok(())
    }

    /// Removes a subnet and its pools, if there is a subnet with this name. Refused while addresses are in use.
    pub fn remove_subnet(&mut self, name: &str) -> Result<(), Refusal> {
        let Some(subnet) = self.subnets.get(name) else { return Ok(()) };
        subnet.check_unused()?;
        self.subnets.remove(name);
        self.pools.retain(|_, subnet| **subnet != *name);
        self.networks.retain(|_, (_, owner)| **owner != *name);
        Ok(())
    }

    /// Gives addresses in `subnet` to `holder`. A holder that already has a lease there which fits `want` gets the same lease.
    pub fn assign(&mut self, subnet: &str, holder: &str, want: &Want) -> Result<Lease, Refusal> {
        let entry = self.subnets.get_mut(subnet);
        if let Some((held_in, lease)) = self.holders.get(holder) {
            let fits = **held_in == *subnet && entry.is_some_and(|entry| entry.fits(lease, want));
            return if fits { Ok(*lease) } else { Err(already(holder, held_in, lease)) };
        }
        let Some(entry) = entry else { return Err(Refusal::UnknownSubnet { subnet: subnet.into() }) };
        if let Some(mac) = want.mac
            && let Some(holder) = self.macs.get(&mac)
        {
            return Err(Refusal::MacTaken { mac, holder: Arc::clone(holder) });
        }
        let name = Arc::clone(&entry.name);
        let ips = entry.choose(want)?;
        let mac = want.mac.or_else(|| mac::candidates(&ips).find(|mac| !self.macs.contains_key(mac)));
        let Some(mac) = mac else { return Err(Refusal::NoMac { subnet: name }) };
        let lease = Lease { ips, mac };
        self.hold(&name, holder.into(), lease);
        Ok(lease)
    }

    /// Returns the lease of `holder` in `subnet` after it has got an address of each family that the subnet has and the
    /// lease lacks: the subnet has got a family since. The other address and the MAC stay. If no address of the family is
    /// left, the lease stays as it is.
    pub fn complete(&mut self, subnet: &str, holder: &str) -> Option<Lease> {
        let (held_in, lease) = self.holders.get(holder)?;
        let cidrs = self.subnets.get(subnet).filter(|_| **held_in == *subnet)?.network.cidrs;
        let lease = *lease;
        if cidrs.families().eq(lease.ips.families()) {
            return Some(lease);
        }
        self.release(holder);
        let want = Want { ips: WantIps::Exact(lease.ips), families: None, mac: Some(lease.mac) };
        if let Ok(complete) = self.assign(subnet, holder, &want) {
            return Some(complete);
        }
        // Nobody else can have it meanwhile.
        self.restore(subnet, holder, lease).ok()?;
        Some(lease)
    }

    /// Restores a lease from a record. Its addresses can be excluded, in any pool, or the gateway, since the holder already
    /// uses them. Refused when another holder has them, and when they are outside of the subnet.
    pub fn restore(&mut self, subnet: &str, holder: &str, lease: Lease) -> Result<(), Refusal> {
        if let Some((held_in, held)) = self.holders.get(holder) {
            return if **held_in == *subnet && *held == lease { Ok(()) } else { Err(already(holder, held_in, held)) };
        }
        let Some(entry) = self.subnets.get(subnet) else {
            return Err(Refusal::UnknownSubnet { subnet: subnet.into() });
        };
        entry.check_free(&lease.ips)?;
        if let Some(holder) = self.macs.get(&lease.mac) {
            return Err(Refusal::MacTaken { mac: lease.mac, holder: Arc::clone(holder) });
        }
        let name = Arc::clone(&entry.name);
        self.hold(&name, holder.into(), lease);
        Ok(())
    }

    /// Removes the lease of `holder` and returns it with its subnet; `None` when it has none.
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

    /// The lease of `holder`, and its subnet.
    pub fn lease(&self, holder: &str) -> Option<(&str, Lease)> {
        self.holders.get(holder).map(|(subnet, lease)| (&**subnet, *lease))
    }

    /// The holder of `address`.
    pub fn holder(&self, address: IpAddr) -> Option<&str> {
        let entry = self.subnets.get(self.subnet_of(address)?)?;
        entry.space(Family::of(address))?.holder(address).map(|holder| &**holder)
    }

    /// The subnet with a network that contains `address`.
    pub fn subnet_of(&self, address: IpAddr) -> Option<&str> {
        let key = (Family::of(address), bits(address));
        let (_, (cidr, subnet)) = self.networks.range(..=key).next_back()?;
        cidr.contains(address).then_some(&**subnet)
    }

    /// The current network of `subnet`.
    pub fn network(&self, subnet: &str) -> Option<&Network> {
        self.subnets.get(subnet).map(|entry| &entry.network)
    }

    /// Whether there is a subnet with this name.
    pub fn has_subnet(&self, subnet: &str) -> bool {
        self.subnets.contains_key(subnet)
    }

    /// The holders of addresses in `subnet`, each once, in the order of their IPv4 addresses. Holders of IPv6 addresses alone
    /// come last.
    pub fn holders(&self, subnet: &str) -> impl Iterator<Item = (&str, Lease)> {
        let spaces = self.subnets.get(subnet).into_iter().flat_map(|entry| &entry.spaces);
        spaces.flat_map(move |space| {
            space.holders().filter_map(move |holder| {
                let (_, lease) = self.holders.get(holder)?;
                // A holder of both families is in both spaces.
                (lease.ips.families().next() == Some(space.family())).then_some((&**holder, *lease))
            })
        })
    }

    /// The usage of `subnet` with its pools. The time grows with the number of pools.
    pub fn usage(&self, subnet: &str) -> Option<Usage> {
        let entry = self.subnets.get(subnet)?;
        let counts = |family| entry.space(family).map(Space::counts).unwrap_or_default();
        Some(Usage { v4: counts(Family::V4), v6: counts(Family::V6) })
    }

    /// The addresses of `subnet` with its pools that are in use and free. Time and memory grow with the
    /// number of runs, not of addresses.
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

    /// The networks that overlap `cidr`.
    fn overlapping(&self, cidr: Cidr) -> impl Iterator<Item = &(Cidr, Arc<str>)> {
        let family = cidr.family();
        // A network that overlaps `cidr` starts inside of it, or is the last one that starts before it.
        let before = self.networks.range(..(family, bits(cidr.network()))).next_back();
        let inside = self.networks.range((family, bits(cidr.network()))..=(family, bits(cidr.last())));
        let all = inside.chain(before).map(|(_, network)| network);
        all.filter(move |(other, _)| other.overlaps(&cidr))
    }
}

fn already(holder: &str, subnet: &Arc<str>, lease: &Lease) -> Refusal {
    Refusal::AlreadyHolds { holder: holder.into(), subnet: Arc::clone(subnet), ips: lease.ips, mac: lease.mac }
}
