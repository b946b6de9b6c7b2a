//! The node's tunnel interface. Other nodes send tunnel packets to its address, and its MTU limits the MTU of pods.

use std::net::IpAddr;

use links::{Assigned, Link, LinkError, Links, Standing, is_link_local};

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

impl Mtu {
    /// Returns the MTU of the pods of a subnet that asks for `wanted`: as far as it fits through tunnels.
    pub fn of(self, wanted: Option<u32>) -> u32 {
        wanted.unwrap_or(self.pods).min(self.most)
    }
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
    /// The address is on the loopback interface, and there is no default route.
    #[error(
        "the node's address {address} is on the loopback interface, and no default route says by which one packets leave"
    )]
    NoWayOut {
        /// The node's address.
        address: IpAddr,
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
///
/// Of several addresses of the interface, the node's own comes first. Otherwise it is the first primary one, as the kernel
/// lists them, so that it does not follow an address that moves from node to node, such as that of keepalived.
pub async fn find(
    links: &Links,
    names: &Names,
    node: &[IpAddr],
    kind: NetworkType,
    wanted: Wanted,
) -> Result<Tunnel, TunnelError> {
    let (all, assigned) = (links.all().await?, links.assigned().await?);
    let (link, address) = choose(&all, &assigned, names, node)?;
    if !link.loopback {
        return through(link, address, kind, wanted);
    }
    // A node that announces its address by BGP has it on `lo`, and packets leave by another interface.
    let ways = links.default_links().await?;
    let out = all.iter().filter(|link| ways.contains(&link.index));
    let out = out.min_by_key(|link| link.mtu).ok_or(TunnelError::NoWayOut { address })?;
    through(out, address, kind, wanted)
}

fn choose<'a>(
    all: &'a [Link],
    assigned: &[Assigned],
    names: &Names,
    node: &[IpAddr],
) -> Result<(&'a Link, IpAddr), TunnelError> {
    if names.is_empty() {
        let place = |own: &IpAddr| assigned.iter().find(|address| address.own == *own);
        let found = node
            .iter()
            .filter_map(place)
            .find_map(|address| Some((all.iter().find(|link| link.index == address.link)?, address.own)));
        let node = || node.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        return found.ok_or_else(|| TunnelError::NotOfNode { node: node(), there: listed(all) });
    }
    for link in names.pick(all) {
        let usable = assigned.iter().filter(|address| {
            address.link == link.index && address.standing < Standing::Passing && !is_link_local(address.own)
        });
        // Of equal ones, the first one is taken.
        let rank = |address: &&Assigned| {
            let foreign = !node.contains(&address.own);
            let alone = address.network.prefix_len() == address.network.max_prefix_len();
            (foreign, address.standing, address.own.is_ipv6(), alone)
        };
        if let Some(address) = usable.min_by_key(rank) {
            return Ok((link, address.own));
        }
    }
    let found: Vec<&str> = names.pick(all).map(|link| link.name.as_str()).collect();
    let names = names.to_string();
    Err(match found.as_slice() {
        [] => TunnelError::Unknown { names, there: listed(all) },
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

    fn link(index: u32, name: &str) -> Link {
        let (name, loopback) = (name.to_owned(), name == "lo");
        Link { index, name, up: true, mtu: 1500, mac: vec![], veth: false, loopback, alias: String::new() }
    }

    /// Returns the interface and the address that are chosen. The addresses are given as the kernel lists them.
    fn chosen(names: &str, node: &str, assigned: &[(u32, &str, Standing)]) -> String {
        let all = [link(1, "lo"), link(2, "eth0"), link(3, "eth1")];
        let read = |(link, text, standing): &(u32, &str, Standing)| {
            let network: ipnet::IpNet = text.parse().unwrap();
            Assigned {
                link: *link,
                own: network.addr(),
                network: network.trunc(),
                global: true,
                usable: true,
                standing: *standing,
            }
        };
        let assigned: Vec<Assigned> = assigned.iter().map(read).collect();
        let node: Vec<IpAddr> = node.split(',').map(|address| address.parse().unwrap()).collect();
        match choose(&all, &assigned, &Names::parse(names.split(',')).unwrap(), &node) {
            Ok((link, address)) => format!("{} {address}", link.name),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn the_tunnels_address_does_not_follow_one_that_moves() {
        use Standing::{Passing, Primary, Secondary};
        let node = "172.30.0.11,fd00:30::11";
        let own = [(2, "172.30.0.11/24", Primary), (2, "fd00:30::11/64", Primary)];
        let with = |more: &[(u32, &'static str, Standing)]| [&own, more].concat();
        // The node's own address wins, whatever else its interface has.
        for vip in ["172.30.0.5/32", "172.30.0.5/24", "10.0.0.1/32"] {
            let before: Vec<_> = [(2, vip, Primary)].into_iter().chain(own).collect();
            for assigned in [with(&[(2, vip, Primary)]), with(&[(2, vip, Secondary)]), before] {
                assert_eq!(chosen("", node, &assigned), "eth0 172.30.0.11");
                assert_eq!(chosen("eth0", node, &assigned), "eth0 172.30.0.11");
            }
        }
        // A separate interface for tunnels: the first primary address of it.
        let tunnels = |vip: &'static str, standing| with(&[(3, "172.31.0.9/24", Primary), (3, vip, standing)]);
        for (vip, standing) in [("172.31.0.5/32", Primary), ("172.31.0.5/24", Secondary), ("10.9.0.1/24", Primary)] {
            assert_eq!(chosen("eth1", node, &tunnels(vip, standing)), "eth1 172.31.0.9");
        }
        assert_eq!(
            chosen("eth1", node, &with(&[(3, "172.31.0.5/32", Primary), (3, "172.31.0.9/24", Primary)])),
            "eth1 172.31.0.9"
        );
        // A cloud gives addresses without a network.
        assert_eq!(chosen("eth1", node, &with(&[(3, "172.31.0.9/32", Primary)])), "eth1 172.31.0.9");
        let six = [(3, "fe80::1/64", Primary), (3, "fd00:31::abcd/64", Passing), (3, "fd00:31::9/64", Primary)];
        assert_eq!(chosen("eth1", node, &with(&six)), "eth1 fd00:31::9");
        assert_eq!(chosen("eth1", node, &with(&six[..2])), "--iface eth1: eth1 has no address");
        // The addresses of the node are tried in their order.
        assert_eq!(chosen("", "fd00:30::11,172.30.0.11", &own), "eth0 fd00:30::11");
        assert_eq!(chosen("", "10.255.0.1", &with(&[(1, "10.255.0.1/32", Primary)])), "lo 10.255.0.1");
        let lost =
            "no interface has one of the node's addresses, 10.255.0.1: name one by --iface; there are lo, eth0, eth1";
        assert_eq!(chosen("", "10.255.0.1", &own), lost);
    }

    #[test]
    fn names_are_exact_or_expressions() {
        let all = ["eth10", "eth1", "bond0", "br-phy"].map(|name| link(1, name));
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
        let link = Link { mtu: iface_mtu, ..link(1, "eth1") };
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
        let links = |names: &[&str]| listed(&names.iter().map(|name| link(1, name)).collect::<Vec<_>>());
        assert_eq!(links(&["lo", "eth0", "cafe01234567_h"]), "lo, eth0");
        assert_eq!(links(&["eth0"; 17]).split(", ").last(), Some("..."));
    }
}
