//! The annotations by which an administrator chooses the tunnels of a node and whether its pods are mirrored.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use super::{MIRROR, NODE_NETWORKS, Reader, TUNNEL_INTERFACE};
use crate::values::parse_address;
use crate::{FieldError, NodeView};

/// What the annotations of a Node say. Each is read separately.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeWant {
    /// Whether the packets of all its pods are mirrored. `None` means the default of the installation.
    pub mirror: Result<Option<bool>, FieldError>,
    /// The names of interfaces for tunnels, or regular expressions, in order of preference: `bond0,eth.*`. `None` means the
    /// choice of the installation.
    pub tunnel_interface: Result<Option<String>, FieldError>,
    /// The node's address in each of its further networks, by the name of the network.
    pub networks: Result<BTreeMap<String, IpAddr>, FieldError>,
}

impl Default for NodeWant {
    fn default() -> Self {
        Self { mirror: Ok(None), tunnel_interface: Ok(None), networks: Ok(BTreeMap::new()) }
    }
}

impl NodeWant {
    /// Reads the annotations of a Node.
    pub fn parse(node: &NodeView) -> Self {
        let reader = Reader::new(node.object(), node.annotations());
        Self {
            mirror: reader.flag(MIRROR),
            tunnel_interface: reader.parse_with(TUNNEL_INTERFACE, interfaces),
            networks: reader.parse_with(NODE_NETWORKS, networks).map(Option::unwrap_or_default),
        }
    }

    /// The errors of the annotations that cannot be read.
    pub fn unreadable(&self) -> impl Iterator<Item = &FieldError> {
        let Self { mirror, tunnel_interface, networks } = self;
        [mirror.as_ref().err(), tunnel_interface.as_ref().err(), networks.as_ref().err()].into_iter().flatten()
    }
}

/// The pattern of an entry in a list of interfaces: a name, or a regular expression for the whole name.
pub fn interface_pattern(entry: &str) -> Result<regex::Regex, regex::Error> {
    regex::Regex::new(&format!("^(?:{entry})$"))
}

fn interfaces(text: &str) -> Result<String, String> {
    let mut names = text.split(',').map(str::trim).filter(|name| !name.is_empty()).peekable();
    if names.peek().is_none() {
        return Err("no interface in it".to_owned());
    }
    let odd = names.find(|name| interface_pattern(name).is_err());
    odd.map_or_else(|| Ok(text.to_owned()), |odd| Err(format!("{odd:?} is neither a name nor a regular expression")))
}

fn networks(text: &str) -> Result<BTreeMap<String, IpAddr>, String> {
    let written: BTreeMap<String, String> = serde_json::from_str(text)
        .map_err(|_| r#"it is not JSON like {"storage": "192.168.1.10"}, names and addresses"#.to_owned())?;
    let mut taken = BTreeSet::new();
    let address = |(name, address): (String, String)| {
        if name.trim().is_empty() {
            return Err("a network has no name".to_owned());
        }
        let address = parse_address(&address).map_err(|why| format!("network {name}: {why}"))?;
        if address.is_unspecified() || address.is_loopback() || address.is_multicast() || is_link_local(address) {
            return Err(format!("network {name}: {address} is the address of no tunnel"));
        }
        if taken.insert(address) { Ok((name, address)) } else { Err(format!("two networks have address {address}")) }
    };
    written.into_iter().map(address).collect()
}

/// Whether an address is valid on one link alone (RFC 3927, RFC 4291).
fn is_link_local(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(name: &str, value: &str) -> (NodeWant, Vec<String>) {
        let node = json!({ "metadata": { "name": "n1", "annotations": { name: value } } });
        let want = NodeWant::parse(&serde_json::from_value(node).unwrap());
        let errors = want.unreadable().map(ToString::to_string).collect();
        (want, errors)
    }

    #[test]
    fn what_can_be_read_is_a_value_and_the_rest_an_error() {
        let (want, errors) = read(TUNNEL_INTERFACE, "bond0, eth.*");
        assert_eq!((want.tunnel_interface, errors.len()), (Ok(Some("bond0, eth.*".to_owned())), 0));
        assert_eq!(read(TUNNEL_INTERFACE, " ").0, NodeWant::default());
        let (want, errors) = read(NODE_NETWORKS, r#"{"storage": "192.168.1.10", "backup": "fd00::10"}"#);
        let networks = want.networks.unwrap();
        assert_eq!((networks.len(), networks["backup"], errors.len()), (2, "fd00::10".parse().unwrap(), 0));
        for (name, value, why) in [
            (TUNNEL_INTERFACE, "eth0,(", r#""(" is neither a name nor a regular expression"#),
            (TUNNEL_INTERFACE, ",", "no interface in it"),
            (NODE_NETWORKS, "192.168.1.10", r#"it is not JSON like {"storage": "192.168.1.10"}, names and addresses"#),
            (NODE_NETWORKS, r#"{"a": "x"}"#, r#"network a: "x" is not an IP address: neither IPv4 nor IPv6"#),
            (NODE_NETWORKS, r#"{"a": "fd00::1", "b": "fd00::1"}"#, "two networks have address fd00::1"),
            (NODE_NETWORKS, r#"{"": "fd00::1"}"#, "a network has no name"),
            (NODE_NETWORKS, r#"{"a": "127.0.0.1"}"#, "network a: 127.0.0.1 is the address of no tunnel"),
            (NODE_NETWORKS, r#"{"a": "fe80::1"}"#, "network a: fe80::1 is the address of no tunnel"),
        ] {
            assert_eq!(read(name, value).1, [format!("node n1: annotation {name}: {why}")]);
        }
    }
}
