//! Pools: their holders, and refusals when no address is left.

#![allow(clippy::unwrap_used)] // helpers of tests are tests too

use api::{Families, IpRange};
use ipam::{Counts, Ipam, Network, Refusal, Want, WantIps};

/// A dual-stack subnet `net` with 14 IPv4 addresses and the gateway 10.0.0.1.
fn ipam() -> Ipam {
    let network = Network {
        cidrs: "10.0.0.0/28,fd00::/64".parse().unwrap(),
        gateway: "10.0.0.1,fd00::1".parse().unwrap(),
        retired_gateways: vec![],
        exclude: vec!["10.0.0.6".parse().unwrap()],
    };
    let mut ipam = Ipam::default();
    ipam.set_subnet("net", &network).unwrap();
    ipam
}

fn ranges(texts: &[&str]) -> Vec<IpRange> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

fn v4(ipam: &mut Ipam, holder: &str, want: &Want) -> String {
    ipam.assign("net", holder, want).unwrap().ips.v4().unwrap().to_string()
}

#[track_caller]
fn says<T: std::fmt::Debug>(result: Result<T, Refusal>, expected: &str) {
    assert_eq!(result.unwrap_err().to_string(), expected);
}

#[test]
fn a_pool_s_addresses_go_to_who_names_it() {
    let mut ipam = ipam();
    ipam.set_pool("net", "shop", &ranges(&["10.0.0.2..10.0.0.4", "10.0.0.6..10.0.0.7"])).unwrap();
    assert_eq!(v4(&mut ipam, "any", &Want::any()), "10.0.0.5");
    assert_eq!(v4(&mut ipam, "a", &Want::pool("shop")), "10.0.0.2");
    assert_eq!(
        ipam.lease("a").unwrap().1.ips.to_string(),
        "10.0.0.2,fd00::3",
        "IPv6, which it has none of, is anybody's"
    );
    ipam.release("a");
    assert_eq!(v4(&mut ipam, "b", &Want::pool("shop")), "10.0.0.3");
    assert_eq!(v4(&mut ipam, "c", &Want::pool("shop")), "10.0.0.4");
    assert_eq!(v4(&mut ipam, "d", &Want::pool("shop")), "10.0.0.7", "what the subnet excludes is not chosen");
    assert_eq!(v4(&mut ipam, "e", &Want::pool("shop")), "10.0.0.2", "the released one comes last");
    says(ipam.assign("net", "f", &Want::pool("shop")), "subnet net: no IPv4 address is left in pool shop (4 in use)");
    assert_eq!(v4(&mut ipam, "any2", &Want::any()), "10.0.0.8");
    assert_eq!(ipam.pool_of("10.0.0.6".parse().unwrap()), Some("shop"));
    assert_eq!(ipam.pool_of("10.0.0.8".parse().unwrap()), None);
}

#[test]
fn a_static_address_may_lie_in_a_pool_and_counts_there() {
    let mut ipam = ipam();
    ipam.set_pool("net", "shop", &ranges(&["10.0.0.2..10.0.0.4", "10.0.0.6"])).unwrap();
    ipam.assign("net", "a", &Want::exact("10.0.0.3".parse().unwrap())).unwrap();
    ipam.assign("net", "b", &Want::exact("10.0.0.6".parse().unwrap())).unwrap();
    assert_eq!(ipam.pool_usage("shop").unwrap().v4, Counts { used: 2, available: 2 });
    let all = ipam.pool_ranges("shop").unwrap().v4;
    let print = |ranges: &[IpRange]| api::values::print_ranges(ranges);
    assert_eq!((print(&all.using), print(&all.free)), ("10.0.0.3,10.0.0.6".into(), "10.0.0.2,10.0.0.4".into()));
    assert_eq!(ipam.usage("net").unwrap().v4, Counts { used: 2, available: 11 }, "the subnet's count is of everything");
}

#[test]
fn a_pool_changes_and_goes_while_its_addresses_are_held() {
    let mut ipam = ipam();
    ipam.set_pool("net", "shop", &ranges(&["10.0.0.2..10.0.0.3"])).unwrap();
    v4(&mut ipam, "a", &Want::pool("shop"));
    ipam.set_pool("net", "shop", &ranges(&["10.0.0.10..10.0.0.11"])).unwrap();
    assert_eq!(ipam.lease("a").unwrap().1.ips.v4().unwrap().to_string(), "10.0.0.2");
    assert_eq!(v4(&mut ipam, "b", &Want::any()), "10.0.0.3");
    assert!(
        matches!(ipam.assign("net", "a", &Want::pool("shop")), Err(Refusal::AlreadyHolds { .. })),
        "it does not fit now"
    );
    assert_eq!(v4(&mut ipam, "c", &Want::pool("shop")), "10.0.0.10");
    ipam.remove_pool("shop");
    assert_eq!(ipam.pool_usage("shop"), None);
    says(ipam.assign("net", "d", &Want::pool("shop")), "subnet net: it has no pool shop");
    ipam.release("c");
    let rest: Vec<_> = (0..9).map(|n| v4(&mut ipam, &n.to_string(), &Want::any())).collect();
    assert_eq!(rest.last().unwrap(), "10.0.0.14");
    assert_eq!(v4(&mut ipam, "last", &Want::any()), "10.0.0.10", "released, it is anybody's after all new ones");
}

#[test]
fn the_first_of_several_pools_that_has_some() {
    let mut ipam = ipam();
    ipam.set_pool("net", "one", &ranges(&["10.0.0.2"])).unwrap();
    ipam.set_pool("net", "two", &ranges(&["10.0.0.3", "fd00::100..fd00::1ff"])).unwrap();
    let both = Want { ips: WantIps::Pools(vec!["none".into(), "one".into(), "two".into()]), ..Want::any() };
    assert_eq!(ipam.assign("net", "a", &both).unwrap().ips.to_string(), "10.0.0.2,fd00::2");
    let second = ipam.assign("net", "b", &both).unwrap();
    assert_eq!(second.ips.to_string(), "10.0.0.3,fd00::100");
    assert_eq!(ipam.assign("net", "b", &both), Ok(second), "it fits the second");
    says(ipam.assign("net", "c", &both), "subnet net: no IPv4 address is left in pool two (1 in use)");
    let v6 = |pool: &str| Want { families: Some(Families::V6(())), ..Want::pool(pool) };
    assert_eq!(ipam.assign("net", "c", &v6("two")).unwrap().ips.to_string(), "fd00::101");
    says(ipam.assign("net", "d", &v6("one")), "subnet net: no IPv6 address is left in pool one (0 in use)");
}

#[test]
fn pools_that_cannot_be() {
    let mut ipam = ipam();
    ipam.set_pool("net", "one", &ranges(&["10.0.0.4..10.0.0.6", "10.99.0.0..10.99.0.9"])).unwrap();
    let set = |ipam: &mut Ipam, subnet: &str, range: &str| ipam.set_pool(subnet, "two", &ranges(&[range]));
    says(set(&mut ipam, "none", "10.0.0.2"), "subnet none: there is no subnet with that name");
    says(
        set(&mut ipam, "net", "10.98.0.1"),
        "pool two: none of its addresses is in 10.0.0.0/28,fd00::/64 of subnet net",
    );
    for (range, shared) in
        [("10.0.0.2..10.0.0.5", "10.0.0.4"), ("10.0.0.6..10.0.0.9", "10.0.0.6"), ("10.0.0.5", "10.0.0.5")]
    {
        says(set(&mut ipam, "net", range), &format!("pool two: {shared} is in pool one of subnet net already"));
    }
    assert_eq!(ipam.pool_usage("two"), None);
    set(&mut ipam, "net", "10.99.0.5..10.99.0.6").unwrap_err();
    set(&mut ipam, "net", "10.0.0.2").unwrap();
    says(set(&mut ipam, "net", "10.0.0.4"), "pool two: 10.0.0.4 is in pool one of subnet net already");
    assert_eq!(v4(&mut ipam, "a", &Want::pool("two")), "10.0.0.2", "what was before stays in force");
    says(ipam.assign("net", "b", &Want::pool("three")), "subnet net: it has no pool three");
}

#[test]
fn a_pool_moves_to_another_subnet_and_goes_with_it() {
    let mut ipam = ipam();
    let network = Network {
        cidrs: "10.9.0.0/24".parse().unwrap(),
        gateway: "10.9.0.1".parse().unwrap(),
        retired_gateways: vec![],
        exclude: vec![],
    };
    ipam.set_subnet("other", &network).unwrap();
    let both = ranges(&["10.0.0.2..10.0.0.5", "10.9.0.7"]);
    ipam.set_pool("net", "shop", &both).unwrap();
    ipam.set_pool("other", "shop", &both).unwrap();
    assert_eq!(v4(&mut ipam, "a", &Want::any()), "10.0.0.2");
    assert_eq!(ipam.assign("other", "b", &Want::pool("shop")).unwrap().ips.to_string(), "10.9.0.7");
    ipam.release("b");
    ipam.remove_subnet("other").unwrap();
    assert_eq!(ipam.pool_usage("shop"), None);
}

#[test]
fn a_full_subnet_says_when_its_pools_may_have_more() {
    let mut ipam = ipam();
    ipam.set_pool("net", "rest", &ranges(&["10.0.0.3..10.0.0.14"])).unwrap();
    v4(&mut ipam, "a", &Want::any());
    let why = "subnet net: no IPv4 address is left in 10.0.0.0/28 outside of its pool (1 in use)";
    says(ipam.assign("net", "b", &Want::any()), why);
    ipam.remove_pool("rest");
    assert_eq!(v4(&mut ipam, "b", &Want::any()), "10.0.0.3");
}

#[test]
fn the_largest_pools() {
    let network = Network {
        cidrs: "fd00::/64".parse().unwrap(),
        gateway: "fd00::1".parse().unwrap(),
        retired_gateways: vec![],
        exclude: vec![],
    };
    let mut ipam = Ipam::default();
    ipam.set_subnet("net", &network).unwrap();
    ipam.set_pool("net", "half", &ranges(&["fd00::8000:0:0:0..fd00::ffff:ffff:ffff:ffff"])).unwrap();
    assert_eq!(ipam.assign("net", "a", &Want::pool("half")).unwrap().ips.to_string(), "fd00::8000:0:0:0");
    assert_eq!(ipam.pool_usage("half").unwrap().v6, Counts { used: 1, available: (1 << 63) - 1 });
    assert_eq!(ipam.usage("net").unwrap().v6, Counts { used: 1, available: (1 << 64) - 3 });
}
