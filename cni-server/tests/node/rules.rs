//! The firewall rules: in tables of nftables, and in chains of iptables with sets of ipset.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use cni_server::databases::Databases;
use cni_server::metrics::Metrics;
use cni_server::node_net::Served;
use cni_server::node_port::Sources;
use cni_server::rules::{self, Firewall, How, Leaving, Rules, Wanted, Written};
use ipnet::IpNet;
use tokio::sync::watch;

use crate::sandbox::{eventually, in_netns, run};
use crate::scene;

fn nets(list: &[&str]) -> BTreeSet<IpNet> {
    list.iter().map(|net| net.parse().unwrap()).collect()
}

fn sources(v4: &str) -> Sources {
    Sources { v4: Some(v4.parse().unwrap()), v6: Some("fd00:31::1".parse().unwrap()) }
}

fn leaving(src: &str, dst: Option<&str>, how: How) -> Leaving {
    Leaving { src: nets(&[src]), dst: dst.into_iter().map(|dst| dst.parse().unwrap()).collect(), how }
}

fn wanted() -> Wanted {
    Wanted {
        subnets: nets(&["10.16.0.0/16", "100.64.0.0/16", "fd00:16::/64"]),
        nat: nets(&["10.16.0.0/16", "fd00:16::/64"]),
        leaving: vec![
            leaving("10.16.4.0/24", Some("192.0.2.0/24"), How::Forward),
            leaving("10.16.4.0/24", Some("192.0.2.7/32"), How::Masquerade),
            leaving("10.16.0.0/16", None, How::Snat("203.0.113.5".parse().unwrap())),
            leaving("fd00:16::/64", None, How::Snat("2001:db8::5".parse().unwrap())),
        ],
        services: nets(&["10.96.0.0/12", "fd00:10:96::/112"]),
        private: nets(&["10.17.0.0/16"]),
        nodes: nets(&["172.31.0.1/32", "172.31.0.2/32", "fd00:31::1/128"]),
        databases: nets(&["172.31.0.1/32"]),
        members: Some(nets(&["172.31.0.1/32", "172.31.0.2/32", "fd00:31::1/128"])),
        mirror: "mirror0".to_owned(),
        sources: Some(sources("172.31.0.1")),
    }
}

fn table(family: &str) -> String {
    run("nft", &["--stateless", "list", "table", family, "kube-ovn"])
}

#[test]
fn tables_are_written_when_they_differ_and_otherwise_not() {
    in_netns(|| async {
        run("nft", &["add", "table", "ip", "others"]);
        let mut wanted = wanted();
        let mut rules = Rules::with(Firewall::Auto);
        let start = Instant::now();
        let first = rules.apply(&wanted).await.unwrap();
        println!("first apply: {first:?} in {:?}", start.elapsed());
        assert!(first.rules > 0 && first.sets == 0, "{first:?}");
        let start = Instant::now();
        assert_eq!(rules.apply(&wanted).await.unwrap(), Written::default());
        println!("nothing to do: {:?}", start.elapsed());
        for (family, expected) in [
            ("ip", "ip saddr 10.16.0.0/16 ip daddr != { 10.16.0.0/16, 100.64.0.0/16 } goto masquerading"),
            ("ip", "snat to 172.31.0.1"),
            ("ip", "ip saddr != { 172.31.0.1-172.31.0.2 } tcp dport 6641-6648 counter name \"databases\" drop"),
            ("ip6", "snat to fd00:31::1"),
        ] {
            assert!(table(family).contains(expected), "{expected}: {}", table(family));
        }
        // What others do to our rules is undone, and a restarted agent knows what is right, too.
        run("nft", &["flush", "chain", "ip", "kube-ovn", "postrouting"]);
        assert!(rules.apply(&wanted).await.unwrap().rules > 0);
        let right = table("ip");
        run("nft", &["insert", "rule", "ip", "kube-ovn", "postrouting", "accept"]);
        assert!(rules.apply(&wanted).await.unwrap().rules > 0);
        assert_eq!(table("ip"), right);
        Rules::with(Firewall::Auto).apply(&wanted).await.unwrap();
        assert_eq!(table("ip"), right);
        // An agent that does not know the sources yet leaves a table as it is, and makes one that is missing.
        wanted.sources = None;
        run("nft", &["delete", "table", "ip6", "kube-ovn"]);
        Rules::with(Firewall::Auto).apply(&wanted).await.unwrap();
        assert_eq!(table("ip"), right);
        assert!(!table("ip6").contains("fib saddr type local"));
        // A cluster without IPv6 needs no table for it, apart from nodes with databases, which listen on all addresses.
        wanted = Wanted { sources: Some(Sources::default()), subnets: nets(&["10.16.0.0/16"]), ..wanted };
        Rules::with(Firewall::Auto).apply(&wanted).await.unwrap();
        assert!(table("ip6").contains("ip6 saddr != fd00:31::1 tcp dport 6641-6648 counter"), "{}", table("ip6"));
        wanted.members = None;
        Rules::with(Firewall::Auto).apply(&wanted).await.unwrap();
        assert!(!table("ip").contains("ip saddr != {"));
        assert_eq!(run("nft", &["list", "tables"]).matches("kube-ovn").count(), 1);
        assert!(run("nft", &["list", "tables"]).contains("table ip others"));
    });
}

#[test]
fn a_table_takes_every_network() {
    in_netns(|| async {
        let every = nets(&["0.0.0.0/0", "10.16.0.0/16", "10.16.1.0/24", "10.17.0.0/16", "::/0", "fd00:16::/64"]);
        let wanted = Wanted { subnets: every.clone(), nat: every.clone(), nodes: every, ..wanted() };
        let mut rules = Rules::with(Firewall::Nftables);
        assert!(rules.apply(&wanted).await.unwrap().rules > 0);
        assert_eq!(rules.apply(&wanted).await.unwrap(), Written::default());
        let many = (0..=255).flat_map(|a| (0..4).map(move |b| format!("10.{a}.{}.0/26", b * 64)));
        let many: BTreeSet<IpNet> = many.map(|net| net.parse().unwrap()).collect();
        let wanted = Wanted { subnets: many.clone(), nat: many, ..wanted };
        let start = Instant::now();
        rules.apply(&wanted).await.unwrap();
        println!("1,024 subnets: {:?}", start.elapsed());
    });
}

#[test]
fn the_firewall_of_the_host_lets_ovn0_pass_and_what_an_earlier_agent_left_is_removed() {
    in_netns(|| async {
        run("iptables", &["-P", "FORWARD", "DROP"]);
        run("iptables", &["-t", "nat", "-A", "POSTROUTING", "-s", "192.0.2.0/24", "-j", "MASQUERADE"]);
        Rules::with(Firewall::Iptables).apply(&wanted()).await.unwrap();
        assert!(run("iptables-save", &[]).contains(":OVN-MASQUERADE"));
        run("ipset", &["create", "others", "hash:net"]);

        let mut rules = Rules::with(Firewall::Auto);
        rules.apply(&wanted()).await.unwrap();
        for save in ["iptables-save", "ip6tables-save"] {
            let ours: Vec<String> = run(save, &[]).lines().filter(|l| l.contains("OVN-")).map(str::to_owned).collect();
            assert_eq!(
                ours,
                [
                    ":OVN-FORWARD - [0:0]",
                    ":OVN-INPUT - [0:0]",
                    "-A INPUT -m comment --comment \"kube-ovn input rules\" -j OVN-INPUT",
                    "-A FORWARD -m comment --comment \"kube-ovn forward rules\" -j OVN-FORWARD",
                    "-A OVN-FORWARD -i ovn0 -j ACCEPT",
                    "-A OVN-FORWARD -o ovn0 -j ACCEPT",
                    "-A OVN-INPUT -i ovn0 -j ACCEPT",
                ]
            );
        }
        assert_eq!(run("ipset", &["list", "-name"]), "others\n");
        assert!(run("iptables-save", &["-t", "nat"]).contains("-A POSTROUTING -s 192.0.2.0/24 -j MASQUERADE"));
        run("iptables", &["-F", "FORWARD"]);
        assert!(rules.apply(&wanted()).await.unwrap().rules > 0);
        assert_eq!(rules.apply(&wanted()).await.unwrap(), Written::default());

        // And the other way round.
        Rules::with(Firewall::Iptables).apply(&wanted()).await.unwrap();
        assert!(!run("nft", &["list", "tables"]).contains("kube-ovn"));
    });
}

/// A host like RHEL 7, or one whose kube-proxy was told so.
#[test]
fn rules_go_where_the_host_has_its_own() {
    in_netns(|| async {
        // The kubelet creates this chain where the host has its rules.
        run("iptables-legacy", &["-t", "mangle", "-N", "KUBE-IPTABLES-HINT"]);
        run("iptables-legacy", &["-P", "FORWARD", "DROP"]);
        let ours = |save: &str| run(save, &[]).lines().filter(|line| line.contains("OVN-")).count();
        for (firewall, least) in [(Firewall::Auto, 5), (Firewall::Iptables, 20)] {
            let mut rules = Rules::with(firewall);
            rules.apply(&wanted()).await.unwrap();
            assert_eq!(rules.apply(&wanted()).await.unwrap(), Written::default());
            assert!(run("iptables-legacy-save", &[]).contains("-A FORWARD -m comment --comment"));
            assert!(ours("iptables-legacy-save") >= least && ours("ip6tables-legacy-save") >= least, "{firewall:?}");
            assert_eq!((ours("iptables-nft-save"), ours("ip6tables-nft-save")), (0, 0), "{firewall:?}");
            run("iptables-legacy", &["-F", "FORWARD"]);
            assert!(rules.apply(&wanted()).await.unwrap().rules > 0);
        }
        assert!(run("iptables-legacy", &["-S", "FORWARD"]).starts_with("-P FORWARD DROP"));
    });
}

#[test]
fn what_others_delete_is_back_within_a_second() {
    in_netns(|| async {
        let served = Served::new(scene::seen([scene::subnet()]), Some([].into()));
        let databases = Databases { known: true, ..Databases::default() };
        let inputs = rules::Inputs {
            served: watch::channel(served).1,
            sources: watch::channel(Some(sources("172.31.0.1"))).1,
            databases: watch::channel(databases).1,
            services: nets(&["10.96.0.0/12"]),
            firewall: Firewall::Auto,
            own: scene::own(),
            metrics: Metrics::register(&prometheus::Registry::new(), "n1").unwrap(),
        };
        let mut state = rules::keep(inputs);
        state.wait_for(Result::is_ok).await.unwrap();
        // Fails as long as a table or a chain is missing.
        let shown = "nft -s list table ip kube-ovn && nft -s list table ip6 kube-ovn && iptables -S FORWARD && \
                     iptables -S INPUT && iptables -S OVN-FORWARD && iptables -S OVN-INPUT 2>&1 || true";
        let all = || run("sh", &["-c", shown]);
        let right = all();
        assert!(right.ends_with("-A OVN-INPUT -i ovn0 -j ACCEPT\n"), "{right}");
        for damage in [
            &["nft", "flush", "ruleset"][..],
            &["nft", "delete", "table", "ip", "kube-ovn"],
            &["nft", "add", "rule", "ip", "kube-ovn", "forward", "drop"],
            &["iptables", "-F", "FORWARD"],
            &["iptables", "-F"],
            &["iptables", "-D", "OVN-INPUT", "1"],
        ] {
            let start = Instant::now();
            run(damage[0], &damage[1..]);
            eventually(&format!("repaired after {damage:?}"), || all() == right).await;
            let took = start.elapsed();
            println!("{damage:?}: {took:?}");
            assert!(took < Duration::from_secs(1), "{damage:?}: {took:?}");
        }
    });
}

#[test]
fn a_second_apply_writes_nothing() {
    in_netns(|| async {
        run("iptables", &["-t", "nat", "-A", "POSTROUTING", "-s", "192.0.2.0/24", "-j", "MASQUERADE"]);
        // These are leftovers of kube-ovn.
        run("iptables", &["-t", "nat", "-N", "OVN-PREROUTING"]);
        run(
            "iptables",
            &["-t", "nat", "-A", "OVN-PREROUTING", "-i", "ovn0", "-j", "MARK", "--set-xmark", "0x4000/0x4000"],
        );
        let mut wanted = wanted();
        let mut rules = Rules::with(Firewall::Iptables);
        let start = Instant::now();
        let first = rules.apply(&wanted).await.unwrap();
        println!("first apply: {first:?} in {:?}", start.elapsed());
        assert!(first.sets > 0 && first.rules > 0);
        let start = Instant::now();
        assert_eq!(rules.apply(&wanted).await.unwrap(), Written::default());
        println!("nothing to do: {:?}", start.elapsed());
        // A restarted agent finds everything correct, too.
        assert_eq!(Rules::with(Firewall::Iptables).apply(&wanted).await.unwrap(), Written::default());

        wanted.subnets.extend(nets(&["10.17.0.0/24"]));
        assert_eq!(rules.apply(&wanted).await.unwrap(), Written { sets: 1, rules: 0 });
        wanted.sources = Some(sources("172.31.0.9"));
        assert!(rules.apply(&wanted).await.unwrap().rules > 0);
        assert_eq!(rules.apply(&wanted).await.unwrap(), Written::default());
        assert!(run("iptables-save", &["-t", "nat"]).contains("-A OVN-FROM-NODE -j SNAT --to-source 172.31.0.9"));
        wanted.sources = Some(Sources::default());
        rules.apply(&wanted).await.unwrap();
        assert!(!run("iptables-save", &[]).contains("0x100000"), "nothing without a source");
        run("iptables", &["-t", "nat", "-D", "OVN-MASQUERADE", "-j", "MASQUERADE", "--random-fully"]);
        assert!(rules.apply(&wanted).await.unwrap().rules > 0);
        assert_eq!(rules.apply(&wanted).await.unwrap(), Written::default());
        let nat = run("iptables-save", &["-t", "nat"]);
        assert!(nat.contains("-A POSTROUTING -s 192.0.2.0/24 -j MASQUERADE"), "{nat}");
        assert_eq!(nat.matches("-j OVN-POSTROUTING").count(), 1, "{nat}");
        assert!(!nat.contains("-A OVN-PREROUTING"), "{nat}");
        let mangle = run("iptables-save", &["-t", "mangle"]);
        let marks: Vec<&str> = mangle.lines().filter(|line| line.ends_with("--set-xmark 0x4000/0x4000")).collect();
        assert_eq!(marks.len(), 3, "{mangle}");
        assert!(
            marks.iter().all(|rule| rule.contains("--ctstate NEW")),
            "only the first packet of a connection: {marks:#?}"
        );
    });
}

#[test]
fn an_element_that_is_refused_spoils_nothing() {
    in_netns(|| async {
        let mut wanted = Wanted {
            subnets: nets(&["0.0.0.0/0", "10.16.0.0/16", "fd00:16::/64"]),
            nat: nets(&["0.0.0.0/0", "10.16.0.0/16"]),
            services: nets(&["10.96.0.0/12"]),
            mirror: "mirror0".to_owned(),
            sources: Some(Sources::default()),
            ..Wanted::default()
        };
        let mut rules = Rules::with(Firewall::Iptables);
        let written = rules.apply(&wanted).await.unwrap();
        assert!(written.sets > 0 && written.rules > 0, "{written:?}");
        let sets = run("ipset", &["save"]);
        for element in ["ovn40subnets 10.16.0.0/16", "ovn40subnets-nat 10.16.0.0/16", "ovn60subnets fd00:16::/64"] {
            assert!(sets.contains(&format!("add {element}\n")), "{element}: {sets}");
        }
        // The refused elements are tried again each time, and others are written.
        assert_eq!(rules.apply(&wanted).await.unwrap(), Written::default());
        wanted.nat = nets(&["0.0.0.0/0", "10.17.0.0/16"]);
        assert_eq!(rules.apply(&wanted).await.unwrap(), Written { sets: 2, rules: 0 });
    });
}

#[test]
fn a_family_that_fails_does_not_affect_the_other() {
    in_netns(|| async {
        // A set of the other family has one of the agent's names, so IPv4 rules cannot use it.
        run("ipset", &["create", "ovn40services", "hash:net", "family", "inet6"]);
        let failed = Rules::with(Firewall::Iptables).apply(&wanted()).await.unwrap_err();
        assert!(failed.to_string().starts_with("iptables-nft-restore: "), "{failed}");
        let saved = run("ip6tables-save", &["-t", "nat"]);
        assert!(saved.contains("-A OVN-POSTROUTING"), "{saved}");
    });
}
