//! The node's tunnel interface. Other nodes send tunnel packets to its address, and its MTU limits the MTU of pods.

mod choice;
mod error;
mod mtu;
mod names;
mod networks;

use std::net::IpAddr;

use links::{Link, LinkError, LinkKind, Links};
use ovn::Encapsulation;

pub use error::TunnelError;
pub use mtu::{LEAST, LEAST_IPV6, Mtu, Wanted};
pub use names::Names;
pub use networks::{Network, Networks, networks};

/// The tunnel interface of the node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tunnel {
    /// The local tunnel endpoint.
    pub address: IpAddr,
    /// The name of the interface.
    pub iface: String,
    /// The index of the interface.
    pub index: u32,
    /// The MTU of the interface in bytes.
    pub iface_mtu: u32,
    /// The resulting MTU of pods.
    pub mtu: Mtu,
}

/// Finds the local tunnel endpoint: on the first matching interface with an address or, without names, on the interface
/// with one of the node's addresses. Fails if the MTU is not acceptable.
///
/// Of several addresses of the interface, the node's own comes first. Otherwise it is the first primary one, as the kernel
/// lists them, so that it does not follow an address that moves from node to node, such as that of keepalived.
pub async fn find(
    links: &Links,
    names: &Names,
    node: &[IpAddr],
    encapsulation: Encapsulation,
    wanted: Wanted,
) -> Result<Tunnel, TunnelError> {
    let (all, assigned) = (links.all().await?, links.assigned().await?);
    let (link, address) = choice::choose(&all, &assigned, names, node)?;
    let link = way_out(links, link, &all, address).await??;
    let mtu = mtu::through(link, address, encapsulation, wanted)?;
    Ok(Tunnel { address, iface: link.name.clone(), index: link.index, iface_mtu: link.mtu, mtu })
}

/// Returns the link by which packets with this address of `link` leave. A node that announces its address by BGP has it on
/// `lo`, and packets leave by another interface.
async fn way_out<'a>(
    links: &Links,
    link: &'a Link,
    all: &'a [Link],
    address: IpAddr,
) -> Result<Result<&'a Link, TunnelError>, LinkError> {
    if link.kind != LinkKind::Loopback {
        return Ok(Ok(link));
    }
    let ways = links.default_links().await?;
    let out = all.iter().filter(|link| ways.contains(&link.index));
    Ok(out.min_by_key(|link| link.mtu).ok_or(TunnelError::NoWayOut { address }))
}

/// Returns a link for tests.
#[cfg(test)]
fn link(index: u32, name: &str) -> links::Link {
    let kind = if name == "lo" { LinkKind::Loopback } else { LinkKind::Other };
    let name = name.to_owned();
    links::Link { index, name, up: true, noarp: false, mtu: 1500, mac: vec![], kind, alias: String::new() }
}
