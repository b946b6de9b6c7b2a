//! The custom resource IPPool as users write it: kube-ovn's field names, checked by the API server through CEL.
//!
//! What is read here is only text; [`crate::PoolDef`] is the checked form that the rest of the house uses.

#![allow(unreachable_pub)] // KubeSchema copies the `pub` struct into a function body
#![allow(clippy::duplicated_attributes)] // printer columns of one type are no duplicates

mod rules;

use std::fmt;

use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};

use crate::subnet::{Condition, count, null_is_default, plain};

/// What a user asks of a pool.
#[derive(CustomResource, KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[kube(
    group = "kubeovn.io",
    version = "v1",
    kind = "IPPool",
    root = "IpPool",
    plural = "ippools",
    singular = "ippool",
    shortname = "ippool",
    status = "IpPoolStatus",
    derive = "PartialEq",
    doc = "Addresses of a subnet that are given only to those who name the pool, and to namespaces bound to it.",
    validation = rules::NAME,
    printcolumn(name = "Subnet", type_ = "string", json_path = ".spec.subnet"),
    printcolumn(name = "enableAddressSet", type_ = "boolean", json_path = ".spec.enableAddressSet"),
    printcolumn(name = "IPs", type_ = "string", json_path = ".spec.ips"),
    printcolumn(name = "V4Used", type_ = "number", json_path = ".status.v4UsingIPs"),
    printcolumn(name = "V4Available", type_ = "number", json_path = ".status.v4AvailableIPs"),
    printcolumn(name = "V6Used", type_ = "number", json_path = ".status.v6UsingIPs"),
    printcolumn(name = "V6Available", type_ = "number", json_path = ".status.v6AvailableIPs")
)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-preserve-unknown-fields" = true, "required" = ["subnet", "ips"]))]
#[schemars(transform = plain)]
pub struct IpPoolSpec {
    /// The subnet whose addresses these are. It cannot be changed.
    #[serde(default)]
    #[schemars(length(max = 253))]
    #[x_kube(validation = rules::SUBNET, validation = rules::SUBNET_STAYS)]
    pub subnet: String,

    /// Its addresses: single ones, ranges like `10.17.0.1..10.17.0.10`, and CIDRs. What lies outside the subnet is not used.
    #[serde(default)]
    #[schemars(length(min = 1, max = 1024), inner(length(max = 128)))]
    #[x_kube(validation = rules::IPS)]
    pub ips: Vec<String>,

    /// Namespaces whose pods get their addresses here and nowhere else.
    #[serde(default, deserialize_with = "null_is_default", skip_serializing_if = "Vec::is_empty")]
    pub namespaces: Vec<String>,

    /// Kept for kube-ovn's manifests: no address set is made of the pool.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub enable_address_set: Option<bool>,
}

/// What the controller says of a pool.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-preserve-unknown-fields" = true))]
#[schemars(transform = plain)]
pub struct IpPoolStatus {
    /// `Validated`, `Ready` and `Error`.
    #[serde(default, deserialize_with = "null_is_default")]
    pub conditions: Vec<Condition>,

    /// IPv4 addresses that can still be given out. A float, as in a Subnet.
    #[serde(default, rename = "v4AvailableIPs", deserialize_with = "null_is_default", serialize_with = "count")]
    pub v4_available_ips: f64,
    /// IPv4 addresses in use.
    #[serde(default, rename = "v4UsingIPs", deserialize_with = "null_is_default", serialize_with = "count")]
    pub v4_using_ips: f64,
    /// IPv6 addresses that can still be given out.
    #[serde(default, rename = "v6AvailableIPs", deserialize_with = "null_is_default", serialize_with = "count")]
    pub v6_available_ips: f64,
    /// IPv6 addresses in use.
    #[serde(default, rename = "v6UsingIPs", deserialize_with = "null_is_default", serialize_with = "count")]
    pub v6_using_ips: f64,

    /// Free IPv4 addresses: `10.16.0.9-10.16.0.12,10.16.0.14`.
    #[serde(default, rename = "v4AvailableIPRange", deserialize_with = "null_is_default")]
    pub v4_available_ip_range: String,
    /// IPv4 addresses in use.
    #[serde(default, rename = "v4UsingIPRange", deserialize_with = "null_is_default")]
    pub v4_using_ip_range: String,
    /// Free IPv6 addresses.
    #[serde(default, rename = "v6AvailableIPRange", deserialize_with = "null_is_default")]
    pub v6_available_ip_range: String,
    /// IPv6 addresses in use.
    #[serde(default, rename = "v6UsingIPRange", deserialize_with = "null_is_default")]
    pub v6_using_ip_range: String,
}

impl IpPool {
    /// How errors name it: `ippool <name>`.
    pub fn object(&self) -> String {
        Self::object_of(self.metadata.name.as_deref().unwrap_or_default())
    }

    /// How errors name the pool of that name.
    pub fn object_of(name: impl fmt::Display) -> String {
        format!("ippool {name}")
    }
}
