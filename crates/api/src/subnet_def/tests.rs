//! Subnets of a running kube-ovn, and invalid subnets.

use serde_json::{Value, json};

use super::*;
use crate::SubnetSpec;

#[allow(clippy::needless_pass_by_value)] // reads better with json!(..) at the call
fn parse(spec: Value) -> Result<SubnetDef, FieldError> {
    let metadata = json!({"name": "test-ns-subnet", "uid": "f44789ed"});
    SubnetDef::parse(&serde_json::from_value(json!({"metadata": metadata, "spec": spec})).unwrap())
}

#[track_caller]
fn refused(spec: Value, expected: &str) {
    assert_eq!(parse(spec).unwrap_err().to_string(), format!("subnet test-ns-subnet: spec.{expected}"));
}

#[test]
fn what_kube_ovn_left() {
    let subnet: Subnet = serde_yaml_ng::from_str(
        "
        apiVersion: kubeovn.io/v1
        kind: Subnet
        metadata:
          finalizers: [kubeovn.io/kube-ovn-controller]
          name: dual-net
          uid: 363c6193-1416-4eca-82ef-35e6812f37c3
        spec:
          cidrBlock: 10.23.0.0/24,fd00:23::/112
          default: false
          enableLb: true
          excludeIps:
          - 10.23.0.1
          - fd00:23::1
          gateway: 10.23.0.1,fd00:23::1
          gatewayNode: ''
          gatewayType: distributed
          namespaces:
          - dual
          natOutgoing: true
          private: false
          protocol: Dual
          provider: ovn
          u2oFeatures: {}
          vpc: ovn-cluster
        status:
          activateGateway: ''
          conditions:
          - lastTransitionTime: '2026-11-21T02:28:11Z'
            lastUpdateTime: '2026-11-21T02:28:11Z'
            message: Not Observed
            reason: Init
            status: Unknown
            type: Error
          dhcpV4OptionsUUID: ''
          natOutgoingPolicyRules: []
          v4availableIPrange: 10.23.0.4-10.23.0.76,10.23.0.78-10.23.0.254
          v4availableIPs: 250
          v4usingIPrange: 10.23.0.2-10.23.0.3,10.23.0.77
          v4usingIPs: 3
          v6availableIPs: 65530
        ",
    )
    .unwrap();
    let def = SubnetDef::parse(&subnet).unwrap();
    assert_eq!(def.name, "dual-net");
    assert_eq!(def.cidrs.to_string(), "10.23.0.0/24,fd00:23::/112");
    assert_eq!(def.gateway_networks(), ["10.23.0.1/24", "fd00:23::1/112"]);
    assert_eq!(def.exclude.len(), 2);
    assert_eq!((def.gateway_type, def.gateway_nodes.len()), (GatewayType::Distributed, 0));
    assert_eq!((def.nat_outgoing, def.private, def.default, def.enable_lb), (true, false, false, true));

    let status = subnet.status.unwrap();
    assert!((status.v6_available_ips - 65530.0).abs() < f64::EPSILON);
    assert_eq!(status.v4_using_ip_range, "10.23.0.2-10.23.0.3,10.23.0.77");
    let printed = serde_json::to_string(&status).unwrap();
    assert!(printed.contains(r#""v6availableIPs":65530,"#), "an integer, not 65530.0: {printed}");
    let huge = crate::SubnetStatus { v6_available_ips: 2_f64.powi(64), ..Default::default() };
    assert!(serde_json::to_string(&huge).unwrap().contains(r#""v6availableIPs":1.8446744073709552e"#));
}

#[test]
fn little_is_enough() {
    let def = parse(json!({"cidrBlock": "fd00:18::/64,10.18.0.1/24"})).unwrap();
    assert_eq!(def.cidrs.to_string(), "10.18.0.0/24,fd00:18::/64");
    assert_eq!(def.gateway.to_string(), "10.18.0.1,fd00:18::1");
    assert_eq!((def.enable_lb, def.nat_outgoing, def.mtu), (true, false, None));
    assert_eq!((def.provider.as_str(), def.vpc.as_str()), ("ovn", "ovn-cluster"));
    let nulls = json!({"cidrBlock": "10.18.0.0/24", "excludeIps": null, "namespaces": null, "gateway": null});
    assert_eq!(parse(nulls).unwrap().gateway.to_string(), "10.18.0.1");
    let one = parse(json!({"cidrBlock": "10.18.0.0/24,fd00:18::/64", "gateway": "10.18.0.254"})).unwrap();
    assert_eq!(one.gateway.to_string(), "10.18.0.254,fd00:18::1", "the family left out gets its first address");
    let last = parse(json!({"cidrBlock": "fd00:18::/64", "gateway": "fd00:18::ffff:ffff:ffff:ffff"})).unwrap();
    assert_eq!(last.gateway.to_string(), "fd00:18::ffff:ffff:ffff:ffff", "no broadcast address in IPv6");
    assert_eq!(parse(json!({"cidrBlock": "10.18.0.8/31"})).unwrap().gateway.to_string(), "10.18.0.8");
}

#[test]
fn gateways_of_a_centralized_subnet() {
    let def = parse(json!({
        "cidrBlock": "10.22.0.0/24", "gatewayType": "centralized", "gatewayNode": "n1, n2:172.30.0.2,",
        "gatewayNodeSelectors": [{"matchLabels": {"gw": "yes"}}],
    }))
    .unwrap();
    assert_eq!(def.gateway_type, GatewayType::Centralized);
    assert_eq!(def.gateway_nodes[1], GatewayNode { node: "n2".into(), address: "172.30.0.2".parse().ok() });
    assert_eq!((def.gateway_nodes.len(), def.gateway_node_selectors.len()), (2, 1));
}

#[test]
fn a_record_says_all_of_a_definition_but_its_namespaces() {
    let little = json!({"cidrBlock": "10.18.0.0/24"});
    let everything = json!({
        "cidrBlock": "10.22.0.0/24,fd00:22::/64", "gateway": "10.22.0.9", "excludeIps": ["10.22.0.2..10.22.0.8", "fd00:22::7"],
        "gatewayType": "centralized", "gatewayNode": "n1, n2:172.30.0.2,n3:fd00:30::3",
        "gatewayNodeSelectors": [{"matchLabels": {"gw": "yes"}}], "enableEcmp": true, "natOutgoing": true, "private": true,
        "allowSubnets": ["10.16.0.0/16,fd00::/16", "10.17.0.0/16"], "default": true, "mtu": 1300, "enableLb": false,
        "enableIPv6RA": true, "ipv6RAConfigs": "address_mode=slaac", "disableGatewayCheck": true, "provider": "net.ns.ovn",
        "remoteMirror": {"to": "192.0.2.9", "type": "erspan", "key": 1023, "pods": "Annotated"},
        "nodeNetwork": "storage", "vpc": "other", "namespaces": ["egress"], "namespaceSelectors": [{"matchLabels": {"team": "gw"}}],
        "acls": [
            {"direction": "to-lport", "priority": 9, "match": " ip4 ", "action": "drop"},
            {"direction": "from-lport", "priority": 32767, "match": "tcp.dst == 80", "action": "allow-related"},
            {"direction": "from-lport", "priority": 0, "match": "ip6 && udp", "action": "allow-stateless"},
            {"direction": "to-lport", "priority": 8, "match": "ip4", "action": "allow"},
            {"direction": "to-lport", "priority": 9, "match": "ip6", "action": "reject"},
        ],
    });
    for spec in [little, everything] {
        let def = parse(spec).unwrap();
        let read = SubnetSpec::from_record(&def.record()).unwrap();
        let read = parse(serde_json::to_value(read).unwrap()).unwrap();
        assert_eq!(read, def);
    }
    assert_eq!(SubnetSpec::from_record(""), None);
}

#[test]
fn routers_advertise_themselves_when_asked_to() {
    let options = |cidr: &str, enable: bool, configs: &str| {
        let spec = json!({"cidrBlock": cidr, "enableIPv6RA": enable, "ipv6RAConfigs": configs});
        let options = parse(spec).unwrap().router_advertisements?;
        Some(options.into_iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join(","))
    };
    let dual = "10.18.0.0/24,fd00:18::/64";
    assert_eq!(
        options(dual, true, "").as_deref(),
        Some("address_mode=dhcpv6_stateful,max_interval=30,min_interval=5,send_periodic=true")
    );
    assert_eq!(
        options("fd00:18::/64", true, " send_periodic = false, address_mode=slaac,").as_deref(),
        Some("address_mode=slaac,send_periodic=false")
    );
    assert_eq!(options(dual, false, "address_mode=slaac"), None);
    assert_eq!(options("10.18.0.0/24", true, ""), None, "there is no IPv6 router to advertise");
}

#[test]
fn errors_name_object_and_field() {
    refused(json!({}), r#"cidrBlock: "" is not a CIDR: no prefix length, as in 10.16.0.0/16"#);
    refused(
        json!({"cidrBlock": "10.0.0.0/33"}),
        r#"cidrBlock: "10.0.0.0/33" is not a CIDR: the prefix is longer than the address"#,
    );
    refused(
        json!({"cidrBlock": "10.0.0.0/24,fe80::/64"}),
        r#"cidrBlock: "fe80::/64" is not a network for pods: it overlaps fe80::/10, the link-local addresses"#,
    );
    let with = |field: &str, value: Value| json!({"cidrBlock": "10.0.0.0/24", field: value});
    refused(with("gateway", json!("10.0.1.1")), "gateway: 10.0.1.1 is outside 10.0.0.0/24");
    refused(with("gateway", json!("10.0.0.0")), "gateway: 10.0.0.0 is the first or the last address of 10.0.0.0/24");
    refused(
        with("gateway", json!("10.0.0.255")),
        "gateway: 10.0.0.255 is the first or the last address of 10.0.0.0/24",
    );
    refused(
        json!({"cidrBlock": "fd00::/64", "gateway": "fd00::"}),
        "gateway: fd00:: is the first address of fd00::/64, the anycast address of its routers",
    );
    refused(with("gateway", json!("fd00::1")), "gateway: fd00::1: the subnet has no IPv6 network");
    refused(with("gateway", json!("x")), r#"gateway: "x" is not an IP address: neither IPv4 nor IPv6"#);
    refused(
        with("excludeIps", json!(["10.0.0.250..10.0.1.5"])),
        "excludeIps: 10.0.0.250..10.0.1.5 is not inside 10.0.0.0/24",
    );
    refused(with("excludeIps", json!(["fd00::1"])), "excludeIps: fd00::1: the subnet has no IPv6 network");
    refused(
        with("excludeIps", json!(["10.0.0.9..10.0.0.1"])),
        r#"excludeIps: "10.0.0.9..10.0.0.1" is not an address range: it ends before it starts"#,
    );
    refused(with("gatewayType", json!("both")), r#"gatewayType: "both" is neither distributed nor centralized"#);
    refused(with("gatewayNode", json!("n1,:1.2.3.4")), r#"gatewayNode: ":1.2.3.4" names no node"#);
    let odd = json!([{"matchExpressions": [{"key": "team", "operator": "Is"}]}]);
    let why = r#"operator "Is" is none of In, NotIn, Exists and DoesNotExist"#;
    refused(with("namespaceSelectors", odd.clone()), &format!("namespaceSelectors: {why}"));
    refused(with("gatewayNodeSelectors", odd), &format!("gatewayNodeSelectors: {why}"));
    refused(with("gatewayNode", json!("n1:x")), r#"gatewayNode: "x" is not an IP address: neither IPv4 nor IPv6"#);
    refused(
        with("allowSubnets", json!(["10.1.0.0"])),
        r#"allowSubnets: "10.1.0.0" is not a CIDR: no prefix length, as in 10.16.0.0/16"#,
    );
    let advertised = |options: &str| json!({"cidrBlock": "fd00::/64", "enableIPv6RA": true, "ipv6RAConfigs": options});
    refused(advertised("address_mode=slaac,often"), r#"ipv6RAConfigs: "often" is not key=value"#);
    refused(advertised("mtu=1400\0"), r#"ipv6RAConfigs: "mtu=1400\0" contains a control character"#);
    let acl = |field: &str, value: Value| {
        let mut acl = json!({"direction": "to-lport", "priority": 9, "match": "ip4", "action": "drop"});
        acl[field] = value;
        acl
    };
    let good = acl("priority", json!(8));
    for (acl, why) in [
        (acl("direction", json!("in")), r#"direction "in" is neither to-lport nor from-lport"#),
        (acl("priority", json!(32768)), "priority 32768 is not between 0 and 32767"),
        (acl("priority", json!(-1)), "priority -1 is not between 0 and 32767"),
        (acl("match", json!(" ")), "match is empty"),
        (acl("match", json!("x".repeat(4097))), "match is longer than 4096 bytes"),
        (acl("match", json!("ip4\n")), ""),
        (acl("match", json!("ip4 \u{0} && tcp")), "match contains a control character"),
        (
            acl("action", json!("pass")),
            r#"action "pass" is none of allow-related, allow-stateless, allow, drop and reject"#,
        ),
        (good.clone(), "direction, priority and match are those of [0]"),
        // What the API server stored before it knew the field.
        (json!("ip4"), r#"direction "" is neither to-lport nor from-lport"#),
        (json!({"priority": 1}), r#"direction "" is neither to-lport nor from-lport"#),
    ] {
        if why.is_empty() {
            assert_eq!(parse(with("acls", json!([good, acl]))).unwrap().acls.len(), 2);
        } else {
            refused(with("acls", json!([good, acl])), &format!("acls: [1]: {why}"));
        }
    }
    refused(with("acls", json!("ip4")), r#"acls: [0]: direction "" is neither to-lport nor from-lport"#);
    let mirror = |field: &str, value: Value| {
        let mut mirror = json!({"to": "192.0.2.9", "type": "erspan"});
        mirror[field] = value;
        with("remoteMirror", mirror)
    };
    for (field, value, why) in [
        ("to", json!("collector"), r#""collector" is not an IP address: neither IPv4 nor IPv6"#),
        ("to", json!("224.0.0.9"), "224.0.0.9 is the address of no other machine"),
        ("to", json!("10.0.0.9"), "10.0.0.9 is inside 10.0.0.0/24, the subnet itself"),
        ("type", json!("geneve"), r#""geneve" is neither gre nor erspan"#),
        ("key", json!(1024), "1024 is not between 0 and 1023"),
        ("key", json!(-1), "-1 is not between 0 and 1023"),
        ("pods", json!("Some"), r#""Some" is neither All nor Annotated"#),
    ] {
        refused(mirror(field, value), &format!("remoteMirror.{field}: {why}"));
    }
    refused(
        with("remoteMirror", json!("192.0.2.9")),
        r#"remoteMirror.to: "" is not an IP address: neither IPv4 nor IPv6"#,
    );
    refused(with("mtu", json!(-1)), "mtu: -1 is not between 68 and 65535");
    refused(with("mtu", json!(66000)), "mtu: 66000 is not between 68 and 65535");
    let dual = |mtu: u32| json!({"cidrBlock": "10.0.0.0/24,fd00::/64", "mtu": mtu});
    refused(dual(1279), "mtu: 1279 is not between 1280 and 65535 with IPv6");
    assert_eq!(parse(dual(1280)).unwrap().mtu, Some(1280));
}
