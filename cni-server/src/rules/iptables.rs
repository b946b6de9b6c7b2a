//! Our chains of iptables, and their comparison with the output of `iptables-save`.
//!
//! Rules are written in the format of `iptables-save`, so that they can be compared as text. Beside the table of nftables
//! there are only the chains that let pods' traffic pass the firewall of the host ([`accepting`]).

use std::collections::BTreeMap;
use std::fmt::Write;
use std::net::IpAddr;

use super::nft::{DATABASE_PORTS, PRIVILEGED_PORTS, THROUGH_NODE_PORTS, through_node};
use super::{Family, How, Leaving, Wanted};
use crate::node_port::DEVICE;

/// A chain of ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Chain {
    table: &'static str,
    name: &'static str,
    /// The built-in chain with a jump to this chain as its first rule, and the jump's comment.
    hook: Option<(&'static str, &'static str)>,
    /// The rules without `-A <chain> `.
    rules: Vec<String>,
}

impl Chain {
    /// Returns the jump without `-A `.
    fn jump(&self) -> Option<String> {
        let (from, comment) = self.hook?;
        Some(format!("{from} -m comment --comment \"{comment}\" -j {}", self.name))
    }
}

/// The mark of packets from a Service, of the node itself, to a pod. It replaces kube-proxy's mark 0x4000, for which
/// kube-proxy and our own rules would masquerade them.
const FROM_NODE: &str = "0x100000";

/// The UDP ports of Geneve and VXLAN. The packets of tunnels take the marks of those that they carry, and must not be
/// masqueraded for it.
const TUNNELS: [u16; 2] = [6081, 4789];

/// Returns the chains that let the traffic of `ovn0` pass a firewall of the host, for example a policy DROP of `FORWARD`.
/// A rule in another table of nftables could not do that: a packet must be accepted by each.
pub(super) fn accepting() -> Vec<Chain> {
    let accept = |way: &str| format!("{way} {DEVICE} -j ACCEPT");
    vec![input(vec![accept("-i")]), forward(vec![accept("-i"), accept("-o")])]
}

fn input(rules: Vec<String>) -> Chain {
    Chain { table: "filter", name: "OVN-INPUT", hook: Some(("INPUT", "kube-ovn input rules")), rules }
}

fn forward(rules: Vec<String>) -> Chain {
    Chain { table: "filter", name: "OVN-FORWARD", hook: Some(("FORWARD", "kube-ovn forward rules")), rules }
}

/// Returns all chains of an address family, for a node without nftables. `source` is the source address of the node's
/// traffic to pods.
pub(super) fn chains(family: Family, wanted: &Wanted, source: Option<IpAddr>) -> Vec<Chain> {
    let sets = family.prefix();
    let set = |name: &str, way: &str| format!("-m set --match-set {sets}{name} {way}");
    let not = |name: &str, way: &str| format!("-m set ! --match-set {sets}{name} {way}");
    // kube-proxy drops these, too, but its chains may come later. A reply that is not translated back would make the client
    // end its connection.
    let drop_invalid = |from: &str| format!("{from} -m conntrack --ctstate INVALID -j DROP");
    let (databases, privileged) = (DATABASE_PORTS.replace('-', ":"), PRIVILEGED_PORTS.replace('-', ":"));
    let ports = format!("-p tcp -m tcp --dport {databases}");
    let mut into_node = vec![drop_invalid(&format!("-i {DEVICE} {}", set("subnets", "src")))];
    if wanted.members.is_some() {
        // A reply to this node, which has such a port by chance.
        into_node.push(format!("{ports} -m conntrack --ctdir REPLY -j ACCEPT"));
        into_node.push(format!("-i {DEVICE} {ports} -j DROP"));
        into_node.push(format!("! -i lo {ports} {} -j DROP", not("members", "src")));
        into_node.push(format!("! -i lo -p tcp -m tcp --sport {privileged} --dport {databases} -j DROP"));
        // Somebody asked for another port, from which a Service leads here.
        into_node.push(format!("! -i lo {ports} -m conntrack ! --ctorigdstport {databases} -j DROP"));
    }
    let through = vec![
        drop_invalid(&format!("{} {}", set("subnets", "src"), set("subnets", "dst"))),
        format!("{ports} {} {} -j DROP", set("subnets", "src"), set("databases", "dst")),
    ];
    let accepting = accepting().into_iter().map(|mut chain| {
        let first = if chain.name == "OVN-INPUT" { into_node.clone() } else { through.clone() };
        chain.rules.splice(0..0, first);
        chain
    });
    let clear = || "-j MARK --set-xmark 0x0/0xffffffff".to_owned();
    let with_source = |rule: &dyn Fn(IpAddr) -> Vec<String>| source.map(rule).unwrap_or_default();
    let from_node = with_source(&|_| {
        let to_pods = format!("-o {DEVICE} -m addrtype --src-type LOCAL {}", set("subnets", "dst"));
        vec![format!("{to_pods} -m mark --mark 0x4000/0x4000 -j MARK --set-xmark {FROM_NODE}/0x104000")]
    });
    // To a port of this node that leads to a pod, by a NodePort or hostPort.
    let through_node =
        [set("subnets", "src") + " " + &not("subnets-private", "dst"), set("nodes", "src")].map(|from| {
            let to_pods = format!("-o {DEVICE} -m addrtype ! --src-type LOCAL {from} {}", set("subnets", "dst"));
            let translated = "-m conntrack --ctstate NEW -m conntrack --ctstate DNAT";
            format!("{to_pods} {translated} -j MARK --set-xmark 0x4000/0x4000")
        });
    let mut postrouting = with_source(&|_| vec![format!("-m mark --mark {FROM_NODE}/{FROM_NODE} -j OVN-FROM-NODE")]);
    postrouting.push("-m mark --mark 0x4000/0x4000 -j OVN-MASQUERADE".to_owned());
    // A TCP connection that does not begin here came in through another node, and this is its reply.
    postrouting.push("-p tcp -m tcp ! --tcp-flags SYN SYN -j RETURN".to_owned());
    let others = wanted.leaving.iter().filter(|leaving| leaving.is_of(family));
    postrouting.extend(others.flat_map(|leaving| leave(leaving, &not("subnets", "dst"), &ports)));
    postrouting.push(format!("{} {} -j OVN-MASQUERADE", set("subnets-nat", "src"), not("subnets", "dst")));
    let mut chains = vec![
        Chain {
            table: "raw",
            name: "OVN-PREROUTING",
            hook: Some(("PREROUTING", "kube-ovn prerouting rules")),
            rules: vec![format!("-i {} -j DROP", wanted.mirror)],
        },
        // kube-ovn has this chain in nat. There, kube-proxy's jump can come first and translate the destination. mangle
        // comes before nat. In nat, the agent empties the chain that kube-ovn may have left.
        Chain {
            table: "mangle",
            name: "OVN-PREROUTING",
            hook: Some(("PREROUTING", "kube-ovn prerouting rules")),
            // nat looks only at the first packet of a connection, and clears its mark. The mark of a later one would stay on
            // it, and on the tunnel's packet that carries it.
            rules: vec![format!(
                "-i {DEVICE} {} {} -m conntrack --ctstate NEW -j MARK --set-xmark 0x4000/0x4000",
                set("subnets", "src"),
                set("services", "dst")
            )],
        },
        Chain {
            table: "mangle",
            name: "OVN-OUTPUT",
            hook: Some(("OUTPUT", "kube-ovn output rules")),
            rules: TUNNELS.map(|port| format!("-p udp -m udp --dport {port} -j MARK --set-xmark 0x0/0x104000")).into(),
        },
        Chain {
            table: "mangle",
            name: "OVN-POSTROUTING",
            hook: Some(("POSTROUTING", "kube-ovn postrouting rules")),
            rules: from_node.into_iter().chain(through_node).collect(),
        },
        Chain { table: "nat", name: "OVN-PREROUTING", hook: None, rules: Vec::new() },
        Chain {
            table: "nat",
            name: "OVN-POSTROUTING",
            hook: Some(("POSTROUTING", "kube-ovn postrouting rules")),
            rules: postrouting,
        },
        Chain {
            table: "nat",
            name: "OVN-FROM-NODE",
            hook: None,
            rules: with_source(&|source| vec![clear(), format!("-j SNAT --to-source {source}")]),
        },
        Chain {
            table: "nat",
            name: "OVN-MASQUERADE",
            hook: None,
            rules: vec![
                clear(),
                // The node's own traffic to a Service can be here, too.
                format!(
                    "! -o {DEVICE} {ports} -m addrtype ! --src-type LOCAL -j MASQUERADE --to-ports {THROUGH_NODE_PORTS} --random-fully"
                ),
                "-j MASQUERADE --random-fully".to_owned(),
            ],
        },
    ];
    chains.extend(accepting);
    chains
}

/// Returns the rules for traffic that leaves in its own way. `outside` is the condition that it leaves, `databases` that it
/// goes to the port of a database.
fn leave(leaving: &Leaving, outside: &str, databases: &str) -> Vec<String> {
    let mut to: Vec<String> = leaving.dst.iter().map(|dst| format!(" -d {dst}")).collect();
    if to.is_empty() {
        to.push(String::new());
    }
    let ways = leaving.src.iter().flat_map(|src| to.iter().map(move |dst| format!("-s {src}{dst}")));
    let rules = |way: String| match &leaving.how {
        How::Forward => vec![format!("{way} {outside} -j RETURN")],
        How::Masquerade => vec![format!("{way} {outside} -j OVN-MASQUERADE")],
        // The address can be a node's.
        How::Snat(address) => vec![
            format!("{way} {databases} {outside} -j SNAT --to-source {}", through_node(*address)),
            format!("{way} {outside} -j SNAT --to-source {address}"),
        ],
    };
    ways.flat_map(rules).collect()
}

/// Our part of the saved rules.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Saved {
    /// (table, chain) to the rules in order. Missing if the chain does not exist.
    rules: BTreeMap<(&'static str, &'static str), Vec<String>>,
    /// (table, jump) to the number of occurrences.
    jumps: BTreeMap<(&'static str, String), usize>,
}

impl Saved {
    /// Extracts our chains and their jumps from the output of `iptables-save`.
    pub(super) fn parse(chains: &[Chain], text: &str) -> Self {
        let mut saved = Self::default();
        let mut table = "";
        for line in text.lines() {
            if let Some(name) = line.strip_prefix('*') {
                table = name;
            } else if let Some(declared) = line.strip_prefix(':') {
                let name = declared.split(' ').next().unwrap_or_default();
                if let Some(chain) = chains.iter().find(|c| c.table == table && c.name == name) {
                    saved.rules.entry((chain.table, chain.name)).or_default();
                }
            } else if let Some(rule) = line.strip_prefix("-A ") {
                let rule = rule.trim_end();
                for chain in chains.iter().filter(|c| c.table == table) {
                    if let Some(own) = rule.strip_prefix(chain.name).and_then(|r| r.strip_prefix(' ')) {
                        saved.rules.entry((chain.table, chain.name)).or_default().push(own.to_owned());
                    } else if chain.jump().as_deref() == Some(rule) {
                        *saved.jumps.entry((chain.table, rule.to_owned())).or_default() += 1;
                    }
                }
            }
        }
        saved
    }

    /// Returns the input for `iptables-restore --noflush`. Empty if nothing differs. A chain that differs is rewritten,
    /// which takes effect atomically at the table's COMMIT. Other chains are not changed.
    pub(super) fn batch(&self, chains: &[Chain]) -> String {
        let mut lines = String::new();
        for table in ["raw", "mangle", "nat", "filter"] {
            let ours = || chains.iter().filter(|c| c.table == table);
            let (mut declared, mut rules) = (String::new(), String::new());
            // Writing to a String cannot fail.
            for chain in ours().filter(|c| self.rules.get(&(c.table, c.name)) != Some(&c.rules)) {
                let _ = writeln!(declared, ":{} - [0:0]", chain.name);
                for rule in &chain.rules {
                    let _ = writeln!(rules, "-A {} {rule}", chain.name);
                }
            }
            for jump in ours().filter_map(Chain::jump) {
                let there = self.jumps.get(&(table, jump.clone())).copied().unwrap_or(0);
                if there == 0 {
                    let (from, rest) = jump.split_once(' ').unwrap_or_default();
                    let _ = writeln!(rules, "-I {from} 1 {rest}");
                }
                for _ in 1..there {
                    let _ = writeln!(rules, "-D {jump}");
                }
            }
            if !(declared.is_empty() && rules.is_empty()) {
                let _ = write!(lines, "*{table}\n{declared}{rules}COMMIT\n");
            }
        }
        lines
    }
}

/// Returns the input for `iptables-restore --noflush` that removes all chains whose names begin with `OVN-`, apart from
/// those that are wanted, and the rules that lead to them or name a set of ours. Empty if there are none.
pub(super) fn removal(wanted: &[Chain], saved: &str) -> String {
    let mut lines = String::new();
    for section in saved.split("\n*").map(|section| section.trim_start_matches('*')) {
        let table = section.lines().next().unwrap_or_default();
        let is_wanted = |name: &str| wanted.iter().any(|chain| chain.table == table && chain.name == name);
        let is_left = |name: &&str| name.starts_with("OVN-") && !is_wanted(name);
        let names = section.lines().filter_map(|line| line.strip_prefix(':')?.split(' ').next());
        let chains: Vec<&str> = names.filter(is_left).collect();
        let jumps: Vec<&str> = section
            .lines()
            .filter_map(|line| line.strip_prefix("-A "))
            .filter(|rule| !rule.starts_with("OVN-"))
            .filter(|rule| {
                let target = rule.split_once(" -j ").or(rule.split_once(" -g ")).map(|(_, target)| target);
                let target = target.and_then(|target| target.split(' ').next()).unwrap_or_default();
                is_left(&target) || ["ovn40", "ovn60"].iter().any(|set| rule.contains(&format!("-set {set}")))
            })
            .collect();
        if chains.is_empty() && jumps.is_empty() {
            continue;
        }
        // Writing to a String cannot fail. A chain that is declared is emptied.
        let _ = writeln!(lines, "*{table}");
        for chain in &chains {
            let _ = writeln!(lines, ":{chain} - [0:0]");
        }
        for jump in jumps {
            let _ = writeln!(lines, "-D {jump}");
        }
        for chain in chains {
            let _ = writeln!(lines, "-X {chain}");
        }
        lines.push_str("COMMIT\n");
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::expect;

    fn check(saved: &str, batch: &expect_test::Expect) {
        let chains = all();
        batch.assert_eq(&Saved::parse(&chains, saved).batch(&chains));
    }

    /// The chains of a node with databases.
    fn all() -> Vec<Chain> {
        let own = |dst: Option<&str>, how| Leaving {
            src: ["10.16.4.0/24".parse().unwrap()].into(),
            dst: dst.into_iter().map(|dst| dst.parse().unwrap()).collect(),
            how,
        };
        let leaving =
            vec![own(Some("192.0.2.0/24"), How::Forward), own(None, How::Snat("203.0.113.5".parse().unwrap()))];
        let (mirror, members) = ("mirror0".to_owned(), Some([].into()));
        let wanted = Wanted { leaving, members, mirror, ..Wanted::default() };
        chains(Family::V4, &wanted, Some("172.31.0.1".parse().unwrap()))
    }

    #[test]
    fn an_empty_node_gets_everything() {
        check(
            "",
            &expect![[r#"
                *raw
                :OVN-PREROUTING - [0:0]
                -A OVN-PREROUTING -i mirror0 -j DROP
                -I PREROUTING 1 -m comment --comment "kube-ovn prerouting rules" -j OVN-PREROUTING
                COMMIT
                *mangle
                :OVN-PREROUTING - [0:0]
                :OVN-OUTPUT - [0:0]
                :OVN-POSTROUTING - [0:0]
                -A OVN-PREROUTING -i ovn0 -m set --match-set ovn40subnets src -m set --match-set ovn40services dst -m conntrack --ctstate NEW -j MARK --set-xmark 0x4000/0x4000
                -A OVN-OUTPUT -p udp -m udp --dport 6081 -j MARK --set-xmark 0x0/0x104000
                -A OVN-OUTPUT -p udp -m udp --dport 4789 -j MARK --set-xmark 0x0/0x104000
                -A OVN-POSTROUTING -o ovn0 -m addrtype --src-type LOCAL -m set --match-set ovn40subnets dst -m mark --mark 0x4000/0x4000 -j MARK --set-xmark 0x100000/0x104000
                -A OVN-POSTROUTING -o ovn0 -m addrtype ! --src-type LOCAL -m set --match-set ovn40subnets src -m set ! --match-set ovn40subnets-private dst -m set --match-set ovn40subnets dst -m conntrack --ctstate NEW -m conntrack --ctstate DNAT -j MARK --set-xmark 0x4000/0x4000
                -A OVN-POSTROUTING -o ovn0 -m addrtype ! --src-type LOCAL -m set --match-set ovn40nodes src -m set --match-set ovn40subnets dst -m conntrack --ctstate NEW -m conntrack --ctstate DNAT -j MARK --set-xmark 0x4000/0x4000
                -I PREROUTING 1 -m comment --comment "kube-ovn prerouting rules" -j OVN-PREROUTING
                -I OUTPUT 1 -m comment --comment "kube-ovn output rules" -j OVN-OUTPUT
                -I POSTROUTING 1 -m comment --comment "kube-ovn postrouting rules" -j OVN-POSTROUTING
                COMMIT
                *nat
                :OVN-PREROUTING - [0:0]
                :OVN-POSTROUTING - [0:0]
                :OVN-FROM-NODE - [0:0]
                :OVN-MASQUERADE - [0:0]
                -A OVN-POSTROUTING -m mark --mark 0x100000/0x100000 -j OVN-FROM-NODE
                -A OVN-POSTROUTING -m mark --mark 0x4000/0x4000 -j OVN-MASQUERADE
                -A OVN-POSTROUTING -p tcp -m tcp ! --tcp-flags SYN SYN -j RETURN
                -A OVN-POSTROUTING -s 10.16.4.0/24 -d 192.0.2.0/24 -m set ! --match-set ovn40subnets dst -j RETURN
                -A OVN-POSTROUTING -s 10.16.4.0/24 -p tcp -m tcp --dport 6641:6648 -m set ! --match-set ovn40subnets dst -j SNAT --to-source 203.0.113.5:512-1023
                -A OVN-POSTROUTING -s 10.16.4.0/24 -m set ! --match-set ovn40subnets dst -j SNAT --to-source 203.0.113.5
                -A OVN-POSTROUTING -m set --match-set ovn40subnets-nat src -m set ! --match-set ovn40subnets dst -j OVN-MASQUERADE
                -A OVN-FROM-NODE -j MARK --set-xmark 0x0/0xffffffff
                -A OVN-FROM-NODE -j SNAT --to-source 172.31.0.1
                -A OVN-MASQUERADE -j MARK --set-xmark 0x0/0xffffffff
                -A OVN-MASQUERADE ! -o ovn0 -p tcp -m tcp --dport 6641:6648 -m addrtype ! --src-type LOCAL -j MASQUERADE --to-ports 512-1023 --random-fully
                -A OVN-MASQUERADE -j MASQUERADE --random-fully
                -I POSTROUTING 1 -m comment --comment "kube-ovn postrouting rules" -j OVN-POSTROUTING
                COMMIT
                *filter
                :OVN-INPUT - [0:0]
                :OVN-FORWARD - [0:0]
                -A OVN-INPUT -i ovn0 -m set --match-set ovn40subnets src -m conntrack --ctstate INVALID -j DROP
                -A OVN-INPUT -p tcp -m tcp --dport 6641:6648 -m conntrack --ctdir REPLY -j ACCEPT
                -A OVN-INPUT -i ovn0 -p tcp -m tcp --dport 6641:6648 -j DROP
                -A OVN-INPUT ! -i lo -p tcp -m tcp --dport 6641:6648 -m set ! --match-set ovn40members src -j DROP
                -A OVN-INPUT ! -i lo -p tcp -m tcp --sport 0:1023 --dport 6641:6648 -j DROP
                -A OVN-INPUT ! -i lo -p tcp -m tcp --dport 6641:6648 -m conntrack ! --ctorigdstport 6641:6648 -j DROP
                -A OVN-INPUT -i ovn0 -j ACCEPT
                -A OVN-FORWARD -m set --match-set ovn40subnets src -m set --match-set ovn40subnets dst -m conntrack --ctstate INVALID -j DROP
                -A OVN-FORWARD -p tcp -m tcp --dport 6641:6648 -m set --match-set ovn40subnets src -m set --match-set ovn40databases dst -j DROP
                -A OVN-FORWARD -i ovn0 -j ACCEPT
                -A OVN-FORWARD -o ovn0 -j ACCEPT
                -I INPUT 1 -m comment --comment "kube-ovn input rules" -j OVN-INPUT
                -I FORWARD 1 -m comment --comment "kube-ovn forward rules" -j OVN-FORWARD
                COMMIT
            "#]],
        );
    }

    #[test]
    fn one_wrong_chain_is_the_only_one_written() {
        let chains = all();
        let right = Saved::default().batch(&chains).replace("-I ", "-A ").replace("ROUTING 1 ", "ROUTING ");
        let right = right.replace("PUT 1 ", "PUT ").replace("FORWARD 1 ", "FORWARD ");
        check(&right, &expect![""]);
        let wrong = right.replace("-A OVN-MASQUERADE -j MASQUERADE --random-fully", "-A OVN-MASQUERADE -j MASQUERADE");
        check(
            &wrong,
            &expect![[r#"
                *nat
                :OVN-MASQUERADE - [0:0]
                -A OVN-MASQUERADE -j MARK --set-xmark 0x0/0xffffffff
                -A OVN-MASQUERADE ! -o ovn0 -p tcp -m tcp --dport 6641:6648 -m addrtype ! --src-type LOCAL -j MASQUERADE --to-ports 512-1023 --random-fully
                -A OVN-MASQUERADE -j MASQUERADE --random-fully
                COMMIT
            "#]],
        );
    }

    #[test]
    fn what_an_earlier_agent_left_is_removed_and_nothing_else() {
        let saved = "# Generated\n*mangle\n:PREROUTING ACCEPT [1:2]\n:OVN-PREROUTING - [0:0]\n\
                     -A PREROUTING -m comment --comment \"kube-ovn prerouting rules\" -j OVN-PREROUTING\n\
                     -A OVN-PREROUTING -i ovn0 -j MARK --set-xmark 0x4000/0x4000\nCOMMIT\n# Completed\n\
                     *filter\n:INPUT ACCEPT [0:0]\n:OVN-INPUT - [0:0]\n:KUBE-FORWARD - [0:0]\n\
                     -A INPUT -m comment --comment \"kube-ovn input rules\" -j OVN-INPUT\n\
                     -A FORWARD -m set --match-set ovn40subnets src -j ACCEPT\n\
                     -A FORWARD -j KUBE-FORWARD\n-A OVN-INPUT -i ovn0 -j ACCEPT\nCOMMIT\n\
                     *nat\n:POSTROUTING ACCEPT [0:0]\n-A POSTROUTING -j KUBE-POSTROUTING\nCOMMIT\n";
        expect![[r#"
            *mangle
            :OVN-PREROUTING - [0:0]
            -D PREROUTING -m comment --comment "kube-ovn prerouting rules" -j OVN-PREROUTING
            -X OVN-PREROUTING
            COMMIT
            *filter
            -D FORWARD -m set --match-set ovn40subnets src -j ACCEPT
            COMMIT
        "#]]
        .assert_eq(&removal(&accepting(), saved));
        assert!(removal(&[], saved).contains("-X OVN-INPUT"));
    }
}
