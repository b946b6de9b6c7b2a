//! Generated MAC addresses.
//!
//! An IPv4 address gives `0a:58:` and its four bytes, so the MAC follows from the address, and is the same when the address
//! is given out again. Without an IPv4 address, the MAC is `0a:59:` and 32 bits of a hash of the IPv6 address. Both are
//! locally administered. When another holder has that MAC (a static one, or one with the same hash), the search continues
//! in `0a:5a:`, from the hash upwards.

use std::net::IpAddr;

use api::{Addresses, Mac};

/// The MACs for `ips` in order of preference. The first free one is used.
pub(crate) fn candidates(ips: &Addresses) -> impl Iterator<Item = Mac> {
    let hash = ips.iter().fold(FNV_OFFSET, |hash, ip| match ip {
        IpAddr::V4(v4) => fnv(hash, &v4.octets()),
        IpAddr::V6(v6) => fnv(hash, &v6.octets()),
    });
    let first = match ips.v4() {
        Some(IpAddr::V4(v4)) => mac(0x58, v4.to_bits()),
        _ => mac(0x59, hash),
    };
    let rest = (0..=u32::MAX).filter_map(move |step| mac(0x5a, hash.wrapping_add(step)));
    first.into_iter().chain(rest)
}

fn mac(kind: u8, low: u32) -> Option<Mac> {
    let [a, b, c, d] = low.to_be_bytes();
    Mac::new([0x0a, kind, a, b, c, d]).ok()
}

const FNV_OFFSET: u32 = 0x811c_9dc5;

/// FNV-1a, which is the same on every machine and in every version.
fn fnv(hash: u32, bytes: &[u8]) -> u32 {
    bytes.iter().fold(hash, |hash, byte| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193))
}
