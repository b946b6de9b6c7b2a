//! All refusals: their messages, and that they change nothing.

#![allow(clippy::unwrap_used)] // helpers of tests are tests too

use api::{Addresses, Families, Mac};
use ipam::{Ipam, Lease, Network, Refusal, Want, WantIps};

fn network(cidrs: &str, gateway: &str, exclude: &[&str]) -> Network {
    Network {
        cidrs: cidrs.parse().unwrap(),
        gateway: gateway.parse().unwrap(),
        retired_gateways: vec![],
        exclude: exclude.iter().map(|range| range.parse().unwrap()).collect(),
    }
}

fn net() -> Ipam {
    let mut ipam = Ipam::default();
    ipam.set_subnet("net", &network("10.17.0.0/24", "10.17.0.1", &["10.17.0.1..10.17.0.10"])).unwrap();
    ipam
}

fn ips(text: &str) -> Addresses {
    text.parse().unwrap()
}

fn mac(text: &str) -> Mac {
    text.parse().unwrap()
}

fn exact(text: &str) -> Want {
    Want::exact(ips(text))
}

#[track_caller]
fn says<T: std::fmt::Debug>(result: Result<T, Refusal>, expected: &str) {
    assert_eq!(result.unwrap_err().to_string(), expected);
}

#[test]
fn of_static_addresses() {
    let mut ipam = net();
    ipam.assign("net", "a.ns", &exact("10.17.0.50")).unwrap();
    let usage = ipam.usage("net");
    says(ipam.assign("none", "b.ns", &Want::any()), "subnet none: there is no subnet with that name");
    says(ipam.assign("net", "b.ns", &exact("10.17.0.50")), "subnet net: 10.17.0.50 is held by a.ns");
    says(ipam.assign("net", "b.ns", &exact("10.18.0.50")), "subnet net: 10.18.0.50 is outside 10.17.0.0/24");
    says(ipam.assign("net", "b.ns", &exact("fd00::1")), "subnet net: fd00::1 is outside 10.17.0.0/24");
    for kept in ["10.17.0.0", "10.17.0.1", "10.17.0.255"] {
        let why = "is kept for the network itself (gateway, network or broadcast address)";
        says(ipam.assign("net", "b.ns", &exact(kept)), &format!("subnet net: {kept} {why}"));
    }
    ipam.set_subnet("six", &network("fd00::/120", "fd00::1", &[])).unwrap();
    for kept in ["fd00::", "fd00::1"] {
        let why = "is kept for the network itself (gateway or anycast address)";
        says(ipam.assign("six", "b.ns", &exact(kept)), &format!("subnet six: {kept} {why}"));
    }
    assert_eq!(ipam.assign("six", "last.ns", &exact("fd00::ff")).unwrap().ips, ips("fd00::ff"));
    assert_eq!((ipam.usage("net"), ipam.lease("b.ns")), (usage, None));
    // As in kube-ovn, an excluded address can be asked for.
    assert_eq!(ipam.assign("net", "b.ns", &exact("10.17.0.9")).unwrap().ips, ips("10.17.0.9"));
}

#[test]
fn of_lists() {
    let mut ipam = net();
    let list = |texts: &[&str]| Want { ips: WantIps::FirstFree(texts.iter().map(|t| ips(t)).collect()), ..Want::any() };
    let both = list(&["10.17.0.60", "10.17.0.61"]);
    assert_eq!(ipam.assign("net", "a.ns", &both).unwrap().ips, ips("10.17.0.60"));
    assert_eq!(ipam.assign("net", "b.ns", &both).unwrap().ips, ips("10.17.0.61"));
    says(
        ipam.assign("net", "c.ns", &both),
        "subnet net: none of the 2 listed addresses is available; the last one: \
         subnet net: 10.17.0.61 is held by b.ns",
    );
    says(ipam.assign("net", "c.ns", &list(&[])), "subnet net: the list of addresses to choose from is empty");
    ipam.release("a.ns");
    assert_eq!(ipam.assign("net", "c.ns", &both).unwrap().ips, ips("10.17.0.60"));
    assert_eq!(ipam.assign("net", "c.ns", &both).unwrap().ips, ips("10.17.0.60"), "again the same");
}

#[test]
fn of_macs() {
    let mut ipam = net();
    let own = Want { mac: Some(mac("00:00:00:aa:bb:cc")), ..Want::any() };
    assert_eq!(ipam.assign("net", "a.ns", &own).unwrap().mac, mac("00:00:00:aa:bb:cc"));
    says(ipam.assign("net", "b.ns", &own), "MAC 00:00:00:aa:bb:cc is held by a.ns");
    assert_eq!(ipam.assign("net", "b.ns", &Want::any()).unwrap().mac, mac("0a:58:0a:11:00:0c"), "from the address");
    ipam.release("a.ns");
    ipam.assign("net", "c.ns", &own).unwrap();
}

#[test]
fn a_made_mac_makes_way_for_a_static_one() {
    let mut ipam = net();
    let taken = mac("0a:58:0a:11:00:0c");
    assert_eq!(ipam.assign("net", "a.ns", &Want { mac: Some(taken), ..Want::any() }).unwrap().ips, ips("10.17.0.11"));
    let b = ipam.assign("net", "b.ns", &Want::any()).unwrap();
    assert_eq!((b.ips, b.mac.bytes()[..2].to_vec()), (ips("10.17.0.12"), vec![0x0a, 0x5a]));
}

#[test]
fn of_a_second_lease() {
    let mut ipam = net();
    ipam.set_subnet("other", &network("10.18.0.0/24", "10.18.0.1", &[])).unwrap();
    let lease = ipam.assign("net", "a.ns", &Want::any()).unwrap();
    assert_eq!(ipam.assign("net", "a.ns", &Want::any()), Ok(lease));
    assert_eq!(ipam.assign("net", "a.ns", &Want { mac: Some(lease.mac), ..Want::exact(lease.ips) }), Ok(lease));
    assert_eq!(ipam.restore("net", "a.ns", lease), Ok(()));
    let why = "a.ns already holds 10.17.0.11 (0a:58:0a:11:00:0b) in subnet net";
    says(ipam.assign("other", "a.ns", &Want::any()), why);
    says(ipam.assign("net", "a.ns", &exact("10.17.0.12")), why);
    says(ipam.assign("net", "a.ns", &Want { mac: Some(mac("00:00:00:00:00:01")), ..Want::any() }), why);
    says(ipam.restore("other", "a.ns", Lease { ips: ips("10.18.0.5"), ..lease }), why);
    assert_eq!(ipam.release("a.ns").map(|(subnet, lease)| (subnet.to_string(), lease)), Some(("net".into(), lease)));
    assert_eq!(ipam.release("a.ns"), None);
}

#[test]
fn of_subnets() {
    let mut ipam = net();
    let set = |ipam: &mut Ipam, name: &str, cidrs: &str| {
        let network = network(cidrs, "10.0.0.1", &[]);
        ipam.set_subnet(name, &network)
    };
    for overlapping in ["10.17.0.0/24", "10.0.0.0/8", "10.17.0.128/25", "fd00::/64,10.17.0.0/23", "0.0.0.0/0"] {
        let refusal = set(&mut ipam, "big", overlapping).unwrap_err();
        assert!(refusal.to_string().contains("overlaps 10.17.0.0/24 of subnet net"), "{refusal}");
        assert!(!ipam.has_subnet("big"));
    }
    set(&mut ipam, "next", "10.17.1.0/24,fd00::/64").unwrap();
    let refusal = set(&mut ipam, "net", "10.17.0.0/23").unwrap_err();
    assert!(refusal.to_string().contains("overlaps 10.17.1.0/24 of subnet next"), "{refusal}");

    let lease = ipam.assign("next", "a.ns", &Want::any()).unwrap();
    says(ipam.remove_subnet("next"), "subnet next: 10.17.1.1 is in use by a.ns (1 in use in all)");
    assert_eq!(ipam.lease("a.ns"), Some(("next", lease)));
    ipam.release("a.ns");
    set(&mut ipam, "next", "10.19.0.0/24").unwrap();
    set(&mut ipam, "net", "10.17.0.0/23").unwrap();
    assert_eq!(ipam.remove_subnet("next"), Ok(()));
    assert_eq!(ipam.remove_subnet("next"), Ok(()), "gone is gone");
    set(&mut ipam, "again", "10.19.0.0/24").unwrap();
}

#[test]
fn of_networks_that_leave_addresses_outside() {
    let mut ipam = Ipam::default();
    let set = |ipam: &mut Ipam, cidrs: &str| {
        let cidrs: api::Cidrs = cidrs.parse().unwrap();
        let gateway = cidrs.map(|cidr| cidr.first_usable());
        ipam.set_subnet("net", &Network { cidrs, gateway, retired_gateways: vec![], exclude: vec![] })
    };
    set(&mut ipam, "10.33.0.0/27,fd00::/120").unwrap();
    for (holder, address) in [("a.ns", "10.33.0.12"), ("b.ns", "10.33.0.13"), ("c.ns", "10.33.0.20")] {
        ipam.assign("net", holder, &Want { families: Some(Families::V4(())), ..exact(address) }).unwrap();
    }
    ipam.assign("net", "d.ns", &Want { families: Some(Families::V6(())), ..exact("fd00::99") }).unwrap();
    let before = (ipam.usage("net"), ipam.ranges("net"));
    for (cidrs, why) in [
        ("10.33.0.0/29,fd00::/120", "leaves 10.33.0.12 outside, which a.ns holds, and 2 others"),
        ("10.33.0.8/29,fd00::/120", "leaves 10.33.0.20 outside, which c.ns holds"),
        ("10.33.0.16/28,fd00::/120", "leaves 10.33.0.12 outside, which a.ns holds, and 1 other"),
        ("10.34.0.0/16,fd00::/120", "leaves 10.33.0.12 outside, which a.ns holds, and 2 others"),
        ("fd00::/120", "leaves 10.33.0.12 outside, which a.ns holds, and 2 others"),
        ("10.33.0.0/27", "leaves fd00::99 outside, which d.ns holds"),
        ("10.33.0.0/27,fd00::/121", "leaves fd00::99 outside, which d.ns holds"),
    ] {
        says(set(&mut ipam, cidrs), &format!("subnet net: spec.cidrBlock: {cidrs} {why}"));
        assert_eq!((ipam.usage("net"), ipam.ranges("net")), before, "{cidrs}");
    }
    // Networks that contain all held addresses are accepted: wider and narrower ones, and one family less without holders.
    set(&mut ipam, "10.33.0.0/16,fd00::/64").unwrap();
    set(&mut ipam, "10.33.0.8/27,fd00::80/121").unwrap();
    ipam.release("d.ns");
    set(&mut ipam, "10.33.0.0/26").unwrap();
    assert_eq!(ipam.usage("net").unwrap().v4, ipam::Counts { used: 3, available: 64 - 3 - 3 });
    assert_eq!(ipam.assign("net", "a.ns", &Want::any()).unwrap().ips, ips("10.33.0.12"), "the holder keeps it");
    assert_eq!(ipam.holder("10.33.0.20".parse().unwrap()), Some("c.ns"));
    assert_eq!(ipam.subnet_of("10.33.0.63".parse().unwrap()), Some("net"));
    assert_eq!(ipam.subnet_of("fd00::99".parse().unwrap()), None);
}

#[test]
fn of_gateways() {
    let mut ipam = Ipam::default();
    let set = |ipam: &mut Ipam, cidrs: &str, gateway: &str| ipam.set_subnet("net", &network(cidrs, gateway, &[]));
    set(&mut ipam, "10.17.0.0/24,fd00::/64", "10.17.0.1,fd00::1").unwrap();
    ipam.assign("net", "a.ns", &exact("10.17.0.254,fd00::ff")).unwrap();
    let usage = ipam.usage("net");
    let (dual, wider) = ("10.17.0.0/24,fd00::/64", "10.17.0.0/16,fd00::/64");
    for (cidrs, gateway, why) in [
        (dual, "10.17.0.254,fd00::1", "spec.gateway: 10.17.0.254 is held by a.ns"),
        (dual, "10.17.0.1,fd00::ff", "spec.gateway: fd00::ff is held by a.ns"),
        (wider, "10.17.0.254,fd00::1", "spec.gateway: 10.17.0.254 is held by a.ns"),
    ] {
        says(set(&mut ipam, cidrs, gateway), &format!("subnet net: {why}"));
        assert_eq!(ipam.usage("net"), usage);
        assert_eq!(ipam.network("net").unwrap().gateway, ips("10.17.0.1,fd00::1"));
    }
    set(&mut ipam, dual, "10.17.0.253,fd00::1").unwrap();
    // A gateway that stays can have a holder from a record.
    let odd = Lease { ips: ips("10.17.0.253"), mac: mac("00:00:00:00:00:01") };
    ipam.restore("net", "odd.ns", odd).unwrap();
    set(&mut ipam, wider, "10.17.0.253,fd00::1").unwrap();
    says(set(&mut ipam, wider, "10.17.0.254,fd00::1"), "subnet net: spec.gateway: 10.17.0.254 is held by a.ns");
    ipam.release("a.ns");
    set(&mut ipam, wider, "10.17.0.254,fd00::1").unwrap();
    says(set(&mut ipam, wider, "10.17.0.253,fd00::1"), "subnet net: spec.gateway: 10.17.0.253 is held by odd.ns");
}

#[test]
fn of_retired_gateways() {
    let mut ipam = Ipam::default();
    let mut net = network("10.17.0.0/29,fd00::/64", "10.17.0.6,fd00::1", &[]);
    net.retired_gateways = ["10.17.0.1", "10.17.0.2", "fd00::2", "10.99.0.1"].map(|ip| ip.parse().unwrap()).into();
    ipam.set_subnet("net", &net).unwrap();
    let usage = ipam.usage("net").unwrap();
    assert_eq!((usage.v4.available, usage.v6.available), (3, (1 << 64) - 3));
    for (kept, what) in [
        ("10.17.0.1", "gateway, network or broadcast address"),
        ("10.17.0.2", "gateway, network or broadcast address"),
        ("fd00::2", "gateway or anycast address"),
    ] {
        let why = format!("subnet net: {kept} is kept for the network itself ({what})");
        says(ipam.assign("net", "a.ns", &exact(kept)), &why);
    }
    assert_eq!(ipam.assign("net", "a.ns", &Want::any()).unwrap().ips, ips("10.17.0.3,fd00::3"));
    // A record of a retired gateway is restored, and can be released.
    let odd = Lease { ips: ips("10.17.0.2"), mac: mac("00:00:00:00:00:01") };
    ipam.restore("net", "odd.ns", odd).unwrap();
    ipam.release("odd.ns");
    says(
        ipam.assign("net", "b.ns", &exact("10.17.0.2")),
        "subnet net: 10.17.0.2 is kept for the network itself (gateway, network or broadcast address)",
    );
    net.retired_gateways.clear();
    ipam.set_subnet("net", &net).unwrap();
    assert_eq!(ipam.assign("net", "b.ns", &exact("10.17.0.2")).unwrap().ips.v4(), ips("10.17.0.2").v4());
}

#[test]
fn of_records() {
    let mut ipam = net();
    let lease = |text: &str, m: &str| Lease { ips: ips(text), mac: mac(m) };
    ipam.restore("net", "old.ns", lease("10.17.0.5", "00:00:00:00:00:05")).unwrap();
    ipam.restore("net", "odd.ns", lease("10.17.0.1", "00:00:00:00:00:01")).unwrap();
    says(
        ipam.restore("net", "x.ns", lease("10.17.0.5", "00:00:00:00:00:06")),
        "subnet net: 10.17.0.5 is held by old.ns",
    );
    says(
        ipam.restore("net", "x.ns", lease("10.17.0.6", "00:00:00:00:00:05")),
        "MAC 00:00:00:00:00:05 is held by old.ns",
    );
    says(
        ipam.restore("net", "x.ns", lease("10.18.0.6", "00:00:00:00:00:06")),
        "subnet net: 10.18.0.6 is outside 10.17.0.0/24",
    );
    says(
        ipam.restore("none", "x.ns", lease("10.18.0.6", "00:00:00:00:00:06")),
        "subnet none: there is no subnet with that name",
    );
    let holders: Vec<_> = ipam.holders("net").map(|(holder, lease)| format!("{holder} {}", lease.ips)).collect();
    assert_eq!(holders, ["odd.ns 10.17.0.1", "old.ns 10.17.0.5"]);
}

#[test]
fn of_families() {
    let mut ipam = net();
    let of = |families| Want { families: Some(families), ..Want::any() };
    says(ipam.assign("net", "a.ns", &of(Families::V6(()))), "subnet net: it has no IPv6 network, only 10.17.0.0/24");
    let dual = Families::Dual { v4: (), v6: () };
    says(ipam.assign("net", "a.ns", &of(dual)), "subnet net: it has no IPv6 network, only 10.17.0.0/24");
    ipam.set_subnet("two", &network("10.18.0.0/24,fd00::/64", "10.18.0.1,fd00::1", &[])).unwrap();
    let lease = ipam.assign("two", "a.ns", &of(Families::V6(()))).unwrap();
    assert_eq!(lease.ips, ips("fd00::2"));
    assert_eq!(ipam.assign("two", "a.ns", &Want::any()), Ok(lease), "who does not say wants no other");
    says(ipam.assign("two", "a.ns", &of(dual)), &format!("a.ns already holds fd00::2 ({}) in subnet two", lease.mac));
    assert_eq!(ipam.assign("two", "b.ns", &of(Families::V4(()))).unwrap().ips, ips("10.18.0.2"));
    assert_eq!(ipam.assign("two", "c.ns", &of(dual)).unwrap().ips, ips("10.18.0.3,fd00::3"));
    let usage = ipam.usage("two").unwrap();
    assert_eq!((usage.v4.used, usage.v6.used), (2, 2));
}
