//! Views of core objects with only the fields that the program reads, so that a pod takes less memory.
//!
//! They replace the full types in `kube::Api` and in watchers. All fields except the metadata are optional.

use std::{collections::BTreeMap, net::IpAddr};

use k8s_openapi::{
    api::apps::v1::StatefulSet,
    api::core::v1::{Namespace, Node, Pod},
    apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference, Time},
};
use serde::{Deserialize, Deserializer};

use crate::{subnet::null_is_default, values::parse_address};

/// A pod.
#[derive(kube::Resource, Clone, Debug, Default, PartialEq, Deserialize)]
#[resource(inherit = Pod)]
pub struct PodView {
    /// The metadata: name, namespace, uid, annotations, owners.
    #[serde(default, deserialize_with = "slim_metadata")]
    pub metadata: ObjectMeta,
    #[serde(default, deserialize_with = "null_is_default")]
    spec: PodSpecView,
    #[serde(default, deserialize_with = "null_is_default")]
    status: PodStatusView,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct PodSpecView {
    node_name: Option<String>,
    host_network: Option<bool>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct PodStatusView {
    phase: Option<String>,
    #[serde(rename = "podIPs")]
    pod_ips: Option<Vec<PodIpView>>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
struct PodIpView {
    ip: Option<String>,
}

/// A namespace.
#[derive(kube::Resource, Clone, Debug, Default, PartialEq, Deserialize)]
#[resource(inherit = Namespace)]
pub struct NamespaceView {
    /// The metadata: name, labels, annotations.
    #[serde(default, deserialize_with = "slim_metadata")]
    pub metadata: ObjectMeta,
}

/// A stateful set.
#[derive(kube::Resource, Clone, Debug, Default, PartialEq, Deserialize)]
#[resource(inherit = StatefulSet)]
pub struct StatefulSetView {
    /// The metadata: name, namespace.
    #[serde(default, deserialize_with = "slim_metadata")]
    pub metadata: ObjectMeta,
    #[serde(default, deserialize_with = "null_is_default")]
    spec: StatefulSetSpecView,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
struct StatefulSetSpecView {
    replicas: Option<u32>,
    ordinals: Option<OrdinalsView>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
struct OrdinalsView {
    start: u32,
}

/// A node.
#[derive(kube::Resource, Clone, Debug, Default, PartialEq, Deserialize)]
#[resource(inherit = Node)]
pub struct NodeView {
    /// The metadata: name, labels, annotations.
    #[serde(default, deserialize_with = "slim_metadata")]
    pub metadata: ObjectMeta,
    #[serde(default, deserialize_with = "null_is_default")]
    status: NodeStatusView,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
struct NodeStatusView {
    addresses: Option<Vec<NodeAddress>>,
    conditions: Option<Vec<NodeCondition>>,
}

/// An address of a node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct NodeAddress {
    /// The type: `InternalIP`, `ExternalIP`, `Hostname`, ...
    #[serde(rename = "type")]
    pub type_: String,
    /// The address, or a host name.
    pub address: String,
}

/// A condition of a node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct NodeCondition {
    /// The type: `Ready`, ...
    #[serde(rename = "type")]
    pub type_: String,
    /// The status: `True`, `False` or `Unknown`.
    pub status: String,
}

/// The methods that all views have: metadata without the `Option`s.
macro_rules! metadata {
    ($view:ident) => {
        impl $view {
            /// The name, or an empty string.
            pub fn name(&self) -> &str {
                self.metadata.name.as_deref().unwrap_or_default()
            }

            /// The uid, or an empty string.
            pub fn uid(&self) -> &str {
                self.metadata.uid.as_deref().unwrap_or_default()
            }

            /// The resource version, or an empty string.
            pub fn resource_version(&self) -> &str {
                self.metadata.resource_version.as_deref().unwrap_or_default()
            }

            /// The value of the annotation `name`.
            pub fn annotation(&self, name: &str) -> Option<&str> {
                self.metadata.annotations.as_ref()?.get(name).map(String::as_str)
            }

            /// All annotations.
            pub fn annotations(&self) -> &BTreeMap<String, String> {
                self.metadata.annotations.as_ref().unwrap_or(&EMPTY)
            }

            /// All labels.
            pub fn labels(&self) -> &BTreeMap<String, String> {
                self.metadata.labels.as_ref().unwrap_or(&EMPTY)
            }

            /// Whether the deletion of the object has begun.
            pub fn is_terminating(&self) -> bool {
                self.metadata.deletion_timestamp.is_some()
            }
        }
    };
}

/// Reads the metadata that is used. Nothing is built of `managedFields`, which is half of a pod.
fn slim_metadata<'de, D: Deserializer<'de>>(deserializer: D) -> Result<ObjectMeta, D::Error> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Slim {
        name: Option<String>,
        namespace: Option<String>,
        uid: Option<String>,
        resource_version: Option<String>,
        creation_timestamp: Option<Time>,
        deletion_timestamp: Option<Time>,
        labels: Option<BTreeMap<String, String>>,
        annotations: Option<BTreeMap<String, String>>,
        owner_references: Option<Vec<OwnerReference>>,
    }
    let Slim {
        name,
        namespace,
        uid,
        resource_version,
        creation_timestamp,
        deletion_timestamp,
        labels,
        annotations,
        owner_references,
    } = Slim::deserialize(deserializer)?;
    Ok(ObjectMeta {
        name,
        namespace,
        uid,
        resource_version,
        creation_timestamp,
        deletion_timestamp,
        labels,
        annotations,
        owner_references,
        ..ObjectMeta::default()
    })
}

static EMPTY: BTreeMap<String, String> = BTreeMap::new();

metadata!(PodView);
metadata!(NamespaceView);
metadata!(NodeView);
metadata!(StatefulSetView);

impl StatefulSetView {
    /// The namespace, or an empty string.
    pub fn namespace(&self) -> &str {
        self.metadata.namespace.as_deref().unwrap_or_default()
    }

    /// The ordinals of the set's pods: `replicas` of them (one when absent), from `ordinals.start` on.
    pub fn ordinals(&self) -> std::ops::Range<usize> {
        let start = self.spec.ordinals.as_ref().map_or(0, |ordinals| ordinals.start);
        start as usize..start.saturating_add(self.spec.replicas.unwrap_or(1)) as usize
    }
}

impl PodView {
    /// The namespace, or an empty string.
    pub fn namespace(&self) -> &str {
        self.metadata.namespace.as_deref().unwrap_or_default()
    }

    /// The name of this pod in error messages: `pod <namespace>/<name>`.
    pub fn object(&self) -> String {
        format!("pod {}/{}", self.namespace(), self.name())
    }

    /// The name of the pod's port, of its IP object and of its lease: `<pod>.<namespace>`.
    pub fn port_name(&self) -> String {
        crate::pod_port(self.name(), self.namespace())
    }

    /// The node that the pod is bound to; `None` before the pod is scheduled.
    pub fn node_name(&self) -> Option<&str> {
        self.spec.node_name.as_deref().filter(|name| !name.is_empty())
    }

    /// Whether the pod gets an interface and addresses, since it does not use the node's network.
    pub fn wants_network(&self) -> bool {
        !self.spec.host_network.unwrap_or_default()
    }

    /// Whether the pod has ended (`Succeeded` or `Failed`), so that its addresses are free.
    pub fn is_done(&self) -> bool {
        matches!(self.phase(), "Succeeded" | "Failed")
    }

    /// The phase (`Pending`, `Running`, ...), or an empty string.
    pub fn phase(&self) -> &str {
        self.status.phase.as_deref().unwrap_or_default()
    }

    /// The addresses that kubelet reports. Values that do not parse are left out.
    pub fn pod_ips(&self) -> impl Iterator<Item = IpAddr> + '_ {
        let reported = self.status.pod_ips.iter().flatten().filter_map(|entry| entry.ip.as_deref());
        reported.filter_map(|ip| parse_address(ip).ok())
    }

    /// The owner of the pod: its controller, or else the first owner.
    pub fn owner(&self) -> Option<&OwnerReference> {
        let owners = self.metadata.owner_references.as_deref()?;
        owners.iter().find(|owner| owner.controller == Some(true)).or(owners.first())
    }

    /// The name of the `StatefulSet` that the pod belongs to, and the pod's ordinal in it.
    pub fn stateful_set(&self) -> Option<(&str, usize)> {
        let owner = self.owner().filter(|owner| owner.kind == "StatefulSet")?;
        let ordinal = self.name().strip_prefix(owner.name.as_str())?.strip_prefix('-')?;
        Some((&owner.name, ordinal.parse().ok()?))
    }
}

impl NamespaceView {
    /// The name of this namespace in error messages: `namespace <name>`.
    pub fn object(&self) -> String {
        format!("namespace {}", self.name())
    }
}

impl NodeView {
    /// The name of this node in error messages: `node <name>`.
    pub fn object(&self) -> String {
        format!("node {}", self.name())
    }

    /// The name of the node's port on the join switch, of its IP object and of its lease: `node-<name>`.
    pub fn port_name(&self) -> String {
        crate::node_port(self.name())
    }

    /// All addresses that kubelet reports.
    pub fn addresses(&self) -> &[NodeAddress] {
        self.status.addresses.as_deref().unwrap_or_default()
    }

    /// The addresses of type `InternalIP`. Values that do not parse are left out.
    pub fn internal_ips(&self) -> impl Iterator<Item = IpAddr> + '_ {
        let internal = self.addresses().iter().filter(|address| address.type_ == "InternalIP");
        internal.filter_map(|address| parse_address(&address.address).ok())
    }

    /// Whether the condition `Ready` is true.
    pub fn is_ready(&self) -> bool {
        self.condition("Ready") == Some("True")
    }

    /// Whether the condition `NetworkUnavailable` is false. A node without it has not been told that its network works.
    pub fn has_network(&self) -> bool {
        self.condition("NetworkUnavailable") == Some("False")
    }

    /// The status of a condition.
    fn condition(&self, name: &str) -> Option<&str> {
        let mut conditions = self.status.conditions.iter().flatten();
        conditions.find(|condition| condition.type_ == name).map(|condition| condition.status.as_str())
    }
}

#[cfg(test)]
mod tests;
