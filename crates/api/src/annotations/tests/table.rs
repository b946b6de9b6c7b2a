//! All annotations that users write, with values that are accepted and values that are refused.

use super::*;

/// The name, the values that are accepted, the values that are refused.
type Line<'a> = (&'a str, &'a [&'a str], &'a [&'a str]);

/// Of pods, namespaces and Subnets.
const LIMITS: [Line<'_>; 6] = [
    (INGRESS_RATE, &["10", "0", "1000"], &["ten", "-5", "10M", "1.5e"]),
    (EGRESS_RATE, &["10", "0"], &["ten", "-5", "10M"]),
    (INGRESS_BURST, &["8", "0"], &["eight", "-8", "8M"]),
    (EGRESS_BURST, &["8", "0"], &["eight", "-8", "8M"]),
    (INGRESS_BANDWIDTH, &["10M", "1G", "1000000", "10Mi", "1e6", "0.5Gi"], &["ten", "-10M", "10 M"]),
    (EGRESS_BANDWIDTH, &["10M", "500k"], &["ten", "-10M", "M"]),
];

const POD: [Line<'_>; 14] = [
    (LOGICAL_SWITCH, &["net", "a.b-c", " net "], &["Net", "a,b", "a_b", "-a", "a/b"]),
    (
        IP_ADDRESS,
        &["10.0.0.5", "fd00::5", "10.0.0.5,fd00::5", "fd00::5, 10.0.0.5"],
        &["10.0.0.300", "10.0.0.5/24", "10.0.0.5,10.0.0.6", "fd00::5,", "x", "10.0.0.1..10.0.0.5", "::ffff:10.0.0.5"],
    ),
    (
        MAC_ADDRESS,
        &["00:00:00:AA:BB:CC", "0a:58:0a:00:00:05"],
        &["00:00:00:AA:BB", "ff:ff:ff:ff:ff:ff", "01:00:5e:00:00:01", "00:00:00:00:00:00", "zz:00:00:AA:BB:CC"],
    ),
    (
        IP_POOL,
        &["10.0.0.5", "10.0.0.5,10.0.0.6", "10.0.0.5,fd00::5;10.0.0.6,fd00::6", "shop", "1st.pool"],
        &["10.0.0.5,x", ",", "10.0.0.1..10.0.0.5", "10.0.0.0/24", "Shop", "10.0.0.300", "shop,bank"],
    ),
    (IP_FAMILY, &["ipv4", "ipv6", "dual", "IPv4"], &["v4", "4", "ipv4,ipv6", "both"]),
    LIMITS[0],
    LIMITS[1],
    LIMITS[2],
    LIMITS[3],
    LIMITS[4],
    LIMITS[5],
    (MIRROR, &["true", "false"], &["yes", "True", "1"]),
    (NORTH_GATEWAY, &["10.0.0.9", "fd00::9", "10.0.0.9,fd00::9"], &["10.0.0.9/24", "10.0.0.8,10.0.0.9", "gw"]),
    (PORT_SECURITY, &["true", "false"], &["yes", "on", "1"]),
];

const NAMESPACE: [Line<'_>; 16] = [
    (LOGICAL_SWITCH, &["net", "a.b"], &["Net_1", "net,-a", "a b"]),
    (
        CIDR,
        &["10.17.0.0/24", "10.17.0.0/24,fd00::/64", "10.17.0.5/24"],
        &["10.17.0.0/33", "10.17.0.0", "x", "10.17.0.0/24,10.18.0.0/24", "127.0.0.0/8", "10.17.0.1/32"],
    ),
    (GATEWAY, &["10.17.0.1", "10.17.0.254"], &["10.18.0.1", "fd00::1", "10.17.0", "10.17.0.1,10.17.0.2"]),
    (
        EXCLUDE_IPS,
        &["10.17.0.9", "10.17.0.1..10.17.0.10,10.17.0.20"],
        &["10.17.0.9..10.17.0.1", "10.18.0.1", "10.17.0.1-10.17.0.9"],
    ),
    (IP_POOL, &["shop", "shop, bank"], &["Shop", "shop,-bank", "a_b"]),
    (PRIVATE, &["true", "false"], &["ja", "TRUE", "0"]),
    (ALLOW, &["10.16.0.0/16", "10.16.0.0/16,fd00::/64"], &["10.17.0.1", "all", "10.16.0.0/16;10.18.0.0/16"]),
    (GATEWAY_TYPE, &["distributed", "centralized"], &["central", "Distributed"]),
    (GATEWAY_NODE, &["n1", "n1,n2", "n1:172.30.0.1,n2:172.30.0.2"], &["n1:172.30.0", ":172.30.0.1"]),
    (GATEWAY_NAT, &["true", "false"], &["no", "1"]),
    LIMITS[0],
    LIMITS[1],
    LIMITS[2],
    LIMITS[3],
    LIMITS[4],
    LIMITS[5],
];

/// The annotations that the controller writes on a pod and on a node. A broken value is refused.
const RESULTS: [Line<'_>; 5] = [
    (LOGICAL_SWITCH, &["net"], &[]),
    (IP_ADDRESS, &["10.0.0.5"], &["10.0.0.300", "x"]),
    (MAC_ADDRESS, &["0a:58:0a:00:00:05"], &["0a:58", "x"]),
    (CIDR, &["10.0.0.0/24"], &["10.0.0.0", "10.0.0.0/33"]),
    (GATEWAY, &["10.0.0.1"], &["10.0.0", "x"]),
];

/// Every good value is accepted. Every bad value is refused, and the error names the object and the annotation.
#[track_caller]
fn check(lines: &[Line<'_>], object: &str, parse: impl Fn(&str, &str) -> Result<(), FieldError>) {
    for (name, good, bad) in lines {
        for value in *good {
            assert_eq!(parse(name, value), Ok(()), "{name}: {value:?}");
        }
        for value in *bad {
            let error = parse(name, value).expect_err(&format!("{name}: {value:?} is taken")).to_string();
            assert!(error.starts_with(&format!("{object}: annotation {name}: ")), "{value:?}: {error}");
        }
    }
}

/// The first error, if there is one.
fn first<'a>(mut errors: impl Iterator<Item = &'a FieldError>) -> Result<(), FieldError> {
    errors.next().cloned().map_or(Ok(()), Err)
}

#[test]
fn of_a_pod() {
    check(&POD, "pod test-ns/a", |name, value| first(PodWant::parse(&pod(&[(name, value)])).unreadable()));
}

#[test]
fn of_a_namespace() {
    check(&NAMESPACE, "namespace test-ns", |name, value| {
        let base = [(LOGICAL_SWITCH, "net"), (CIDR, "10.17.0.0/24")];
        let others = base.into_iter().filter(|(have, _)| *have != name);
        first(NamespaceNet::parse(&namespace(&others.chain([(name, value)]).collect::<Vec<_>>())).unreadable())
    });
}

#[test]
fn of_a_subnet() {
    check(&LIMITS, "subnet net", |name, value| {
        let mut subnet = crate::Subnet::new("net", crate::SubnetSpec::default());
        subnet.metadata.annotations = Some([(name.to_owned(), value.to_owned())].into());
        first(Limits::of_subnet(&subnet).unreadable.iter())
    });
}

#[test]
fn of_results() {
    let with = |name: &str, value: &str, kind: (&'static str, &'static str)| {
        let good = RESULTS.map(|(name, good, _)| (name, good[0]));
        let mut all: Vec<(String, String)> =
            good.iter().filter(|(have, _)| *have != name).map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect();
        all.extend([(name, value), (ALLOCATED, "true"), kind].map(|(n, v)| (n.to_owned(), v.to_owned())));
        all
    };
    let borrowed = |all: &[(String, String)]| -> Value {
        all.iter().map(|(name, value)| (name.clone(), json!(value))).collect::<serde_json::Map<_, _>>().into()
    };
    check(&RESULTS, "pod test-ns/a", |name, value| {
        let annotations = borrowed(&with(name, value, (ROUTED, "true")));
        let metadata = json!({ "name": "a", "namespace": "test-ns", "annotations": annotations });
        let pod: PodView = serde_json::from_value(json!({ "metadata": metadata })).unwrap();
        Placement::of_pod(&pod).map(|place| assert!(place.unwrap().complete))
    });
    check(&RESULTS, "node n1", |name, value| {
        let annotations = borrowed(&with(name, value, (PORT_NAME, "node-n1")));
        let metadata = json!({ "name": "n1", "annotations": annotations });
        let node: NodeView = serde_json::from_value(json!({ "metadata": metadata })).unwrap();
        Placement::of_node(&node).map(|place| assert!(place.unwrap().complete))
    });
}

#[test]
fn an_empty_value_is_none() {
    for (name, ..) in POD {
        assert_eq!(PodWant::parse(&pod(&[(name, " ")])), PodWant::default(), "{name}");
    }
    for (name, ..) in NAMESPACE {
        assert_eq!(NamespaceNet::parse(&namespace(&[(name, "")])), NamespaceNet::default(), "{name}");
    }
}

#[test]
fn static_addresses_are_of_the_family_wanted() {
    let want = |name: &str, value: &str, family: &str| {
        let want = PodWant::parse(&pod(&[(name, value), (IP_FAMILY, family)]));
        want.address.map(drop).map_err(|error| error.to_string())
    };
    assert_eq!(want(IP_ADDRESS, "10.0.0.5", "ipv4"), Ok(()));
    assert_eq!(want(IP_ADDRESS, "10.0.0.5", "dual"), Ok(()), "the other one is chosen");
    assert_eq!(want(IP_POOL, "10.0.0.5,fd00::5;10.0.0.6,fd00::6", "dual"), Ok(()));
    assert_eq!(want(IP_POOL, "shop", "ipv6"), Ok(()));
    for (name, value, family, odd) in [
        (IP_ADDRESS, "10.0.0.5", "ipv6", "10.0.0.5"),
        (IP_ADDRESS, "10.0.0.5,fd00::5", "ipv4", "10.0.0.5,fd00::5"),
        (IP_POOL, "fd00::5,fd00::6", "ipv4", "fd00::5"),
    ] {
        let expected = format!("pod test-ns/a: annotation {IP_FAMILY}: {odd} is of another family");
        assert_eq!(want(name, value, family), Err(expected));
    }
}
