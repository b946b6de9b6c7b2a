//! Compares the output of `ipset save` with the wanted sets.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::net::IpAddr;

use ipnet::IpNet;

use super::Family;

/// Returns the input for `ipset restore` that changes the saved sets to the wanted ones. Empty if nothing differs.
/// Other sets are not changed. Elements are added before others are deleted, so that no wanted element is ever missing.
pub(super) fn batch(wanted: &BTreeMap<String, (Family, BTreeSet<IpNet>)>, saved: &str) -> String {
    let present = parse(saved);
    let mut lines = String::new();
    for (name, (family, elements)) in wanted {
        let none = BTreeSet::new();
        let have = present.get(name.as_str()).unwrap_or_else(|| {
            let family = if *family == Family::V4 { "inet" } else { "inet6" };
            // Writing to a String cannot fail.
            let _ = writeln!(lines, "create {name} hash:net family {family}");
            &none
        });
        for net in elements.difference(have) {
            let _ = writeln!(lines, "add {name} {net}");
        }
        for net in have.difference(elements) {
            let _ = writeln!(lines, "del {name} {net}");
        }
    }
    lines
}

fn parse(saved: &str) -> BTreeMap<&str, BTreeSet<IpNet>> {
    let mut sets: BTreeMap<&str, BTreeSet<IpNet>> = BTreeMap::new();
    for line in saved.lines() {
        let mut words = line.split_whitespace();
        match (words.next(), words.next(), words.next()) {
            (Some("create"), Some(name), _) => drop(sets.entry(name).or_default()),
            (Some("add"), Some(name), Some(element)) => {
                let host = || element.parse::<IpAddr>().map(IpNet::from);
                if let Ok(net) = element.parse().or_else(|_| host()) {
                    sets.entry(name).or_default().insert(net);
                }
            }
            _ => {}
        }
    }
    sets
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::Wanted;
    use expect_test::expect;

    fn nets(list: &[&str]) -> BTreeSet<IpNet> {
        list.iter().map(|n| n.parse().unwrap()).collect()
    }

    #[test]
    fn only_what_differs_is_written() {
        let wanted = Wanted {
            subnets: nets(&["10.16.0.0/16", "100.64.0.0/16", "10.9.9.9/32", "fd00:16::/64"]),
            nat: nets(&["10.16.0.0/16"]),
            services: nets(&["10.96.0.0/12"]),
            ..Wanted::default()
        };
        let saved = "create ovn40subnets hash:net family inet hashsize 1024 maxelem 65536\n\
                     add ovn40subnets 10.16.0.0/16\nadd ovn40subnets 10.9.9.9\nadd ovn40subnets 10.20.0.0/24\n\
                     create ovn40services hash:net family inet\nadd ovn40services 10.96.0.0/12\n\
                     create KUBE-LOOP hash:ip,port,ip family inet\nadd KUBE-LOOP 10.0.0.1,tcp:1,10.0.0.1\n";
        let lines = batch(&wanted.ipsets(), saved);
        expect![[r#"
            create ovn40databases hash:net family inet
            create ovn40nodes hash:net family inet
            add ovn40subnets 100.64.0.0/16
            del ovn40subnets 10.20.0.0/24
            create ovn40subnets-nat hash:net family inet
            add ovn40subnets-nat 10.16.0.0/16
            create ovn40subnets-private hash:net family inet
            create ovn60databases hash:net family inet6
            create ovn60nodes hash:net family inet6
            create ovn60services hash:net family inet6
            create ovn60subnets hash:net family inet6
            add ovn60subnets fd00:16::/64
            create ovn60subnets-nat hash:net family inet6
            create ovn60subnets-private hash:net family inet6
        "#]]
        .assert_eq(&lines);
    }
}
