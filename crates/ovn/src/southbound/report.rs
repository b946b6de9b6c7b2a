//! What a node agent reports about its node. It is part of the options for the CMS in the node's settings, which
//! ovn-controller copies to the node's chassis. So the agent writes no object of the API server.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::net::IpAddr;

use ipnet::IpNet;

use super::{MARK, words};

/// Our option with the node's networks: `<interface>@<network>`, separated by semicolons and sorted.
const NETWORKS: &str = "kube-ovn-networks";
/// Our option with the largest MTU of pods that fits through the node's tunnels, in bytes.
const MTU: &str = "kube-ovn-mtu";
/// Our option with the node's tunnel address and the other chassis that has it: `<address>@<chassis>`.
const TAKEN: &str = "kube-ovn-tunnel-taken";
/// Our option that says that the node's tunnels are VXLAN.
const VXLAN: &str = "kube-ovn-vxlan";
/// Our option with the number of ports that the agent has added again.
const RESTORED: &str = "kube-ovn-restored";

/// Our option that says that the router answers through the node's `ovn0`, with the uid of the Node or the external host.
const UP: &str = "kube-ovn-up";
/// Our option that says that this is an external host, and no node.
const EXTERNAL: &str = "kube-ovn-external";

/// What a node agent reports about its node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodeReport {
    /// The networks that the node itself uses, each with its interface. A subnet must not overlap them.
    pub networks: BTreeSet<(String, IpNet)>,
    /// The largest MTU of pods that fits through the node's tunnels, in bytes. `None` while the node has no tunnel
    /// interface.
    pub mtu: Option<u32>,
    /// The node's tunnel address and the name of another chassis that has it, so that this one has a stand-in.
    pub taken: Option<(IpAddr, String)>,
    /// Whether the node's tunnels are VXLAN, which has room for fewer ports than Geneve.
    pub vxlan: bool,
    /// The number of running pods whose ports Open vSwitch had lost and the agent has added again, since it started.
    pub restored: u32,
    /// The uid of the Node or the external host for which the router answers through `ovn0`. `None` if it does not.
    pub up: Option<String>,
    /// Whether this is an external host, and no node.
    pub external: bool,
}

impl NodeReport {
    /// Reads the report in these options for the CMS. Leaves out what is not readable.
    pub fn parse(options: &str) -> Self {
        let value = |option| words(options).find_map(|word| word.split_once('=').filter(|(key, _)| *key == option));
        let network = |entry: &str| {
            let (interface, network) = entry.split_once('@')?;
            Some((unescape(interface)?, network.parse().ok()?))
        };
        Self {
            networks: value(NETWORKS).into_iter().flat_map(|(_, list)| list.split(';')).filter_map(network).collect(),
            mtu: value(MTU).and_then(|(_, mtu)| mtu.parse().ok()),
            taken: value(TAKEN).and_then(|(_, taken)| {
                let (address, chassis) = taken.split_once('@')?;
                Some((address.parse().ok()?, unescape(chassis)?))
            }),
            vxlan: words(options).any(|word| word == VXLAN),
            restored: value(RESTORED).and_then(|(_, count)| count.parse().ok()).unwrap_or_default(),
            up: value(UP).and_then(|(_, uid)| unescape(uid)),
            external: words(options).any(|word| word == EXTERNAL),
        }
    }

    /// Returns these options for the CMS with our mark, and with this report in place of an earlier one. Other options
    /// stay as they are.
    pub fn in_options(&self, options: &str) -> String {
        let all = [NETWORKS, MTU, TAKEN, VXLAN, RESTORED, UP, EXTERNAL];
        let ours = |word: &&str| word.split('=').next().is_some_and(|key| all.contains(&key));
        let mut kept: Vec<String> = words(options).filter(|word| !ours(word)).map(str::to_owned).collect();
        if !kept.iter().any(|word| word == MARK) {
            kept.push(MARK.to_owned());
        }
        if !self.networks.is_empty() {
            let networks: Vec<_> =
                self.networks.iter().map(|(interface, network)| format!("{}@{network}", escape(interface))).collect();
            kept.push(format!("{NETWORKS}={}", networks.join(";")));
        }
        kept.extend(self.mtu.map(|mtu| format!("{MTU}={mtu}")));
        let taken = self.taken.as_ref();
        kept.extend(taken.map(|(address, chassis)| format!("{TAKEN}={address}@{}", escape(chassis))));
        kept.extend(self.vxlan.then(|| VXLAN.to_owned()));
        kept.extend((self.restored > 0).then(|| format!("{RESTORED}={}", self.restored)));
        kept.extend(self.up.as_ref().map(|uid| format!("{UP}={}", escape(uid))));
        kept.extend(self.external.then(|| EXTERNAL.to_owned()));
        kept.join(",")
    }
}

/// Writes an interface name without the separators of the option: `%` and two hexadecimal digits replace every byte
/// except letters, digits, `-`, `_`, `.` and `:`.
fn escape(name: &str) -> String {
    let mut escaped = String::new();
    for byte in name.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.:".contains(&byte) {
            escaped.push(char::from(byte));
        } else {
            // Writing to a String cannot fail.
            let _ = write!(escaped, "%{byte:02X}");
        }
    }
    escaped
}

fn unescape(text: &str) -> Option<String> {
    let mut bytes = Vec::new();
    let mut parts = text.split('%');
    bytes.extend(parts.next()?.bytes());
    for part in parts {
        let digits = part.get(..2).filter(|digits| digits.bytes().all(|byte| byte.is_ascii_hexdigit()))?;
        bytes.push(u8::from_str_radix(digits, 16).ok()?);
        bytes.extend(part.bytes().skip(2));
    }
    String::from_utf8(bytes).ok().filter(|name| !name.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(networks: &[(&str, &str)], mtu: Option<u32>) -> NodeReport {
        let network = |(interface, network): &(&str, &str)| ((*interface).to_owned(), network.parse().unwrap());
        NodeReport { networks: networks.iter().map(network).collect(), mtu, ..NodeReport::default() }
    }

    #[test]
    fn a_report_is_added_to_other_options_and_read_again() {
        let nothing = NodeReport::default();
        assert_eq!(nothing.in_options(""), "kube-ovn");
        assert_eq!(nothing.in_options("enable-chassis-as-gw, x"), "enable-chassis-as-gw,x,kube-ovn");
        let report = report(&[("eth1", "fd00::/64"), ("eth1", "172.31.0.0/24"), ("eth0.7", "10.0.0.0/8")], Some(1442));
        let options = report.in_options("card-serial-number=1,kube-ovn,x");
        assert_eq!(
            options,
            "card-serial-number=1,kube-ovn,x,\
             kube-ovn-networks=eth0.7@10.0.0.0/8;eth1@172.31.0.0/24;eth1@fd00::/64,kube-ovn-mtu=1442"
        );
        assert_eq!(NodeReport::parse(&options), report);
        assert_eq!(report.in_options(&options), options, "nothing is written again");
        assert_eq!(nothing.in_options(&options), "card-serial-number=1,kube-ovn,x");
    }

    #[test]
    fn what_is_amiss_and_what_was_repaired_is_named() {
        let taken = Some(("fd00::1".parse().unwrap(), "old,1".to_owned()));
        let report = NodeReport {
            taken,
            vxlan: true,
            restored: 3,
            up: Some("u-1".to_owned()),
            external: true,
            ..report(&[], None)
        };
        let options = "kube-ovn,kube-ovn-tunnel-taken=fd00::1@old%2C1,kube-ovn-vxlan,kube-ovn-restored=3,\
             kube-ovn-up=u-1,kube-ovn-external";
        assert_eq!(report.in_options("kube-ovn-tunnel-taken=x,kube-ovn-vxlan,kube-ovn-restored=2"), options);
        assert_eq!(NodeReport::parse(&report.in_options("")), report);
    }

    #[test]
    fn odd_names_are_read_as_they_are() {
        let odd = report(&[("a,b;c@d=%é", "10.0.0.0/24"), ("br-0a:1", "10.1.0.0/24")], None);
        let options = odd.in_options("");
        assert_eq!(options, "kube-ovn,kube-ovn-networks=a%2Cb%3Bc%40d%3D%25%C3%A9@10.0.0.0/24;br-0a:1@10.1.0.0/24");
        assert_eq!(NodeReport::parse(&options), odd);
    }

    #[test]
    fn what_is_not_readable_is_left_out() {
        let options = "kube-ovn-networks=eth0@10.0.0.0/24;eth1;@10.1.0.0/24;eth2@10.0.0.0/99;%4@10.2.0.0/24;%zé@10.3.0.0/24,\
                       kube-ovn-mtu=many";
        assert_eq!(NodeReport::parse(options), report(&[("eth0", "10.0.0.0/24")], None));
        assert_eq!(NodeReport::parse("kube-ovn-networks,kube-ovn-mtu=,kube-ovn"), NodeReport::default());
        assert_eq!(NodeReport::parse(""), NodeReport::default());
    }
}
