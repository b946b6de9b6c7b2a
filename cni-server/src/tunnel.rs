//! The node's tunnel interface. Other nodes send tunnel packets to its address, and its MTU limits the MTU of pods.

use std::net::IpAddr;

use crate::link::{Link, LinkError, Links};

/// The minimum MTU of a pod in bytes: every IPv4 host supports it (RFC 791). The minimum of the chart's `tunnel.mtu`.
pub const LEAST: u32 = 576;
/// The minimum MTU of a pod with IPv6 (RFC 8200).
pub const LEAST_IPV6: u32 = 1280;
/// The maximum number of interfaces that an error lists.
const NAMED: usize = 16;

/// The encapsulation between nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum NetworkType {
    /// The default.
    Geneve,
    /// For networks that support only VXLAN.
    Vxlan,
    /// STT, an older encapsulation that resembles TCP.
    Stt,
}

impl NetworkType {
    /// Returns the value of `external_ids:ovn-encap-type`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Geneve => "geneve",
            Self::Vxlan => "vxlan",
            Self::Stt => "stt",
        }
    }

    /// Returns the number of bytes to reserve for tunnel headers, the same as in kube-ovn. For Geneve, it includes room
    /// for options.
    fn overhead(self, outer: IpAddr) -> u32 {
        match self {
            Self::Geneve => 100 + longer(outer),
            _ => self.headers(outer),
        }
    }

    /// Returns the minimum size of the headers: outer IP and UDP (or STT's TCP-like header), the tunnel header, for
    /// Geneve with OVN's option, and the inner Ethernet header.
    fn headers(self, outer: IpAddr) -> u32 {
        let headers = match self {
            Self::Geneve => 20 + 8 + 8 + 8 + 14,
            Self::Vxlan => 20 + 8 + 8 + 14,
            Self::Stt => 20 + 20 + 18 + 14,
        };
        headers + longer(outer)
    }
}

/// Returns how much longer the outer IP header is than an IPv4 header.
fn longer(outer: IpAddr) -> u32 {
    if outer.is_ipv6() { 20 } else { 0 }
}

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

/// The MTU of pods in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mtu {
    /// The MTU of pods whose subnet does not set one.
    pub pods: u32,
    /// The maximum MTU that fits through a tunnel.
    pub most: u32,
}

/// The acceptable MTUs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// `--mtu`. 0 means the MTU of the interface minus the tunnel overhead.
    pub mtu: u32,
    /// The minimum MTU of pods.
    pub least: u32,
}

/// Why there is no tunnel interface.
#[derive(Debug, thiserror::Error)]
pub enum TunnelError {
    /// The kernel refused a request.
    #[error(transparent)]
    Link(#[from] LinkError),
    /// `--iface` is empty, and no interface has an address of the node.
    #[error("no interface has one of the node's addresses, {node}: name one by --iface; there are {there}")]
    NotOfNode {
        /// The node's addresses in Kubernetes.
        node: String,
        /// The existing interfaces.
        there: String,
    },
    /// No interface matches `--iface`.
    #[error("--iface {names}: this node has no such interface; there are {there}")]
    Unknown {
        /// The value of `--iface`.
        names: String,
        /// The existing interfaces.
        there: String,
    },
    /// The matching interfaces have no address, so other nodes cannot send to them.
    #[error("--iface {names}: {found} has no address")]
    NoAddress {
        /// The value of `--iface`.
        names: String,
        /// The matching interfaces.
        found: String,
    },
    /// The MTU is too large, so packets between nodes would be lost.
    #[error(
        "--mtu {mtu}: {kind} over interface {iface}, whose MTU is {iface_mtu}, leaves {most} at most; give a smaller one, or 0 for \
         what fits"
    )]
    TooLarge {
        /// The requested MTU.
        mtu: u32,
        /// The encapsulation.
        kind: &'static str,
        /// The name of the interface.
        iface: String,
        /// The MTU of the interface.
        iface_mtu: u32,
        /// The maximum that fits.
        most: u32,
    },
    /// The MTU is too small for pods.
    #[error(
        "--mtu {flag}: it gives pods {mtu}, but they need {least} at least ({kind} over interface {iface}, whose MTU is \
         {iface_mtu})"
    )]
    TooSmall {
        /// The value of `--mtu`.
        flag: u32,
        /// The resulting MTU of pods.
        mtu: u32,
        /// The minimum MTU of pods.
        least: u32,
        /// The encapsulation.
        kind: &'static str,
        /// The name of the interface.
        iface: String,
        /// The MTU of the interface.
        iface_mtu: u32,
    },
}

/// Interface names from the user: exact names, or regular expressions for the whole name, for example `eth.*`.
#[derive(Clone, Debug, Default)]
pub struct Names(Vec<(String, regex::Regex)>);

impl Names {
    /// Parses a list. Skips empty entries.
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

    /// Returns the matching links in order of preference. Within an entry, an exact match comes first.
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

/// Finds the local tunnel endpoint: on the first matching interface with an address or, without names, on the interface
/// with one of the node's addresses. Fails if the MTU is not acceptable.
pub async fn find(
    links: &Links,
    names: &Names,
    node: &[IpAddr],
    kind: NetworkType,
    wanted: Wanted,
) -> Result<Tunnel, TunnelError> {
    let all = links.all().await?;
    if names.is_empty() {
        for link in &all {
            let addresses = links.addresses(link).await?;
            if let Some(net) = addresses.iter().find(|net| node.contains(&net.addr())) {
                return through(link, net.addr(), kind, wanted);
            }
        }
        let node = node.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        return Err(TunnelError::NotOfNode { node, there: listed(&all) });
    }
    for link in names.pick(&all) {
        // Addresses are sorted, so IPv4 comes first.
        if let Some(net) = links.addresses(link).await?.first() {
            return through(link, net.addr(), kind, wanted);
        }
    }
    let found: Vec<&str> = names.pick(&all).map(|link| link.name.as_str()).collect();
    let names = names.to_string();
    Err(match found.as_slice() {
        [] => TunnelError::Unknown { names, there: listed(&all) },
        found => TunnelError::NoAddress { names, found: found.join(", ") },
    })
}

/// Returns the tunnel over this link if the MTU is acceptable.
fn through(link: &Link, address: IpAddr, kind: NetworkType, wanted: Wanted) -> Result<Tunnel, TunnelError> {
    let (iface, iface_mtu, kind_name) = (link.name.clone(), link.mtu, kind.as_str());
    let most = link.mtu.saturating_sub(kind.headers(address));
    let mtu = if wanted.mtu == 0 { link.mtu.saturating_sub(kind.overhead(address)) } else { wanted.mtu };
    if mtu > most {
        return Err(TunnelError::TooLarge { mtu, kind: kind_name, iface, iface_mtu, most });
    }
    if mtu < wanted.least {
        let (flag, least) = (wanted.mtu, wanted.least);
        return Err(TunnelError::TooSmall { flag, mtu, least, kind: kind_name, iface, iface_mtu });
    }
    Ok(Tunnel { address, iface, index: link.index, iface_mtu, mtu: Mtu { pods: mtu, most } })
}

/// Lists the names of links, without those of pods and with a limit.
fn listed(all: &[Link]) -> String {
    let mut names = all.iter().map(|link| link.name.as_str()).filter(|name| !name.ends_with("_h"));
    let mut listed = names.by_ref().take(NAMED).collect::<Vec<_>>().join(", ");
    if names.next().is_some() {
        listed.push_str(", ...");
    }
    listed
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

    /// Returns the MTU of pods and the maximum MTU over a link with this MTU.
    fn mtu(iface_mtu: u32, outer: &str, kind: NetworkType, mtu: u32, least: u32) -> Result<(u32, u32), String> {
        let link = Link { index: 1, name: "eth1".to_owned(), up: true, mtu: iface_mtu, mac: vec![], veth: false };
        let tunnel = through(&link, outer.parse().unwrap(), kind, Wanted { mtu, least });
        tunnel.map(|tunnel| (tunnel.mtu.pods, tunnel.mtu.most)).map_err(|error| error.to_string())
    }

    #[test]
    fn an_mtu_is_taken_if_it_fits_to_the_byte() {
        let geneve = |flag, outer| mtu(1500, outer, NetworkType::Geneve, flag, LEAST);
        assert_eq!(geneve(0, "10.0.0.1"), Ok((1400, 1442)));
        assert_eq!(geneve(1442, "10.0.0.1"), Ok((1442, 1442)));
        assert_eq!(geneve(1422, "fd00::1"), Ok((1422, 1422)));
        assert_eq!(mtu(9000, "10.0.0.1", NetworkType::Vxlan, 8950, LEAST), Ok((8950, 8950)));
        let refused = geneve(1443, "fd00::1").unwrap_err();
        assert!(refused.contains("leaves 1422 at most"), "{refused}");
        assert!(
            geneve(1443, "10.0.0.1").is_err() && geneve(575, "10.0.0.1").is_err() && geneve(576, "10.0.0.1").is_ok()
        );
    }

    #[test]
    fn an_mtu_that_does_not_do_is_refused_in_words() {
        let refused = mtu(1500, "10.0.0.1", NetworkType::Geneve, 9000, LEAST).unwrap_err();
        assert_eq!(
            refused,
            "--mtu 9000: geneve over interface eth1, whose MTU is 1500, leaves 1442 at most; give a smaller one, or 0 for \
             what fits"
        );
        let refused = mtu(1300, "10.0.0.1", NetworkType::Geneve, 0, LEAST_IPV6).unwrap_err();
        assert_eq!(
            refused,
            "--mtu 0: it gives pods 1200, but they need 1280 at least (geneve over interface eth1, whose MTU is 1300)"
        );
    }

    #[test]
    fn interfaces_are_named_without_those_of_pods() {
        let links = |names: &[&str]| {
            let link = |name: &&str| Link {
                index: 1,
                name: (*name).to_owned(),
                up: true,
                mtu: 1500,
                mac: vec![],
                veth: false,
            };
            listed(&names.iter().map(link).collect::<Vec<_>>())
        };
        assert_eq!(links(&["lo", "eth0", "cafe01234567_h"]), "lo, eth0");
        assert_eq!(links(&["eth0"; 17]).split(", ").last(), Some("..."));
    }
}
