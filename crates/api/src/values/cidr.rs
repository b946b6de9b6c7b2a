//! A network: an address and a prefix length.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    str::FromStr,
};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::{Family, ValueError, as_string, parse_address, refuse_mapped};

const WHAT: &str = "a CIDR";

/// Networks that cannot be used for pods, and their meaning.
const NOT_FOR_PODS: [(IpNet, &str); 11] = [
    (v4([0, 0, 0, 0], 8), "the addresses of the host itself"),
    (v4([127, 0, 0, 0], 8), "the loopback addresses"),
    (v4([169, 254, 0, 0], 16), "the link-local addresses"),
    (v4([224, 0, 0, 0], 4), "the multicast addresses"),
    (v4([240, 0, 0, 0], 4), "the reserved addresses"),
    (v6(0, 128), "the unspecified address"),
    (v6(1, 128), "the loopback address"),
    (v6(0xffff << 32, 96), "the IPv4-mapped addresses"),
    (v6(0xfe80 << 112, 10), "the link-local addresses"),
    (v6(0xff00 << 112, 8), "the multicast addresses"),
    (v6((0xfd00_0ec2 << 96) | 0x254, 128), "the address of a cloud's metadata service"),
];

const fn v4([a, b, c, d]: [u8; 4], prefix_len: u8) -> IpNet {
    IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::new(a, b, c, d), prefix_len))
}

const fn v6(bits: u128, prefix_len: u8) -> IpNet {
    IpNet::V6(Ipv6Net::new_assert(Ipv6Addr::from_bits(bits), prefix_len))
}

/// A network in canonical form. The host bits are zero: `10.17.0.1/24` parses as `10.17.0.0/24`, as in kube-ovn.
///
/// All prefix lengths are allowed, from `/0` to `/32` or `/128`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Cidr(IpNet);

impl Cidr {
    /// The network with a prefix of `prefix_len` bits that contains `address`.
    pub fn new(address: IpAddr, prefix_len: u8) -> Result<Self, ValueError> {
        let error = |why: &str| ValueError::new(&format!("{address}/{prefix_len}"), WHAT, why);
        refuse_mapped(address).map_err(error)?;
        let net = IpNet::new(address, prefix_len).map_err(|_| error("the prefix is longer than the address"))?;
        Ok(Self(net.trunc()))
    }

    /// The first address.
    pub fn network(&self) -> IpAddr {
        self.0.network()
    }

    /// The last address, which is the broadcast address in IPv4.
    pub fn last(&self) -> IpAddr {
        self.0.broadcast()
    }

    /// The address that is the gateway by default: the first one that is not kept back.
    pub fn first_usable(&self) -> IpAddr {
        let first = self.network();
        if self.kept_back().any(|kept| kept == first) { next(first) } else { first }
    }

    /// The addresses that neither a gateway nor a pod can have: in an IPv4 network the first and the last one (network
    /// and broadcast address), in an IPv6 network the first one (subnet-router anycast address, RFC 4291, 2.6.1).
    ///
    /// A network of one or two addresses (`/31`, `/32`, `/127`, `/128`) keeps none back.
    pub fn kept_back(&self) -> impl Iterator<Item = IpAddr> + use<> {
        let large = self.size() > 2;
        let last = large && self.family() == Family::V4;
        large.then_some(self.network()).into_iter().chain(last.then_some(self.last()))
    }

    /// The number of bits of the prefix.
    pub fn prefix_len(&self) -> u8 {
        self.0.prefix_len()
    }

    /// The family of the addresses.
    pub fn family(&self) -> Family {
        Family::of(self.0.addr())
    }

    /// The number of addresses; `u128::MAX` for `::/0`, which has one more.
    pub fn size(&self) -> u128 {
        1_u128.checked_shl(u32::from(self.0.max_prefix_len() - self.0.prefix_len())).unwrap_or(u128::MAX)
    }

    /// Whether `address` is inside the network; false for an address of the other family.
    pub fn contains(&self, address: IpAddr) -> bool {
        self.0.contains(&address)
    }

    /// Whether the whole of `other` is inside this network.
    pub fn covers(&self, other: &Cidr) -> bool {
        self.0.contains(&other.0)
    }

    /// Whether the two networks have an address in common.
    pub fn overlaps(&self, other: &Cidr) -> bool {
        self.covers(other) || other.covers(self)
    }

    /// Checks that the network can be a network of pods.
    ///
    /// It cannot when it overlaps a network that has another meaning on every node, such as the loopback addresses, or when
    /// it has one address, since a gateway and a pod need two.
    pub fn check_for_pods(&self) -> Result<(), ValueError> {
        let error = |why: &dyn fmt::Display| ValueError::new(&self.to_string(), "a network for pods", why);
        if self.size() < 2 {
            return Err(error(&"it has one address, and a gateway and a pod need two"));
        }
        match NOT_FOR_PODS.iter().find(|(special, _)| self.overlaps(&Cidr(*special))) {
            Some((special, what)) => Err(error(&format_args!("it overlaps {special}, {what}"))),
            None => Ok(()),
        }
    }

    /// `address` with the prefix length of this network: `10.17.0.1/24`.
    pub fn with_host(&self, address: IpAddr) -> String {
        format!("{address}/{}", self.prefix_len())
    }

    /// The network as a value of the crate `ipnet`.
    pub fn net(&self) -> IpNet {
        self.0
    }
}

fn next(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(v4) => IpAddr::V4(v4.to_bits().saturating_add(1).into()),
        IpAddr::V6(v6) => IpAddr::V6(v6.to_bits().saturating_add(1).into()),
    }
}

/// The network of this address alone.
impl From<IpAddr> for Cidr {
    fn from(address: IpAddr) -> Self {
        Self(address.into())
    }
}

impl FromStr for Cidr {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let Some((address, prefix)) = text.trim().split_once('/') else {
            return Err(ValueError::new(text, WHAT, "no prefix length, as in 10.16.0.0/16"));
        };
        // `u8::from_str` accepts a leading `+`, so check the digits first.
        let prefix_len = Some(prefix)
            .filter(|digits| digits.len() <= 3 && digits.bytes().all(|b| b.is_ascii_digit()))
            .and_then(|digits| digits.parse().ok())
            .ok_or_else(|| ValueError::new(text, WHAT, "the prefix length is not a number"))?;
        let address = Some(address)
            .filter(|address| address.trim() == *address)
            .ok_or_else(|| ValueError::new(text, WHAT, "white space in the address"))
            .and_then(|address| parse_address(address).map_err(|e| ValueError::new(text, WHAT, e.why)))?;
        Self::new(address, prefix_len).map_err(|e| ValueError::new(text, WHAT, e.why))
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

as_string!(Cidr);
