//! What counts as a change.

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
    Event::Subnets(Seen::Apply(serde_json::from_value(subnet).unwrap()))
}

#[test]
fn a_subnets_status_is_no_reason_to_decide_and_all_that_is_read_of_it_is() {
    for (change, decided, restated) in [
        (json!({}), false, false),
        (json!({ "status": { "v4usingIPs": 3 }, "metadata": { "resourceVersion": "7" } }), false, true),
        (json!({ "metadata": { "resourceVersion": "7", "labels": { "a": "b" } } }), false, false),
        (json!({ "spec": { "private": true } }), true, false),
        (json!({ "spec": { "namespaces": ["a"] }, "status": { "v4usingIPs": 3 } }), true, true),
        (json!({ "metadata": { "uid": "2" } }), true, false),
        (json!({ "metadata": { "finalizers": ["x"] } }), true, false),
        (json!({ "metadata": { "deletionTimestamp": "2026-01-01T00:00:00Z" } }), true, false),
    ] {
        let mut cluster = Cluster::default();
        assert_eq!(cluster.observe(subnet(&json!({}))).len(), 1);
        assert_eq!(cluster.observe(subnet(&change)).len(), usize::from(decided), "{change}");
        assert_eq!(cluster.take_restated().len(), usize::from(restated), "{change}");
        let version = change["metadata"]["resourceVersion"].as_str();
        assert_eq!(cluster.subnets["net"].metadata.resource_version.as_deref(), version, "it is taken in all the same");
    }
}
