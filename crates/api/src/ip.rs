//! The custom resource `IP`: one for each port that holds addresses, named `<pod>.<namespace>` or `node-<node>`.
//!
//! It is a published result, written by the controller, and the durable record from which addresses are read back.

#![allow(unreachable_pub)] // KubeSchema copies the `pub` struct into a function body
#![allow(clippy::duplicated_attributes)] // printer columns of one type are no duplicates

use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};

use crate::{
    Addresses, FieldError, Mac,
    annotations::{NODE_NAME_LABEL, SUBNET_LABEL},
    subnet::{null_is_default, plain},
};

/// Who holds which addresses.
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
    /// The pod, or the node when `namespace` is empty.
    #[serde(default, deserialize_with = "null_is_default")]
    pub pod_name: String,
    /// The pod's namespace; empty for a node.
    #[serde(default, deserialize_with = "null_is_default")]
    pub namespace: String,
    /// The subnet that the addresses are from.
    #[serde(default, deserialize_with = "null_is_default")]
    pub subnet: String,
    /// Further subnets; always empty here.
    #[serde(default, deserialize_with = "null_is_default")]
    pub attach_subnets: Vec<String>,
    /// The node it runs on.
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
    /// Kind of the owner when its addresses outlive the pod (`StatefulSet`), else empty.
    #[serde(default, deserialize_with = "null_is_default")]
    pub pod_type: String,
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

    /// The labels that say again what stands here, to select by: the subnet, as a key and as a value, and the node.
    pub fn labels(&self) -> [(&str, &str); 3] {
        [(&self.subnet, ""), (SUBNET_LABEL, &self.subnet), (NODE_NAME_LABEL, &self.node_name)]
    }
}

impl Ip {
    /// How errors name it: `ip <name>`.
    pub fn object(&self) -> String {
        format!("ip {}", self.metadata.name.as_deref().unwrap_or_default())
    }

    /// The addresses and the MAC it records.
    pub fn lease(&self) -> Result<(Addresses, Mac), FieldError> {
        let field = |name: &str, e| FieldError::new(self.object(), format!("spec.{name}"), e);
        let ips = self.spec.ip_address.parse().map_err(|e| field("ipAddress", e))?;
        let mac = self.spec.mac_address.parse().map_err(|e| field("macAddress", e))?;
        Ok((ips, mac))
    }
}
