//! The names of all annotations, and the meaning of their values.
//!
//! Values are parsed from a view of the object. Errors name the object and the annotation. [`Placement`] is a result that
//! the controller writes. [`PodWant`] and [`NamespaceNet`] are requests that users write.

mod limits;
mod namespace;
mod netem;
mod node;
mod placement;
mod pod;
mod routes;

use std::{collections::BTreeMap, fmt, str::FromStr};

use crate::FieldError;

pub use limits::{Limit, LimitWant, Limits};
pub use namespace::{NamespaceNet, bound_to};
pub use netem::Netem;
pub use node::{NodeWant, interface_pattern};
pub use placement::Placement;
pub use pod::{AddressWant, PodIps, PodWant};
pub use routes::PodRoute;

/// `"true"` when the controller has given addresses to the object.
pub const ALLOCATED: &str = "ovn.kubernetes.io/allocated";
/// `"true"` when the port is in the northbound database.
pub const ROUTED: &str = "ovn.kubernetes.io/routed";
/// The name of the subnet.
pub const LOGICAL_SWITCH: &str = "ovn.kubernetes.io/logical_switch";
/// The addresses: `v4`, `v6` or `v4,v6`.
pub const IP_ADDRESS: &str = "ovn.kubernetes.io/ip_address";
/// The MAC address.
pub const MAC_ADDRESS: &str = "ovn.kubernetes.io/mac_address";
/// Addresses to choose from, or the name of an `IPPool`. On a namespace: the names of the pools that the namespace is bound
/// to.
pub const IP_POOL: &str = "ovn.kubernetes.io/ip_pool";
/// The families of the pod's addresses in a dual-stack subnet: `ipv4`, `ipv6` or `dual`.
pub const IP_FAMILY: &str = "ovn.kubernetes.io/ip_family";
/// The subnet's networks.
pub const CIDR: &str = "ovn.kubernetes.io/cidr";
/// The router's address in the subnet.
pub const GATEWAY: &str = "ovn.kubernetes.io/gateway";
/// The limit of traffic into the pod, in Mbit/s. On a namespace or a Subnet, this and the following annotations are the
/// default of its pods.
pub const INGRESS_RATE: &str = "ovn.kubernetes.io/ingress_rate";
/// The limit of traffic out of the pod, in Mbit/s.
pub const EGRESS_RATE: &str = "ovn.kubernetes.io/egress_rate";
/// The burst of traffic into the pod, in Mbit.
pub const INGRESS_BURST: &str = "ovn.kubernetes.io/ingress_burst";
/// The burst of traffic out of the pod, in Mbit.
pub const EGRESS_BURST: &str = "ovn.kubernetes.io/egress_burst";
/// The limit of traffic into the pod, in Kubernetes' own annotation: `10M`.
pub const INGRESS_BANDWIDTH: &str = "kubernetes.io/ingress-bandwidth";
/// The limit of traffic out of the pod, in Kubernetes' own annotation: `10M`.
pub const EGRESS_BANDWIDTH: &str = "kubernetes.io/egress-bandwidth";
/// Whether the pod's packets are copied to the mirror of its node. On a Node: whether those of all its pods are.
pub const MIRROR: &str = "ovn.kubernetes.io/mirror";
/// More routes of the pod, as JSON.
pub const ROUTES: &str = "ovn.kubernetes.io/routes";
/// The delay of packets on their way into the pod, in ms.
pub const LATENCY: &str = "ovn.kubernetes.io/latency";
/// The largest random difference of that delay, in ms.
pub const JITTER: &str = "ovn.kubernetes.io/jitter";
/// How many of 100 packets on their way into the pod are lost.
pub const LOSS: &str = "ovn.kubernetes.io/loss";
/// The number of packets that wait for their delay at most.
pub const LIMIT: &str = "ovn.kubernetes.io/limit";
/// The next hop of the pod's traffic that leaves the cluster: `v4`, `v6` or `v4,v6`.
pub const NORTH_GATEWAY: &str = "ovn.kubernetes.io/north_gateway";
/// Whether the pod can send only from its own addresses.
pub const PORT_SECURITY: &str = "ovn.kubernetes.io/port_security";

/// Node: the name of its port.
pub const PORT_NAME: &str = "ovn.kubernetes.io/port_name";
/// Node: interfaces for tunnels, names or regular expressions.
pub const TUNNEL_INTERFACE: &str = "ovn.kubernetes.io/tunnel_interface";
/// Node: its addresses in further networks, as JSON.
pub const NODE_NETWORKS: &str = "ovn.kubernetes.io/node_networks";
/// Node: its OVS `system-id`.
pub const CHASSIS: &str = "ovn.kubernetes.io/chassis";
/// The label of the nodes that run ovn-central. Its value is `master`.
pub const ROLE_LABEL: &str = "kube-ovn/role";

/// Namespace: addresses that are not chosen for pods.
pub const EXCLUDE_IPS: &str = "ovn.kubernetes.io/exclude_ips";
/// Namespace: the value of `logical_switch` that the controller wrote last. When both are equal, `logical_switch` is a
/// result. When they differ, a user has changed `logical_switch` and asks for another subnet.
pub const BOUND_SUBNET: &str = "ovn.kubernetes.io/bound_subnet";
/// Namespace: the value of `ip_pool` that the controller wrote last, with the same meaning as `bound_subnet`.
pub const BOUND_IP_POOL: &str = "ovn.kubernetes.io/bound_ip_pool";
/// Namespace: whether traffic from other subnets is dropped.
pub const PRIVATE: &str = "ovn.kubernetes.io/private";
/// Namespace: CIDRs that can reach a private subnet, and that it can reach.
pub const ALLOW: &str = "ovn.kubernetes.io/allow";
/// Namespace: the type of the gateway, `distributed` or `centralized`.
pub const GATEWAY_TYPE: &str = "ovn.kubernetes.io/gateway_type";
/// Namespace: the gateway nodes of a centralized subnet.
pub const GATEWAY_NODE: &str = "ovn.kubernetes.io/gateway_node";
/// The label of a node that centralized subnets without gateway nodes of their own leave by, with the value `true`.
pub const GATEWAY_NODE_LABEL: &str = "ovn.kubernetes.io/gateway-node";
/// Namespace: whether traffic that leaves the cluster is masqueraded; true when absent.
pub const GATEWAY_NAT: &str = "ovn.kubernetes.io/gateway_nat";

/// Label of an IP object: the subnet of the addresses.
pub const SUBNET_LABEL: &str = "ovn.kubernetes.io/subnet";
/// Label of an IP object: the node.
pub const NODE_NAME_LABEL: &str = "ovn.kubernetes.io/node-name";
/// Label of an IP object: whether the object outlives its pod.
pub const IP_RESERVED_LABEL: &str = "ovn.kubernetes.io/ip_reserved";

/// Annotations of kube-ovn's for pods that this version does not serve, without those that kube-ovn itself writes to all pods.
const UNSERVED: [&str; 11] = [
    "ovn.kubernetes.io/aaps",
    "ovn.kubernetes.io/activation_strategy",
    "ovn.kubernetes.io/bgp",
    "ovn.kubernetes.io/dhcp-v4-options",
    "ovn.kubernetes.io/dhcp-v6-options",
    "ovn.kubernetes.io/eip",
    "ovn.kubernetes.io/layer2_forward",
    "ovn.kubernetes.io/port_vips",
    "ovn.kubernetes.io/security_groups",
    "ovn.kubernetes.io/snat",
    "ovn.kubernetes.io/vip",
];

/// Returns the annotations of a pod that ask for something which this version does not do.
pub fn unserved(pod: &crate::PodView) -> impl Iterator<Item = &'static str> + '_ {
    let asks = |value: &str| !matches!(value.trim(), "" | "0" | "false");
    UNSERVED.into_iter().filter(move |name| pod.annotation(name).is_some_and(asks))
}

/// What the annotation `mirror` of a pod says. `object` is the name of the object for the error.
pub fn mirror(object: String, annotations: &BTreeMap<String, String>) -> Result<Option<bool>, FieldError> {
    Reader::new(object, annotations).flag(MIRROR)
}

/// The annotations of an object, and the name of the object for errors.
struct Reader<'a> {
    object: String,
    annotations: &'a BTreeMap<String, String>,
}

impl<'a> Reader<'a> {
    fn new(object: String, annotations: &'a BTreeMap<String, String>) -> Self {
        Self { object, annotations }
    }

    /// The trimmed value. An empty value counts as absent, as in kube-ovn.
    fn text(&self, name: &str) -> Option<&'a str> {
        self.annotations.get(name).map(|value| value.trim()).filter(|value| !value.is_empty())
    }

    fn error(&self, name: &str, why: impl fmt::Display) -> FieldError {
        FieldError::new(self.object.clone(), format!("annotation {name}"), why)
    }

    fn parse<T: FromStr<Err: fmt::Display>>(&self, name: &str) -> Result<Option<T>, FieldError> {
        self.parse_with(name, T::from_str)
    }

    fn parse_with<T, E: fmt::Display>(
        &self,
        name: &str,
        parse: impl FnOnce(&'a str) -> Result<T, E>,
    ) -> Result<Option<T>, FieldError> {
        self.text(name).map(parse).transpose().map_err(|e| self.error(name, e))
    }

    fn require<T: FromStr<Err: fmt::Display>>(&self, name: &str) -> Result<T, FieldError> {
        self.parse(name)?.ok_or_else(|| self.error(name, "missing on an allocated object"))
    }

    fn flag(&self, name: &str) -> Result<Option<bool>, FieldError> {
        self.parse_with(name, |text| match text {
            "true" => Ok(true),
            "false" => Ok(false),
            other => Err(format!("{other:?} is neither true nor false")),
        })
    }

    /// Names of objects, separated by commas.
    fn names(&self, name: &str, what: &str) -> Result<Vec<String>, FieldError> {
        let parts = self.text(name).into_iter().flat_map(|text| text.split(','));
        let names: Vec<String> = parts.map(|part| part.trim().to_owned()).filter(|part| !part.is_empty()).collect();
        match names.iter().find(|name| !is_object_name(name)) {
            None => Ok(names),
            Some(odd) => Err(self.error(name, format_args!("{odd:?} cannot be the name of {what}"))),
        }
    }

    fn is_true(&self, name: &str) -> bool {
        self.text(name) == Some("true")
    }
}

/// Whether `name` is a DNS subdomain (RFC 1123), as the names of objects must be.
fn is_object_name(name: &str) -> bool {
    let label = |label: &str| {
        let inside = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
        !label.is_empty() && label.bytes().all(inside) && !label.starts_with('-') && !label.ends_with('-')
    };
    name.len() <= 253 && name.split('.').all(label)
}

#[cfg(test)]
mod tests;
