//! A node's annotations: its place on the join switch.

use std::collections::BTreeMap;

use super::{ALLOCATED, CIDR, GATEWAY, IP_ADDRESS, LOGICAL_SWITCH, MAC_ADDRESS, PORT_NAME, Reader};
use crate::{Addresses, Cidrs, FieldError, Mac, NodeView};

/// What a node was given for its `ovn0`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeNet {
    /// The join switch.
    pub switch: String,
    /// The addresses of `ovn0`.
    pub ips: Addresses,
    /// The MAC of `ovn0`.
    pub mac: Mac,
    /// The join switch's networks.
    pub cidrs: Cidrs,
    /// The router's address there, next hop to every subnet.
    pub gateway: Addresses,
    /// Name of the logical port, `node-<name>`: the `iface-id` of `ovn0`.
    pub port_name: String,
}

impl NodeNet {
    /// Reads a result; `None` when the node has none yet.
    pub fn parse(node: &NodeView) -> Result<Option<Self>, FieldError> {
        let reader = Reader::new(node.object(), node.annotations());
        if !reader.is_true(ALLOCATED) {
            return Ok(None);
        }
        Ok(Some(Self {
            switch: reader.require(LOGICAL_SWITCH)?,
            ips: reader.require(IP_ADDRESS)?,
            mac: reader.require(MAC_ADDRESS)?,
            cidrs: reader.require(CIDR)?,
            gateway: reader.require(GATEWAY)?,
            port_name: reader.require(PORT_NAME)?,
        }))
    }

    /// The annotations that say it.
    pub fn to_annotations(&self) -> BTreeMap<String, String> {
        BTreeMap::from(
            [
                (ALLOCATED, "true".to_owned()),
                (LOGICAL_SWITCH, self.switch.clone()),
                (IP_ADDRESS, self.ips.to_string()),
                (MAC_ADDRESS, self.mac.to_string()),
                (CIDR, self.cidrs.to_string()),
                (GATEWAY, self.gateway.to_string()),
                (PORT_NAME, self.port_name.clone()),
            ]
            .map(|(name, value)| (name.to_owned(), value)),
        )
    }
}
