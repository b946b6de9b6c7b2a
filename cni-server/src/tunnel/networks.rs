//! The further networks of the node, which tunnels of some subnets use instead of the tunnel interface.

use std::collections::BTreeMap;
use std::net::IpAddr;

use links::{LinkError, Links};
use ovn::Encapsulation;

use super::{Mtu, Wanted, mtu, way_out};

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

/// The networks of a node by their names, or why one cannot be used.
pub type Networks = BTreeMap<String, Result<Network, String>>;

/// Finds the interfaces of these addresses. An MTU that `wanted` asks for is reduced to what fits. An address that the node
/// does not have is an error: ovn-controller cannot register a chassis with an address that another one has.
pub async fn networks(
    links: &Links,
    named: &BTreeMap<String, IpAddr>,
    encapsulation: Encapsulation,
    wanted: Wanted,
) -> Result<Networks, LinkError> {
    let mut found = Networks::new();
    if named.is_empty() {
        return Ok(found);
    }
    let (all, assigned) = (links.all().await?, links.assigned().await?);
    for (name, address) in named {
        let place = assigned.iter().find(|assigned| assigned.own == *address && assigned.usable);
        let link = match place.and_then(|place| all.iter().find(|link| link.index == place.link)) {
            Some(link) => way_out(links, link, &all, *address).await?.map_err(|why| why.to_string()),
            None => Err(format!("no interface of the node has its address {address}")),
        };
        let network = link.and_then(|link| {
            let mtu = mtu::reduced(link, *address, encapsulation, wanted).map_err(|why| why.to_string())?;
            Ok(Network { address: *address, index: link.index, mtu })
        });
        found.insert(name.clone(), network);
    }
    Ok(found)
}
