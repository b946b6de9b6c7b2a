//! The MTU of pods, as far as it fits through tunnels.

use std::net::IpAddr;

use links::Link;
use ovn::Encapsulation;

use super::TunnelError;

/// The minimum MTU of a pod in bytes: every IPv4 host supports it (RFC 791). The minimum of the chart's `tunnel.mtu`.
pub const LEAST: u32 = 576;
/// The minimum MTU of a pod with IPv6 (RFC 8200).
pub const LEAST_IPV6: u32 = 1280;
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

/// Returns the MTU over this link from the address `outer`, if it is acceptable.
pub(super) fn through(
    link: &Link,
    outer: IpAddr,
    encapsulation: Encapsulation,
    wanted: Wanted,
) -> Result<Mtu, TunnelError> {
    let (iface, iface_mtu, kind) = (link.name.clone(), link.mtu, encapsulation.as_str());
    let most = link.mtu.saturating_sub(headers(encapsulation, outer));
    let pods = if wanted.mtu == 0 { link.mtu.saturating_sub(overhead(encapsulation, outer)) } else { wanted.mtu };
    if pods > most {
        return Err(TunnelError::TooLarge { mtu: pods, kind, iface, iface_mtu, most });
    }
    if pods < wanted.least {
        let (flag, least) = (wanted.mtu, wanted.least);
        return Err(TunnelError::TooSmall { flag, mtu: pods, least, kind, iface, iface_mtu });
    }
    Ok(Mtu { pods, most })
}

/// Like [`through`], but an MTU that is wanted and does not fit is reduced.
pub(super) fn reduced(
    link: &Link,
    outer: IpAddr,
    encapsulation: Encapsulation,
    wanted: Wanted,
) -> Result<Mtu, TunnelError> {
    let most = link.mtu.saturating_sub(headers(encapsulation, outer));
    through(link, outer, encapsulation, Wanted { mtu: wanted.mtu.min(most), ..wanted })
}

/// Returns the number of bytes to reserve for tunnel headers, the same as in kube-ovn. For Geneve, it includes room for
/// options.
fn overhead(encapsulation: Encapsulation, outer: IpAddr) -> u32 {
    match encapsulation {
        Encapsulation::Geneve => 100 + longer(outer),
        _ => headers(encapsulation, outer),
    }
}

/// Returns the minimum size of the headers: outer IP and UDP (or STT's TCP-like header), the tunnel header, for Geneve with
/// OVN's option, and the inner Ethernet header.
fn headers(encapsulation: Encapsulation, outer: IpAddr) -> u32 {
    let headers = match encapsulation {
        Encapsulation::Geneve => 20 + 8 + 8 + 8 + 14,
        Encapsulation::Vxlan => 20 + 8 + 8 + 14,
        Encapsulation::Stt => 20 + 20 + 18 + 14,
    };
    headers + longer(outer)
}

/// Returns how much longer the outer IP header is than an IPv4 header.
fn longer(outer: IpAddr) -> u32 {
    if outer.is_ipv6() { 20 } else { 0 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tunnel::link;

    #[test]
    fn the_overhead_is_kube_ovns() {
        let (v4, v6) = ("10.0.0.1".parse().unwrap(), "fd00::1".parse().unwrap());
        assert_eq!(overhead(Encapsulation::Geneve, v4), 100);
        assert_eq!(overhead(Encapsulation::Geneve, v6), 120);
        assert_eq!(overhead(Encapsulation::Vxlan, v4), 50);
    }

    /// Returns the MTU of pods and the maximum MTU over a link with this MTU.
    fn mtu(iface_mtu: u32, outer: &str, kind: Encapsulation, mtu: u32, least: u32) -> Result<(u32, u32), String> {
        let link = Link { mtu: iface_mtu, ..link(1, "eth1") };
        let fits = through(&link, outer.parse().unwrap(), kind, Wanted { mtu, least });
        fits.map(|mtu| (mtu.pods, mtu.most)).map_err(|error| error.to_string())
    }

    #[test]
    fn an_mtu_is_taken_if_it_fits_to_the_byte() {
        let geneve = |flag, outer| mtu(1500, outer, Encapsulation::Geneve, flag, LEAST);
        assert_eq!(geneve(0, "10.0.0.1"), Ok((1400, 1442)));
        assert_eq!(geneve(1442, "10.0.0.1"), Ok((1442, 1442)));
        assert_eq!(geneve(1422, "fd00::1"), Ok((1422, 1422)));
        assert_eq!(mtu(9000, "10.0.0.1", Encapsulation::Vxlan, 8950, LEAST), Ok((8950, 8950)));
        let refused = geneve(1443, "fd00::1").unwrap_err();
        assert!(refused.contains("leaves 1422 at most"), "{refused}");
        assert!(
            geneve(1443, "10.0.0.1").is_err() && geneve(575, "10.0.0.1").is_err() && geneve(576, "10.0.0.1").is_ok()
        );
    }

    #[test]
    fn an_mtu_that_does_not_do_is_refused_in_words() {
        let refused = mtu(1500, "10.0.0.1", Encapsulation::Geneve, 9000, LEAST).unwrap_err();
        assert_eq!(
            refused,
            "--mtu 9000: geneve over interface eth1, whose MTU is 1500, leaves 1442 at most; give a smaller one, or 0 for \
             what fits"
        );
        let refused = mtu(1300, "10.0.0.1", Encapsulation::Geneve, 0, LEAST_IPV6).unwrap_err();
        assert_eq!(
            refused,
            "--mtu 0: it gives pods 1200, but they need 1280 at least (geneve over interface eth1, whose MTU is 1300)"
        );
    }
}
