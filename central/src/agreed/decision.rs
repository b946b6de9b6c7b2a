//! What becomes of a file before its server opens it. Pure.

use std::collections::BTreeSet;

use super::record::{Record, Server};
use crate::file::{Found, Identity};

/// This member.
#[derive(Clone, Copy, Debug)]
pub struct Me<'a> {
    /// The name of its node.
    pub node: &'a str,
    /// Its address in the cluster.
    pub address: &'a str,
}

/// What becomes of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// The server opens the file as it is.
    Open(Identity),
    /// The member founds a cluster with the contents of its file, or an empty one.
    Create {
        /// Whether the contents of the file are those of the cluster.
        contents: bool,
        /// If the file is kept under another name, the reason.
        keep: Option<&'static str>,
    },
    /// A new server joins the cluster of these.
    Join {
        /// The addresses of servers with data.
        others: Vec<String>,
        /// If the file is kept under another name, the reason.
        keep: Option<&'static str>,
    },
    /// Other members may have data: the member says that it has none, and waits for what they say.
    Wait,
}

/// Decides. `labelled` are the nodes with members. `patient` is true if the member has waited long enough for those that have
/// said nothing.
pub fn decide(found: &Found, record: &Record, me: Me<'_>, labelled: &BTreeSet<String>, patient: bool) -> Decision {
    let Some(cluster) = record.cluster else { return first(found, record, me, labelled, patient) };
    let others: Vec<_> = record.others_with_data(me.node, labelled).map(|server| server.address.clone()).collect();
    let has_contents = matches!(found, Found::Standalone | Found::Member(_));
    // A file of the past is kept, and its contents are not taken: those of the databases follow from Kubernetes.
    let is_past = match found {
        Found::Member(identity) if identity.cluster == cluster => {
            // A node that was registered again with another name has the file of a server that is recorded.
            let is_another =
                |(node, server): (&String, &Server)| !labelled.contains(node) && server.id != identity.server;
            !record.servers.is_empty() && record.servers.iter().all(is_another)
        }
        Found::Member(identity) => record.superseded.contains(&identity.cluster),
        _ => false,
    };
    let anew = |keep| {
        if others.is_empty() {
            // Nobody has newer data.
            Decision::Create { contents: has_contents && !is_past, keep }
        } else {
            Decision::Join { others: others.clone(), keep }
        }
    };
    match found {
        Found::Nothing | Found::Joining => anew(None),
        Found::Damaged(_) => anew(Some("damaged")),
        Found::Standalone => anew(Some("standalone")),
        Found::Member(identity) if identity.cluster != cluster => anew(Some("foreign")),
        Found::Member(identity) => {
            let recorded = record.servers.get(me.node);
            let replaced = recorded.is_some_and(|server| server.id != identity.server);
            if is_past || replaced || record.gone.contains_key(&identity.server) {
                return anew(Some("removed"));
            }
            let survives = record.survivor.as_deref() == Some(me.node);
            match identity.address == me.address {
                true if !survives => Decision::Open(identity.clone()),
                false if !survives && !others.is_empty() => anew(Some("replaced")),
                _ => Decision::Create { contents: true, keep: Some("replaced") },
            }
        }
    }
}

/// Decides before a cluster is recorded: the first member with data has it recorded, and those without data found one only if
/// nobody has any.
fn first(found: &Found, record: &Record, me: Me<'_>, labelled: &BTreeSet<String>, patient: bool) -> Decision {
    match found {
        Found::Member(identity) if identity.address == me.address => Decision::Open(identity.clone()),
        Found::Member(_) => Decision::Create { contents: true, keep: Some("replaced") },
        Found::Standalone => Decision::Create { contents: true, keep: Some("standalone") },
        Found::Nothing | Found::Joining | Found::Damaged(_) => {
            let is_empty = |node: &&String| *node == me.node || record.empty.contains(*node);
            let empty = labelled.iter().filter(is_empty).count();
            if empty == labelled.len() || (patient && empty * 2 > labelled.len()) {
                let keep = matches!(found, Found::Damaged(_)).then_some("damaged");
                return Decision::Create { contents: false, keep };
            }
            Decision::Wait
        }
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::super::record::Server;
    use super::*;

    const ME: Me<'static> = Me { node: "n1", address: "tcp:10.0.0.1:6643" };
    const CLUSTER: Uuid = Uuid::from_u128(100);

    fn member(cluster: Uuid, server: u128, address: &str) -> Found {
        Found::Member(Identity { cluster, server: Uuid::from_u128(server), address: address.to_owned() })
    }

    fn mine() -> Found {
        member(CLUSTER, 1, ME.address)
    }

    /// Returns a record of servers, by the numbers of their nodes, and whether they have joined.
    fn record(servers: &[(u8, bool)]) -> Record {
        let server = |(number, joined): &(u8, bool)| {
            let (id, address) = (Uuid::from_u128((*number).into()), format!("tcp:10.0.0.{number}:6643"));
            (format!("n{number}"), Server { id, address, joined: *joined })
        };
        Record { cluster: Some(CLUSTER), servers: servers.iter().map(server).collect(), ..Record::default() }
    }

    fn decided(found: &Found, record: &Record) -> Decision {
        decide(found, record, ME, &["n1", "n2", "n3"].map(str::to_owned).into(), false)
    }

    fn join(numbers: &[u8], keep: Option<&'static str>) -> Decision {
        Decision::Join { others: numbers.iter().map(|number| format!("tcp:10.0.0.{number}:6643")).collect(), keep }
    }

    #[test]
    fn a_member_with_its_file_opens_it() {
        let Found::Member(identity) = mine() else { unreachable!() };
        for record in [record(&[(1, true), (2, true)]), record(&[]), record(&[(1, false)]), Record::default()] {
            assert_eq!(decided(&mine(), &record), Decision::Open(identity.clone()), "{record:?}");
        }
    }

    #[test]
    fn one_without_data_joins_those_that_have_it() {
        let all = record(&[(1, true), (2, true), (3, true)]);
        assert_eq!(decided(&Found::Nothing, &all), join(&[2, 3], None));
        assert_eq!(decided(&Found::Joining, &all), join(&[2, 3], None));
        assert_eq!(decided(&Found::Damaged(String::new()), &all), join(&[2, 3], Some("damaged")));
        assert_eq!(decided(&Found::Standalone, &all), join(&[2, 3], Some("standalone")));
        assert_eq!(decided(&member(Uuid::from_u128(7), 1, ME.address), &all), join(&[2, 3], Some("foreign")));
        assert_eq!(decided(&member(CLUSTER, 9, ME.address), &all), join(&[2, 3], Some("removed")));
        assert_eq!(decided(&member(CLUSTER, 1, "tcp:10.0.0.9:6643"), &all), join(&[2, 3], Some("replaced")));
        // Those that wait for data themselves, are gone, or have lost the label, have none.
        let mut some = record(&[(1, true), (2, false), (3, true), (4, true)]);
        assert_eq!(decided(&Found::Nothing, &some), join(&[3], None));
        some.gone.insert(Uuid::from_u128(3), String::new());
        assert_eq!(decided(&Found::Nothing, &some), Decision::Create { contents: false, keep: None });
        let foreign = member(Uuid::from_u128(7), 1, ME.address);
        assert_eq!(decided(&foreign, &some), Decision::Create { contents: true, keep: Some("foreign") });
    }

    #[test]
    fn a_removed_server_does_not_come_back_with_its_file() {
        let mut all = record(&[(2, true)]);
        all.gone.insert(Uuid::from_u128(1), ME.address.to_owned());
        assert_eq!(decided(&mine(), &all), join(&[2], Some("removed")));
    }

    /// The databases have moved from n1 to n9, which is lost.
    #[test]
    fn a_file_of_the_past_does_not_become_the_database() {
        let moved = record(&[(9, true)]);
        assert_eq!(decided(&mine(), &moved), Decision::Create { contents: false, keep: Some("removed") });
        // n9 is n1, with another name.
        let renamed = member(CLUSTER, 9, ME.address);
        assert!(matches!(decided(&renamed, &moved), Decision::Open(_)));
        let mut anew = record(&[(9, true)]);
        anew.superseded.push(Uuid::from_u128(7));
        let foreign = member(Uuid::from_u128(7), 1, ME.address);
        assert_eq!(decided(&foreign, &anew), Decision::Create { contents: false, keep: Some("foreign") });
    }

    #[test]
    fn a_survivor_and_the_only_member_with_another_address_found_a_cluster_with_their_data() {
        let contents = Decision::Create { contents: true, keep: Some("replaced") };
        let mut record = record(&[(1, true), (2, true)]);
        record.survivor = Some("n1".to_owned());
        assert_eq!(decided(&mine(), &record), contents);
        record.survivor = Some("n2".to_owned());
        assert!(matches!(decided(&mine(), &record), Decision::Open(_)));
        record.servers.remove("n2");
        assert_eq!(decided(&member(CLUSTER, 1, "tcp:10.0.0.9:6643"), &record), contents);
    }

    #[test]
    fn the_first_cluster_is_founded_from_data_or_when_nobody_has_any() {
        let mut record = Record::default();
        let empty = Decision::Create { contents: false, keep: None };
        let decided = |record: &Record, labelled: &[&str], patient| {
            decide(&Found::Nothing, record, ME, &labelled.iter().map(|&name| name.to_owned()).collect(), patient)
        };
        assert_eq!(decided(&record, &["n1"], false), empty);
        assert_eq!(decided(&record, &["n1", "n2", "n3"], true), Decision::Wait, "one of three");
        record.empty.insert("n3".to_owned());
        assert_eq!(decided(&record, &["n1", "n2", "n3"], false), Decision::Wait, "the third may have data");
        assert_eq!(decided(&record, &["n1", "n2", "n3"], true), empty, "the third may be lost");
        assert_eq!(decided(&record, &["n1", "n2"], true), Decision::Wait, "one of two");
        record.empty.insert("n2".to_owned());
        assert_eq!(decided(&record, &["n1", "n2", "n3"], false), empty);
        let labelled = BTreeSet::from(["n1", "n2"].map(str::to_owned));
        let from = |found| decide(&found, &Record::default(), ME, &labelled, false);
        assert_eq!(from(Found::Standalone), Decision::Create { contents: true, keep: Some("standalone") });
        let moved = member(CLUSTER, 1, "tcp:10.0.0.9:6643");
        assert_eq!(from(moved), Decision::Create { contents: true, keep: Some("replaced") });
    }
}
