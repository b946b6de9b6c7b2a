//! The further networks of the node, which tunnels of some subnets use instead of the tunnel interface.

use std::collections::BTreeMap;
use std::net::IpAddr;

use links::{LinkError, Links};
use ovn::Encapsulation;

use super::{Mtu, Wanted, mtu};

/// A network of the node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    /// The local tunnel endpoint in it.
    pub address: IpAddr,
    /// The index of the interface.
    pub index: u32,
    /// The MTU of pods whose subnet uses it.
    pub mtu: Mtu,
}

/// The networks of a node by their names, and why others cannot be used.
pub type Networks = (BTreeMap<String, Network>, Vec<String>);

/// Finds the interfaces of these addresses. A network whose address the node does not have is left out: ovn-controller cannot
/// register a chassis with an address that another one has.
pub async fn networks(
    links: &Links,
    named: &BTreeMap<String, IpAddr>,
    encapsulation: Encapsulation,
    wanted: Wanted,
) -> Result<Networks, LinkError> {
    let mut found = Networks::default();
    if named.is_empty() {
        return Ok(found);
    }
    let (all, assigned) = (links.all().await?, links.assigned().await?);
    for (name, address) in named {
        let place = assigned.iter().find(|assigned| assigned.own == *address && assigned.usable);
        let link = place.and_then(|place| all.iter().find(|link| link.index == place.link));
        let mtu = link.map(|link| mtu::through(link, *address, encapsulation, wanted).map(|mtu| (link.index, mtu)));
        match mtu {
            Some(Ok((index, mtu))) => drop(found.0.insert(name.clone(), Network { address: *address, index, mtu })),
            Some(Err(why)) => found.1.push(format!("network {name}: {why}")),
            None => found.1.push(format!("network {name}: no interface of this node has address {address}")),
        }
    }
    Ok(found)
}
