//! The committed CRDs match the types, and their rules refuse invalid objects.

#![allow(clippy::unwrap_used)] // helpers of tests are tests too
#![allow(clippy::needless_pass_by_value)] // reads better with json!(..) at the call

use std::{env, fs, path::Path};

use api::{IpPool, Subnet};
use kube::{CustomResourceExt, core::cel::Validator};
use serde_json::{Value, json};

#[test]
fn committed_files_are_fresh() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../yamls/crds");
    for (file, crd) in api::crds() {
        let path = dir.join(file);
        let yaml = serde_yaml_ng::to_string(&crd).unwrap();
        if env::var_os("UPDATE_CRDS").is_some() {
            fs::write(&path, &yaml).unwrap();
        }
        let committed = fs::read_to_string(&path).unwrap_or_default();
        assert!(committed == yaml, "{} is stale: run `UPDATE_CRDS=1 cargo test -p api --test crds`", path.display());
    }
}

/// The controller writes a status as a whole. A bound that one field exceeds would keep all of it from being written.
#[test]
fn nothing_is_refused_in_a_status() {
    fn bounds(schema: &Value, found: &mut Vec<String>) {
        const BOUNDS: [&str; 8] = [
            "enum",
            "maxItems",
            "maxLength",
            "maximum",
            "minItems",
            "minLength",
            "pattern",
            "x-kubernetes-validations",
        ];
        let Value::Object(fields) = schema else { return };
        found.extend(
            BOUNDS.iter().filter(|bound| fields.contains_key(**bound)).map(|bound| format!("{bound} {schema}")),
        );
        let inner = fields.get("properties").and_then(Value::as_object).into_iter().flatten().map(|(_, inner)| inner);
        inner
            .chain(fields.get("items"))
            .chain(fields.get("additionalProperties"))
            .for_each(|inner| bounds(inner, found));
    }
    for (file, crd) in api::crds() {
        let crd = serde_json::to_value(crd).unwrap();
        for version in crd["spec"]["versions"].as_array().unwrap() {
            let mut found = Vec::new();
            bounds(&version["schema"]["openAPIV3Schema"]["properties"]["status"], &mut found);
            assert!(found.is_empty(), "{file}: {found:#?}");
        }
    }
}

/// The messages of the rules that refuse `spec`; empty when it is accepted.
fn refusals(spec: &Value) -> String {
    let object = json!({"apiVersion": "kubeovn.io/v1", "kind": "Subnet", "metadata": {"name": "net"}, "spec": spec});
    refusals_of(Subnet::crd(), &object, None)
}

fn refusals_of(crd: impl serde::Serialize, object: &Value, before: Option<&Value>) -> String {
    let crd = serde_json::to_value(crd).unwrap();
    let schema = &crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"];
    match Validator::new().validate(schema, object, before) {
        Ok(()) => String::new(),
        Err(errors) => errors.to_string(),
    }
}

fn accepted(spec: Value) {
    let refusals = refusals(&spec);
    assert!(refusals.is_empty(), "{spec} is refused: {refusals}");
}

fn refused(spec: Value, why: &str) {
    let refusals = refusals(&spec);
    assert!(refusals.contains(why), "{spec} is not refused for {why:?} but for {refusals:?}");
}

#[test]
fn rules_accept_what_users_have() {
    accepted(json!({"cidrBlock": "10.17.0.0/24"}));
    accepted(json!({"cidrBlock": "10.17.0.0/24", "gateway": "", "gatewayNode": "", "gatewayType": "", "protocol": ""}));
    accepted(json!({"cidrBlock": "10.17.0.1/24", "gatewayType": "distributed", "excludeIps": []}));
    accepted(json!({"cidrBlock": "fd00::/32,10.0.0.0/8", "gateway": "fd00::1, 10.0.0.1", "protocol": "Dual"}));
    accepted(json!({"cidrBlock": "10.17.0.0/24", "excludeIps": ["10.17.0.1..10.17.0.10", "10.17.0.20"]}));
    accepted(json!({"cidrBlock": "fd00::/64,10.17.0.0/24", "excludeIps": ["10.17.0.1", "fd00::1..fd00::ff"]}));
    accepted(json!({"cidrBlock": "10.17.0.0/31", "gateway": "10.17.0.0", "mtu": 0}));
    accepted(json!({"cidrBlock": "10.17.0.0/24", "allowSubnets": ["10.1.0.0/16", "10.2.0.0/16,fd00::/64"]}));
    let acl = json!({"direction": "to-lport", "priority": 0, "match": "ip4", "action": "allow-stateless"});
    accepted(json!({"cidrBlock": "10.17.0.0/24", "acls": [acl]}));
    accepted(
        json!({"cidrBlock": "10.17.0.0/24", "remoteMirror": {"to": "fd00::9", "type": "gre", "key": 7, "pods": "All"}}),
    );
    accepted(json!({
        "cidrBlock": "10.22.0.0/24", "default": false, "enableLb": true, "excludeIps": ["10.22.0.254"],
        "gateway": "10.22.0.254", "gatewayNode": "n1,n2", "gatewayType": "centralized", "namespaces": ["egress"],
        "natOutgoing": true, "private": false, "protocol": "IPv4", "provider": "ovn", "u2oFeatures": {},
        "vpc": "ovn-cluster"
    }));
}

#[test]
fn rules_refuse_what_is_wrong() {
    refused(json!({"cidrBlock": ""}), "cidrBlock must be a CIDR");
    refused(json!({"cidrBlock": "10.0.0.0"}), "cidrBlock must be a CIDR");
    refused(json!({"cidrBlock": "10.0.0.0/33"}), "cidrBlock must be a CIDR");
    refused(json!({"cidrBlock": "10.0.0.0/24,"}), "cidrBlock must be a CIDR");
    refused(json!({"cidrBlock": "10.0.0.0/24,fd00::/64,10.1.0.0/24"}), "cidrBlock must be a CIDR");
    refused(json!({"cidrBlock": "10.0.0.0/24,10.1.0.0/24"}), "two CIDRs of one address family");
    refused(json!({"cidrBlock": "10.0.0.0/24", "gateway": "10.0.0"}), "gateway must be an address");
    refused(json!({"cidrBlock": "10.0.0.0/24", "remoteMirror": {"to": "x"}}), "remoteMirror.to must be an address");
    refused(json!({"cidrBlock": "10.0.0.0/24", "gateway": "10.0.1.1"}), "gateway must lie inside cidrBlock");
    refused(json!({"cidrBlock": "10.0.0.0/24", "gateway": "fd00::1"}), "gateway must lie inside cidrBlock");
    refused(json!({"cidrBlock": "10.0.0.0/24", "excludeIps": ["10.0.0.1-10.0.0.9"]}), "excludeIps must be addresses");
    refused(json!({"cidrBlock": "10.0.0.0/24", "excludeIps": ["10.0.0.1..x"]}), "excludeIps must be addresses");
    refused(json!({"cidrBlock": "10.0.0.0/24", "excludeIps": [""]}), "excludeIps must be addresses");
    refused(json!({"cidrBlock": "10.0.0.0/24", "excludeIps": ["10.0.1.1"]}), "excludeIps must lie inside");
    refused(json!({"cidrBlock": "10.0.0.0/24", "excludeIps": ["10.0.0.9..10.0.1.1"]}), "excludeIps must lie inside");
    refused(json!({"cidrBlock": "10.0.0.0/24,fd00::/64", "excludeIps": ["fd01::1"]}), "excludeIps must lie inside");
    refused(json!({"cidrBlock": "10.0.0.0/24", "allowSubnets": ["10.0.0.1"]}), "allowSubnets must be CIDRs");
    refused(json!({"cidrBlock": "10.0.0.0/24", "gatewayType": "central"}), "gatewayType must be distributed or");
    refused(json!({"cidrBlock": "10.0.0.0/24", "protocol": "ipv4"}), "protocol must be IPv4, IPv6 or Dual");
}

/// The rules and [`api::Cidr::check_for_pods`] agree.
#[test]
fn rules_know_the_networks_that_are_not_for_pods() {
    for cidr in [
        "10.17.0.0/31",
        "fd00::/127",
        "1.0.0.0/8",
        "126.0.0.0/8",
        "128.0.0.0/3",
        "170.0.0.0/8",
        "192.0.0.0/3",
        "223.0.0.0/8",
        "10.0.0.1/8",
        "::2/127",
        "2001:db8::/32",
        "2000::/3",
        "fc00::/8",
        "fd00:ec2::/119",
        "fe00::/9",
    ] {
        assert_eq!(cidr.parse::<api::Cidr>().unwrap().check_for_pods(), Ok(()), "{cidr}");
        accepted(json!({ "cidrBlock": cidr }));
    }
    for cidr in [
        "0.0.0.0/0",
        "0.0.0.0/1",
        "128.0.0.0/1",
        "0.1.2.0/24",
        "127.0.0.0/8",
        "127.9.0.1/16",
        "126.0.0.0/7",
        "169.254.169.0/24",
        "169.0.0.0/8",
        "224.0.0.0/8",
        "239.1.0.0/16",
        "192.0.0.0/2",
        "240.0.0.0/8",
        "255.255.255.0/24",
        "::/0",
        "::/96",
        "::/127",
        "fe80::/64",
        "febf::/64",
        "fe00::/8",
        "ff02::/64",
        "fd00::/8",
        "fd00:ec2::/64",
        "10.0.0.0/8,fe80::/64",
        "fd00::/64, 127.0.0.0/8",
    ] {
        assert!(cidr.parse::<api::Cidrs>().unwrap().iter().any(|cidr| cidr.check_for_pods().is_err()), "{cidr}");
        refused(json!({ "cidrBlock": cidr }), "cidrBlock must not overlap 0.0.0.0/8");
    }
    for cidr in ["10.17.0.1/32", "fd00::1/128", "fd00::/64,10.17.0.1/32"] {
        assert!(cidr.parse::<api::Cidrs>().unwrap().iter().any(|cidr| cidr.check_for_pods().is_err()), "{cidr}");
        refused(json!({ "cidrBlock": cidr }), "cidrBlock must have an address for the gateway");
    }
}

#[test]
fn a_network_stays_while_its_addresses_are_in_use() {
    let subnet = |cidr: &str, status: &Value| json!({"metadata": {"name": "net"}, "spec": {"cidrBlock": cidr}, "status": status});
    let edited = |before: &str, after: &str, status: Value| {
        refusals_of(Subnet::crd(), &subnet(after, &status), Some(&subnet(before, &status)))
    };
    let (v4, v6) = (json!({"v4usingIPs": 1, "v6usingIPs": 0}), json!({"v6usingIPs": 2.0}));
    let (none, both) = (json!({"v4usingIPs": 0, "v6usingIPs": 0}), json!({"v4usingIPs": 7, "v6usingIPs": 2e20}));
    for (before, after, status) in [
        ("10.0.0.0/24", "10.1.0.0/24", &json!({})),
        ("10.0.0.0/24", "fd00::/64", &none),
        ("10.0.0.0/24", "10.0.0.0/24", &v4),
        ("10.0.0.0/24", "10.0.0.0/16", &v4),
        ("10.0.0.0/24", "10.0.0.128/25", &v4),
        ("10.0.0.0/24", "fd00::/64, 10.0.0.0/24", &v4),
        ("10.0.0.0/24,fd00::/64", "10.0.0.0/24", &v4),
        ("10.0.0.0/24,fd00::/64", "fd00::/64", &v6),
        ("10.0.0.0/24,fd00::/64", "10.1.0.0/24,fd00::/48", &v6),
        ("10.0.0.0/24,fd00::/64", "fd00::/48 , 10.0.0.0/23", &both),
    ] {
        assert_eq!(edited(before, after, status.clone()), "", "{before} to {after} with {status}");
    }
    for (before, after, status) in [
        ("10.0.0.0/24", "10.0.1.0/24", &v4),
        ("10.0.0.0/24", "fd00::/64", &v4),
        ("10.0.0.0/24,fd00::/64", "10.0.0.0/24", &v6),
        ("10.0.0.0/24,fd00::/64", "10.0.0.0/24,fd01::/64", &both),
        ("fd00::/64,10.0.0.0/24", "10.1.0.0/24,fd00::/64", &both),
    ] {
        let refusals = edited(before, after, status.clone());
        assert!(refusals.contains("spec.cidrBlock cannot leave a network"), "{before} to {after}: {refusals:?}");
    }
}

#[test]
fn rules_of_a_pool() {
    let pool = |name: &str, subnet: &str, ips: &[&str]| json!({"metadata": {"name": name}, "spec": {"subnet": subnet, "ips": ips}});
    let refusals = |pool: Value| refusals_of(IpPool::crd(), &pool, None);
    let ips =
        ["10.16.0.201", "10.16.0.210/30", "10.16.0.220..10.16.0.230", "fd00::1", "fd00::/120", "fd00::5..fd00::9"];
    assert_eq!(refusals(pool("pool-1", "ovn-default", &ips)), "");
    assert_eq!(refusals(pool("1st", "ovn-default", &ips)), "");
    for bad in ["10.16.0.300", "10.16.0.1-10.16.0.9", "10.16.0.0/33", "10.16.0.0/24..10.16.1.0/24", ""] {
        assert!(refusals(pool("pool-1", "net", &[bad])).contains("ips must be addresses, ranges"), "{bad}");
    }
    assert!(refusals(pool("10.0.0.1", "net", &ips)).contains("metadata.name must not read as an address"));
    assert!(refusals(pool("pool-1", "", &ips)).contains("subnet must name a subnet"));
    let moved = refusals_of(IpPool::crd(), &pool("pool-1", "other", &ips), Some(&pool("pool-1", "net", &ips)));
    assert!(moved.contains("subnet cannot be changed"), "{moved}");
}
