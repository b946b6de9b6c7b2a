//! A2: the API server refuses invalid objects, rule by rule, and keeps unknown fields.

use std::collections::BTreeSet;

use anyhow::{Context, Result, ensure};
use api::{IpPool, Subnet};
use e2e::Cluster;
use e2e::cluster::{Scene, subnet_ready};
use kube::Api;
use kube::api::{DynamicObject, Patch, PatchParams};
use serde_json::{Value, json};

/// Invalid objects: the field, the spec, and the message of the rule that refuses it.
const BAD_SUBNETS: [(&str, &str, &str); 26] = [
    (
        "spec.remoteMirror.to",
        r#"{"cidrBlock": "10.50.0.0/24", "remoteMirror": {"to": "collector"}}"#,
        "remoteMirror.to must be an address",
    ),
    ("spec.cidrBlock", r#"{"cidrBlock": "10.50.0.0/33"}"#, "cidrBlock must be a CIDR"),
    ("spec.cidrBlock", r#"{"cidrBlock": ""}"#, "cidrBlock must be a CIDR"),
    ("spec.cidrBlock", r#"{"cidrBlock": "10.50.0.0/24,10.51.0.0/24"}"#, "two CIDRs of one address family"),
    ("spec.cidrBlock", r#"{"cidrBlock": "fd50::/64,fd51::/64"}"#, "two CIDRs of one address family"),
    ("spec.cidrBlock", r#"{"cidrBlock": "0.0.0.0/0"}"#, "cidrBlock must not overlap 0.0.0.0/8"),
    ("spec.cidrBlock", r#"{"cidrBlock": "169.254.169.0/24"}"#, "cidrBlock must not overlap 0.0.0.0/8"),
    ("spec.cidrBlock", r#"{"cidrBlock": "10.50.0.0/24, fe80::/64"}"#, "cidrBlock must not overlap 0.0.0.0/8"),
    ("spec.cidrBlock", r#"{"cidrBlock": "fd00::/8"}"#, "cidrBlock must not overlap 0.0.0.0/8"),
    ("spec.cidrBlock", r#"{"cidrBlock": "10.50.0.1/32"}"#, "cidrBlock must have an address for the gateway"),
    ("spec.cidrBlock", r#"{"cidrBlock": "fd50::1/128"}"#, "cidrBlock must have an address for the gateway"),
    ("spec.gateway", r#"{"cidrBlock": "10.50.0.0/24", "gateway": "10.50.0"}"#, "gateway must be an address"),
    ("spec", r#"{"cidrBlock": "10.50.0.0/24", "gateway": "10.51.0.1"}"#, "gateway must lie inside cidrBlock"),
    ("spec", r#"{"cidrBlock": "10.50.0.0/24", "gateway": "fd50::1"}"#, "gateway must lie inside cidrBlock"),
    (
        "spec.excludeIps",
        r#"{"cidrBlock": "10.50.0.0/24", "excludeIps": ["10.50.0.x"]}"#,
        "excludeIps must be addresses",
    ),
    (
        "spec.excludeIps",
        r#"{"cidrBlock": "10.50.0.0/24", "excludeIps": ["10.50.0.1-9"]}"#,
        "excludeIps must be addresses",
    ),
    ("spec", r#"{"cidrBlock": "10.50.0.0/24", "excludeIps": ["10.51.0.1"]}"#, "excludeIps must lie inside cidrBlock"),
    ("spec", r#"{"cidrBlock": "10.50.0.0/24", "excludeIps": ["10.50.0.9..10.50.1.1"]}"#, "excludeIps must lie inside"),
    (
        "spec.gatewayType",
        r#"{"cidrBlock": "10.50.0.0/24", "gatewayType": "sideways"}"#,
        "gatewayType must be distributed or",
    ),
    ("spec.protocol", r#"{"cidrBlock": "10.50.0.0/24", "protocol": "ipv4"}"#, "protocol must be IPv4, IPv6 or Dual"),
    (
        "spec.allowSubnets",
        r#"{"cidrBlock": "10.50.0.0/24", "allowSubnets": ["10.51.0.1"]}"#,
        "allowSubnets must be CIDRs",
    ),
    // The types and bounds of the schema refuse these.
    ("spec.cidrBlock", "{}", "Required value"),
    ("spec.mtu", r#"{"cidrBlock": "10.50.0.0/24", "mtu": 70000}"#, "should be less than or equal to 65535"),
    ("spec.namespaces", r#"{"cidrBlock": "10.50.0.0/24", "namespaces": "shop"}"#, "must be of type array"),
    (
        "spec.acls[0].action",
        r#"{"cidrBlock": "10.50.0.0/24", "acls": [{"direction": "to-lport", "priority": 1, "match": "ip", "action": "pass"}]}"#,
        "Unsupported value",
    ),
    (
        "spec.acls[0].match",
        r#"{"cidrBlock": "10.50.0.0/24", "acls": [{"direction": "to-lport", "priority": 1, "match": "", "action": "drop"}]}"#,
        "should be at least 1 chars long",
    ),
];

const BAD_HOSTS: [(&str, &str, &str); 3] = [
    ("spec.addresses", r#"{"addresses": ["lb1.example.com"]}"#, "addresses must be addresses"),
    ("spec.addresses", r#"{"addresses": []}"#, "should have at least 1 items"),
    ("spec.addresses", "{}", "Required value"),
];

const BAD_POOLS: [(&str, &str, &str); 9] = [
    ("spec.subnet", r#"{"subnet": "", "ips": ["10.50.0.1"]}"#, "subnet must name a subnet"),
    ("spec.ips", r#"{"subnet": "net", "ips": ["10.50.0.300"]}"#, "ips must be addresses, ranges"),
    ("spec.ips", r#"{"subnet": "net", "ips": ["10.50.0.0/33"]}"#, "ips must be addresses, ranges"),
    ("spec.ips", r#"{"subnet": "net", "ips": ["10.50.0.1..10.50.0.2..10.50.0.3"]}"#, "ips must be addresses, ranges"),
    ("spec.ips", r#"{"subnet": "net", "ips": ["10.50.0.0/24..10.50.1.0/24"]}"#, "ips must be addresses, ranges"),
    ("spec.ips", r#"{"subnet": "net", "ips": [""]}"#, "ips must be addresses, ranges"),
    ("spec.ips", r#"{"subnet": "net", "ips": []}"#, "should have at least 1 items"),
    ("spec.subnet", r#"{"ips": ["10.50.0.1"]}"#, "Required value"),
    ("spec.ips", r#"{"subnet": "net"}"#, "Required value"),
];

/// Rules about changes and names, which separate tests below cover.
const ELSEWHERE: [&str; 3] = [CIDR_STAYS, SUBNET_STAYS, POOL_NAME];
const CIDR_STAYS: &str = "spec.cidrBlock cannot leave a network whose addresses are in use";
const SUBNET_STAYS: &str = "subnet cannot be changed";
const POOL_NAME: &str = "metadata.name must not read as an address";

fn object(kind: &str, name: &str, spec: &Value) -> Value {
    json!({"apiVersion": "kubeovn.io/v1", "kind": kind, "metadata": {"name": name}, "spec": spec})
}

/// Collects the messages of all rules in a schema.
fn rules(schema: &Value, into: &mut BTreeSet<String>) {
    match schema {
        Value::Object(fields) => {
            let found = fields.get("x-kubernetes-validations").and_then(Value::as_array).into_iter().flatten();
            into.extend(found.filter_map(|rule| rule["message"].as_str()).map(ToOwned::to_owned));
            fields.values().for_each(|field| rules(field, into));
        }
        Value::Array(items) => items.iter().for_each(|item| rules(item, into)),
        _ => {}
    }
}

/// Checks that a refusal contains the field and the words.
fn refused<T>(answer: Result<T>, what: &str, field: &str, words: &str) -> Result<()> {
    let why = format!("{:#}", answer.err().with_context(|| format!("{what} was accepted"))?);
    ensure!(why.contains(field) && why.contains(words), "{what} is refused without {field} and {words:?}: {why}");
    Ok(())
}

#[test]
fn a2_every_rule_has_a_bad_object() -> Result<()> {
    let mut all = BTreeSet::new();
    for (_, crd) in api::crds() {
        rules(&serde_json::to_value(crd)?, &mut all);
    }
    ensure!(all.len() >= 16, "only {} rules were found: {all:?}", all.len());
    let tried: Vec<&str> =
        BAD_SUBNETS.iter().chain(&BAD_POOLS).chain(&BAD_HOSTS).map(|(.., words)| *words).chain(ELSEWHERE).collect();
    let untried: Vec<&String> =
        all.iter().filter(|message| !tried.iter().any(|words| message.contains(words))).collect();
    ensure!(untried.is_empty(), "no bad object is there for: {untried:?}");
    Ok(())
}

#[tokio::test]
async fn a2_the_api_server_refuses_what_cannot_be() -> Result<()> {
    let cluster = Cluster::running().await?;
    let scene = cluster.scene("a2-refused").await?;
    let bad = BAD_SUBNETS.map(|bad| ("Subnet", bad)).into_iter().chain(BAD_POOLS.map(|bad| ("IPPool", bad)));
    let bad = bad.chain(BAD_HOSTS.map(|bad| ("ExternalHost", bad)));
    for (kind, (field, spec, words)) in bad {
        let spec: Value = serde_json::from_str(spec)?;
        let answer = scene.create(object(kind, "a2-refused", &spec)).await;
        refused(answer, &format!("{kind} {spec}"), field, words)?;
    }
    let spec = json!({"subnet": "net", "ips": ["10.50.0.1"]});
    refused(scene.create(object("IPPool", "10.50.0.1", &spec)).await, "a pool called 10.50.0.1", "IPPool", POOL_NAME)
}

async fn edit<K>(api: &Api<K>, name: &str, spec: Value) -> Result<K>
where
    K: Clone + std::fmt::Debug + serde::de::DeserializeOwned,
{
    Ok(api.patch(name, &PatchParams::default(), &Patch::Merge(json!({"spec": spec}))).await?)
}

/// Returns a spec with another network. The controller fills in the gateway again.
fn renumbered(cidr: &str) -> Value {
    json!({"cidrBlock": cidr, "gateway": "", "excludeIps": [], "protocol": ""})
}

#[tokio::test]
async fn a2_networks_and_a_pool_s_subnet_stay() -> Result<()> {
    let cluster = Cluster::running().await?;
    let scene = cluster.scene("a2-stays").await?;
    let subnets: Api<Subnet> = Api::all(cluster.client());
    let spec = json!({"cidrBlock": "10.52.0.0/24,fd00:52::/64", "namespaces": ["a2-stays"]});
    scene.create(object("Subnet", "a2-stays", &spec)).await?;
    cluster.until(subnets.clone(), "a2-stays", subnet_ready).await?;
    // No addresses are in use yet.
    edit(&subnets, "a2-stays", renumbered("10.53.0.0/24,fd00:53::/64")).await?;
    scene.namespace("a2-stays", &[]).await?;
    // One pod of each family, because an address of either family must block the change.
    let (four, six) = (["10.54.0.0/24,fd00:53::/64", "fd00:53::/64"], ["10.53.0.0/24,fd00:54::/64", "10.53.0.0/24"]);
    for (family, v4, v6, others, wider) in
        [("ipv4", 1.0, 0.0, four, "10.53.0.0/23,fd00:53::/64"), ("ipv6", 0.0, 1.0, six, "10.53.0.0/23,fd00:53::/63")]
    {
        let pod =
            scene.pod("a2-stays", family).on("n1").annotation("ovn.kubernetes.io/ip_family", family).ready().await?;
        assert_eq!(pod.ips().len(), 1, "{family}: {:?}", pod.ips());
        let used = move |wanted: (f64, f64)| {
            move |subnet: &Subnet| {
                let status = subnet.status.clone().unwrap_or_default();
                let seen = (status.v4_using_ips, status.v6_using_ips);
                ensure!(seen == wanted, "it counts {seen:?}");
                Ok(())
            }
        };
        cluster.until(subnets.clone(), "a2-stays", used((v4, v6))).await?;
        for other in others {
            let answer = edit(&subnets, "a2-stays", renumbered(other)).await;
            refused(answer, other, "spec.cidrBlock", CIDR_STAYS)?;
        }
        edit(&subnets, "a2-stays", renumbered(wider)).await?;
        edit(&subnets, "a2-stays", json!({"natOutgoing": family == "ipv4"})).await?;
        pod.delete().await?;
        cluster.until(subnets.clone(), "a2-stays", used((0.0, 0.0))).await?;
    }
    edit(&subnets, "a2-stays", renumbered("10.54.0.0/24")).await?;

    let pools: Api<IpPool> = Api::all(cluster.client());
    scene.create(object("IPPool", "a2-stays", &json!({"subnet": "a2-stays", "ips": ["10.54.0.9"]}))).await?;
    let answer = edit(&pools, "a2-stays", json!({"subnet": "ovn-default"})).await;
    refused(answer, "another subnet for a pool", "spec.subnet", SUBNET_STAYS)?;
    edit(&pools, "a2-stays", json!({"ips": ["10.54.0.10"]})).await.map(drop)
}

/// Creates a Subnet with kube-ovn fields that our CRD does not declare, at every level.
async fn unknown(scene: &Scene, spec: &Value) -> Result<DynamicObject> {
    let mut manifest = object("Subnet", "a2-unknown", spec);
    manifest["spec"]["natOutgoingPolicyRules"] = json!([{"action": "nat", "match": {"srcIPs": "10.55.0.0/24"}}]);
    manifest["spec"]["u2oInterconnection"] = json!(false);
    manifest["spec"]["laterField"] = json!({"deep": [1, {"er": true}]});
    scene.create(manifest).await
}

#[tokio::test]
async fn a2_fields_that_we_do_not_know_are_kept() -> Result<()> {
    let cluster = Cluster::running().await?;
    let scene = cluster.scene("a2-unknown").await?;
    let made = unknown(&scene, &json!({"cidrBlock": "10.55.0.0/24"})).await?;
    let subnets: Api<Subnet> = Api::all(cluster.client());
    cluster.until(subnets.clone(), "a2-unknown", subnet_ready).await?;
    let patch = json!({"status": {"laterStatus": {"deep": "er"}}});
    subnets.patch_status("a2-unknown", &PatchParams::default(), &Patch::Merge(patch)).await?;

    // The controller has filled in fields and written the status. It does so again after an edit.
    edit(&subnets, "a2-unknown", json!({"excludeIps": ["10.55.0.9"]})).await?;
    let follows = |subnet: &Subnet| {
        let range = subnet.status.as_ref().map(|status| status.v4_available_ip_range.clone()).unwrap_or_default();
        ensure!(range == "10.55.0.2-10.55.0.8,10.55.0.10-10.55.0.254", "available: {range}");
        Ok(())
    };
    cluster.until(subnets, "a2-unknown", follows).await?;
    let resource = kube::core::ApiResource::erase::<Subnet>(&());
    let seen = Api::<DynamicObject>::all_with(cluster.client(), &resource).get("a2-unknown").await?;
    for field in ["natOutgoingPolicyRules", "u2oInterconnection", "laterField"] {
        ensure!(!made.data["spec"][field].is_null(), "{field} was pruned");
        assert_eq!(seen.data["spec"][field], made.data["spec"][field], "{field}");
    }
    assert_eq!(seen.data["spec"]["gateway"], "10.55.0.1");
    assert_eq!(seen.data["status"]["laterStatus"], json!({"deep": "er"}));
    Ok(())
}
