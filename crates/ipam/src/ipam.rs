//! All subnets, and who holds what in them.

use std::{
    collections::{BTreeMap, HashMap},
    net::IpAddr,
    sync::Arc,
};

use api::{Addresses, Cidr, Family, Mac};

use crate::{
    Network, Ranges, Refusal, Usage, Want, mac,
    space::{Space, bits},
    subnet::Subnet,
};

/// What a holder has: an address of each of the subnet's families, and a MAC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Lease {
    /// The addresses.
    pub ips: Addresses,
    /// The MAC, unique in the whole [`Ipam`].
    pub mac: Mac,
}

/// The allocator: every subnet with its holders.
///
/// A holder (a port's name, `<pod>.<ns>` or `node-<n>`) has at most one lease, in one subnet.
#[derive(Clone, Debug, Default)]
pub struct Ipam {
    pub(crate) subnets: BTreeMap<Arc<str>, Subnet>,
    /// The subnet that each pool is of.
    pub(crate) pools: BTreeMap<Arc<str>, Arc<str>>,
    /// Which subnet a network belongs to, by its first address. Networks never overlap.
    networks: BTreeMap<(Family, u128), (Cidr, Arc<str>)>,
    // Looked up only, never walked, so that the order of a HashMap is not seen.
    holders: HashMap<Arc<str>, (Arc<str>, Lease)>,
    macs: HashMap<Mac, Arc<str>>,
}

impl Ipam {
    /// Adds a subnet, or changes one. Addresses in use stay held, also when they are excluded from now on.
    ///
    /// Refused when a network overlaps another subnet's, when an address in use lies outside of the new networks, and when
    /// somebody holds the address of a new gateway.
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

    /// Forgets a subnet and its pools; refused while addresses are in use. One that is not there is gone already.
    pub fn remove_subnet(&mut self, name: &str) -> Result<(), Refusal> {
        let Some(subnet) = self.subnets.get(name) else { return Ok(()) };
        subnet.check_unused()?;
        self.subnets.remove(name);
        self.pools.retain(|_, subnet| **subnet != *name);
        self.networks.retain(|_, (_, owner)| **owner != *name);
        Ok(())
    }

    /// Gives `holder` addresses in `subnet`. Who holds a lease there that fits `want` gets that same lease again.
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

    /// Takes a lease back in from a record. It may lie in an excluded range, in any pool or on the gateway, since it is
    /// what is; only conflicts with other holders, and addresses outside the subnet, are refused.
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

    /// The network of `subnet` that is in force.
    pub fn network(&self, subnet: &str) -> Option<&Network> {
        self.subnets.get(subnet).map(|entry| &entry.network)
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

    /// How much of `subnet` is in use, its pools included. Takes time by the number of its pools.
    pub fn usage(&self, subnet: &str) -> Option<Usage> {
        let entry = self.subnets.get(subnet)?;
        let counts = |family| entry.space(family).map(Space::counts).unwrap_or_default();
        Some(Usage { v4: counts(Family::V4), v6: counts(Family::V6) })
    }

    /// Which addresses of `subnet` are in use and free, its pools included. Takes time and memory by the number in use.
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

fn already(holder: &str, subnet: &Arc<str>, lease: &Lease) -> Refusal {
    Refusal::AlreadyHolds { holder: holder.into(), subnet: Arc::clone(subnet), ips: lease.ips, mac: lease.mac }
}
