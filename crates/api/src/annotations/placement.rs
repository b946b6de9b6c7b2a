//! The place that a pod or a node was given in a subnet, as its annotations say it.

use std::collections::BTreeMap;

use super::{ALLOCATED, CIDR, GATEWAY, IP_ADDRESS, LOGICAL_SWITCH, MAC_ADDRESS, PORT_NAME, ROUTED, Reader};
use crate::{Addresses, Cidrs, FieldError, Mac, NodeView, PodView};

/// A place in a subnet: what a pod was given for its interface, or a node for its `ovn0`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placement {
    /// The subnet; a node's is the join switch.
    pub switch: String,
    /// The addresses.
    pub ips: Addresses,
    /// The MAC.
    pub mac: Mac,
    /// The subnet's networks.
    pub cidrs: Cidrs,
    /// The router's address there: a pod's default route, a node's next hop to every subnet.
    pub gateway: Addresses,
    /// Whether the annotations also say what goes with it: a pod's that its port is in the northbound database, a node's
    /// what its port is called.
    pub complete: bool,
}

impl Placement {
    /// Reads a pod's; `None` when it has none yet.
    pub fn of_pod(pod: &PodView) -> Result<Option<Self>, FieldError> {
        let reader = Reader::new(pod.object(), pod.annotations());
        Self::read(&reader, reader.is_true(ROUTED))
    }

    /// Reads a node's; `None` when it has none yet.
    pub fn of_node(node: &NodeView) -> Result<Option<Self>, FieldError> {
        let reader = Reader::new(node.object(), node.annotations());
        Self::read(&reader, reader.text(PORT_NAME) == Some(&node.port_name()))
    }

    /// The annotations of a pod whose place this is, and whose port is in the northbound database.
    pub fn pod_annotations(&self) -> BTreeMap<String, String> {
        self.annotations((ROUTED, "true"))
    }

    /// The annotations of a node whose place this is, with its port's name, which is the `iface-id` of `ovn0`.
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
