//! Which address comes next.

use ipam::{Ipam, Pool, Refusal, Want};

fn ipam(cidrs: &str, gateway: &str, exclude: &[&str]) -> Ipam {
    let pool = Pool {
        cidrs: cidrs.parse().unwrap(),
        gateway: gateway.parse().unwrap(),
        exclude: exclude.iter().map(|range| range.parse().unwrap()).collect(),
    };
    let mut ipam = Ipam::default();
    ipam.set_subnet("net", &pool).unwrap();
    ipam
}

fn next(ipam: &mut Ipam, holder: &str) -> String {
    ipam.assign("net", holder, Want::any()).unwrap().ips.to_string()
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
    assert!(matches!(ipam.assign("net", "h", Want::any()), Err(Refusal::Full { .. })));
}
