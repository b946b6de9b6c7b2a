//! The kernel's announcements of changed nftables rules.
//!
//! kube-proxy changes thousands of rules in tables of its own and in chains `KUBE-*`. An announcement is therefore read
//! only as far as it says where the change is, and counts only in our tables and in the chains of iptables that are ours or
//! lead to ours.

use std::io;

use netlink_sys::protocols::NETLINK_NETFILTER;
use netlink_sys::{AsyncSocket, AsyncSocketExt, SocketAddr, TokioSocket};

use super::nft::TABLE;

/// The multicast group of nftables (`NFNLGRP_NFTABLES` in `linux/netfilter/nfnetlink.h`).
const GROUP: u32 = 7;

/// The subsystem in the type of a message (`NFNL_SUBSYS_NFTABLES`).
const NFTABLES: u8 = 10;

/// The lengths of `nlmsghdr` and `nfgenmsg`.
const HEADERS: usize = 16 + 4;

/// A subscription, in the network namespace of the thread that made it.
pub(super) struct Announcements(TokioSocket);

impl Announcements {
    /// Subscribes. Fails if the kernel has no nftables.
    pub(super) fn subscribe() -> io::Result<Self> {
        let mut socket = TokioSocket::new(NETLINK_NETFILTER)?;
        socket.socket_mut().bind(&SocketAddr::new(0, 0))?;
        socket.socket_mut().add_membership(GROUP)?;
        Ok(Self(socket))
    }

    /// Waits for a change that concerns us. Announcements that were lost count as one.
    pub(super) async fn changed(&mut self) {
        loop {
            match self.0.recv_from_full().await {
                Ok((datagram, _)) if messages(&datagram).any(concerns) => return,
                Ok(_) => {}
                // ENOBUFS: the kernel had more announcements than the socket takes.
                Err(_) => return,
            }
        }
    }
}

/// Returns the messages of a datagram, each with its header.
fn messages(datagram: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = datagram;
    std::iter::from_fn(move || {
        let length = usize::try_from(u32::from_ne_bytes(rest.get(..4)?.try_into().ok()?)).ok()?;
        let message = rest.get(..length).filter(|message| message.len() >= HEADERS)?;
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some(message)
    })
}

/// Returns whether a message is about rules of ours. Messages about tables, chains, rules, sets and their elements have the
/// name of the table as attribute 1 (`linux/netfilter/nf_tables.h`).
fn concerns(message: &[u8]) -> bool {
    let [kind, subsystem] = [message[4], message[5]];
    let text = |wanted| attributes(&message[HEADERS..]).find(|(kind, _)| *kind == wanted).map(|(_, text)| text);
    let chain = match kind {
        3 | 5 => 3, // NFTA_CHAIN_NAME of a new or deleted chain
        6 | 8 => 2, // NFTA_RULE_CHAIN of a new or deleted rule
        _ => return subsystem == NFTABLES && text(1) == Some(TABLE),
    };
    subsystem == NFTABLES && (text(1) == Some(TABLE) || (text(1) == Some("filter") && text(chain).is_some_and(is_ours)))
}

/// Returns whether a chain of iptables is one of ours, or has the jump to one.
fn is_ours(chain: &str) -> bool {
    chain == "FORWARD" || chain == "INPUT" || chain.starts_with("OVN-")
}

/// Returns the attributes that are text.
fn attributes(message: &[u8]) -> impl Iterator<Item = (u16, &str)> {
    let mut rest = message;
    let all = std::iter::from_fn(move || {
        let length = usize::from(u16::from_ne_bytes(rest.get(..2)?.try_into().ok()?));
        let kind = u16::from_ne_bytes(rest.get(2..4)?.try_into().ok()?);
        let value = rest.get(4..length)?;
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind & 0x3fff, value)) // the two highest bits are flags
    });
    all.filter_map(|(kind, value)| Some((kind, std::str::from_utf8(value.strip_suffix(b"\0")?).ok()?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attribute(kind: u16, value: &str) -> Vec<u8> {
        let length = u16::try_from(value.len() + 5).unwrap();
        let mut bytes = [length.to_ne_bytes(), kind.to_ne_bytes()].concat();
        bytes.extend(value.as_bytes());
        bytes.resize(usize::from(length).next_multiple_of(4), 0);
        bytes
    }

    fn message([kind, subsystem]: [u8; 2], attributes: &[Vec<u8>]) -> Vec<u8> {
        let body = attributes.concat();
        let mut bytes = u32::try_from(HEADERS + body.len()).unwrap().to_ne_bytes().to_vec();
        bytes.extend([kind, subsystem]);
        bytes.resize(HEADERS, 0);
        bytes.extend(body);
        bytes
    }

    #[test]
    fn only_tables_and_chains_of_ours_concern_us() {
        let rule = |table, chain| message([8, NFTABLES], &[attribute(1, table), attribute(2, chain)]);
        let handle = vec![12, 0, 2, 0, 0, 0, 0, 0, 0, 0, 1, 0];
        for (one, expected) in [
            (rule("kube-ovn", "postrouting"), true),
            (rule("filter", "FORWARD"), true),
            (rule("filter", "OVN-INPUT"), true),
            (rule("filter", "KUBE-SERVICES"), false),
            (rule("nat", "OUTPUT"), false),
            (rule("kube-proxy", "services"), false),
            (message([2, NFTABLES], &[attribute(1, "kube-ovn")]), true),
            (message([5, NFTABLES], &[attribute(1, "filter"), handle.clone(), attribute(3, "INPUT")]), true),
            (message([5, NFTABLES], &[attribute(1, "filter"), handle, attribute(3, "KUBE-FORWARD")]), false),
            (message([2, 1], &[attribute(1, "kube-ovn")]), false),
        ] {
            assert_eq!(messages(&one).filter(|message| concerns(message)).count(), usize::from(expected), "{one:?}");
        }
        let both = [rule("nat", "A"), rule("kube-ovn", "B")].concat();
        assert!(messages(&both).any(concerns));
    }

    #[test]
    fn a_message_that_is_cut_off_is_none() {
        let whole = message([2, NFTABLES], &[attribute(1, "kube-ovn")]);
        for length in 0..whole.len() {
            assert!(!messages(&whole[..length]).any(concerns), "{length}");
        }
        let lying = message([2, NFTABLES], &[vec![0, 0, 1, 0], vec![255, 255, 1, 0]]);
        assert!(!messages(&lying).any(concerns));
    }
}
