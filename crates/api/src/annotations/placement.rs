//! The addresses of a pod or a node in a subnet, as its annotations record them.

use std::collections::BTreeMap;

use super::{ALLOCATED, CIDR, GATEWAY, IP_ADDRESS, LOGICAL_SWITCH, MAC_ADDRESS, PORT_NAME, ROUTED, Reader};
use crate::{Addresses, Cidrs, FieldError, Mac, NodeView, PodView};

/// The addresses of a pod's interface, or of a node's `ovn0`, and the networks that they are in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placement {
    /// The subnet. For a node, it is the join switch.
    pub switch: String,
    /// The addresses.
    pub ips: Addresses,
    /// The MAC.
    pub mac: Mac,
    /// The networks of the subnet.
    pub cidrs: Cidrs,
    /// The router's address in the subnet: a pod's default route, or a node's next hop to all subnets.
    pub gateway: Addresses,
    /// Whether the annotations are complete: a pod's tell that its port is in the northbound database, and a node's tell the
    /// name of its port.
    pub complete: bool,
}

impl Placement {
    /// Reads the annotations of a pod; `None` when the pod has no addresses yet.
    pub fn of_pod(pod: &PodView) -> Result<Option<Self>, FieldError> {
        let reader = Reader::new(pod.object(), pod.annotations());
        Self::read(&reader, reader.is_true(ROUTED))
    }

    /// Reads the annotations of a node; `None` when the node has no addresses yet.
    pub fn of_node(node: &NodeView) -> Result<Option<Self>, FieldError> {
        let reader = Reader::new(node.object(), node.annotations());
        Self::read(&reader, reader.text(PORT_NAME) == Some(&node.port_name()))
    }

    /// The annotations of a pod with these addresses whose port is in the northbound database.
    pub fn pod_annotations(&self) -> BTreeMap<String, String> {
        self.annotations((ROUTED, "true"))
    }

    /// The annotations of a node with these addresses. `port` is the name of its port, which is the `iface-id` of `ovn0`.
    pub fn node_annotations(&self, port: &str) -> BTreeMap<String, String> {
        self.annotations((PORT_NAME, port))
    }

    fn read(reader: &Reader<'_>, complete: bool) -> Result<Option<Self>, FieldError> {
        if !reader.is_true(ALLOCATED) {
            return Ok(None);
        }
        Ok(Some(Self {
            switch: reader.require(LOGICAL_SWITCH)?,
            ips: reader.require(IP_ADDRESS)?,
            mac: reader.require(MAC_ADDRESS)?,
            cidrs: reader.require(CIDR)?,
            gateway: reader.require(GATEWAY)?,
            complete,
        }))
    }

    fn annotations(&self, (name, value): (&str, &str)) -> BTreeMap<String, String> {
        let annotations = [
            (ALLOCATED, "true".to_owned()),
            (LOGICAL_SWITCH, self.switch.clone()),
            (IP_ADDRESS, self.ips.to_string()),
            (MAC_ADDRESS, self.mac.to_string()),
            (CIDR, self.cidrs.to_string()),
            (GATEWAY, self.gateway.to_string()),
            (name, value.to_owned()),
        ];
        annotations.map(|(name, value)| (name.to_owned(), value)).into()
    }
}
