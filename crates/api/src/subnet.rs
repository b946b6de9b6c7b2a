//! The custom resource `Subnet` as users write it. It has kube-ovn's field names, and the API server checks it with CEL
//! rules.
//!
//! The API server keeps fields that are unknown here, such as those of newer versions of kube-ovn
//! (`x-kubernetes-preserve-unknown-fields`). Write these objects with patches: a replace would drop those fields. The
//! fields are plain text. [`crate::SubnetDef`] is the checked form that the other crates use.

#![allow(unreachable_pub)] // KubeSchema copies the `pub` struct into a function body
#![allow(clippy::duplicated_attributes)] // printer columns of one type are not duplicates

mod acl;
mod in_force;
mod mirror;
mod nat;
mod rules;
mod unserved;

use std::fmt;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, Time};
use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;

pub use acl::SubnetAcl;
pub use in_force::{EffectiveSubnet, InForce, InForceNetwork, SubnetView};
pub use mirror::RemoteMirror;
pub use nat::{NatOutgoingPolicyMatch, NatOutgoingPolicyRule, NatRule};
pub use unserved::unserved;

/// The desired state of a subnet.
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
    doc = "A network of pods: one switch with one CIDR per address family, bound to namespaces.",
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
    /// Whether namespaces that are bound to no subnet use this one. One subnet of the cluster is the default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default: Option<bool>,

    /// `IPv4`, `IPv6` or `Dual`. It follows from `cidrBlock`, and the controller fills it in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = rules::PROTOCOL)]
    pub protocol: Option<String>,

    /// The namespaces whose pods get their addresses from this subnet.
    #[serde(default, deserialize_with = "null_is_default", skip_serializing_if = "Vec::is_empty")]
    pub namespaces: Vec<String>,

    /// Selectors of further namespaces, by their labels.
    #[serde(default, deserialize_with = "null_is_default", skip_serializing_if = "Vec::is_empty")]
    pub namespace_selectors: Vec<LabelSelector>,

    /// The network: one CIDR, or one IPv4 and one IPv6 CIDR separated by a comma, e.g. `10.18.0.0/24,fd00:18::/64`.
    #[serde(default)]
    #[schemars(length(max = 128))]
    #[x_kube(validation = rules::CIDR)]
    #[x_kube(validation = rules::CIDR_FAMILIES)]
    #[x_kube(validation = rules::CIDR_FOR_PODS)]
    #[x_kube(validation = rules::CIDR_SIZE)]
    pub cidr_block: String,

    /// The router's address, one for each family. When it is empty, it is the first usable address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 128))]
    #[x_kube(validation = rules::GATEWAY)]
    pub gateway: Option<String>,

    /// Addresses that are not chosen for pods: single ones, or ranges such as `10.17.0.1..10.17.0.10`.
    #[serde(default, deserialize_with = "null_is_default", skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 1024), inner(length(max = 128)))]
    #[x_kube(validation = rules::EXCLUDE_IPS)]
    pub exclude_ips: Vec<String>,

    /// The nodes at which traffic leaves the cluster: `distributed` (the pod's own node, the default) or `centralized` (the
    /// gateway nodes).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = rules::GATEWAY_TYPE)]
    pub gateway_type: Option<String>,

    /// The gateway nodes of a centralized subnet, in order of preference: `n1,n2`, or `n1:172.30.0.1,n2:172.30.0.2`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gateway_node: Option<String>,

    /// The gateway nodes of a centralized subnet, by label.
    #[serde(default, deserialize_with = "null_is_default", skip_serializing_if = "Vec::is_empty")]
    pub gateway_node_selectors: Vec<LabelSelector>,

    /// Whether the pods of a centralized subnet leave by all of its gateway nodes, instead of by the active one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub enable_ecmp: Option<bool>,

    /// Whether traffic that leaves the cluster gets the node's address as its source.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nat_outgoing: Option<bool>,

    /// Which leaving traffic gets the node's address: the first rule that matches decides. Without `natOutgoing` they have no
    /// effect.
    #[serde(default, deserialize_with = "null_is_default", skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 128))]
    pub nat_outgoing_policy_rules: Vec<NatOutgoingPolicyRule>,

    /// Whether the pods can be reached only from this subnet, from the nodes and from `allowSubnets`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub private: Option<bool>,

    /// CIDRs that can reach a private subnet, and that it can reach.
    #[serde(default, deserialize_with = "null_is_default", skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 1024), inner(length(max = 128)))]
    #[x_kube(validation = rules::ALLOW_SUBNETS)]
    pub allow_subnets: Vec<String>,

    /// Rules for the packets that pass the subnet's switch.
    #[serde(default, deserialize_with = "acl::read", skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 1024))]
    pub acls: Vec<SubnetAcl>,

    /// A collector that gets copies of the packets of the subnet's pods.
    #[serde(default, deserialize_with = "mirror::read", skip_serializing_if = "Option::is_none")]
    pub remote_mirror: Option<RemoteMirror>,

    /// The network of the nodes that tunnels for this subnet use: a name in the annotation `ovn.kubernetes.io/node_networks`
    /// of Nodes. When it is empty, the network of the nodes' tunnel interfaces.
    #[serde(default, deserialize_with = "as_text", skip_serializing_if = "Option::is_none")]
    pub node_network: Option<String>,

    /// The provider of the subnet; `ovn` when empty.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provider: Option<String>,

    /// The router the subnet is attached to; `ovn-cluster` when empty.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vpc: Option<String>,

    /// The MTU of the pods' interfaces in bytes. When it is 0 or absent, it follows from the tunnel.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 65535))]
    pub mtu: Option<i64>,

    /// Whether pods of the subnet can use Services; true when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub enable_lb: Option<bool>,

    /// Whether the router sends IPv6 router advertisements.
    #[serde(default, rename = "enableIPv6RA", skip_serializing_if = "Option::is_none")]
    pub enable_ipv6_ra: Option<bool>,

    /// The options of the router advertisements: `key=value,...`, as in OVN's `ipv6_ra_configs`.
    #[serde(default, rename = "ipv6RAConfigs", skip_serializing_if = "Option::is_none")]
    pub ipv6_ra_configs: Option<String>,

    /// Whether pods start before the gateway has answered.
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

/// The observed state of a subnet, written by the controller.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-preserve-unknown-fields" = true))]
#[schemars(transform = plain)]
pub struct SubnetStatus {
    /// The conditions `Validated`, `Ready` and `Error`.
    #[serde(default, deserialize_with = "null_is_default")]
    pub conditions: Vec<Condition>,

    /// The number of free IPv4 addresses. It is a float, since an IPv6 /64 has more addresses than an integer can count.
    #[serde(default, rename = "v4availableIPs", deserialize_with = "null_is_default", serialize_with = "count")]
    pub v4_available_ips: f64,
    /// The number of IPv4 addresses in use.
    #[serde(default, rename = "v4usingIPs", deserialize_with = "null_is_default", serialize_with = "count")]
    pub v4_using_ips: f64,
    /// The number of free IPv6 addresses.
    #[serde(default, rename = "v6availableIPs", deserialize_with = "null_is_default", serialize_with = "count")]
    pub v6_available_ips: f64,
    /// The number of IPv6 addresses in use.
    #[serde(default, rename = "v6usingIPs", deserialize_with = "null_is_default", serialize_with = "count")]
    pub v6_using_ips: f64,

    /// The free IPv4 addresses: `10.16.0.9-10.16.0.12,10.16.0.14`.
    #[serde(default, rename = "v4availableIPrange", deserialize_with = "null_is_default")]
    pub v4_available_ip_range: String,
    /// The IPv4 addresses in use.
    #[serde(default, rename = "v4usingIPrange", deserialize_with = "null_is_default")]
    pub v4_using_ip_range: String,
    /// The free IPv6 addresses.
    #[serde(default, rename = "v6availableIPrange", deserialize_with = "null_is_default")]
    pub v6_available_ip_range: String,
    /// The IPv6 addresses in use.
    #[serde(default, rename = "v6usingIPrange", deserialize_with = "null_is_default")]
    pub v6_using_ip_range: String,

    /// The gateway node by which the pods of a centralized subnet leave now. With `enableEcmp` all of them, separated by
    /// commas.
    #[serde(default, deserialize_with = "null_is_default")]
    pub activate_gateway: String,

    /// What nodes do for the subnet: what the controller has accepted of its spec. Absent while nothing is in force.
    #[serde(default)]
    pub in_force: Option<InForce>,
}

/// A condition of a subnet or a pool, in kube-ovn's form.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Condition {
    /// `Validated`, `Ready` or `Error`.
    #[serde(rename = "type")]
    pub type_: String,
    /// `True`, `False` or `Unknown`.
    pub status: String,
    /// The reason for the status, in one word.
    #[serde(default, deserialize_with = "null_is_default", skip_serializing_if = "String::is_empty")]
    pub reason: String,
    /// The reason for the status, in a sentence.
    #[serde(default, deserialize_with = "null_is_default", skip_serializing_if = "String::is_empty")]
    pub message: String,
    /// The time of the last check.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_update_time: Option<Time>,
    /// The time of the last change of `status`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_transition_time: Option<Time>,
}

impl Subnet {
    /// The name of this subnet in error messages: `subnet <name>`.
    pub fn object(&self) -> String {
        Self::object_of(self.metadata.name.as_deref().unwrap_or_default())
    }

    /// The name in error messages of the subnet called `name`.
    pub fn object_of(name: impl fmt::Display) -> String {
        format!("subnet {name}")
    }
}

/// Reads `null` as the default: a stored object can have `null` where Go had an empty list or string.
pub(crate) fn null_is_default<'de, D: Deserializer<'de>, T: Default + Deserialize<'de>>(d: D) -> Result<T, D::Error> {
    Ok(Option::deserialize(d)?.unwrap_or_default())
}

/// Reads any stored value as text: before the field was known, the API server stored it unchecked.
fn as_text<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    Ok(match Value::deserialize(deserializer)? {
        Value::Null => None,
        Value::String(text) => Some(text),
        other => Some(other.to_string()),
    })
}

/// Removes defaults and `null` types from a schema.
///
/// They let serde read any stored object. In the schema, a default would add a field that the user left out, and a `null`
/// type would allow a value that kube-ovn's schema refuses and that the CEL rules do not expect.
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

/// Removes the bounds of texts from a schema and all below it. A status repeats what a spec says, and may need more for it: a
/// network in full can be longer than its author writes it.
pub(crate) fn unbounded(schema: &mut schemars::Schema) {
    schema.remove("maxLength");
    schemars::transform::transform_subschemas(&mut unbounded, schema);
}

/// Serializes a count as an integer when a float holds it exactly: `250`, not `250.0`.
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
