//! Builders of small worlds, and random changes to them, for the tests of this crate and of crates that use it.
//!
//! The builders panic on invalid input.

#![allow(clippy::unwrap_used, clippy::panic, reason = "for tests only")]

mod events;

use api::{Subnet, SubnetDef};
use serde_json::{Value, json};

use crate::objects::{Node, Port};

pub use events::{Event, event, world_after};

/// A subnet by name and CIDR; `more` is merged into its spec.
pub fn subnet(name: &str, cidr: &str, more: Value) -> SubnetDef {
    let mut spec = json!({ "cidrBlock": cidr });
    let (Some(spec_fields), Value::Object(more)) = (spec.as_object_mut(), more) else { panic!("not an object") };
    spec_fields.extend(more);
    let object = json!({
        "apiVersion": "kubeovn.io/v1", "kind": "Subnet",
        "metadata": { "name": name, "uid": format!("uid-of-{name}") }, "spec": spec,
    });
    let object: Subnet = serde_json::from_value(object).unwrap();
    SubnetDef::parse(&object).unwrap()
}

/// A node by name, with its address on the join switch and its own addresses.
pub fn node(name: &str, join: &str, mac: &str, internal: &[&str]) -> Node {
    Node {
        name: name.into(),
        uid: format!("uid-of-{name}").into(),
        join: join.parse().unwrap(),
        mac: mac.parse().unwrap(),
        chassis: Some(format!("chassis-{name}").into()),
        internal: internal.iter().map(|address| address.parse().unwrap()).collect(),
        external: false,
    }
}

/// A pod's port by `namespace/pod`, without port security.
pub fn port(pod: &str, subnet: &str, ips: &str, mac: &str) -> Port {
    let (namespace, name) = pod.split_once('/').unwrap();
    Port {
        name: api::pod_port(name, namespace).into(),
        uid: format!("uid-of-{pod}").into(),
        pod: pod.into(),
        node: "n1".into(),
        subnet: subnet.into(),
        ips: ips.parse().unwrap(),
        mac: mac.parse().unwrap(),
        port_security: false,
        mirrored: false,
        north_gateway: None,
        ingress: None,
        egress: None,
        gateway: None,
        cidrs: None,
    }
}
