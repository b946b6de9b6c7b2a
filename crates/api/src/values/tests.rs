//! Tables of good and hostile texts, and round trips.

use std::{fmt::Display, net::IpAddr, str::FromStr};

use proptest::prelude::*;
use serde::{Serialize, de::DeserializeOwned};

use super::*;

/// `text` parses and prints as `printed`.
#[track_caller]
fn reads<T: FromStr<Err = ValueError> + Display>(text: &str, printed: &str) {
    match text.parse::<T>() {
        Ok(value) => assert_eq!(value.to_string(), printed, "{text:?}"),
        Err(e) => panic!("{text:?} is refused: {e}"),
    }
}

/// `text` is refused with an error that quotes it and contains `why`.
#[track_caller]
fn refuses<T: FromStr<Err = ValueError> + Display>(text: &str, why: &str) {
    match text.parse::<T>() {
        Ok(value) => panic!("{text:?} is read as {value}"),
        Err(e) => {
            assert!(e.to_string().contains(why), "{text:?}: {e}, not {why:?}");
            assert!(e.text.chars().all(|c| text.contains(c)), "{e} does not name the text");
        }
    }
}

/// `value` is the same after a round trip through text and through JSON.
fn goes_round<T>(value: &T)
where
    T: FromStr<Err = ValueError> + Display + Serialize + DeserializeOwned + PartialEq + std::fmt::Debug,
{
    assert_eq!(value.to_string().parse::<T>().as_ref(), Ok(value));
    let json = serde_json::to_string(value).unwrap();
    assert_eq!(json, format!("\"{value}\""));
    assert_eq!(&serde_json::from_str::<T>(&json).unwrap(), value);
    assert_eq!(&serde_json::from_value::<T>(serde_json::to_value(value).unwrap()).unwrap(), value);
}

#[test]
fn cidrs() {
    reads::<Cidr>("10.17.0.0/24", "10.17.0.0/24");
    reads::<Cidr>("10.17.0.1/24", "10.17.0.0/24");
    reads::<Cidr>(" 10.17.0.1/31 ", "10.17.0.0/31");
    reads::<Cidr>("10.17.0.1/32", "10.17.0.1/32");
    reads::<Cidr>("0.0.0.0/0", "0.0.0.0/0");
    reads::<Cidr>("FD00:0:0::1/64", "fd00::/64");
    reads::<Cidr>("fd00::1/127", "fd00::/127");
    reads::<Cidr>("fd00::1/128", "fd00::1/128");
    reads::<Cidr>("::/0", "::/0");

    refuses::<Cidr>("", "no prefix length");
    refuses::<Cidr>("10.17.0.0", "no prefix length");
    refuses::<Cidr>("10.17.0.0/", "not a number");
    refuses::<Cidr>("10.17.0.0/+8", "not a number");
    refuses::<Cidr>("10.17.0.0/-1", "not a number");
    refuses::<Cidr>("10.17.0.0/ 8", "not a number");
    refuses::<Cidr>("10.17.0.0/8/8", "not a number");
    refuses::<Cidr>("10.17.0.0/2４", "not a number");
    refuses::<Cidr>("10.17.0.0/255.0.0.0", "not a number");
    refuses::<Cidr>("10.17.0.0/33", "longer than the address");
    refuses::<Cidr>("10.17.0.0/256", "not a number");
    refuses::<Cidr>("fd00::/129", "longer than the address");
    refuses::<Cidr>("10.17.0/24", "neither IPv4 nor IPv6");
    refuses::<Cidr>("10.17.0.256/24", "neither IPv4 nor IPv6");
    refuses::<Cidr>("010.17.0.0/24", "neither IPv4 nor IPv6");
    refuses::<Cidr>("10.17.0.0 /24", "white space");
    refuses::<Cidr>("fe80::1%eth0/64", "neither IPv4 nor IPv6");
    refuses::<Cidr>("::ffff:10.17.0.0/120", "IPv4-mapped");
    refuses::<Cidr>("10.17.0.0/24,10.18.0.0/24", "not a number");
    refuses::<Cidr>("/24", "neither IPv4 nor IPv6");
}

#[test]
fn parts_of_a_cidr() {
    let cidr: Cidr = "10.17.0.0/24".parse().unwrap();
    let address = |text: &str| text.parse::<IpAddr>().unwrap();
    assert_eq!(cidr.first_usable(), address("10.17.0.1"));
    assert_eq!(cidr.last(), address("10.17.0.255"));
    assert_eq!(cidr.size(), 256);
    assert_eq!(cidr.with_host(cidr.first_usable()), "10.17.0.1/24");
    assert!(cidr.contains(address("10.17.0.255")) && !cidr.contains(address("10.17.1.0")));
    assert!(!cidr.contains(address("::")), "the other family is never inside");
    assert_eq!("10.0.0.4/31".parse::<Cidr>().unwrap().first_usable(), address("10.0.0.4"));
    assert_eq!("10.0.0.4/30".parse::<Cidr>().unwrap().first_usable(), address("10.0.0.5"));
    assert_eq!("fd00::/127".parse::<Cidr>().unwrap().first_usable(), address("fd00::"));
    assert_eq!("::/0".parse::<Cidr>().unwrap().size(), u128::MAX);
    assert_eq!("0.0.0.0/0".parse::<Cidr>().unwrap().size(), 1 << 32);
    let overlap = |a: &str, b: &str| a.parse::<Cidr>().unwrap().overlaps(&b.parse().unwrap());
    assert!(overlap("10.0.0.0/8", "10.17.0.0/24") && overlap("10.17.0.0/24", "10.0.0.0/8"));
    assert!(!overlap("10.16.0.0/24", "10.17.0.0/24") && !overlap("0.0.0.0/0", "::/0"));
}

#[test]
fn addresses_that_are_kept_back() {
    for (cidr, kept) in [
        ("10.17.0.0/24", "10.17.0.0,10.17.0.255"),
        ("10.17.0.4/30", "10.17.0.4,10.17.0.7"),
        ("10.17.0.4/31", ""),
        ("10.17.0.4/32", ""),
        ("fd00::/64", "fd00::"),
        ("fd00::4/126", "fd00::4"),
        ("fd00::4/127", ""),
        ("fd00::4/128", ""),
        ("::/0", "::"),
    ] {
        let list: Vec<_> = cidr.parse::<Cidr>().unwrap().kept_back().map(|address| address.to_string()).collect();
        assert_eq!(list.join(","), kept, "{cidr}");
    }
}

#[test]
fn networks_that_are_not_for_pods() {
    for (cidr, why) in [
        ("0.0.0.0/0", "it overlaps 0.0.0.0/8, the addresses of the host itself"),
        ("0.0.0.0/1", "it overlaps 0.0.0.0/8, the addresses of the host itself"),
        ("128.0.0.0/1", "it overlaps 169.254.0.0/16, the link-local addresses"),
        ("0.1.2.0/24", "it overlaps 0.0.0.0/8, the addresses of the host itself"),
        ("127.0.0.0/8", "it overlaps 127.0.0.0/8, the loopback addresses"),
        ("127.9.0.0/16", "it overlaps 127.0.0.0/8, the loopback addresses"),
        ("126.0.0.0/7", "it overlaps 127.0.0.0/8, the loopback addresses"),
        ("169.254.169.0/24", "it overlaps 169.254.0.0/16, the link-local addresses"),
        ("169.0.0.0/8", "it overlaps 169.254.0.0/16, the link-local addresses"),
        ("224.0.0.0/8", "it overlaps 224.0.0.0/4, the multicast addresses"),
        ("192.0.0.0/2", "it overlaps 224.0.0.0/4, the multicast addresses"),
        ("240.0.0.0/8", "it overlaps 240.0.0.0/4, the reserved addresses"),
        ("255.255.255.0/24", "it overlaps 240.0.0.0/4, the reserved addresses"),
        ("10.17.0.1/32", "it has one address, and a gateway and a pod need two"),
        ("::/0", "it overlaps ::/128, the unspecified address"),
        ("::/96", "it overlaps ::/128, the unspecified address"),
        ("::fffe:0:0/95", "it overlaps ::ffff:0.0.0.0/96, the IPv4-mapped addresses"),
        ("fe80::/64", "it overlaps fe80::/10, the link-local addresses"),
        ("fe00::/8", "it overlaps fe80::/10, the link-local addresses"),
        ("ff02::/64", "it overlaps ff00::/8, the multicast addresses"),
        ("fd00:ec2::/112", "it overlaps fd00:ec2::254/128, the address of a cloud's metadata service"),
        ("fd00::/8", "it overlaps fd00:ec2::254/128, the address of a cloud's metadata service"),
        ("fd00::1/128", "it has one address, and a gateway and a pod need two"),
        ("::1/128", "it has one address, and a gateway and a pod need two"),
    ] {
        let error = cidr.parse::<Cidr>().unwrap().check_for_pods().unwrap_err().to_string();
        assert_eq!(error, format!("\"{cidr}\" is not a network for pods: {why}"));
    }
    for cidr in [
        "1.0.0.0/8",
        "10.0.0.0/8",
        "126.0.0.0/8",
        "128.0.0.0/3",
        "170.0.0.0/8",
        "192.0.0.0/3",
        "223.0.0.0/8",
        "10.0.0.0/31",
        "::2/127",
        "64:ff9b::/96",
        "2000::/3",
        "fc00::/8",
        "fd00::/64",
        "fd00:ec2::/119",
        "fd00:ec2::400/118",
        "fec0::/10",
        "fe00::/9",
    ] {
        assert_eq!(cidr.parse::<Cidr>().unwrap().check_for_pods(), Ok(()), "{cidr}");
    }
}

#[test]
fn families() {
    reads::<Cidrs>("10.18.0.0/24,fd00:18::/64", "10.18.0.0/24,fd00:18::/64");
    reads::<Cidrs>("fd00:18::/64, 10.18.0.0/24", "10.18.0.0/24,fd00:18::/64");
    reads::<Cidrs>("fd00:18::/64", "fd00:18::/64");
    reads::<Addresses>(" 10.18.0.2 ", "10.18.0.2");
    reads::<Addresses>("fd00::2,10.18.0.2", "10.18.0.2,fd00::2");

    refuses::<Cidrs>("", "no prefix length");
    refuses::<Cidrs>("10.18.0.0/24,", "no prefix length");
    refuses::<Cidrs>("10.18.0.0/24,10.19.0.0/24", "two of IPv4");
    refuses::<Cidrs>("10.18.0.0/24,fd00::/64,fd01::/64", "two of IPv6");
    refuses::<Addresses>("", "neither IPv4 nor IPv6");
    refuses::<Addresses>(",", "neither IPv4 nor IPv6");
    refuses::<Addresses>("10.18.0.2;fd00::2", "neither IPv4 nor IPv6");
    refuses::<Addresses>("::ffff:10.18.0.2", "IPv4-mapped");
    refuses::<Addresses>("10.18.0.2/24", "neither IPv4 nor IPv6");

    let dual: Addresses = "10.18.0.2,fd00::2".parse().unwrap();
    assert_eq!(dual.iter().count(), 2);
    assert_eq!(dual.families().collect::<Vec<_>>(), [Family::V4, Family::V6]);
    assert_eq!(dual.protocol(), "Dual");
    assert_eq!(dual.map(|ip| ip.is_ipv4()), Families::Dual { v4: true, v6: false });
}

#[test]
fn macs() {
    reads::<Mac>("00:00:00:AA:BB:CC", "00:00:00:aa:bb:cc");
    reads::<Mac>("0a-58-0a-10-00-02", "0a:58:0a:10:00:02");
    refuses::<Mac>("", "two hexadecimal digits");
    refuses::<Mac>("00:00:00:00:00:00", "all zero");
    refuses::<Mac>("01:00:5e:00:00:01", "multicast");
    refuses::<Mac>("ff:ff:ff:ff:ff:ff", "multicast");
    refuses::<Mac>("00:00:00:aa:bb", "fewer than six");
    refuses::<Mac>("00:00:00:aa:bb:cc:dd", "more than six");
    refuses::<Mac>("0:0:0:aa:bb:cc", "two hexadecimal digits");
    refuses::<Mac>("00:00:00:aa:bb:+c", "two hexadecimal digits");
    refuses::<Mac>("00:00:00:aa:bb-cc", "two hexadecimal digits");
    refuses::<Mac>("0000.00aa.bbcc", "two hexadecimal digits");
    refuses::<Mac>("00:00:00:aa:bb:ｃｃ", "two hexadecimal digits");
}

#[test]
fn ranges() {
    reads::<IpRange>("10.17.0.1..10.17.0.10", "10.17.0.1..10.17.0.10");
    reads::<IpRange>(" 10.17.0.1 .. 10.17.0.10 ", "10.17.0.1..10.17.0.10");
    reads::<IpRange>("10.17.0.1..10.17.0.1", "10.17.0.1");
    reads::<IpRange>("fd00::1", "fd00::1");
    refuses::<IpRange>("", "neither IPv4 nor IPv6");
    refuses::<IpRange>("..", "neither IPv4 nor IPv6");
    refuses::<IpRange>("10.17.0.1..", "neither IPv4 nor IPv6");
    refuses::<IpRange>("10.17.0.1...10.17.0.2", "neither IPv4 nor IPv6");
    refuses::<IpRange>("10.17.0.1..10.17.0.2..10.17.0.3", "neither IPv4 nor IPv6");
    refuses::<IpRange>("10.17.0.1-10.17.0.9", "neither IPv4 nor IPv6");
    refuses::<IpRange>("10.17.0.10..10.17.0.1", "ends before it starts");
    refuses::<IpRange>("10.17.0.1..fd00::1", "different families");
    refuses::<IpRange>("10.17.0.0/24", "neither IPv4 nor IPv6");

    let all: IpRange = "::..ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff".parse().unwrap();
    assert_eq!(all.len(), u128::MAX);
    assert_eq!("10.17.0.1..10.17.0.10".parse::<IpRange>().unwrap().len(), 10);
    let list: Vec<IpRange> = ["10.0.0.2", "10.0.0.5..10.0.0.9"].map(|text| text.parse().unwrap()).into();
    assert_eq!(print_ranges(&list), "10.0.0.2,10.0.0.5-10.0.0.9");
    assert_eq!(print_ranges(&[]), "");
}

#[test]
fn errors_cut_long_texts() {
    let long = "x".repeat(100_000);
    assert!(long.parse::<Cidr>().unwrap_err().to_string().len() < 200);
    assert!(long.parse::<IpRange>().unwrap_err().to_string().len() < 400);
    assert!(long.parse::<Mac>().unwrap_err().to_string().len() < 200);
}

fn address() -> impl Strategy<Value = IpAddr> {
    prop_oneof![any::<[u8; 4]>().prop_map(IpAddr::from), any::<[u8; 16]>().prop_map(IpAddr::from)]
        .prop_filter("mapped", |address| refuse_mapped(*address).is_ok())
}

proptest! {
    #[test]
    fn every_cidr_goes_round(address in address(), prefix in 0..=128_u8) {
        if let Ok(cidr) = Cidr::new(address, prefix) {
            goes_round(&cidr);
            prop_assert!(cidr.contains(address) && cidr.contains(cidr.first_usable()));
            prop_assert_eq!(Cidr::new(cidr.last(), prefix).unwrap(), cidr);
        } else {
            prop_assert!(address.is_ipv4() && prefix > 32 || prefix < 97);
        }
    }

    #[test]
    fn every_range_goes_round(a in address(), b in address()) {
        let range = IpRange::new(a.min(b), a.max(b));
        prop_assert_eq!(range.is_ok(), a.is_ipv4() == b.is_ipv4());
        if let Ok(range) = range {
            goes_round(&range);
            prop_assert!(range.contains(a) && range.contains(b) && range.len() > 0);
        }
    }

    #[test]
    fn every_mac_goes_round(bytes: [u8; 6]) {
        match Mac::new(bytes) {
            Ok(mac) => goes_round(&mac),
            Err(_) => prop_assert!(bytes[0] & 1 == 1 || bytes == [0; 6]),
        }
    }

    #[test]
    fn addresses_go_round(v4: [u8; 4], v6 in address().prop_filter("v6", IpAddr::is_ipv6)) {
        let v4 = IpAddr::from(v4);
        for addresses in [Families::V4(v4), Families::V6(v6), Families::Dual { v4, v6 }] {
            goes_round(&addresses);
        }
    }

    #[test]
    fn no_text_is_too_strange(text in "[0-9a-fA-F:./, +-]{0,60}|\\PC*") {
        let _ = (text.parse::<Cidr>(), text.parse::<Cidrs>(), text.parse::<Addresses>(), text.parse::<Mac>());
        let _ = (text.parse::<IpRange>(), text.parse::<Rate>(), Rate::parse_mbit(&text));
    }
}
