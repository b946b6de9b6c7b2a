//! The table `kube-ovn` of nftables: what its rules say, and how it is written and read.
//!
//! There is a table for each address family. The agent replaces it in one transaction, so that packets meet the old rules
//! or the new ones. Other tables of the node are not touched. The rules
//! need no packet marks: `ct original` still knows the address of a Service after kube-proxy has translated it.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::net::IpAddr;

use ipnet::IpNet;

use super::command::{self, CommandError};
use super::{Family, How, Leaving, Wanted};
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

/// kube-proxy's mark.
const MARK: &str = "0x4000";

/// The ports of the OVN databases: northbound, southbound, and between their members.
pub(super) const DATABASE_PORTS: &str = "6641-6648";

/// The source ports of what a node masquerades to [`DATABASE_PORTS`]. A socket has such a port only if its program asks for
/// it (ip-sysctl.rst, `ip_local_port_range`).
pub(super) const THROUGH_NODE_PORTS: &str = "512-1023";

/// The source ports that no client of the databases has.
pub(super) const PRIVILEGED_PORTS: &str = "0-1023";

impl Family {
    /// Returns the word of nft for the family, of tables and of addresses.
    fn word(self) -> &'static str {
        match self {
            Self::V4 => "ip",
            Self::V6 => "ip6",
        }
    }
}

/// Returns the text that creates the table of a family. Lists of networks are anonymous sets in the rules: programs of
/// nftables before 1.1 crash when they list a named set that a newer one has created, and administrators list all tables.
pub(super) fn table(wanted: &Wanted, family: Family) -> String {
    let mut text = format!("table {} {TABLE} {{\n", family.word());
    for counter in [INVALID, DATABASES] {
        // Writing to a String cannot fail.
        let _ = write!(text, "\tcounter {counter} {{ }}\n\n");
    }
    // ovs-vswitchd gives a tunnel's packet the mark of the one that it carries. kube-proxy must not take it for a request to
    // masquerade the tunnel.
    let output = vec![format!("udp dport {{ 4789, 6081 }} {}", unmark())];
    let copies = vec![format!("iifname \"{}\" drop", wanted.mirror)];
    chain(&mut text, "prerouting", "filter", "prerouting", -300, &copies);
    chain(&mut text, "output", "filter", "output", -150, &output);
    chain(&mut text, "input", "filter", "input", -10, &input());
    if let Some(members) = &wanted.members {
        chain(&mut text, "guard", "filter", "input", 110, &guard(members, family));
    }
    chain(&mut text, "forward", "filter", "forward", -10, &forward(wanted, family));
    chain(&mut text, "postrouting", "nat", "postrouting", 90, &postrouting(wanted, family));
    called(&mut text, TRANSLATED, &translated(wanted, family));
    // The node's own traffic to a Service can be here, too.
    let to_databases = format!(
        "oifname != \"{DEVICE}\" fib saddr type != local tcp dport {DATABASE_PORTS} masquerade to :{THROUGH_NODE_PORTS} fully-random"
    );
    called(&mut text, "masquerading", &[unmark(), to_databases, "masquerade fully-random".to_owned()]);
    // The blank line after the last chain.
    text.pop();
    text.push_str("}\n");
    text
}

/// Returns the statement that takes kube-proxy's mark off a packet.
fn unmark() -> String {
    format!("meta mark set meta mark & {WITHOUT_MARK}")
}

fn input() -> Vec<String> {
    vec![format!("iifname \"{DEVICE}\" ct state invalid counter name \"{INVALID}\" drop")]
}

/// The rules of a node with databases, behind the kernel's virtual server (priority 99), which may lead a connection to them.
fn guard(members: &BTreeSet<IpNet>, family: Family) -> Vec<String> {
    let drop = format!("tcp dport {DATABASE_PORTS} counter name \"{DATABASES}\" drop");
    // Without an address of the family, no node uses it.
    let others = is_not(family, "saddr", members).map(|others| format!("{others} ")).unwrap_or_default();
    vec![
        format!("iifname \"lo\" tcp dport {DATABASE_PORTS} accept"),
        // A reply to this node, which has such a port by chance.
        format!("ct direction reply tcp dport {DATABASE_PORTS} accept"),
        format!("iifname \"{DEVICE}\" {drop}"),
        format!("{others}{drop}"),
        format!("tcp sport {PRIVILEGED_PORTS} {drop}"),
        // Somebody asked for another port, from which a Service leads here.
        format!("meta l4proto tcp ct original proto-dst != {DATABASE_PORTS} {drop}"),
    ]
}

fn forward(wanted: &Wanted, family: Family) -> Vec<String> {
    // kube-proxy drops these, too, but its chains may come later. A reply that is not translated back would make the client
    // end its connection.
    let between = format!("iifname \"{DEVICE}\" oifname \"{DEVICE}\"");
    let invalid = format!("{between} ct state invalid counter name \"{INVALID}\" drop");
    // A pod would reach the databases by its node's address.
    let databases = is(family, "daddr", &wanted.databases).map(|databases| {
        format!("iifname \"{DEVICE}\" {databases} tcp dport {DATABASE_PORTS} counter name \"{DATABASES}\" drop")
    });
    [invalid].into_iter().chain(databases).collect()
}

/// The chain of the first packet of a connection to a pod whose client asked for another address.
const TRANSLATED: &str = "translated";

/// The rules for the first packet of a connection, before those of kube-proxy (priority 100).
fn postrouting(wanted: &Wanted, family: Family) -> Vec<String> {
    // A client asked for a Service or for a port of a node that leads to a pod, and kube-proxy translated the address. The
    // kernel's virtual server translates without saying so in `ct status`.
    let to_pod = format!("oifname \"{DEVICE}\" ct");
    let asked = wanted.nodes.union(&wanted.services).copied().collect();
    let asked = is(family, "daddr", &asked).map(|asked| format!("{to_pod} original {asked} jump {TRANSLATED}"));
    let translated = [Some(format!("{to_pod} status dnat jump {TRANSLATED}")), asked];
    // kube-proxy would masquerade this, from a pod or from outside, by a NodePort that someone made.
    let to_databases =
        format!("oifname != \"{DEVICE}\" tcp dport {DATABASE_PORTS} meta mark & {MARK} == {MARK} goto masquerading");
    // A pod asks a Service.
    let (pod, service) = (is(family, "saddr", &wanted.subnets), is(family, "daddr", &wanted.services));
    let to_service = pod.zip(service).map(|(pod, service)| format!("{pod} ct original {service} goto masquerading"));
    // A TCP connection that does not begin here came in through another node, and this is its reply.
    let reply = Some("tcp flags & syn == 0 return".to_owned());
    // A pod leaves the cluster.
    let outside = is_not(family, "daddr", &wanted.subnets).map(|outside| format!(" {outside}")).unwrap_or_default();
    let others = wanted.leaving.iter().filter(|leaving| leaving.is_of(family));
    let others = others.flat_map(|leaving| leave(family, leaving, &outside)).map(Some).collect::<Vec<_>>();
    let leaving = is(family, "saddr", &wanted.nat).map(|pod| format!("{pod}{outside} goto masquerading"));
    translated
        .into_iter()
        .chain([Some(to_databases), to_service, reply])
        .chain(others)
        .chain([leaving])
        .flatten()
        .collect()
}

/// Returns the rules for traffic that leaves in its own way. `outside` is the condition that it leaves.
fn leave(family: Family, Leaving { src, dst, how }: &Leaving, outside: &str) -> Vec<String> {
    let src = is(family, "saddr", src).unwrap_or_default();
    let dst = is(family, "daddr", dst).map(|dst| format!(" {dst}")).unwrap_or_default();
    let hows = match how {
        How::Forward => vec!["return".to_owned()],
        How::Masquerade => vec!["goto masquerading".to_owned()],
        // The address can be a node's.
        How::Snat(address) => {
            let to_databases = format!("tcp dport {DATABASE_PORTS} {} snat to {}", unmark(), through_node(*address));
            vec![to_databases, format!("{} snat to {address}", unmark())]
        }
    };
    hows.into_iter().map(|how| format!("{src}{dst}{outside} {how}")).collect()
}

/// Returns this source address with the ports of what goes through a node to [`DATABASE_PORTS`].
pub(super) fn through_node(address: IpAddr) -> String {
    let host = if address.is_ipv6() { format!("[{address}]") } else { address.to_string() };
    format!("{host}:{THROUGH_NODE_PORTS}")
}

fn translated(wanted: &Wanted, family: Family) -> Vec<String> {
    // The node itself asks. kube-proxy would give it the address of ovn0.
    let source = wanted.sources.unwrap_or_default().of(family);
    let own = source.map(|source| format!("fib saddr type local {} snat to {source}", unmark()));
    // Another node asks.
    let node = is(family, "saddr", &wanted.nodes).map(|node| format!("{node} goto masquerading"));
    // A pod asks.
    let not_private = is_not(family, "daddr", &wanted.private).map(|not| format!(" {not}")).unwrap_or_default();
    let pod = is(family, "saddr", &wanted.subnets).map(|pod| format!("{pod}{not_private} goto masquerading"));
    [own, node, pod].into_iter().flatten().collect()
}

/// Returns the condition that an address is in these networks. `None` if there are none of the family: it is never true.
fn is(family: Family, address: &str, nets: &BTreeSet<IpNet>) -> Option<String> {
    list(family, nets).map(|list| format!("{} {address} {list}", family.word()))
}

/// Returns the condition that an address is not in these networks. `None` if there are none of the family: it is always
/// true.
fn is_not(family: Family, address: &str, nets: &BTreeSet<IpNet>) -> Option<String> {
    list(family, nets).map(|list| format!("{} {address} != {list}", family.word()))
}

fn list(family: Family, nets: &BTreeSet<IpNet>) -> Option<String> {
    let elements: Vec<String> = outermost(nets.iter().filter(|net| family.has(net))).map(|net| element(*net)).collect();
    (!elements.is_empty()).then(|| format!("{{ {} }}", elements.join(", ")))
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

/// Adds a chain that other chains lead to.
fn called(text: &mut String, name: &str, rules: &[String]) {
    let _ = writeln!(text, "\tchain {name} {{");
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
        let leaving = |src: &str, dst: &[&str], how| Leaving { src: nets(&[src]), dst: nets(dst), how };
        let wanted = Wanted {
            subnets: nets(&["10.16.0.0/16", "10.17.0.0/24", "100.64.0.0/16", "fd00:16::/64"]),
            nat: nets(&["10.16.0.0/16", "fd00:16::/64"]),
            leaving: vec![
                leaving("10.16.4.0/24", &["192.0.2.0/24", "198.51.100.7/32"], How::Forward),
                leaving("10.16.4.0/24", &["192.0.2.7/32"], How::Masquerade),
                leaving("10.16.0.0/16", &[], How::Snat("203.0.113.5".parse().unwrap())),
                leaving("fd00:16::/64", &[], How::Snat("2001:db8::5".parse().unwrap())),
            ],
            services: nets(&["10.96.0.0/12"]),
            private: nets(&["10.17.0.0/24"]),
            nodes: nets(&["172.31.0.1/32", "172.31.0.2/32"]),
            databases: nets(&["172.31.0.1/32"]),
            members: Some(nets(&["172.31.0.1/32", "172.31.0.2/32"])),
            mirror: "mirror0".to_owned(),
            sources: Some(Sources { v4: Some("172.31.0.1".parse().unwrap()), v6: None }),
        };
        expect![[r#"
            table ip kube-ovn {
            	counter invalid { }

            	counter databases { }

            	chain prerouting {
            		type filter hook prerouting priority -300; policy accept;
            		iifname "mirror0" drop
            	}

            	chain output {
            		type filter hook output priority -150; policy accept;
            		udp dport { 4789, 6081 } meta mark set meta mark & 0xffffbfff
            	}

            	chain input {
            		type filter hook input priority -10; policy accept;
            		iifname "ovn0" ct state invalid counter name "invalid" drop
            	}

            	chain guard {
            		type filter hook input priority 110; policy accept;
            		iifname "lo" tcp dport 6641-6648 accept
            		ct direction reply tcp dport 6641-6648 accept
            		iifname "ovn0" tcp dport 6641-6648 counter name "databases" drop
            		ip saddr != { 172.31.0.1/32, 172.31.0.2/32 } tcp dport 6641-6648 counter name "databases" drop
            		tcp sport 0-1023 tcp dport 6641-6648 counter name "databases" drop
            		meta l4proto tcp ct original proto-dst != 6641-6648 tcp dport 6641-6648 counter name "databases" drop
            	}

            	chain forward {
            		type filter hook forward priority -10; policy accept;
            		iifname "ovn0" oifname "ovn0" ct state invalid counter name "invalid" drop
            		iifname "ovn0" ip daddr { 172.31.0.1/32 } tcp dport 6641-6648 counter name "databases" drop
            	}

            	chain postrouting {
            		type nat hook postrouting priority 90; policy accept;
            		oifname "ovn0" ct status dnat jump translated
            		oifname "ovn0" ct original ip daddr { 10.96.0.0/12, 172.31.0.1/32, 172.31.0.2/32 } jump translated
            		oifname != "ovn0" tcp dport 6641-6648 meta mark & 0x4000 == 0x4000 goto masquerading
            		ip saddr { 10.16.0.0/16, 10.17.0.0/24, 100.64.0.0/16 } ct original ip daddr { 10.96.0.0/12 } goto masquerading
            		tcp flags & syn == 0 return
            		ip saddr { 10.16.4.0/24 } ip daddr { 192.0.2.0/24, 198.51.100.7/32 } ip daddr != { 10.16.0.0/16, 10.17.0.0/24, 100.64.0.0/16 } return
            		ip saddr { 10.16.4.0/24 } ip daddr { 192.0.2.7/32 } ip daddr != { 10.16.0.0/16, 10.17.0.0/24, 100.64.0.0/16 } goto masquerading
            		ip saddr { 10.16.0.0/16 } ip daddr != { 10.16.0.0/16, 10.17.0.0/24, 100.64.0.0/16 } tcp dport 6641-6648 meta mark set meta mark & 0xffffbfff snat to 203.0.113.5:512-1023
            		ip saddr { 10.16.0.0/16 } ip daddr != { 10.16.0.0/16, 10.17.0.0/24, 100.64.0.0/16 } meta mark set meta mark & 0xffffbfff snat to 203.0.113.5
            		ip saddr { 10.16.0.0/16 } ip daddr != { 10.16.0.0/16, 10.17.0.0/24, 100.64.0.0/16 } goto masquerading
            	}

            	chain translated {
            		fib saddr type local meta mark set meta mark & 0xffffbfff snat to 172.31.0.1
            		ip saddr { 172.31.0.1/32, 172.31.0.2/32 } goto masquerading
            		ip saddr { 10.16.0.0/16, 10.17.0.0/24, 100.64.0.0/16 } ip daddr != { 10.17.0.0/24 } goto masquerading
            	}

            	chain masquerading {
            		meta mark set meta mark & 0xffffbfff
            		oifname != "ovn0" fib saddr type != local tcp dport 6641-6648 masquerade to :512-1023 fully-random
            		masquerade fully-random
            	}
            }
        "#]].assert_eq(&table(&wanted, Family::V4));
        let six = table(&Wanted { members: None, ..wanted }, Family::V6);
        assert!(
            !six.contains("172.31") && !six.contains("\"databases\" drop") && six.contains("{ fd00:16::/64 }"),
            "{six}"
        );
        assert!(six.contains("ip6 saddr { fd00:16::/64 } ip6 daddr != { fd00:16::/64 } meta mark"), "{six}");
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
