//! The custom resource `IP`: one for each port that holds addresses, named `<pod>.<namespace>` or `node-<node>`.
//!
//! The controller writes these objects, and reads them back as the durable record of the addresses in use.

#![allow(unreachable_pub)] // KubeSchema copies the `pub` struct into a function body
#![allow(clippy::duplicated_attributes)] // printer columns of one type are not duplicates

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::net::IpAddr;

use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};

use crate::{
    Addresses, FieldError, Mac,
    annotations::{NODE_NAME_LABEL, SUBNET_LABEL},
    label_value,
    subnet::{null_is_default, plain},
    values::parse_address,
};

/// The addresses of a port, and their holder.
#[derive(CustomResource, KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[kube(
    group = "kubeovn.io",
    version = "v1",
    kind = "IP",
    root = "Ip",
    plural = "ips",
    singular = "ip",
    shortname = "ip",
    derive = "PartialEq",
    doc = "The addresses of one pod or node, written by the controller.",
    printcolumn(name = "V4IP", type_ = "string", json_path = ".spec.v4IpAddress"),
    printcolumn(name = "V6IP", type_ = "string", json_path = ".spec.v6IpAddress"),
    printcolumn(name = "Mac", type_ = "string", json_path = ".spec.macAddress"),
    printcolumn(name = "Node", type_ = "string", json_path = ".spec.nodeName"),
    printcolumn(name = "Subnet", type_ = "string", json_path = ".spec.subnet")
)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-preserve-unknown-fields" = true), transform = plain)]
pub struct IpSpec {
    /// The name of the pod, or of the node when `namespace` is empty.
    #[serde(default, deserialize_with = "null_is_default")]
    pub pod_name: String,
    /// The namespace of the pod; empty for a node.
    #[serde(default, deserialize_with = "null_is_default")]
    pub namespace: String,
    /// The subnet that the addresses belong to.
    #[serde(default, deserialize_with = "null_is_default")]
    pub subnet: String,
    /// Further subnets; always empty here.
    #[serde(default, deserialize_with = "null_is_default")]
    pub attach_subnets: Vec<String>,
    /// The node that the pod runs on, or the node itself.
    #[serde(default, deserialize_with = "null_is_default")]
    pub node_name: String,
    /// All addresses, `v4,v6`.
    #[serde(default, deserialize_with = "null_is_default")]
    pub ip_address: String,
    /// The IPv4 address, or empty.
    #[serde(default, rename = "v4IpAddress", deserialize_with = "null_is_default")]
    pub v4_ip_address: String,
    /// The IPv6 address, or empty.
    #[serde(default, rename = "v6IpAddress", deserialize_with = "null_is_default")]
    pub v6_ip_address: String,
    /// Addresses in further subnets; always empty here.
    #[serde(default, deserialize_with = "null_is_default")]
    pub attach_ips: Vec<String>,
    /// The MAC address.
    #[serde(default, deserialize_with = "null_is_default")]
    pub mac_address: String,
    /// MACs in further subnets; always empty here.
    #[serde(default, deserialize_with = "null_is_default")]
    pub attach_macs: Vec<String>,
    /// Unused, kept for kube-ovn's tools.
    #[serde(default, rename = "containerID", deserialize_with = "null_is_default")]
    pub container_id: String,
    /// The kind of the pod's owner when the addresses outlive the pod (`StatefulSet`); else empty.
    #[serde(default, deserialize_with = "null_is_default")]
    pub pod_type: String,
    /// The uid of the pod, or of the node: the holder that these addresses are for, and no namesake of it.
    #[serde(
        default,
        deserialize_with = "null_is_default",
        rename = "podUid",
        skip_serializing_if = "String::is_empty"
    )]
    pub pod_uid: String,
    /// For a node: its own addresses at which pods reach it through `ovn0`, so that its traffic to pods can carry them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node_addresses: Option<Vec<String>>,
}

impl IpSpec {
    /// Sets all address fields.
    #[must_use]
    pub fn with_addresses(mut self, ips: &Addresses, mac: Mac) -> Self {
        self.ip_address = ips.to_string();
        self.v4_ip_address = ips.v4().map(ToString::to_string).unwrap_or_default();
        self.v6_ip_address = ips.v6().map(ToString::to_string).unwrap_or_default();
        self.mac_address = mac.to_string();
        self
    }

    /// The labels of the object, for selectors: the subnet as a key, the subnet as a value, and the node. [`label_value`]
    /// cuts names that are too long for a label.
    pub fn labels(&self) -> [(Cow<'_, str>, Cow<'_, str>); 3] {
        let (subnet, node) = (label_value(&self.subnet), label_value(&self.node_name));
        [(subnet.clone(), "".into()), (SUBNET_LABEL.into(), subnet), (NODE_NAME_LABEL.into(), node)]
    }
}

impl Ip {
    /// The name of this object in error messages: `ip <name>`.
    pub fn object(&self) -> String {
        format!("ip {}", self.metadata.name.as_deref().unwrap_or_default())
    }

    /// The addresses and the MAC in the spec.
    pub fn lease(&self) -> Result<(Addresses, Mac), FieldError> {
        let field = |name: &str, e| FieldError::new(self.object(), format!("spec.{name}"), e);
        let ips = self.spec.ip_address.parse().map_err(|e| field("ipAddress", e))?;
        let mac = self.spec.mac_address.parse().map_err(|e| field("macAddress", e))?;
        Ok((ips, mac))
    }

    /// The own addresses of a node, for its traffic to pods.
    pub fn node_addresses(&self) -> Result<BTreeSet<IpAddr>, FieldError> {
        let field = |e| FieldError::new(self.object(), "spec.nodeAddresses", e);
        self.spec.node_addresses.iter().flatten().map(|address| parse_address(address).map_err(field)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_of_long_names_are_legal() {
        let (subnet, node_name) = (format!("net-{}", "a".repeat(100)), format!("{}.example.com", "n".repeat(60)));
        let spec = IpSpec { subnet, node_name, ..IpSpec::default() };
        for text in spec.labels().iter().flat_map(|(key, value)| [key, value]) {
            let name = text.rsplit('/').next().unwrap_or_default();
            assert_eq!(label_value(name), name, "{text}");
        }
        let spec = IpSpec { subnet: "net".to_owned(), node_name: "n1".to_owned(), ..IpSpec::default() };
        let labels = spec.labels().map(|(key, value)| format!("{key}={value}"));
        assert_eq!(labels, ["net=", "ovn.kubernetes.io/subnet=net", "ovn.kubernetes.io/node-name=n1"]);
    }

    #[test]
    fn the_holder_s_uid_is_written_when_it_is_known() {
        let none = serde_json::to_value(IpSpec::default()).unwrap();
        assert!(none.get("podUid").is_none());
        let spec = IpSpec { pod_uid: "363c6193".to_owned(), ..IpSpec::default() };
        let json = serde_json::to_value(&spec).unwrap();
        assert_eq!(json["podUid"], "363c6193");
        assert_eq!(serde_json::from_value::<IpSpec>(json).unwrap(), spec);
        let null = serde_json::json!({ "podUid": null });
        assert_eq!(serde_json::from_value::<IpSpec>(null).unwrap(), IpSpec::default());
    }
}
