//! The laws, under random orders of calls, held against a model that keeps plain lists and looks at every address.

#![allow(clippy::unwrap_used)] // helpers of tests are tests too

use std::{collections::BTreeMap, net::IpAddr};

use api::{Addresses, Cidr, Family, IpRange, Mac};
use ipam::{Ipam, Lease, Pool, Refusal, Want, WantIps};
use proptest::prelude::*;

/// Small networks, so that they fill up: a single-stack and a dual-stack one.
const NETS: [(&str, &str, &str); 2] =
    [("four", "10.0.0.0/28", "10.0.0.1"), ("dual", "10.0.1.0/28,fd00::/124", "10.0.1.14,fd00::1")];

#[derive(Clone, Debug)]
enum Call {
    Assign { net: usize, holder: u8, want: Want },
    Release { holder: u8 },
    Restore { net: usize, holder: u8, lease: Lease },
    Exclude { net: usize, exclude: Vec<IpRange> },
}

fn v4(net: usize) -> impl Strategy<Value = IpAddr> {
    // A little more than the network, so that some lie outside.
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
    // Some of them are those that would be made.
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
    ];
    (ips, prop::option::weighted(0.2, mac())).prop_map(|(ips, mac)| Want { ips, mac })
}

fn exclude(net: usize) -> impl Strategy<Value = Vec<IpRange>> {
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
        changes => net.prop_flat_map(|net| exclude(net).prop_map(move |exclude| Call::Exclude { net, exclude })),
    ]
}

/// All that can be seen of an allocator.
#[derive(Debug, PartialEq)]
struct Seen {
    leases: BTreeMap<String, (String, Lease)>,
    usage: Vec<ipam::Usage>,
    ranges: Vec<ipam::Ranges>,
}

struct Model {
    ipam: Ipam,
    pools: Vec<Pool>,
    leases: BTreeMap<String, (usize, Lease)>,
    /// Addresses by the time of their last release.
    released: Vec<IpAddr>,
}

impl Model {
    fn new() -> Self {
        let mut ipam = Ipam::default();
        let pools: Vec<Pool> = NETS
            .iter()
            .map(|(name, cidrs, gateway)| {
                let pool = Pool { cidrs: cidrs.parse().unwrap(), gateway: gateway.parse().unwrap(), exclude: vec![] };
                ipam.set_subnet(name, &pool).unwrap();
                pool
            })
            .collect();
        Self { ipam, pools, leases: BTreeMap::new(), released: Vec::new() }
    }

    fn seen(ipam: &Ipam) -> Seen {
        let leases = NETS.iter().flat_map(|(name, ..)| {
            ipam.holders(name).map(|(holder, lease)| (holder.to_owned(), ((*name).to_owned(), lease)))
        });
        Seen {
            leases: leases.collect(),
            usage: NETS.iter().filter_map(|(name, ..)| ipam.usage(name)).collect(),
            ranges: NETS.iter().filter_map(|(name, ..)| ipam.ranges(name)).collect(),
        }
    }

    fn held(&self, address: IpAddr) -> bool {
        self.leases.values().any(|(_, lease)| lease.ips.iter().any(|ip| *ip == address))
    }

    fn kept(&self, net: usize, address: IpAddr) -> bool {
        let pool = &self.pools[net];
        let cidr = pool.cidrs.get(Family::of(address)).unwrap();
        [cidr.network(), cidr.last()].contains(&address) || pool.gateway.iter().any(|gateway| *gateway == address)
    }

    /// Those that may be chosen, in address order.
    fn free(&self, net: usize, cidr: &Cidr) -> Vec<IpAddr> {
        let chosen = |address: &IpAddr| {
            !self.held(*address)
                && !self.kept(net, *address)
                && !self.pools[net].exclude.iter().any(|range| range.contains(*address))
        };
        cidr.net().hosts().chain([cidr.network(), cidr.last()]).filter(chosen).collect()
    }

    fn call(&mut self, call: Call, in_order: bool) -> Result<(), TestCaseError> {
        let before = Self::seen(&self.ipam);
        let refused = match call {
            Call::Assign { net, holder, want } => {
                let holder = holder.to_string();
                let pool = self.pools[net].clone();
                let free = pool.cidrs.map(|cidr| self.free(net, &cidr));
                let answer = self.ipam.assign(NETS[net].0, &holder, want.clone());
                match (&answer, self.leases.get(&holder)) {
                    (Ok(lease), Some((held_in, held))) => prop_assert_eq!((net, *lease), (*held_in, *held)),
                    (Err(Refusal::AlreadyHolds { .. }), held) => prop_assert!(held.is_some()),
                    (Ok(lease), None) => self.given(net, &want, lease, &free, in_order)?,
                    (Err(Refusal::Full { family, .. }), None) => prop_assert!(free.get(*family).unwrap().is_empty()),
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
                    .all(|(family, ip)| self.pools[net].cidrs.get(family).is_some_and(|cidr| cidr.contains(*ip)));
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
            Call::Exclude { net, exclude } => {
                self.pools[net].exclude = exclude;
                prop_assert_eq!(self.ipam.set_subnet(NETS[net].0, &self.pools[net]), Ok(()));
                false
            }
        };
        let after = Self::seen(&self.ipam);
        if refused {
            prop_assert_eq!(&before, &after, "a refusal changes nothing");
        }
        self.agrees(&after)
    }

    /// What was just given is right by the model.
    fn given(
        &self,
        net: usize,
        want: &Want,
        lease: &Lease,
        free: &api::Families<Vec<IpAddr>>,
        in_order: bool,
    ) -> Result<(), TestCaseError> {
        let asked = |family: Family| match &want.ips {
            WantIps::Any => None,
            WantIps::Exact(ips) => ips.get(family).copied(),
            WantIps::FirstFree(list) => list
                .iter()
                .find(|ips| ips.each().all(|(family, ip)| lease.ips.get(family) == Some(ip)))
                .and_then(|ips| ips.get(family).copied()),
        };
        prop_assert!(lease.ips.families().eq(self.pools[net].cidrs.families()));
        for (family, address) in lease.ips.each() {
            prop_assert!(self.pools[net].cidrs.get(family).unwrap().contains(*address), "inside");
            prop_assert!(!self.held(*address), "held by nobody else");
            prop_assert!(!self.kept(net, *address), "neither gateway nor an end");
            if let Some(asked) = asked(family) {
                prop_assert_eq!(asked, *address);
                continue;
            }
            let free = free.get(family).unwrap();
            prop_assert!(free.contains(address), "not excluded");
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
            for (family, cidr) in self.pools[net].cidrs.each() {
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
        Ok(())
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    /// Never two holders, never outside, never kept back; new addresses in order, released ones last.
    #[test]
    fn the_next_address_is_the_right_one(calls in prop::collection::vec(call(false), 1..120)) {
        let mut model = Model::new();
        for call in calls {
            model.call(call, true)?;
        }
    }

    /// The same, while records come in and exclusions change; and a rebuild from records, in any order, gives the same.
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
            rebuilt.set_subnet(name, &model.pools[net]).unwrap();
        }
        for (holder, (subnet, lease)) in records {
            prop_assert_eq!(rebuilt.restore(subnet, holder, *lease), Ok(()));
        }
        prop_assert_eq!(Model::seen(&rebuilt), seen);
    }
}
