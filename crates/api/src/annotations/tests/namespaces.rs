//! Annotations of namespaces.

use super::*;
use crate::{GatewayType, Subnet, SubnetDef};

#[test]
fn a_namespace_asks_for_a_subnet() {
    let net = NamespaceNet::parse(&namespace(&[
        ("logical_switch", "test-ns-subnet"),
        ("cidr", "10.17.0.0/24"),
        ("gateway", "10.17.0.1"),
        ("exclude_ips", "10.17.0.1..10.17.0.10"),
        ("private", "true"),
        ("allow", "10.16.0.0/16,10.18.0.0/16"),
        ("gateway_type", "centralized"),
        ("gateway_node", "n1"),
        ("gateway_nat", "false"),
    ]));
    assert_eq!(net.switches, Ok(vec!["test-ns-subnet".to_owned()]));
    let subnet = Subnet::new("test-ns-subnet", net.wanted.unwrap().unwrap());
    let def = SubnetDef::parse(&subnet).unwrap();
    assert_eq!(def.cidrs.to_string(), "10.17.0.0/24");
    assert_eq!(def.gateway.to_string(), "10.17.0.1");
    assert_eq!(def.exclude.iter().map(ToString::to_string).collect::<Vec<_>>(), ["10.17.0.1..10.17.0.10"]);
    assert_eq!(subnet.spec.namespaces, ["test-ns"]);
    assert_eq!(def.gateway_type, GatewayType::Centralized);
    assert_eq!(def.gateway_nodes[0].node, "n1");
    assert_eq!(def.allow_subnets.len(), 2);
    assert_eq!((def.private, def.nat_outgoing, def.default), (true, false, false));
}

#[test]
fn a_namespace_may_ask_for_little_or_nothing() {
    assert_eq!(NamespaceNet::parse(&namespace(&[])), NamespaceNet::default());
    let net = NamespaceNet::parse(&namespace(&[("logical_switch", "net")]));
    assert_eq!((net.switches, net.wanted), (Ok(vec!["net".to_owned()]), Ok(None)));
    let net = NamespaceNet::parse(&namespace(&[("logical_switch", "net"), ("cidr", "fd00::/64")]));
    let wanted = net.wanted.unwrap().unwrap();
    assert_eq!((wanted.protocol.as_deref(), wanted.nat_outgoing), (Some("IPv6"), Some(true)));
    let joined = [("logical_switch", "a,b"), ("cidr", "10.1.0.0/24;10.2.0.0/24"), ("exclude_ips", "10.1.0.1;10.2.0.1")];
    let net = NamespaceNet::parse(&namespace(&joined));
    assert_eq!((net.switches, net.wanted), (Ok(vec!["a".to_owned(), "b".to_owned()]), Ok(None)));
}

#[test]
fn errors_name_namespace_and_annotation() {
    let base = [("logical_switch", "net"), ("cidr", "10.17.0.0/24")];
    for (name, value, why) in [
        ("cidr", "10.17.0.0/33", "longer than the address"),
        ("cidr", "10.17.0.0/24;10.18.0.0/24", "not a number"),
        ("gateway", "10.18.0.1", "10.18.0.1 is outside 10.17.0.0/24"),
        ("gateway", "fd00::1", "fd00::1 is outside 10.17.0.0/24"),
        ("exclude_ips", "10.17.0.9..10.17.0.1", "ends before it starts"),
        ("exclude_ips", "10.17.0.9,10.18.0.1", "10.18.0.1 is not inside 10.17.0.0/24"),
        ("private", "ja", "neither true nor false"),
        ("allow", "10.17.0.1", "no prefix length"),
        ("gateway_type", "central", "neither distributed nor centralized"),
        ("gateway_nat", "no", "neither true nor false"),
        ("logical_switch", "Net_1", "cannot be the name of a subnet"),
        ("logical_switch", "net,-a", "cannot be the name of a subnet"),
    ] {
        let mut annotations: Vec<_> = base.iter().copied().filter(|(have, _)| *have != name).collect();
        annotations.push((name, value));
        let net = NamespaceNet::parse(&namespace(&annotations));
        let errors: Vec<_> = net.unreadable().map(ToString::to_string).collect();
        let [error] = errors.as_slice() else { panic!("{name}: {errors:?}") };
        let prefix = format!("namespace test-ns: annotation {P}{name}: ");
        assert!(error.starts_with(&prefix) && error.contains(why), "{error}");
    }
    let error = NamespaceNet::parse(&namespace(&[("cidr", "10.17.0.0/24")])).wanted.unwrap_err().to_string();
    assert!(error.contains("given without ovn.kubernetes.io/logical_switch"), "{error}");
}

#[test]
fn each_annotation_of_a_namespace_is_read_by_itself() {
    let parse = |switch: &str, cidr: &str, pool: &str| {
        NamespaceNet::parse(&namespace(&[("logical_switch", switch), ("cidr", cidr), ("ip_pool", pool)]))
    };
    let good = parse("net", "10.17.0.0/24", "shop");
    assert_eq!(good.unreadable().count(), 0);
    let net = parse("-net", "10.17.0.0/24", "shop");
    assert_eq!((net.switches.is_err(), net.wanted, net.pools), (true, Ok(None), good.pools.clone()));
    let net = parse("net", "10.17.0.0/33", "shop");
    assert_eq!((net.switches, net.wanted.is_err(), net.pools), (good.switches.clone(), true, good.pools));
    let net = parse("net", "10.17.0.0/24", "-shop");
    assert_eq!((net.switches, net.wanted, net.pools.is_err()), (good.switches, good.wanted, true));
    let net = parse("net", "10.17.0.0/33", "-shop");
    let fields: Vec<_> = net.unreadable().map(|error| error.field.as_str()).collect();
    assert_eq!(fields, [format!("annotation {P}cidr"), format!("annotation {P}ip_pool")]);
}

#[test]
fn a_bound_namespace_says_so() {
    let def = |name: &str, cidr: &str, exclude: &[&str]| {
        let mut subnet = Subnet::new(name, crate::SubnetSpec { cidr_block: cidr.into(), ..Default::default() });
        subnet.spec.exclude_ips = exclude.iter().map(ToString::to_string).collect();
        SubnetDef::parse(&subnet).unwrap()
    };
    let shop = def("shop-net", "10.20.0.0/24", &["10.20.0.1..10.20.0.9", "10.20.0.200"]);
    let dual = def("dual-net", "10.23.0.0/24,fd00:23::/112", &[]);
    let printed = |subnets: &[&SubnetDef]| {
        let lines = bound_to(subnets).into_iter().map(|(name, value)| format!("{}={value}", &name[P.len()..]));
        lines.collect::<Vec<_>>()
    };
    assert_eq!(
        printed(&[&shop]),
        ["cidr=10.20.0.0/24", "exclude_ips=10.20.0.1..10.20.0.9,10.20.0.200", "logical_switch=shop-net"]
    );
    assert_eq!(
        printed(&[&shop, &dual]),
        [
            "cidr=10.20.0.0/24;10.23.0.0/24,fd00:23::/112",
            "exclude_ips=10.20.0.1..10.20.0.9,10.20.0.200;",
            "logical_switch=shop-net,dual-net"
        ]
    );
}
