//! The guarantees under random calls, checked against a model with plain lists that looks at every address.

#![allow(clippy::unwrap_used)] // helpers of tests are tests too

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use api::{Addresses, Cidr, Cidrs, Families, Family, IpRange, Mac};
use ipam::{Ipam, Lease, Network, Refusal, Want, WantIps};
use proptest::prelude::*;

/// A single-stack and a dual-stack subnet, which are small so that they fill up.
const NETS: [(&str, &str, &str); 2] =
    [("four", "10.0.0.0/28", "10.0.0.1"), ("dual", "10.0.1.0/28,fd00::/124", "10.0.1.14,fd00::1")];

/// Other networks for each subnet: wider, narrower, of other families. Those of different subnets do not overlap.
const CIDRS: [&[&str]; 2] = [
    &["10.0.0.0/28", "10.0.0.0/27", "10.0.0.0/29", "10.0.0.8/29", "10.0.0.0/28,fd01::/124", "fd01::/124"],
    &["10.0.1.0/28,fd00::/124", "10.0.1.0/27,fd00::/123", "10.0.1.0/28", "fd00::/124", "10.0.1.0/29,fd00::/125"],
];

/// Three pools, each in any of the two subnets, sorted by name.
const POOLS: [&str; 3] = ["blue", "green", "red"];

#[derive(Clone, Debug)]
enum Call {
    Pool { net: usize, name: usize, ranges: Vec<IpRange> },
    NoPool { name: usize },
    Assign { net: usize, holder: u8, want: Want },
    Release { holder: u8 },
    Restore { net: usize, holder: u8, lease: Lease },
    Exclude { net: usize, exclude: Vec<IpRange> },
    Cidrs { net: usize, cidrs: Cidrs },
}

fn v4(net: usize) -> impl Strategy<Value = IpAddr> {
    // The range is larger than the network, so that some addresses are outside.
    (0..20_u8).prop_map(move |low| IpAddr::from([10, 0, u8::from(net == 1), low]))
}

fn v6() -> impl Strategy<Value = IpAddr> {
    (0..20_u16).prop_map(|low| IpAddr::from([0xfd00, 0, 0, 0, 0, 0, 0, low]))
}

fn addresses(net: usize) -> impl Strategy<Value = Addresses> {
    prop_oneof![
        4 => v4(net).prop_map(Addresses::V4),
        1 => v6().prop_map(Addresses::V6),
        2 => (v4(net), v6()).prop_map(|(v4, v6)| Addresses::Dual { v4, v6 }),
    ]
}

fn mac() -> impl Strategy<Value = Mac> {
    // Some of them are MACs that the allocator generates.
    prop_oneof![
        (1..6_u8).prop_map(|low| Mac::new([0, 0, 0, 0, 0, low]).unwrap()),
        (0..16_u8).prop_map(|low| Mac::new([0x0a, 0x58, 10, 0, 0, low]).unwrap()),
    ]
}

fn want(net: usize) -> impl Strategy<Value = Want> {
    let ips = prop_oneof![
        5 => Just(WantIps::Any),
        2 => addresses(net).prop_map(WantIps::Exact),
        1 => prop::collection::vec(addresses(net), 0..4).prop_map(WantIps::FirstFree),
        4 => prop::collection::vec(0..POOLS.len(), 1..3)
            .prop_map(|pools| WantIps::Pools(pools.into_iter().map(|pool| POOLS[pool].into()).collect())),
    ];
    let families = prop_oneof![
        6 => Just(None),
        1 => Just(Some(Families::V4(()))),
        1 => Just(Some(Families::V6(()))),
        1 => Just(Some(Families::Dual { v4: (), v6: () })),
    ];
    (ips, families, prop::option::weighted(0.2, mac())).prop_map(|(ips, families, mac)| Want { ips, families, mac })
}

fn some_ranges(net: usize) -> impl Strategy<Value = Vec<IpRange>> {
    let range =
        prop_oneof![(v4(net), v4(net)), (v6(), v6())].prop_map(|(a, b)| IpRange::new(a.min(b), a.max(b)).unwrap());
    prop::collection::vec(range, 0..3)
}

fn call(with_changes: bool) -> impl Strategy<Value = Call> {
    let net = 0..NETS.len();
    let changes = u32::from(with_changes);
    prop_oneof![
        8 => net.clone().prop_flat_map(|net| (0..40_u8, want(net)).prop_map(move |(holder, want)| Call::Assign { net, holder, want })),
        4 => (0..40_u8).prop_map(|holder| Call::Release { holder }),
        changes => net.clone().prop_flat_map(|net| (0..40_u8, addresses(net), mac()).prop_map(move |(holder, ips, mac)| {
            Call::Restore { net, holder, lease: Lease { ips, mac } }
        })),
        changes => net.clone().prop_flat_map(|net| (0..POOLS.len(), some_ranges(net)).prop_map(move |(name, ranges)| {
            Call::Pool { net, name, ranges }
        })),
        changes => (0..POOLS.len()).prop_map(|name| Call::NoPool { name }),
        changes => net.clone().prop_flat_map(|net| some_ranges(net).prop_map(move |exclude| Call::Exclude { net, exclude })),
        changes => net.prop_flat_map(|net| prop::sample::select(CIDRS[net]).prop_map(move |cidrs| {
            Call::Cidrs { net, cidrs: cidrs.parse().unwrap() }
        })),
    ]
}

/// The visible state of an allocator.
#[derive(Debug, PartialEq)]
struct Seen {
    leases: BTreeMap<String, (String, Lease)>,
    usage: Vec<ipam::Usage>,
    ranges: Vec<ipam::Ranges>,
    pools: Vec<Option<(ipam::Usage, ipam::Ranges)>>,
}

struct Model {
    ipam: Ipam,
    networks: Vec<Network>,
    pools: BTreeMap<usize, (usize, Vec<IpRange>)>,
    leases: BTreeMap<String, (usize, Lease)>,
    /// Addresses by the time of their last release.
    released: Vec<IpAddr>,
}

impl Model {
    fn new() -> Self {
        let mut ipam = Ipam::default();
        let networks: Vec<Network> = NETS
            .iter()
            .map(|(name, cidrs, gateway)| {
                let network = Network {
                    cidrs: cidrs.parse().unwrap(),
                    gateway: gateway.parse().unwrap(),
                    retired_gateways: vec![],
                    exclude: vec![],
                };
                ipam.set_subnet(name, &network).unwrap();
                network
            })
            .collect();
        Self { ipam, networks, pools: BTreeMap::new(), leases: BTreeMap::new(), released: Vec::new() }
    }

    fn seen(ipam: &Ipam) -> Seen {
        let leases = NETS.iter().flat_map(|(name, ..)| {
            ipam.holders(name).map(|(holder, lease)| (holder.to_owned(), ((*name).to_owned(), lease)))
        });
        Seen {
            leases: leases.collect(),
            usage: NETS.iter().filter_map(|(name, ..)| ipam.usage(name)).collect(),
            ranges: NETS.iter().filter_map(|(name, ..)| ipam.ranges(name)).collect(),
            pools: POOLS.iter().map(|name| Some((ipam.pool_usage(name)?, ipam.pool_ranges(name)?))).collect(),
        }
    }

    fn held(&self, address: IpAddr) -> bool {
        self.leases.values().any(|(_, lease)| lease.ips.iter().any(|ip| *ip == address))
    }

    fn kept(&self, net: usize, address: IpAddr) -> bool {
        let network = &self.networks[net];
        let cidr = network.cidrs.get(Family::of(address)).unwrap();
        let end = address == cidr.network() || address.is_ipv4() && address == cidr.last();
        end || network.gateway.iter().chain(&network.retired_gateways).any(|gateway| *gateway == address)
    }

    /// The pool that has an address.
    fn pool_of(&self, net: usize, address: IpAddr) -> Option<usize> {
        let has = |(_, (of, ranges)): &(&usize, &(usize, Vec<IpRange>))| {
            *of == net && ranges.iter().any(|range| range.contains(address))
        };
        self.pools.iter().find(has).map(|(name, _)| *name)
    }

    /// Every address of a network.
    fn all(cidr: &Cidr) -> BTreeSet<IpAddr> {
        cidr.net().hosts().chain([cidr.network(), cidr.last()]).collect()
    }

    /// Whether a pool has addresses of a network, including excluded ones.
    fn reaches(&self, name: usize, net: usize, cidr: &Cidr) -> bool {
        Self::all(cidr).into_iter().any(|address| self.pool_of(net, address) == Some(name))
    }

    /// The addresses that can be chosen in a pool, or outside of all pools.
    fn free_in(&self, net: usize, cidr: &Cidr, pool: Option<usize>) -> Vec<IpAddr> {
        self.free(net, cidr).into_iter().filter(|address| self.pool_of(net, *address) == pool).collect()
    }

    /// The addresses that can be chosen, inside and outside of pools.
    fn free(&self, net: usize, cidr: &Cidr) -> Vec<IpAddr> {
        let chosen = |address: &IpAddr| {
            !self.held(*address)
                && !self.kept(net, *address)
                && !self.networks[net].exclude.iter().any(|range| range.contains(*address))
        };
        Self::all(cidr).into_iter().filter(chosen).collect()
    }

    fn call(&mut self, call: Call, in_order: bool) -> Result<(), TestCaseError> {
        let before = Self::seen(&self.ipam);
        let refused = match call {
            Call::Assign { net, holder, want } => {
                let holder = holder.to_string();
                let cidrs = self.networks[net].cidrs;
                let answer = self.ipam.assign(NETS[net].0, &holder, &want);
                match (&answer, self.leases.get(&holder)) {
                    (Ok(lease), Some((held_in, held))) => prop_assert_eq!((net, *lease), (*held_in, *held)),
                    (Err(Refusal::AlreadyHolds { .. }), held) => prop_assert!(held.is_some()),
                    (Ok(lease), None) => self.given(net, &want, lease, in_order)?,
                    (Err(Refusal::Full { cidr, .. }), None) => {
                        prop_assert!(self.free_in(net, cidr, None).is_empty());
                    }
                    (Err(Refusal::PoolFull { pool, family, .. }), None) => {
                        let pool = POOLS.iter().position(|name| **name == **pool).unwrap();
                        prop_assert!(self.free_in(net, cidrs.get(*family).unwrap(), Some(pool)).is_empty());
                    }
                    (Err(Refusal::UnknownPool { pool, .. }), None) => {
                        let pool = POOLS.iter().position(|name| **name == **pool).unwrap();
                        prop_assert!(self.pools.get(&pool).is_none_or(|(of, _)| *of != net));
                    }
                    (Err(Refusal::NoFamily { family, .. }), None) => {
                        prop_assert!(cidrs.get(*family).is_none() && want.families.unwrap().get(*family).is_some());
                    }
                    (Err(_), held) => prop_assert!(held.is_none()),
                }
                if let Ok(lease) = answer
                    && self.leases.insert(holder, (net, lease)).is_none()
                {
                    self.released.retain(|address| lease.ips.iter().all(|ip| ip != address));
                }
                answer.is_err()
            }
            Call::Release { holder } => {
                let holder = holder.to_string();
                let released = self.ipam.release(&holder).map(|(subnet, lease)| (subnet.to_string(), lease));
                let expected = self.leases.remove(&holder);
                prop_assert_eq!(&released, &expected.map(|(net, lease)| (NETS[net].0.to_owned(), lease)));
                self.released.extend(released.iter().flat_map(|(_, lease)| lease.ips.iter()));
                false
            }
            Call::Restore { net, holder, lease } => {
                let holder = holder.to_string();
                let inside = lease
                    .ips
                    .each()
                    .all(|(family, ip)| self.networks[net].cidrs.get(family).is_some_and(|cidr| cidr.contains(*ip)));
                let conflict = lease.ips.iter().any(|ip| self.held(*ip))
                    || self.leases.values().any(|(_, other)| other.mac == lease.mac);
                let expected = match self.leases.get(&holder) {
                    Some(held) => *held == (net, lease),
                    None => inside && !conflict,
                };
                let answer = self.ipam.restore(NETS[net].0, &holder, lease);
                prop_assert_eq!(answer.is_ok(), expected, "{:?}", answer);
                if expected {
                    self.leases.insert(holder, (net, lease));
                }
                !expected
            }
            Call::Pool { net, name, ranges } => {
                let cidrs = self.networks[net].cidrs;
                let inside = cidrs.iter().flat_map(Self::all);
                let own: Vec<_> = inside.filter(|ip| ranges.iter().any(|range| range.contains(*ip))).collect();
                let free = |ip: &IpAddr| self.pool_of(net, *ip).is_none_or(|other| other == name);
                let expected = !own.is_empty() && own.iter().all(free);
                let answer = self.ipam.set_pool(NETS[net].0, POOLS[name], &ranges);
                prop_assert_eq!(answer.is_ok(), expected, "{:?}", answer);
                if expected {
                    self.pools.insert(name, (net, ranges));
                }
                !expected
            }
            Call::NoPool { name } => {
                self.ipam.remove_pool(POOLS[name]);
                self.pools.remove(&name);
                false
            }
            Call::Cidrs { net, cidrs } => !self.renumber(net, cidrs)?,
            Call::Exclude { net, exclude } => {
                self.networks[net].exclude = exclude;
                prop_assert_eq!(self.ipam.set_subnet(NETS[net].0, &self.networks[net]), Ok(()));
                false
            }
        };
        let after = Self::seen(&self.ipam);
        if refused {
            prop_assert_eq!(&before, &after, "a refusal changes nothing");
        }
        self.agrees(&after)
    }

    /// Changes the networks of a subnet, and returns whether they are accepted.
    fn renumber(&mut self, net: usize, cidrs: Cidrs) -> Result<bool, TestCaseError> {
        let gateway = cidrs.map(|cidr| cidr.first_usable());
        let retired_gateways = self.networks[net].gateway.iter().copied().collect();
        let network = Network { cidrs, gateway, retired_gateways, ..self.networks[net].clone() };
        let inside = |ip: &IpAddr| cidrs.iter().any(|cidr| cidr.contains(*ip));
        let held: Vec<_> = self.leases.values().filter(|(of, _)| *of == net).map(|(_, lease)| lease.ips).collect();
        let before = self.networks[net].gateway;
        let stays = |family, address: &IpAddr| before.get(family) == Some(address);
        let expected = held.iter().all(|ips| ips.iter().all(inside))
            && gateway.each().all(|(family, address)| stays(family, address) || !self.held(*address));
        let answer = self.ipam.set_subnet(NETS[net].0, &network);
        prop_assert_eq!(answer.is_ok(), expected, "{:?}", answer);
        if expected {
            self.networks[net] = network;
        }
        Ok(expected)
    }

    /// Checks a new lease against the model.
    fn given(&self, net: usize, want: &Want, lease: &Lease, in_order: bool) -> Result<(), TestCaseError> {
        let asked = |family: Family| match &want.ips {
            WantIps::Any | WantIps::Pools(_) => None,
            WantIps::Exact(ips) => ips.get(family).copied(),
            WantIps::FirstFree(list) => list
                .iter()
                .find(|ips| ips.each().all(|(family, ip)| lease.ips.get(family) == Some(ip)))
                .and_then(|ips| ips.get(family).copied()),
        };
        let cidrs = self.networks[net].cidrs;
        let wanted = |family: &Family| {
            asked(*family).is_some() || want.families.is_none_or(|families| families.get(*family).is_some())
        };
        prop_assert!(lease.ips.families().eq(cidrs.families().filter(wanted)));
        let pools = lease.ips.iter().filter_map(|address| self.pool_of(net, *address));
        let pool = match &want.ips {
            WantIps::Pools(names) => {
                let pool = pools.map(Some).next().flatten();
                prop_assert!(
                    pool.is_some_and(|pool| names.iter().any(|name| **name == *POOLS[pool])),
                    "of a pool named"
                );
                pool
            }
            _ => None,
        };
        for (family, address) in lease.ips.each() {
            prop_assert!(self.networks[net].cidrs.get(family).unwrap().contains(*address), "inside");
            prop_assert!(!self.held(*address), "held by nobody else");
            prop_assert!(!self.kept(net, *address), "neither gateway nor an end");
            if let Some(asked) = asked(family) {
                prop_assert_eq!(asked, *address);
                continue;
            }
            let cidr = cidrs.get(family).unwrap();
            let free = self.free_in(net, cidr, pool.filter(|pool| self.reaches(*pool, net, cidr)));
            prop_assert!(free.contains(address), "not excluded, and of no other pool");
            if in_order {
                let fresh = free.iter().filter(|address| !self.released.contains(address)).min();
                let oldest = self.released.iter().find(|address| free.contains(address));
                prop_assert_eq!(Some(address), fresh.or(oldest), "the lowest new one, or the one released first");
            }
        }
        prop_assert!(want.mac.is_none_or(|mac| mac == lease.mac));
        Ok(())
    }

    fn agrees(&self, seen: &Seen) -> Result<(), TestCaseError> {
        let expected: BTreeMap<_, _> = self
            .leases
            .iter()
            .map(|(holder, (net, lease))| (holder.clone(), (NETS[*net].0.to_owned(), *lease)))
            .collect();
        prop_assert_eq!(&seen.leases, &expected);
        let mut macs: Vec<Mac> = seen.leases.values().map(|(_, lease)| lease.mac).collect();
        macs.sort_unstable();
        macs.dedup();
        prop_assert_eq!(macs.len(), seen.leases.len(), "no MAC has two holders");
        for (net, (name, ..)) in NETS.iter().enumerate() {
            for (family, cidr) in self.networks[net].cidrs.each() {
                let (counts, ranges) = match family {
                    Family::V4 => (seen.usage[net].v4, &seen.ranges[net].v4),
                    Family::V6 => (seen.usage[net].v6, &seen.ranges[net].v6),
                };
                let free = self.free(net, cidr);
                let used: Vec<IpAddr> = seen
                    .leases
                    .values()
                    .filter(|(subnet, _)| subnet == name)
                    .filter_map(|(_, lease)| lease.ips.get(family).copied())
                    .collect();
                prop_assert_eq!((counts.available, counts.used), (free.len() as u128, used.len() as u128));
                let sum = |ranges: &[IpRange]| ranges.iter().map(IpRange::len).sum::<u128>();
                prop_assert_eq!((sum(&ranges.free), sum(&ranges.using)), (counts.available, counts.used));
                let inside = |ranges: &[IpRange], all: &[IpAddr]| {
                    all.iter().all(|address| ranges.iter().any(|range| range.contains(*address)))
                };
                prop_assert!(inside(&ranges.free, &free) && inside(&ranges.using, &used));
            }
        }
        for (name, pool) in seen.pools.iter().enumerate() {
            prop_assert_eq!(pool.is_some(), self.pools.contains_key(&name));
            let Some(((usage, ranges), (net, _))) = pool.as_ref().zip(self.pools.get(&name)) else { continue };
            for (family, cidr) in self.networks[*net].cidrs.each() {
                let (counts, ranges) = match family {
                    Family::V4 => (usage.v4, &ranges.v4),
                    Family::V6 => (usage.v6, &ranges.v6),
                };
                let free = self.free_in(*net, cidr, Some(name));
                let own = Self::all(cidr).into_iter().filter(|address| self.pool_of(*net, *address) == Some(name));
                let used: Vec<IpAddr> = own.filter(|address| self.held(*address)).collect();
                prop_assert_eq!((counts.available, counts.used), (free.len() as u128, used.len() as u128));
                let same = |ranges: &[IpRange], all: &[IpAddr]| {
                    ranges.iter().map(IpRange::len).sum::<u128>() == all.len() as u128
                        && all.iter().all(|address| ranges.iter().any(|range| range.contains(*address)))
                };
                prop_assert!(same(&ranges.free, &free) && same(&ranges.using, &used));
            }
        }
        Ok(())
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    /// No address has two holders, is outside of the subnet or kept back, and only holders that name a pool get its
    /// addresses. New addresses come in order, released ones last.
    #[test]
    fn the_next_address_is_the_right_one(
        pools in prop::collection::vec(0..NETS.len(), 3).prop_flat_map(|nets| {
            nets.into_iter().enumerate().map(|(name, net)| {
                some_ranges(net).prop_map(move |ranges| Call::Pool { net, name, ranges })
            }).collect::<Vec<_>>()
        }),
        calls in prop::collection::vec(call(false), 1..120),
    ) {
        let mut model = Model::new();
        for pool in pools {
            model.call(pool, false)?;
        }
        for call in calls {
            model.call(call, true)?;
        }
    }

    /// The same while records are restored and exclusions, pools and networks change. A rebuild from the records, in any
    /// order, gives the same state.
    #[test]
    fn records_give_the_same_state(calls in prop::collection::vec(call(true), 1..120), seed: u64) {
        let mut model = Model::new();
        for call in calls {
            model.call(call, false)?;
        }
        let seen = Model::seen(&model.ipam);
        let mut records: Vec<_> = seen.leases.iter().collect();
        records.sort_by_key(|(holder, _)| holder.bytes().fold(seed, |hash, b| (hash ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3)));
        let mut rebuilt = Ipam::default();
        for (net, (name, ..)) in NETS.iter().enumerate() {
            rebuilt.set_subnet(name, &model.networks[net]).unwrap();
        }
        for (name, (net, ranges)) in &model.pools {
            if rebuilt.set_pool(NETS[*net].0, POOLS[*name], ranges).is_err() {
                // The network has changed since: the pool is outside now, or has an address of another pool.
                return Ok(());
            }
        }
        for (holder, (subnet, lease)) in records {
            prop_assert_eq!(rebuilt.restore(subnet, holder, *lease), Ok(()));
        }
        prop_assert_eq!(Model::seen(&rebuilt), seen);
    }
}
