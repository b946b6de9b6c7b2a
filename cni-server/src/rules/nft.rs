//! The table `kube-ovn` of nftables: what its rules say, and how it is written and read.
//!
//! There is a table for each address family. The agent replaces it in one transaction, so that packets meet the old rules
//! or the new ones, and no rule ever names a set that does not exist. Other tables of the node are not touched. The rules
//! need no packet marks: `ct original` still knows the address of a Service after kube-proxy has translated it.

use std::collections::BTreeSet;
use std::fmt::Write;

use ipnet::IpNet;

use super::command::{self, CommandError};
use super::{Family, Wanted};
use crate::node_port::DEVICE;

/// The name of the tables.
pub(super) const TABLE: &str = "kube-ovn";

/// The counter of packets that fit no known connection.
pub(super) const INVALID: &str = "invalid";

/// The counter of packets that were kept from the ports of the OVN databases.
pub(super) const DATABASES: &str = "databases";

/// All bits but kube-proxy's mark 0x4000 for packets that it masquerades. Where a rule of ours translates a packet, kube-proxy's rules do not
/// see it any more, and the mark would stay on it, and on the tunnel's packet that carries it.
const WITHOUT_MARK: &str = "0xffffbfff";

/// The ports of the OVN databases: northbound, southbound, and between their members.
pub(super) const DATABASE_PORTS: &str = "6641-6648";

impl Family {
    /// Returns the word of nft for the family, of tables and of addresses.
    fn word(self) -> &'static str {
        match self {
            Self::V4 => "ip",
            Self::V6 => "ip6",
        }
    }

    /// Returns the type of set elements.
    fn element(self) -> &'static str {
        match self {
            Self::V4 => "ipv4_addr",
            Self::V6 => "ipv6_addr",
        }
    }
}

/// Returns the text that creates the table of a family.
pub(super) fn table(wanted: &Wanted, family: Family) -> String {
    let ip = family.word();
    let mut text = format!("table {ip} {TABLE} {{\n");
    for (name, nets) in wanted.sets() {
        set(&mut text, family, name, nets);
    }
    for counter in [INVALID, DATABASES] {
        // Writing to a String cannot fail.
        let _ = write!(text, "\tcounter {counter} {{ }}\n\n");
    }
    chain(
        &mut text,
        "output",
        "filter",
        "output",
        -150,
        &[
            // ovs-vswitchd gives a tunnel's packet the mark of the one that it carries. kube-proxy must not take it for a
            // request to masquerade the tunnel.
            format!("udp dport {{ 4789, 6081 }} {}", unmark()),
        ],
    );
    chain(&mut text, "input", "filter", "input", -10, &input(wanted, ip));
    chain(&mut text, "forward", "filter", "forward", -10, &forward(ip));
    chain(&mut text, "postrouting", "nat", "postrouting", 90, &postrouting(wanted, family));
    text.push_str("\tchain masquerading {\n");
    let _ = write!(text, "\t\t{}\n\t\tmasquerade fully-random\n\t}}\n}}\n", unmark());
    text
}

/// Returns the statement that takes kube-proxy's mark off a packet.
fn unmark() -> String {
    format!("meta mark set meta mark & {WITHOUT_MARK}")
}

fn input(wanted: &Wanted, ip: &str) -> Vec<String> {
    let mut rules =
        vec![format!("iifname \"{DEVICE}\" {ip} saddr @subnets ct state invalid counter name \"{INVALID}\" drop")];
    if wanted.members.is_some() {
        let ports = format!("tcp dport {DATABASE_PORTS}");
        rules.push(format!("iifname \"lo\" {ports} accept"));
        rules.push(format!("iifname \"{DEVICE}\" {ports} counter name \"{DATABASES}\" drop"));
        rules.push(format!("{ip} saddr != @members {ports} counter name \"{DATABASES}\" drop"));
    }
    rules
}

fn forward(ip: &str) -> Vec<String> {
    vec![
        // kube-proxy drops these, too, but its chains may come later. A reply that is not translated back would make the
        // client end its connection.
        format!("{ip} saddr @subnets {ip} daddr @subnets ct state invalid counter name \"{INVALID}\" drop"),
        // A pod would reach the databases by its node's address.
        format!(
            "{ip} saddr @subnets {ip} daddr @databases tcp dport {DATABASE_PORTS} counter name \"{DATABASES}\" drop"
        ),
    ]
}

/// The rules for the first packet of a connection, before those of kube-proxy (priority 100).
fn postrouting(wanted: &Wanted, family: Family) -> Vec<String> {
    let ip = family.word();
    let mut rules = Vec::new();
    let to_pod = format!("oifname \"{DEVICE}\" {ip} daddr @subnets ct status dnat");
    // The node itself asks a Service. kube-proxy would give it the address of ovn0.
    if let Some(source) = wanted.sources.unwrap_or_default().of(family) {
        rules.push(format!("{to_pod} fib saddr type local {} snat to {source}", unmark()));
    }
    // Another node, or a pod, asks a port of this node that leads to a pod.
    rules.push(format!("{to_pod} {ip} saddr @nodes goto masquerading"));
    rules.push(format!("{to_pod} {ip} saddr @subnets {ip} daddr != @subnets-private goto masquerading"));
    // A pod asks a Service.
    rules.push(format!("{ip} saddr @subnets ct original {ip} daddr @services goto masquerading"));
    // A TCP connection that does not begin here came in through another node, and this is its reply.
    rules.push("tcp flags & syn == 0 return".to_owned());
    // A pod leaves the cluster.
    rules.push(format!("{ip} saddr @subnets-nat {ip} daddr != @subnets goto masquerading"));
    rules
}

fn set(text: &mut String, family: Family, name: &str, nets: &BTreeSet<IpNet>) {
    let elements: Vec<String> = outermost(nets.iter().filter(|net| family.has(net))).map(|net| element(*net)).collect();
    let _ = write!(text, "\tset {name} {{\n\t\ttype {}\n\t\tflags interval\n", family.element());
    if !elements.is_empty() {
        let _ = writeln!(text, "\t\telements = {{ {} }}", elements.join(", "));
    }
    text.push_str("\t}\n\n");
}

/// Returns an element of a set. nft refuses `0.0.0.0/0`.
fn element(net: IpNet) -> String {
    if net.prefix_len() == 0 { format!("{}-{}", net.network(), net.broadcast()) } else { net.to_string() }
}

/// Leaves out networks that are part of another one. A set contains each address once.
fn outermost<'a>(nets: impl Iterator<Item = &'a IpNet>) -> impl Iterator<Item = &'a IpNet> {
    let mut last: Option<&IpNet> = None;
    // A network comes before those that it contains.
    nets.filter(move |net| {
        let inside = last.is_some_and(|last| last.contains(*net));
        if !inside {
            last = Some(net);
        }
        !inside
    })
}

fn chain(text: &mut String, name: &str, kind: &str, hook: &str, priority: i32, rules: &[String]) {
    let _ = writeln!(text, "\tchain {name} {{\n\t\ttype {kind} hook {hook} priority {priority}; policy accept;");
    for rule in rules {
        let _ = writeln!(text, "\t\t{rule}");
    }
    text.push_str("\t}\n\n");
}

/// Replaces the table of a family.
pub(super) async fn write(family: Family, table: &str) -> Result<(), CommandError> {
    let ip = family.word();
    // `add` before `delete`: the table may not exist.
    command::run("nft", &["-f", "-"], &format!("add table {ip} {TABLE}\ndelete table {ip} {TABLE}\n{table}"))
        .await
        .map(drop)
}

/// Deletes the table of a family if it exists.
pub(super) async fn delete(family: Family) -> Result<(), CommandError> {
    let ip = family.word();
    command::run("nft", &["-f", "-"], &format!("add table {ip} {TABLE}\ndelete table {ip} {TABLE}\n")).await.map(drop)
}

/// Returns the table of a family as nft prints it, without counters. `None` if it does not exist.
pub(super) async fn read(family: Family) -> Result<Option<String>, CommandError> {
    match command::run("nft", &["--stateless", "list", "table", family.word(), TABLE], "").await {
        Ok(text) => Ok(Some(text)),
        Err(CommandError::Refused { stderr, .. }) if stderr.contains("No such file or directory") => Ok(None),
        Err(error) => Err(error),
    }
}

/// Returns the packets that a counter of a family has counted since the table was written.
pub(super) async fn counted(family: Family, counter: &str) -> Result<u64, CommandError> {
    let text = command::run("nft", &["list", "counter", family.word(), TABLE, counter], "").await?;
    let packets = text.split_whitespace().skip_while(|word| *word != "packets").nth(1);
    Ok(packets.and_then(|packets| packets.parse().ok()).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node_port::Sources;
    use expect_test::expect;

    #[test]
    fn the_table_of_a_node_with_databases() {
        let nets = |list: &[&str]| list.iter().map(|net| net.parse().unwrap()).collect::<BTreeSet<IpNet>>();
        let wanted = Wanted {
            subnets: nets(&["10.16.0.0/16", "10.17.0.0/24", "100.64.0.0/16", "fd00:16::/64"]),
            nat: nets(&["10.16.0.0/16", "fd00:16::/64"]),
            services: nets(&["10.96.0.0/12"]),
            private: nets(&["10.17.0.0/24"]),
            nodes: nets(&["172.31.0.1/32", "172.31.0.2/32"]),
            databases: nets(&["172.31.0.1/32"]),
            members: Some(nets(&["172.31.0.1/32", "172.31.0.2/32"])),
            sources: Some(Sources { v4: Some("172.31.0.1".parse().unwrap()), v6: None }),
        };
        expect![[r#"
            table ip kube-ovn {
            	set subnets {
            		type ipv4_addr
            		flags interval
            		elements = { 10.16.0.0/16, 10.17.0.0/24, 100.64.0.0/16 }
            	}

            	set subnets-nat {
            		type ipv4_addr
            		flags interval
            		elements = { 10.16.0.0/16 }
            	}

            	set subnets-private {
            		type ipv4_addr
            		flags interval
            		elements = { 10.17.0.0/24 }
            	}

            	set services {
            		type ipv4_addr
            		flags interval
            		elements = { 10.96.0.0/12 }
            	}

            	set nodes {
            		type ipv4_addr
            		flags interval
            		elements = { 172.31.0.1/32, 172.31.0.2/32 }
            	}

            	set databases {
            		type ipv4_addr
            		flags interval
            		elements = { 172.31.0.1/32 }
            	}

            	set members {
            		type ipv4_addr
            		flags interval
            		elements = { 172.31.0.1/32, 172.31.0.2/32 }
            	}

            	counter invalid { }

            	counter databases { }

            	chain output {
            		type filter hook output priority -150; policy accept;
            		udp dport { 4789, 6081 } meta mark set meta mark & 0xffffbfff
            	}

            	chain input {
            		type filter hook input priority -10; policy accept;
            		iifname "ovn0" ip saddr @subnets ct state invalid counter name "invalid" drop
            		iifname "lo" tcp dport 6641-6648 accept
            		iifname "ovn0" tcp dport 6641-6648 counter name "databases" drop
            		ip saddr != @members tcp dport 6641-6648 counter name "databases" drop
            	}

            	chain forward {
            		type filter hook forward priority -10; policy accept;
            		ip saddr @subnets ip daddr @subnets ct state invalid counter name "invalid" drop
            		ip saddr @subnets ip daddr @databases tcp dport 6641-6648 counter name "databases" drop
            	}

            	chain postrouting {
            		type nat hook postrouting priority 90; policy accept;
            		oifname "ovn0" ip daddr @subnets ct status dnat fib saddr type local meta mark set meta mark & 0xffffbfff snat to 172.31.0.1
            		oifname "ovn0" ip daddr @subnets ct status dnat ip saddr @nodes goto masquerading
            		oifname "ovn0" ip daddr @subnets ct status dnat ip saddr @subnets ip daddr != @subnets-private goto masquerading
            		ip saddr @subnets ct original ip daddr @services goto masquerading
            		tcp flags & syn == 0 return
            		ip saddr @subnets-nat ip daddr != @subnets goto masquerading
            	}

            	chain masquerading {
            		meta mark set meta mark & 0xffffbfff
            		masquerade fully-random
            	}
            }
        "#]].assert_eq(&table(&wanted, Family::V4));
        let six = table(&Wanted { members: None, ..wanted }, Family::V6);
        assert!(!six.contains("snat") && !six.contains("members tcp") && six.contains("{ fd00:16::/64 }"), "{six}");
    }

    #[test]
    fn an_address_is_in_one_element_of_a_set() {
        let nets = ["0.0.0.0/0", "10.0.0.0/8", "10.16.0.0/16"].map(|net| net.parse().unwrap());
        let all: BTreeSet<IpNet> = nets.into();
        let elements = |nets: &BTreeSet<IpNet>| outermost(nets.iter()).map(|net| element(*net)).collect::<Vec<_>>();
        assert_eq!(elements(&all), ["0.0.0.0-255.255.255.255"]);
        let apart: BTreeSet<IpNet> =
            ["10.0.0.0/9", "10.0.0.1/32", "10.128.0.0/9"].map(|net| net.parse().unwrap()).into();
        assert_eq!(elements(&apart), ["10.0.0.0/9", "10.128.0.0/9"]);
    }
}
