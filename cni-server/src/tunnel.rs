//! The node's tunnel interface: its address is where other nodes send their tunnels to, its MTU bounds the pods'.

use std::net::IpAddr;

use crate::link::{Link, LinkError, Links};

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

/// Names of interfaces as users give them: exact, or a regular expression for the whole name, as in `eth.*`.
#[derive(Clone, Debug, Default)]
pub struct Names(Vec<(String, regex::Regex)>);

impl Names {
    /// Reads a list; empty entries do not count.
    pub fn parse<'a>(list: impl IntoIterator<Item = &'a str>) -> Result<Self, regex::Error> {
        let names = list.into_iter().map(str::trim).filter(|name| !name.is_empty());
        names
            .map(|name| Ok((name.to_owned(), regex::Regex::new(&format!("^(?:{name})$"))?)))
            .collect::<Result<_, _>>()
            .map(Self)
    }

    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The links in order of preference: an exact name first, within an entry.
    fn pick<'a>(&self, all: &'a [Link]) -> impl Iterator<Item = &'a Link> {
        self.0.iter().flat_map(|(name, pattern)| {
            let exact = all.iter().filter(move |link| &link.name == name);
            exact.chain(all.iter().filter(move |link| &link.name != name && pattern.is_match(&link.name)))
        })
    }
}

impl std::fmt::Display for Names {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let names: Vec<&str> = self.0.iter().map(|(name, _)| name.as_str()).collect();
        f.write_str(&names.join(", "))
    }
}

/// Finds the tunnel's local end: on the first of the named interfaces that has an address, or, when none is named, on the
/// interface that has one of the node's own addresses. `mtu` 0 means by itself. `None` when there is none yet.
pub async fn find(
    links: &Links,
    names: &Names,
    node: &[IpAddr],
    kind: NetworkType,
    mtu: u32,
) -> Result<Option<Tunnel>, LinkError> {
    let all = links.all().await?;
    let found = |address: IpAddr, link_mtu: u32| Tunnel {
        address,
        mtu: if mtu == 0 { link_mtu.saturating_sub(kind.overhead(address)) } else { mtu },
    };
    if names.is_empty() {
        for link in &all {
            let addresses = links.addresses(link).await?;
            if let Some(net) = addresses.iter().find(|net| node.contains(&net.addr())) {
                return Ok(Some(found(net.addr(), link.mtu)));
            }
        }
        return Ok(None);
    }
    for link in names.pick(&all) {
        // In order: IPv4 first.
        if let Some(net) = links.addresses(link).await?.first() {
            return Ok(Some(found(net.addr(), link.mtu)));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_exact_or_expressions() {
        let link = |name: &str| Link { index: 1, name: name.to_owned(), up: true, mtu: 1500, mac: vec![], veth: false };
        let all = ["eth10", "eth1", "bond0", "br-phy"].map(link);
        let pick = |list: &str| {
            let names = Names::parse(list.split(',')).unwrap();
            names.pick(&all).map(|link| link.name.clone()).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(pick("eth1"), "eth1");
        assert_eq!(pick("bond1, eth.*"), "eth10 eth1");
        assert_eq!(pick("br-phy,bond0"), "br-phy bond0");
        assert!(Names::parse(["("]).is_err());
    }

    #[test]
    fn the_overhead_is_kube_ovns() {
        let (v4, v6) = ("10.0.0.1".parse().unwrap(), "fd00::1".parse().unwrap());
        assert_eq!(NetworkType::Geneve.overhead(v4), 100);
        assert_eq!(NetworkType::Geneve.overhead(v6), 120);
        assert_eq!(NetworkType::Vxlan.overhead(v4), 50);
    }
}
