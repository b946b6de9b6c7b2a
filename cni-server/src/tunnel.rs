//! The node's tunnel interface: its address is where other nodes send their tunnels to, its MTU bounds the pods'.

use std::net::IpAddr;

use crate::link::{LinkError, Links};

/// How packets travel between nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum NetworkType {
    /// The default.
    Geneve,
    /// For networks that know only this.
    Vxlan,
    /// The oldest, over a TCP look-alike.
    Stt,
}

impl NetworkType {
    /// `external_ids:ovn-encap-type`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Geneve => "geneve",
            Self::Vxlan => "vxlan",
            Self::Stt => "stt",
        }
    }

    /// What a tunnel's headers take of the underlay's MTU, in bytes; kube-ovn's figures.
    fn overhead(self, outer: IpAddr) -> u32 {
        let headers = match self {
            Self::Geneve => 100,
            Self::Vxlan => 50,
            Self::Stt => 72,
        };
        headers + if outer.is_ipv6() { 20 } else { 0 }
    }
}

/// What was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tunnel {
    /// The local end.
    pub address: IpAddr,
    /// The MTU of a pod in bytes.
    pub mtu: u32,
}

/// Finds the tunnel's local end: on the first of the named interfaces that has an address, or, when none is named, on the
/// interface that has one of the node's own addresses. `mtu` 0 means by itself. `None` when there is none yet.
pub async fn find(
    links: &Links,
    names: &[String],
    node: &[IpAddr],
    kind: NetworkType,
    mtu: u32,
) -> Result<Option<Tunnel>, LinkError> {
    let all = links.all().await?;
    let found = |address: IpAddr, link_mtu: u32| Tunnel {
        address,
        mtu: if mtu == 0 { link_mtu.saturating_sub(kind.overhead(address)) } else { mtu },
    };
    for name in names {
        let Some(link) = all.iter().find(|link| &link.name == name) else { continue };
        let addresses = links.addresses(link).await?;
        // BTreeSet: IPv4 first.
        if let Some(net) = addresses.first() {
            return Ok(Some(found(net.addr(), link.mtu)));
        }
    }
    if names.is_empty() {
        for link in &all {
            let addresses = links.addresses(link).await?;
            if let Some(net) = addresses.iter().find(|net| node.contains(&net.addr())) {
                return Ok(Some(found(net.addr(), link.mtu)));
            }
        }
    }
    Ok(None)
}
