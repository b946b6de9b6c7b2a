//! The masquerade rules and their sets.

use std::collections::BTreeSet;
use std::time::Instant;

use cni_server::masquerade::{Masquerade, Wanted, Written};
use cni_server::node_port::Sources;
use ipnet::IpNet;

use crate::sandbox::{in_netns, run};

fn nets(list: &[&str]) -> BTreeSet<IpNet> {
    list.iter().map(|net| net.parse().unwrap()).collect()
}

fn sources(v4: &str) -> Sources {
    Sources { v4: Some(v4.parse().unwrap()), v6: Some("fd00:31::1".parse().unwrap()) }
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
        let mut wanted = Wanted {
            subnets: nets(&["10.16.0.0/16", "100.64.0.0/16", "fd00:16::/64"]),
            nat: nets(&["10.16.0.0/16", "fd00:16::/64"]),
            services: nets(&["10.96.0.0/12", "fd00:10:96::/112"]),
            private: nets(&["10.17.0.0/16"]),
            nodes: nets(&["172.31.0.1/32", "172.31.0.2/32", "fd00:31::1/128"]),
            sources: Some(sources("172.31.0.1")),
        };
        let mut masquerade = Masquerade::default();
        let start = Instant::now();
        let first = masquerade.apply(&wanted).await.unwrap();
        println!("first apply: {first:?} in {:?}", start.elapsed());
        assert!(first.sets > 0 && first.rules > 0);
        let start = Instant::now();
        assert_eq!(masquerade.apply(&wanted).await.unwrap(), Written::default());
        println!("nothing to do: {:?}", start.elapsed());
        // A restarted agent finds everything correct, too.
        assert_eq!(Masquerade::default().apply(&wanted).await.unwrap(), Written::default());

        wanted.subnets.extend(nets(&["10.17.0.0/24"]));
        assert_eq!(masquerade.apply(&wanted).await.unwrap(), Written { sets: 1, rules: 0 });
        wanted.sources = Some(sources("172.31.0.9"));
        assert!(masquerade.apply(&wanted).await.unwrap().rules > 0);
        assert_eq!(masquerade.apply(&wanted).await.unwrap(), Written::default());
        assert!(run("iptables-save", &["-t", "nat"]).contains("-A OVN-FROM-NODE -j SNAT --to-source 172.31.0.9"));
        wanted.sources = Some(Sources::default());
        masquerade.apply(&wanted).await.unwrap();
        assert!(!run("iptables-save", &[]).contains("0x100000"), "nothing without a source");
        run("iptables", &["-t", "nat", "-D", "OVN-MASQUERADE", "-j", "MASQUERADE", "--random-fully"]);
        assert!(masquerade.apply(&wanted).await.unwrap().rules > 0);
        assert_eq!(masquerade.apply(&wanted).await.unwrap(), Written::default());
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
            sources: Some(Sources::default()),
            ..Wanted::default()
        };
        let mut masquerade = Masquerade::default();
        let written = masquerade.apply(&wanted).await.unwrap();
        assert!(written.sets > 0 && written.rules > 0, "{written:?}");
        let sets = run("ipset", &["save"]);
        for element in ["ovn40subnets 10.16.0.0/16", "ovn40subnets-nat 10.16.0.0/16", "ovn60subnets fd00:16::/64"] {
            assert!(sets.contains(&format!("add {element}\n")), "{element}: {sets}");
        }
        // The refused elements are tried again each time, and others are written.
        assert_eq!(masquerade.apply(&wanted).await.unwrap(), Written::default());
        wanted.nat = nets(&["0.0.0.0/0", "10.17.0.0/16"]);
        assert_eq!(masquerade.apply(&wanted).await.unwrap(), Written { sets: 2, rules: 0 });
    });
}

#[test]
fn a_family_that_fails_does_not_affect_the_other() {
    in_netns(|| async {
        // A set of the other family has one of the agent's names, so IPv4 rules cannot use it.
        run("ipset", &["create", "ovn40services", "hash:net", "family", "inet6"]);
        let wanted = Wanted {
            services: nets(&["10.96.0.0/12", "fd00:10:96::/112"]),
            sources: Some(Sources::default()),
            ..Wanted::default()
        };
        let failed = Masquerade::default().apply(&wanted).await.unwrap_err();
        assert!(failed.to_string().starts_with("iptables-restore: "), "{failed}");
        let rules = run("ip6tables-save", &["-t", "nat"]);
        assert!(rules.contains("-A OVN-POSTROUTING"), "{rules}");
    });
}
