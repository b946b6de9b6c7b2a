//! The frames of an announcement. Pure functions.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use api::Mac;

/// Returns the frame that announces `ip` at `mac` to all hosts on the link.
pub(super) fn announcement(mac: Mac, ip: IpAddr) -> Vec<u8> {
    match ip {
        IpAddr::V4(ip) => gratuitous_arp(mac.bytes(), ip),
        IpAddr::V6(ip) => unsolicited_advertisement(mac.bytes(), ip),
    }
}

/// RFC 826: an ARP request for the own address, like the kernel's announcement (`arp_notify`).
fn gratuitous_arp(mac: [u8; 6], ip: Ipv4Addr) -> Vec<u8> {
    let mut frame = ethernet([0xff; 6], mac, 0x0806);
    frame.extend([0, 1, 8, 0, 6, 4, 0, 1]); // Ethernet, IPv4, their lengths, request
    frame.extend(mac);
    frame.extend(ip.octets());
    frame.extend([0; 6]);
    frame.extend(ip.octets());
    frame
}

/// RFC 4861, sections 4.4 and 7.2.6: sent to all nodes, overrides their neighbor caches.
fn unsolicited_advertisement(mac: [u8; 6], ip: Ipv6Addr) -> Vec<u8> {
    const NEXT_HEADER: u8 = 58;
    let all_nodes = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
    let mut advertisement = vec![136, 0, 0, 0, 0x20, 0, 0, 0]; // type, code, empty checksum, override flag
    advertisement.extend(ip.octets());
    advertisement.extend([2, 1]); // the target link-layer address option, 8 bytes long
    advertisement.extend(mac);
    let length = u16::try_from(advertisement.len()).unwrap_or_default();
    let pseudo = [&ip.octets()[..], &all_nodes.octets(), &[0, 0], &length.to_be_bytes(), &[0, 0, 0, NEXT_HEADER]];
    let checksum = checksum(&[&pseudo.concat()[..], &advertisement].concat());
    advertisement[2..4].copy_from_slice(&checksum.to_be_bytes());

    let mut frame = ethernet([0x33, 0x33, 0, 0, 0, 1], mac, 0x86dd);
    frame.extend([0x60, 0, 0, 0]);
    frame.extend(length.to_be_bytes());
    frame.extend([NEXT_HEADER, 255]); // hop limit 255, as RFC 4861 requires
    frame.extend(ip.octets());
    frame.extend(all_nodes.octets());
    frame.extend(advertisement);
    frame
}

fn ethernet(to: [u8; 6], from: [u8; 6], kind: u16) -> Vec<u8> {
    [&to[..], &from, &kind.to_be_bytes()].concat()
}

/// The checksum of RFC 1071.
fn checksum(bytes: &[u8]) -> u16 {
    let words = bytes.chunks(2).map(|pair| u32::from(pair[0]) << 8 | pair.get(1).map_or(0, |low| u32::from(*low)));
    let mut sum: u32 = words.sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !u16::try_from(sum).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(frame: &[u8]) -> String {
        use std::fmt::Write;
        frame.iter().fold(String::new(), |mut text, byte| {
            write!(text, "{byte:02x}").unwrap();
            text
        })
    }

    #[test]
    fn an_ipv4_address_is_announced_by_arp() {
        let frame = announcement("0a:58:0a:10:00:05".parse().unwrap(), "10.16.0.5".parse().unwrap());
        let expected = "ffffffffffff 0a580a100005 0806 0001 0800 06 04 0001 \
                        0a580a100005 0a100005 000000000000 0a100005";
        assert_eq!(hex(&frame), expected.replace(' ', ""));
    }

    #[test]
    fn an_ipv6_address_is_announced_by_an_advertisement_with_a_right_checksum() {
        let frame = announcement("0a:58:0a:10:00:05".parse().unwrap(), "fd00:16::5".parse().unwrap());
        assert_eq!(
            hex(&frame[..22]),
            "333300000001".to_owned() + "0a580a100005" + "86dd" + "60000000" + "0020" + "3aff"
        );
        // The sum over the pseudo header and the message including its checksum is zero.
        let pseudo = [&frame[22..54], &[0, 0, 0, 32, 0, 0, 0, 58]].concat();
        assert_eq!(checksum(&[&pseudo, &frame[54..]].concat()), 0);
        assert_eq!(hex(&frame[54..56]), "8800");
        assert_eq!(hex(&frame[58..]), "20000000fd0000160000000000000000000000050201".to_owned() + "0a580a100005");
    }
}
