//! Our chains, and their comparison with the output of `iptables-save`.
//!
//! Rules are written in the format of `iptables-save`, so that they can be compared as text.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::net::IpAddr;

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

/// Returns all chains of an address family. `sets` is the prefix of its set names, `source` the source address of the
/// node's traffic to pods.
pub(super) fn chains(sets: &str, source: Option<IpAddr>) -> Vec<Chain> {
    let set = |name: &str, way: &str| format!("-m set --match-set {sets}{name} {way}");
    let not = |name: &str, way: &str| format!("-m set ! --match-set {sets}{name} {way}");
    // kube-proxy drops these, too, but its chains may come later. A reply that is not translated back would make the client
    // end its connection.
    let drop_invalid = |from: &str| format!("{from} -m conntrack --ctstate INVALID -j DROP");
    let accept_after = |first: String| {
        let each = ["subnets", "services"].into_iter().flat_map(|s| [(s, "src"), (s, "dst")]);
        [first].into_iter().chain(each.map(|(s, way)| format!("{} -j ACCEPT", set(s, way)))).collect()
    };
    let clear = || "-j MARK --set-xmark 0x0/0xffffffff".to_owned();
    let with_source = |rule: &dyn Fn(IpAddr) -> Vec<String>| source.map(rule).unwrap_or_default();
    let from_node = with_source(&|_| {
        let to_pods = format!("-o ovn0 -m addrtype --src-type LOCAL {}", set("subnets", "dst"));
        vec![format!("{to_pods} -m mark --mark 0x4000/0x4000 -j MARK --set-xmark {FROM_NODE}/0x104000")]
    });
    // To a port of this node that leads to a pod, by a NodePort or hostPort.
    let through_node =
        [set("subnets", "src") + " " + &not("subnets-private", "dst"), set("nodes", "src")].map(|from| {
            let to_pods = format!("-o ovn0 -m addrtype ! --src-type LOCAL {from} {}", set("subnets", "dst"));
            let translated = "-m conntrack --ctstate NEW -m conntrack --ctstate DNAT";
            format!("{to_pods} {translated} -j MARK --set-xmark 0x4000/0x4000")
        });
    let mut postrouting = with_source(&|_| vec![format!("-m mark --mark {FROM_NODE}/{FROM_NODE} -j OVN-FROM-NODE")]);
    postrouting.push("-m mark --mark 0x4000/0x4000 -j OVN-MASQUERADE".to_owned());
    postrouting.push(format!("{} {} -j OVN-MASQUERADE", set("subnets-nat", "src"), not("subnets", "dst")));
    vec![
        // kube-ovn has this chain in nat. There, kube-proxy's jump can come first and translate the destination. mangle
        // comes before nat. In nat, the agent empties the chain that kube-ovn may have left.
        Chain {
            table: "mangle",
            name: "OVN-PREROUTING",
            hook: Some(("PREROUTING", "kube-ovn prerouting rules")),
            // nat looks only at the first packet of a connection, and clears its mark. The mark of a later one would stay on
            // it, and on the tunnel's packet that carries it.
            rules: vec![format!(
                "-i ovn0 {} {} -m conntrack --ctstate NEW -j MARK --set-xmark 0x4000/0x4000",
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
            rules: vec![clear(), "-j MASQUERADE --random-fully".to_owned()],
        },
        Chain {
            table: "filter",
            name: "OVN-INPUT",
            hook: Some(("INPUT", "kube-ovn input rules")),
            rules: accept_after(drop_invalid(&format!("-i ovn0 {}", set("subnets", "src")))),
        },
        Chain {
            table: "filter",
            name: "OVN-FORWARD",
            hook: Some(("FORWARD", "kube-ovn forward rules")),
            rules: accept_after(drop_invalid(&format!("{} {}", set("subnets", "src"), set("subnets", "dst")))),
        },
    ]
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
        for table in ["mangle", "nat", "filter"] {
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

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::expect;

    fn check(saved: &str, batch: &expect_test::Expect) {
        let chains = chains("ovn40", Some("172.31.0.1".parse().unwrap()));
        batch.assert_eq(&Saved::parse(&chains, saved).batch(&chains));
    }

    #[test]
    fn an_empty_node_gets_everything() {
        check(
            "",
            &expect![[r#"
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
                -A OVN-POSTROUTING -m set --match-set ovn40subnets-nat src -m set ! --match-set ovn40subnets dst -j OVN-MASQUERADE
                -A OVN-FROM-NODE -j MARK --set-xmark 0x0/0xffffffff
                -A OVN-FROM-NODE -j SNAT --to-source 172.31.0.1
                -A OVN-MASQUERADE -j MARK --set-xmark 0x0/0xffffffff
                -A OVN-MASQUERADE -j MASQUERADE --random-fully
                -I POSTROUTING 1 -m comment --comment "kube-ovn postrouting rules" -j OVN-POSTROUTING
                COMMIT
                *filter
                :OVN-INPUT - [0:0]
                :OVN-FORWARD - [0:0]
                -A OVN-INPUT -i ovn0 -m set --match-set ovn40subnets src -m conntrack --ctstate INVALID -j DROP
                -A OVN-INPUT -m set --match-set ovn40subnets src -j ACCEPT
                -A OVN-INPUT -m set --match-set ovn40subnets dst -j ACCEPT
                -A OVN-INPUT -m set --match-set ovn40services src -j ACCEPT
                -A OVN-INPUT -m set --match-set ovn40services dst -j ACCEPT
                -A OVN-FORWARD -m set --match-set ovn40subnets src -m set --match-set ovn40subnets dst -m conntrack --ctstate INVALID -j DROP
                -A OVN-FORWARD -m set --match-set ovn40subnets src -j ACCEPT
                -A OVN-FORWARD -m set --match-set ovn40subnets dst -j ACCEPT
                -A OVN-FORWARD -m set --match-set ovn40services src -j ACCEPT
                -A OVN-FORWARD -m set --match-set ovn40services dst -j ACCEPT
                -I INPUT 1 -m comment --comment "kube-ovn input rules" -j OVN-INPUT
                -I FORWARD 1 -m comment --comment "kube-ovn forward rules" -j OVN-FORWARD
                COMMIT
            "#]],
        );
    }

    #[test]
    fn one_wrong_chain_is_the_only_one_written() {
        let chains = chains("ovn40", Some("172.31.0.1".parse().unwrap()));
        let right = Saved::default().batch(&chains).replace("-I ", "-A ").replace("ROUTING 1 ", "ROUTING ");
        let right = right.replace("PUT 1 ", "PUT ").replace("FORWARD 1 ", "FORWARD ");
        check(&right, &expect![""]);
        let wrong = right.replace("-A OVN-MASQUERADE -j MASQUERADE --random-fully", "-A OVN-MASQUERADE -j MASQUERADE");
        check(
            &wrong,
            &expect![[r"
                *nat
                :OVN-MASQUERADE - [0:0]
                -A OVN-MASQUERADE -j MARK --set-xmark 0x0/0xffffffff
                -A OVN-MASQUERADE -j MASQUERADE --random-fully
                COMMIT
            "]],
        );
    }
}
