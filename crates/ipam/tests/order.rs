//! The order in which addresses are chosen.

#![allow(clippy::unwrap_used)] // helpers of tests are tests too

use ipam::{Ipam, Network, Refusal, Want};

fn ipam(cidrs: &str, gateway: &str, exclude: &[&str]) -> Ipam {
    let network = Network {
        cidrs: cidrs.parse().unwrap(),
        gateway: gateway.parse().unwrap(),
        retired_gateways: vec![],
        exclude: exclude.iter().map(|range| range.parse().unwrap()).collect(),
    };
    let mut ipam = Ipam::default();
    ipam.set_subnet("net", &network).unwrap();
    ipam
}

fn next(ipam: &mut Ipam, holder: &str) -> String {
    ipam.assign("net", holder, &Want::any()).unwrap().ips.to_string()
}

#[test]
fn first_pods_follow_the_excluded_range() {
    let mut ipam = ipam("10.17.0.0/24", "10.17.0.1", &["10.17.0.1..10.17.0.10"]);
    assert_eq!(next(&mut ipam, "a.ns"), "10.17.0.11");
    assert_eq!(next(&mut ipam, "b.ns"), "10.17.0.12");
}

#[test]
fn released_addresses_come_last_and_the_oldest_first() {
    let mut ipam = ipam("10.0.0.0/29", "10.0.0.1", &[]);
    assert_eq!(next(&mut ipam, "a"), "10.0.0.2");
    assert_eq!(next(&mut ipam, "b"), "10.0.0.3");
    ipam.release("b");
    ipam.release("a");
    assert_eq!(next(&mut ipam, "c"), "10.0.0.4");
    assert_eq!(next(&mut ipam, "d"), "10.0.0.5");
    assert_eq!(next(&mut ipam, "e"), "10.0.0.6");
    assert_eq!(next(&mut ipam, "f"), "10.0.0.3");
    assert_eq!(next(&mut ipam, "g"), "10.0.0.2");
    assert!(matches!(ipam.assign("net", "h", &Want::any()), Err(Refusal::Full { .. })));
}

#[test]
fn dual_stack_walks_both_families() {
    let mut ipam = ipam("10.23.0.0/24,fd00:23::/112", "10.23.0.1,fd00:23::1", &[]);
    assert_eq!(next(&mut ipam, "a"), "10.23.0.2,fd00:23::2");
    let exact = |text: &str| Want::exact(text.parse().unwrap());
    let half = ipam.assign("net", "b", &exact("10.23.0.77")).unwrap();
    assert_eq!(half.ips.to_string(), "10.23.0.77,fd00:23::3", "the family not named is chosen");
    assert_eq!(next(&mut ipam, "c"), "10.23.0.3,fd00:23::4");
    assert_eq!(ipam.holders("net").map(|(holder, _)| holder).collect::<Vec<_>>(), ["a", "c", "b"]);
}

#[test]
fn a_full_family_takes_nothing_from_the_other() {
    let mut ipam = ipam("10.23.0.0/24,fd00:23::/126", "10.23.0.1,fd00:23::1", &["fd00:23::3"]);
    assert_eq!(next(&mut ipam, "a"), "10.23.0.2,fd00:23::2");
    let before = ipam.usage("net");
    let refusal = ipam.assign("net", "b", &Want::any()).unwrap_err();
    assert_eq!(refusal.to_string(), "subnet net: no IPv6 address is left in fd00:23::/126 (1 in use)");
    assert_eq!(ipam.usage("net"), before);
    ipam.release("a");
    assert_eq!(next(&mut ipam, "b"), "10.23.0.3,fd00:23::2");
}

#[test]
fn the_smallest_networks() {
    for (cidr, gateway, expected) in [
        ("10.0.0.4/30", "10.0.0.5", vec!["10.0.0.6"]),
        ("10.0.0.4/31", "10.0.0.4", vec!["10.0.0.5"]),
        ("10.0.0.4/32", "10.0.0.4", vec![]),
        ("fd00::/127", "fd00::", vec!["fd00::1"]),
        ("fd00::8/125", "fd00::9", vec!["fd00::a", "fd00::b", "fd00::c", "fd00::d", "fd00::e", "fd00::f"]),
        ("fd00::4/126", "fd00::7", vec!["fd00::5", "fd00::6"]),
        ("255.255.255.252/30", "255.255.255.253", vec!["255.255.255.254"]),
        (
            "ffff:ffff:ffff:ffff:ffff:ffff:ffff:fffe/127",
            "ffff:ffff:ffff:ffff:ffff:ffff:ffff:fffe",
            vec!["ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"],
        ),
    ] {
        let mut ipam = ipam(cidr, gateway, &[]);
        let available: u128 = ipam.usage("net").map(|usage| usage.v4.available + usage.v6.available).unwrap();
        assert_eq!(available, expected.len() as u128, "{cidr}");
        let given: Vec<_> = (0..expected.len()).map(|n| next(&mut ipam, &n.to_string())).collect();
        assert_eq!(given, expected, "{cidr}");
        assert!(matches!(ipam.assign("net", "more", &Want::any()), Err(Refusal::Full { .. })), "{cidr}");
    }
}

#[test]
fn the_largest_networks() {
    for (cidr, first) in
        [("10.0.0.0/8", "10.0.0.2"), ("fd00::/64", "fd00::2"), ("::/0", "::2"), ("0.0.0.0/0", "0.0.0.2")]
    {
        let gateway = first.replace('2', "1");
        let mut ipam = ipam(cidr, &gateway, &[]);
        assert_eq!(next(&mut ipam, "a"), first);
        assert_eq!(ipam.ranges("net").map(|ranges| ranges.v4.free.len() + ranges.v6.free.len()), Some(1));
    }
}

#[test]
fn a_huge_excluded_range_is_stepped_over_at_once() {
    let mut ipam = ipam("fd00::/64", "fd00::1", &["fd00::1..fd00::ff:ffff:ffff:ffff"]);
    assert_eq!(next(&mut ipam, "a"), "fd00::100:0:0:0");
}

#[test]
fn exclusions_may_change_under_way() {
    let network = |exclude: &str| Network {
        cidrs: "10.0.0.0/28".parse().unwrap(),
        gateway: "10.0.0.1".parse().unwrap(),
        retired_gateways: vec![],
        exclude: exclude.split_terminator(',').map(|range| range.parse().unwrap()).collect(),
    };
    let mut ipam = Ipam::default();
    ipam.set_subnet("net", &network("10.0.0.2..10.0.0.5")).unwrap();
    assert_eq!(next(&mut ipam, "a"), "10.0.0.6");
    assert_eq!(next(&mut ipam, "b"), "10.0.0.7");
    ipam.release("b");
    ipam.set_subnet("net", &network("10.0.0.6..10.0.0.10")).unwrap();
    assert_eq!(ipam.usage("net").unwrap().v4, ipam::Counts { used: 1, available: 8 });
    assert_eq!(next(&mut ipam, "c"), "10.0.0.2", "no longer excluded");
    ipam.release("a");
    assert_eq!(ipam.usage("net").unwrap().v4, ipam::Counts { used: 1, available: 7 });
    for n in 0..7 {
        next(&mut ipam, &format!("d{n}"));
    }
    assert!(ipam.assign("net", "e", &Want::any()).is_err(), "a released address that is excluded now is not chosen");
    ipam.set_subnet("net", &network("")).unwrap();
    let rest: Vec<_> = (0..5).map(|n| next(&mut ipam, &format!("e{n}"))).collect();
    assert_eq!(rest.len(), 5);
    assert_eq!(ipam.usage("net").unwrap().v4, ipam::Counts { used: 13, available: 0 });
}

#[test]
fn a_network_may_grow_under_way() {
    let network = |cidrs: &str| Network {
        cidrs: cidrs.parse().unwrap(),
        gateway: cidrs.parse::<api::Cidrs>().unwrap().map(|cidr| cidr.first_usable()),
        retired_gateways: vec![],
        exclude: vec![],
    };
    let mut ipam = Ipam::default();
    ipam.set_subnet("net", &network("10.0.0.0/29")).unwrap();
    let first: Vec<_> = (0..5).map(|n| next(&mut ipam, &n.to_string())).collect();
    assert_eq!(first, ["10.0.0.2", "10.0.0.3", "10.0.0.4", "10.0.0.5", "10.0.0.6"]);
    assert!(ipam.assign("net", "a", &Want::any()).is_err());
    ipam.release("1");
    ipam.set_subnet("net", &network("10.0.0.0/28")).unwrap();
    assert_eq!(next(&mut ipam, "a"), "10.0.0.7", "the old broadcast address is an ordinary one now");
    ipam.set_subnet("net", &network("10.0.0.0/28,fd00::/64")).unwrap();
    assert_eq!(next(&mut ipam, "b"), "10.0.0.8,fd00::2");
    assert_eq!(next(&mut ipam, "a"), "10.0.0.7", "who was there before has no IPv6 address");
    let rest: Vec<_> = (0..7).map(|n| next(&mut ipam, &format!("c{n}"))).collect();
    assert_eq!(rest.last().unwrap(), "10.0.0.3,fd00::9", "the released one comes last");
    assert_eq!(ipam.usage("net").unwrap().v4, ipam::Counts { used: 13, available: 0 });
}

#[test]
fn ranges_print_as_in_kube_ovn() {
    let mut ipam = ipam("10.23.0.0/24,fd00:23::/112", "10.23.0.1,fd00:23::1", &["10.23.0.1", "fd00:23::1"]);
    next(&mut ipam, "a");
    next(&mut ipam, "b");
    ipam.assign("net", "c", &Want::exact("10.23.0.77,fd00:23::77".parse().unwrap())).unwrap();
    let usage = ipam.usage("net").unwrap();
    assert_eq!((usage.v4.available, usage.v4.used, usage.v6.available, usage.v6.used), (250, 3, 65531, 3));
    let ranges = ipam.ranges("net").unwrap();
    let print = |ranges: &[api::IpRange]| api::values::print_ranges(ranges);
    assert_eq!(print(&ranges.v4.free), "10.23.0.4-10.23.0.76,10.23.0.78-10.23.0.254");
    assert_eq!(print(&ranges.v4.using), "10.23.0.2-10.23.0.3,10.23.0.77");
    assert_eq!(print(&ranges.v6.free), "fd00:23::4-fd00:23::76,fd00:23::78-fd00:23::ffff");
    assert_eq!(print(&ranges.v6.using), "fd00:23::2-fd00:23::3,fd00:23::77");
}

#[test]
fn addresses_are_found_again() {
    let mut ipam = ipam("10.23.0.0/24,fd00:23::/112", "10.23.0.1,fd00:23::1", &[]);
    next(&mut ipam, "a");
    let find = |text: &str| text.parse().ok().and_then(|address| ipam.holder(address));
    assert_eq!(
        (find("10.23.0.2"), find("fd00:23::2"), find("10.23.0.3"), find("10.24.0.2")),
        (Some("a"), Some("a"), None, None)
    );
    let subnet = |text: &str| ipam.subnet_of(text.parse().unwrap());
    assert_eq!((subnet("10.23.0.255"), subnet("10.22.255.255"), subnet("fd00:23::1:0")), (Some("net"), None, None));
}
