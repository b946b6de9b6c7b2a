//! The custom resource `ExternalHost`: a machine that is no Node and joins the pod network, for example to balance load to
//! pods. It belongs to this project alone; kube-ovn has no such kind.

#![allow(unreachable_pub)] // KubeSchema copies the `pub` struct into a function body
#![allow(clippy::duplicated_attributes)] // printer columns of one type are not duplicates

use std::collections::BTreeSet;
use std::net::IpAddr;

use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};

use crate::error::FieldError;
use crate::subnet::{Condition, null_is_default, plain};
use crate::values::parse_address;

/// Refuses what [`ExternalHost::addresses`] cannot read.
const ADDRESSES: (&str, &str) = ("self.all(a, isIP(a))", "addresses must be addresses such as 192.0.2.10");

/// A machine that an administrator lets into the pod network.
#[derive(CustomResource, KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[kube(
    group = "kubeovn.io",
    version = "v1",
    kind = "ExternalHost",
    plural = "externalhosts",
    singular = "externalhost",
    status = "ExternalHostStatus",
    derive = "PartialEq",
    doc = "A machine that is no Node and joins the pod network, for example to balance load to pods.",
    printcolumn(name = "IP", type_ = "string", json_path = ".status.ipAddress"),
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type=='Ready')].status"),
    printcolumn(name = "Reason", type_ = "string", json_path = ".status.conditions[?(@.type=='Ready')].reason"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("required" = ["addresses"]), transform = plain)]
pub struct ExternalHostSpec {
    /// The machine's own addresses: the one of its tunnels, and those from which it reaches the API server and the databases.
    #[serde(default)]
    #[schemars(length(min = 1, max = 16), inner(length(max = 64)))]
    #[x_kube(validation = ADDRESSES)]
    pub addresses: Vec<String>,
}

/// The observed state of an external host, written by the controller.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[schemars(transform = plain)]
pub struct ExternalHostStatus {
    /// The condition `Ready`.
    #[serde(default, deserialize_with = "null_is_default")]
    pub conditions: Vec<Condition>,
    /// Its addresses on the join switch, `v4,v6`, which pods see. Empty before it has one.
    #[serde(default, deserialize_with = "null_is_default")]
    pub ip_address: String,
    /// The MAC address of its `ovn0`.
    #[serde(default, deserialize_with = "null_is_default")]
    pub mac_address: String,
    /// The name of its chassis in the southbound database. Empty before it is known.
    #[serde(default, deserialize_with = "null_is_default")]
    pub chassis: String,
}

impl ExternalHost {
    /// The name of this host in error messages: `external host <name>`.
    pub fn object(&self) -> String {
        format!("external host {}", self.metadata.name.as_deref().unwrap_or_default())
    }

    /// Its own addresses.
    pub fn addresses(&self) -> Result<BTreeSet<IpAddr>, FieldError> {
        let field = |e| FieldError::new(self.object(), "spec.addresses", e);
        self.spec.addresses.iter().map(|address| parse_address(address).map_err(field)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_that_is_none_is_named() {
        let host = |addresses: &[&str]| {
            let addresses = addresses.iter().map(ToString::to_string).collect();
            ExternalHost::new("lb1", ExternalHostSpec { addresses }).addresses().map_err(|error| error.to_string())
        };
        assert_eq!(host(&["192.0.2.10", "2001:db8::a"]).unwrap().len(), 2);
        let error = host(&["192.0.2.10", "lb1.example.com"]).unwrap_err();
        assert!(error.starts_with("external host lb1: spec.addresses: "), "{error}");
    }
}
