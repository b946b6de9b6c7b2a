//! The custom resource `Subnet` as users write it: kube-ovn's field names, checked by the API server through CEL.
//!
//! Fields of newer kube-ovn versions that we do not know are kept by the API server
//! (`x-kubernetes-preserve-unknown-fields`), so write these objects with patches, never by replacing the whole.
//! What is read here is only text; [`crate::SubnetDef`] is the checked form that the rest of the house uses.

#![allow(unreachable_pub)] // KubeSchema copies the `pub` struct into a function body
#![allow(clippy::duplicated_attributes)] // printer columns of one type are no duplicates

mod in_force;
mod rules;
mod unserved;

use std::fmt;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, Time};
use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;

pub use in_force::{EffectiveSubnet, InForce, InForceNetwork, SubnetView};
pub use unserved::unserved;

/// What a user asks of a subnet.
#[derive(CustomResource, KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "kubeovn.io",
    version = "v1",
    kind = "Subnet",
    plural = "subnets",
    shortname = "subnet",
    status = "SubnetStatus",
    derive = "PartialEq",
    validation = rules::CIDR_STAYS,
    doc = "A network of pods: one switch, one CIDR per address family, bound to namespaces.",
    printcolumn(name = "Provider", type_ = "string", json_path = ".spec.provider"),
    printcolumn(name = "Vpc", type_ = "string", json_path = ".spec.vpc"),
    printcolumn(name = "Vlan", type_ = "string", json_path = ".spec.vlan"),
    printcolumn(name = "Protocol", type_ = "string", json_path = ".spec.protocol"),
    printcolumn(name = "CIDR", type_ = "string", json_path = ".spec.cidrBlock"),
    printcolumn(name = "Private", type_ = "boolean", json_path = ".spec.private"),
    printcolumn(name = "NAT", type_ = "boolean", json_path = ".spec.natOutgoing"),
    printcolumn(name = "Default", type_ = "boolean", json_path = ".spec.default"),
    printcolumn(name = "GatewayType", type_ = "string", json_path = ".spec.gatewayType"),
    printcolumn(name = "V4Used", type_ = "number", json_path = ".status.v4usingIPs"),
    printcolumn(name = "V4Available", type_ = "number", json_path = ".status.v4availableIPs"),
    printcolumn(name = "V6Used", type_ = "number", json_path = ".status.v6usingIPs"),
    printcolumn(name = "V6Available", type_ = "number", json_path = ".status.v6availableIPs"),
    printcolumn(name = "ExcludeIPs", type_ = "string", json_path = ".spec.excludeIps"),
    printcolumn(name = "U2OInterconnectionIP", type_ = "string", json_path = ".status.u2oInterconnectionIP")
)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-preserve-unknown-fields" = true, "required" = ["cidrBlock"]))]
#[schemars(transform = plain)]
#[x_kube(validation = rules::GATEWAY_INSIDE, validation = rules::EXCLUDE_INSIDE)]
pub struct SubnetSpec {
    /// Namespaces that are bound to no subnet use this one. One subnet of the cluster has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default: Option<bool>,

    /// `IPv4`, `IPv6` or `Dual`; follows from `cidrBlock` and is filled in by the controller.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = rules::PROTOCOL)]
    pub protocol: Option<String>,

    /// Namespaces whose pods get their addresses here.
    #[serde(default, deserialize_with = "null_is_default", skip_serializing_if = "Vec::is_empty")]
    pub namespaces: Vec<String>,

    /// Namespaces with these labels are bound as well.
    #[serde(default, deserialize_with = "null_is_default", skip_serializing_if = "Vec::is_empty")]
    pub namespace_selectors: Vec<LabelSelector>,

    /// The network: one CIDR, or one IPv4 and one IPv6 CIDR with a comma between, e.g. `10.18.0.0/24,fd00:18::/64`.
    #[serde(default)]
    #[schemars(length(max = 128))]
    #[x_kube(validation = rules::CIDR)]
    #[x_kube(validation = rules::CIDR_FAMILIES)]
    #[x_kube(validation = rules::CIDR_FOR_PODS)]
    #[x_kube(validation = rules::CIDR_SIZE)]
    pub cidr_block: String,

    /// The router's address, one for each family; the first usable address when empty.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 128))]
    #[x_kube(validation = rules::GATEWAY)]
    pub gateway: Option<String>,

    /// Addresses never given to pods: single ones, or ranges like `10.17.0.1..10.17.0.10`.
    #[serde(default, deserialize_with = "null_is_default", skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 1024), inner(length(max = 128)))]
    #[x_kube(validation = rules::EXCLUDE_IPS)]
    pub exclude_ips: Vec<String>,

    /// Where pods leave the cluster: `distributed` (their own node, the default) or `centralized` (gateway nodes).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = rules::GATEWAY_TYPE)]
    pub gateway_type: Option<String>,

    /// The gateway nodes of a centralized subnet, in order of preference: `n1,n2`, or `n1:172.30.0.1,n2:172.30.0.2`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gateway_node: Option<String>,

    /// The gateway nodes of a centralized subnet, by label.
    #[serde(default, deserialize_with = "null_is_default", skip_serializing_if = "Vec::is_empty")]
    pub gateway_node_selectors: Vec<LabelSelector>,

    /// Whether traffic that leaves the cluster gets the node's address as its source.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nat_outgoing: Option<bool>,

    /// Whether only pods of this subnet, its nodes and `allowSubnets` reach its pods.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub private: Option<bool>,

    /// CIDRs that a private subnet talks with.
    #[serde(default, deserialize_with = "null_is_default", skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 1024), inner(length(max = 128)))]
    #[x_kube(validation = rules::ALLOW_SUBNETS)]
    pub allow_subnets: Vec<String>,

    /// Who serves the subnet; `ovn` when empty.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provider: Option<String>,

    /// The router the subnet is attached to; `ovn-cluster` when empty.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vpc: Option<String>,

    /// MTU of its pods' interfaces in bytes; 0 or absent: the tunnel's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 65535))]
    pub mtu: Option<i64>,

    /// Whether Services answer its pods; absent: yes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub enable_lb: Option<bool>,

    /// Whether the router sends IPv6 router advertisements.
    #[serde(default, rename = "enableIPv6RA", skip_serializing_if = "Option::is_none")]
    pub enable_ipv6_ra: Option<bool>,

    /// The router advertisements' options, `key=value,...` as OVN's `ipv6_ra_configs`.
    #[serde(default, rename = "ipv6RAConfigs", skip_serializing_if = "Option::is_none")]
    pub ipv6_ra_configs: Option<String>,

    /// Whether pods start without the gateway having answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disable_gateway_check: Option<bool>,

    /// Whether the subnet is left out of the cluster's router.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disable_inter_connection: Option<bool>,

    /// The VLAN of an underlay subnet. Such a subnet is not served.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vlan: Option<String>,

    /// Fields that this version does not know, such as those of newer versions of kube-ovn.
    #[serde(flatten)]
    #[schemars(skip)]
    pub other: serde_json::Map<String, Value>,
}

/// What the controller says of a subnet.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-preserve-unknown-fields" = true))]
#[schemars(transform = plain)]
pub struct SubnetStatus {
    /// `Validated`, `Ready` and `Error`.
    #[serde(default, deserialize_with = "null_is_default")]
    pub conditions: Vec<Condition>,

    /// IPv4 addresses that can still be given out. A float, since an IPv6 /64 has more than an integer holds.
    #[serde(default, rename = "v4availableIPs", deserialize_with = "null_is_default", serialize_with = "count")]
    pub v4_available_ips: f64,
    /// IPv4 addresses in use.
    #[serde(default, rename = "v4usingIPs", deserialize_with = "null_is_default", serialize_with = "count")]
    pub v4_using_ips: f64,
    /// IPv6 addresses that can still be given out.
    #[serde(default, rename = "v6availableIPs", deserialize_with = "null_is_default", serialize_with = "count")]
    pub v6_available_ips: f64,
    /// IPv6 addresses in use.
    #[serde(default, rename = "v6usingIPs", deserialize_with = "null_is_default", serialize_with = "count")]
    pub v6_using_ips: f64,

    /// Free IPv4 addresses: `10.16.0.9-10.16.0.12,10.16.0.14`.
    #[serde(default, rename = "v4availableIPrange", deserialize_with = "null_is_default")]
    pub v4_available_ip_range: String,
    /// IPv4 addresses in use.
    #[serde(default, rename = "v4usingIPrange", deserialize_with = "null_is_default")]
    pub v4_using_ip_range: String,
    /// Free IPv6 addresses.
    #[serde(default, rename = "v6availableIPrange", deserialize_with = "null_is_default")]
    pub v6_available_ip_range: String,
    /// IPv6 addresses in use.
    #[serde(default, rename = "v6usingIPrange", deserialize_with = "null_is_default")]
    pub v6_using_ip_range: String,

    /// The gateway node that a centralized subnet uses now.
    #[serde(default, deserialize_with = "null_is_default")]
    pub activate_gateway: String,

    /// What nodes do for the subnet: what the controller has accepted of its spec. Absent while nothing is in force.
    #[serde(default)]
    pub in_force: Option<InForce>,
}

/// One condition of a subnet or a pool, in kube-ovn's form.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Condition {
    /// `Validated`, `Ready` or `Error`.
    #[serde(rename = "type")]
    pub type_: String,
    /// `True`, `False` or `Unknown`.
    pub status: String,
    /// One word that says why.
    #[serde(default, deserialize_with = "null_is_default", skip_serializing_if = "String::is_empty")]
    pub reason: String,
    /// A sentence that says why.
    #[serde(default, deserialize_with = "null_is_default", skip_serializing_if = "String::is_empty")]
    pub message: String,
    /// When it was last looked at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_update_time: Option<Time>,
    /// When `status` last changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_transition_time: Option<Time>,
}

impl Subnet {
    /// How errors name it: `subnet <name>`.
    pub fn object(&self) -> String {
        Self::object_of(self.metadata.name.as_deref().unwrap_or_default())
    }

    /// How errors name the subnet of that name.
    pub fn object_of(name: impl fmt::Display) -> String {
        format!("subnet {name}")
    }
}

/// A stored object may say `null` where Go had an empty list or string.
pub(crate) fn null_is_default<'de, D: Deserializer<'de>, T: Default + Deserialize<'de>>(d: D) -> Result<T, D::Error> {
    Ok(Option::deserialize(d)?.unwrap_or_default())
}

/// Serde's defaults and `Option`s make any stored object readable. In the schema they would fill in fields that nobody
/// wrote, and allow `null`, which kube-ovn's schema refuses and the rules would have to mind.
pub(crate) fn plain(schema: &mut schemars::Schema) {
    let properties = schema.get_mut("properties").and_then(Value::as_object_mut);
    for property in properties.into_iter().flat_map(|properties| properties.values_mut()) {
        if let Some(property) = property.as_object_mut() {
            property.remove("default");
            if let Some(Value::Array(types)) = property.get("type")
                && let [type_, Value::String(null)] = types.as_slice()
                && null == "null"
            {
                let type_ = type_.clone();
                property.insert("type".to_owned(), type_);
            }
        }
    }
}

/// A count prints as an integer as long as a float holds it exactly: `250`, not `250.0`.
#[allow(clippy::trivially_copy_pass_by_ref)] // serde passes a reference
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // within 0..2^53
pub(crate) fn count<S: Serializer>(count: &f64, serializer: S) -> Result<S::Ok, S::Error> {
    const EXACT: f64 = 9_007_199_254_740_992.0; // 2^53
    if (0.0..=EXACT).contains(count) && count.fract() == 0.0 {
        serializer.serialize_u64(*count as u64)
    } else {
        serializer.serialize_f64(*count)
    }
}
