//! Views of real objects, and of objects without optional fields.

use serde_json::json;

use super::*;

#[test]
fn a_pod() {
    let pod: PodView = serde_json::from_value(json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {
            "name": "db-10", "namespace": "shop-db", "uid": "u1", "deletionTimestamp": "2026-11-21T02:28:11Z",
            "annotations": {"ovn.kubernetes.io/mirror": "true"},
            "ownerReferences": [
                {"apiVersion": "v1", "kind": "Other", "name": "x", "uid": "1"},
                {"apiVersion": "apps/v1", "kind": "StatefulSet", "name": "db", "uid": "2", "controller": true}
            ]
        },
        "spec": {"nodeName": "n1", "containers": [{"name": "c", "image": "i"}]},
        "status": {"phase": "Running", "podIP": "10.20.0.5", "podIPs": [{"ip": "10.20.0.5"}, {"ip": "x"}, {}]}
    }))
    .unwrap();
    assert_eq!((pod.port_name().as_str(), pod.object().as_str()), ("db-10.shop-db", "pod shop-db/db-10"));
    assert_eq!((pod.node_name(), pod.uid()), (Some("n1"), "u1"));
    assert!(pod.wants_network() && pod.is_terminating() && !pod.is_done());
    assert_eq!(pod.pod_ips().map(|ip| ip.to_string()).collect::<Vec<_>>(), ["10.20.0.5"]);
    assert_eq!(pod.stateful_set(), Some(("db", 10)));
    assert_eq!(pod.annotation("ovn.kubernetes.io/mirror"), Some("true"));
}

#[test]
fn a_pod_that_is_not_ours_or_not_any_more() {
    let pod = |spec, status| {
        let pod = json!({"metadata": {}, "spec": spec, "status": status});
        serde_json::from_value::<PodView>(pod).unwrap()
    };
    let null = || json!(null);
    assert!(!pod(json!({"hostNetwork": true}), null()).wants_network());
    assert!(pod(null(), json!({"phase": "Failed"})).is_done() && pod(null(), json!({"phase": "Succeeded"})).is_done());
    assert!(!pod(null(), json!({"phase": null, "podIPs": null})).is_done());
    assert_eq!(pod(json!({"nodeName": ""}), null()).node_name(), None);
    let empty: PodView = serde_json::from_value(json!({})).unwrap();
    assert!(empty.wants_network() && empty.stateful_set().is_none() && empty.annotations().is_empty());
}

#[test]
fn a_node() {
    let node: NodeView = serde_json::from_value(json!({
        "metadata": {"name": "n1", "labels": {"kube-ovn/role": "master"}},
        "spec": {"podCIDR": "10.0.0.0/24"},
        "status": {
            "addresses": [
                {"type": "InternalIP", "address": "172.30.0.1"}, {"type": "InternalIP", "address": "fd00:30::1"},
                {"type": "Hostname", "address": "n1"}
            ],
            "conditions": [{"type": "Ready", "status": "True"}, {"type": "DiskPressure", "status": "False"}]
        }
    }))
    .unwrap();
    assert_eq!(node.internal_ips().map(|ip| ip.to_string()).collect::<Vec<_>>(), ["172.30.0.1", "fd00:30::1"]);
    assert!(node.is_ready() && node.labels().contains_key(crate::annotations::ROLE_LABEL));
    let empty: NodeView = serde_json::from_value(json!({"metadata": {"name": "n2"}, "status": null})).unwrap();
    assert!(!empty.is_ready() && empty.addresses().is_empty());
    assert_eq!((empty.port_name().as_str(), empty.object().as_str()), ("node-n2", "node n2"));
}
