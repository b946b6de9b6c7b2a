//! Tests of [`Change`] and of lists.

use serde_json::{Value, json};

use super::*;

fn subnet(change: &Value) -> Event {
    let mut subnet = json!({
        "apiVersion": "kubeovn.io/v1", "kind": "Subnet",
        "metadata": { "name": "net", "uid": "1" }, "spec": { "cidrBlock": "10.17.0.0/24" },
    });
    for (part, fields) in change.as_object().unwrap() {
        for (field, value) in fields.as_object().unwrap() {
            subnet[part][field] = value.clone();
        }
    }
    Event::Subnets(WatchEvent::Apply(serde_json::from_value(subnet).unwrap()))
}

#[test]
fn a_status_change_decides_nothing_and_other_changes_that_are_read_do() {
    for (change, expected) in [
        (json!({}), Change::Nothing),
        (json!({ "status": { "v4usingIPs": 3 }, "metadata": { "resourceVersion": "7" } }), Change::Status),
        (json!({ "metadata": { "resourceVersion": "7", "labels": { "a": "b" } } }), Change::Nothing),
        (json!({ "spec": { "private": true } }), Change::Decides),
        (json!({ "spec": { "namespaces": ["a"] }, "status": { "v4usingIPs": 3 } }), Change::Decides),
        (json!({ "metadata": { "uid": "2" } }), Change::Decides),
        (json!({ "metadata": { "finalizers": ["x"] } }), Change::Decides),
        (json!({ "metadata": { "deletionTimestamp": "2026-01-01T00:00:00Z" } }), Change::Decides),
    ] {
        let mut cluster = Cluster::default();
        let observed = |change| [Observed { object: Object::Subnet("net".into()), change }];
        assert_eq!(cluster.observe(subnet(&json!({}))), observed(Change::Decides));
        assert_eq!(cluster.observe(subnet(&change)), observed(expected), "{change}");
        let version = change["metadata"]["resourceVersion"].as_str();
        assert_eq!(cluster.subnets["net"].metadata.resource_version.as_deref(), version, "it is taken in all the same");
    }
}

#[test]
fn objects_missing_from_a_complete_list_are_gone() {
    let net = |name: &str| {
        let object = json!({
            "apiVersion": "kubeovn.io/v1", "kind": "Subnet", "metadata": { "name": name },
            "spec": { "cidrBlock": "10.17.0.0/24" },
        });
        Event::Subnets(WatchEvent::Apply(serde_json::from_value(object).unwrap()))
    };
    let mut cluster = Cluster::default();
    let mut see = |event| -> Vec<String> {
        let observed = cluster.observe(event).into_iter();
        observed.map(|Observed { object, change }| format!("{object:?} {change:?}")).collect()
    };
    let changed = |name: &str| vec![format!("Subnet(\"{name}\") Decides")];
    assert_eq!(see(Event::Subnets(WatchEvent::Listing)), [""; 0]);
    assert_eq!((see(net("a")), see(net("b"))), (changed("a"), changed("b")));
    assert_eq!(see(Event::Subnets(WatchEvent::Listed)), [""; 0]);
    // An interrupted list removes nothing.
    assert_eq!(see(Event::Subnets(WatchEvent::Listing)), [""; 0]);
    assert_eq!(see(Event::Subnets(WatchEvent::Listing)), [""; 0]);
    assert_eq!((see(net("c")), see(net("b"))), (changed("c"), vec!["Subnet(\"b\") Nothing".to_owned()]));
    assert_eq!(see(Event::Subnets(WatchEvent::Listed)), changed("a"));
}
