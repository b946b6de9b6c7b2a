//! The custom resource `IPPool` as users write it. It has kube-ovn's field names, and the API server checks it with CEL
//! rules.
//!
//! The fields are plain text. [`crate::PoolDef`] is the checked form that the other crates use.

#![allow(unreachable_pub)] // KubeSchema copies the `pub` struct into a function body
#![allow(clippy::duplicated_attributes)] // printer columns of one type are not duplicates

mod rules;

use std::fmt;

use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};

use crate::subnet::{Condition, count, null_is_default, plain};

/// The desired state of a pool.
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
    doc = "Addresses of a subnet, for pods that name the pool and for namespaces that are bound to it.",
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
    /// The subnet that the addresses belong to. It cannot be changed.
    #[serde(default)]
    #[schemars(length(max = 253))]
    #[x_kube(validation = rules::SUBNET, validation = rules::SUBNET_STAYS)]
    pub subnet: String,

    /// The addresses: single ones, ranges such as `10.17.0.1..10.17.0.10`, and CIDRs. Addresses outside the subnet are not
    /// used.
    #[serde(default)]
    #[schemars(length(min = 1, max = 1024), inner(length(max = 128)))]
    #[x_kube(validation = rules::IPS)]
    pub ips: Vec<String>,

    /// The namespaces whose pods get their addresses from this pool only.
    #[serde(default, deserialize_with = "null_is_default", skip_serializing_if = "Vec::is_empty")]
    pub namespaces: Vec<String>,

    /// Whether the northbound database has an address set of the pool, called as the pool with dots for hyphens.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub enable_address_set: Option<bool>,
}

/// The observed state of a pool, written by the controller.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-preserve-unknown-fields" = true))]
#[schemars(transform = plain)]
pub struct IpPoolStatus {
    /// The conditions `Validated`, `Ready` and `Error`.
    #[serde(default, deserialize_with = "null_is_default")]
    pub conditions: Vec<Condition>,

    /// The number of free IPv4 addresses. It is a float, as in a Subnet.
    #[serde(default, rename = "v4AvailableIPs", deserialize_with = "null_is_default", serialize_with = "count")]
    pub v4_available_ips: f64,
    /// The number of IPv4 addresses in use.
    #[serde(default, rename = "v4UsingIPs", deserialize_with = "null_is_default", serialize_with = "count")]
    pub v4_using_ips: f64,
    /// The number of free IPv6 addresses.
    #[serde(default, rename = "v6AvailableIPs", deserialize_with = "null_is_default", serialize_with = "count")]
    pub v6_available_ips: f64,
    /// The number of IPv6 addresses in use.
    #[serde(default, rename = "v6UsingIPs", deserialize_with = "null_is_default", serialize_with = "count")]
    pub v6_using_ips: f64,

    /// The free IPv4 addresses: `10.16.0.9-10.16.0.12,10.16.0.14`.
    #[serde(default, rename = "v4AvailableIPRange", deserialize_with = "null_is_default")]
    pub v4_available_ip_range: String,
    /// The IPv4 addresses in use.
    #[serde(default, rename = "v4UsingIPRange", deserialize_with = "null_is_default")]
    pub v4_using_ip_range: String,
    /// The free IPv6 addresses.
    #[serde(default, rename = "v6AvailableIPRange", deserialize_with = "null_is_default")]
    pub v6_available_ip_range: String,
    /// The IPv6 addresses in use.
    #[serde(default, rename = "v6UsingIPRange", deserialize_with = "null_is_default")]
    pub v6_using_ip_range: String,

    /// What is in force of the pool. It stays when an edit is refused, and decides which of two pools was first with an
    /// address.
    #[serde(default)]
    pub in_force: Option<PoolInForce>,
}

/// What is in force of a pool.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[schemars(transform = plain)]
pub struct PoolInForce {
    /// The subnet that the addresses belong to.
    #[serde(default, deserialize_with = "null_is_default")]
    pub subnet: String,
    /// The addresses: single ones and ranges.
    #[serde(default, deserialize_with = "null_is_default")]
    pub ips: Vec<String>,
}

impl IpPool {
    /// The name of this pool in error messages: `ippool <name>`.
    pub fn object(&self) -> String {
        Self::object_of(self.metadata.name.as_deref().unwrap_or_default())
    }

    /// The name in error messages of the pool called `name`.
    pub fn object_of(name: impl fmt::Display) -> String {
        format!("ippool {name}")
    }
}
