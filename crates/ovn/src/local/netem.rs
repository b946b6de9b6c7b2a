//! `linux-netem`: a worse network for the packets that leave the switch by a port (ovs-vswitchd.conf.db(5), `QoS`).
//!
//! Rows of `QoS` stay in the database until they are deleted, also without a port that refers to them. ovs-vswitchd does
//! not apply other settings to a port that has `linux-netem` already, so that a change takes two steps ([`Step`]).

use std::collections::{BTreeMap, BTreeSet};

use ovsdb::{Datum, Op, Replica, Row, Uuid, Where};

use super::{PORT, QOS, local_id};

/// The type of the rows.
const TYPE: &str = "linux-netem";

/// What the rows of a node should be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// By port: what its packets suffer.
    pub ports: BTreeMap<Uuid, PortNetem>,
    /// The ports of which nothing is known: their rows stay as they are.
    pub unknown: BTreeSet<Uuid>,
}

/// What the packets that leave by a port suffer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortNetem {
    /// The logical port, `external_ids:iface-id` of the row.
    pub iface_id: String,
    /// The pod, `external_ids:pod` of the row, as in kube-ovn.
    pub pod: String,
    /// `other_config`: `latency` and `jitter` in µs, `loss` in percent, `limit` in packets.
    pub settings: BTreeMap<&'static str, String>,
}

impl PortNetem {
    fn row(&self) -> Row {
        let ids = [("iface-id", self.iface_id.as_str()), ("pod", self.pod.as_str()), crate::VENDOR];
        [
            ("type", TYPE.into()),
            ("other_config", Datum::map(self.settings.iter().map(|(key, value)| (*key, value.as_str())))),
            ("external_ids", Datum::map(ids)),
        ]
        .into()
    }
}

/// What is to be done next.
#[derive(Clone, Debug, Default)]
pub struct Step {
    /// The operations, for one transaction.
    pub ops: Vec<Op>,
    /// Whether a port lost its settings and gets others when ovs-vswitchd has applied the operations.
    pub again: bool,
}

/// Returns the next step to make the rows of pods' ports the wanted ones. A row is that of a pod if it names a logical port;
/// those that kube-ovn has left are, too. Other rows are not changed.
pub fn step(replica: &Replica, wanted: &Wanted) -> Step {
    let (mut ops, mut again) = (Vec::new(), false);
    let mut used = BTreeSet::new();
    for (port, row) in replica.rows(PORT) {
        let now = row.get("qos").and_then(Datum::as_uuid);
        let is_ours = now.is_some_and(|id| is_of_a_pod(replica, id));
        if wanted.unknown.contains(&port) {
            used.extend(now);
            continue;
        }
        match wanted.ports.get(&port) {
            Some(netem) => {
                let (there, row) = (now.and_then(|id| replica.get(QOS, id)), netem.row());
                match there {
                    Some(there) if row.iter().all(|(column, value)| there.get(column) == Some(value)) => {
                        used.extend(now);
                    }
                    Some(there) if there.get("type") == row.get("type") => {
                        ops.push(set_qos(port, Datum::empty()));
                        again = true;
                    }
                    _ => {
                        let id = local_id(QOS, &netem.iface_id, &format!("{port}/{:?}", netem.settings));
                        used.insert(id);
                        if replica.get(QOS, id).is_none() {
                            ops.push(Op::Insert { table: QOS, uuid: Some(id), row });
                        }
                        ops.push(set_qos(port, id.into()));
                    }
                }
            }
            None if is_ours => ops.push(set_qos(port, Datum::empty())),
            None => {}
        }
    }
    let gone = replica.rows(QOS).map(|(id, _)| id).filter(|id| is_of_a_pod(replica, *id) && !used.contains(id));
    ops.extend(gone.map(|id| Op::Delete { table: QOS, on: Where::Row(id) }));
    Step { ops, again }
}

/// Returns what a port's packets suffer.
pub fn settings(replica: &Replica, port: Uuid) -> BTreeMap<String, String> {
    let qos = replica.get(PORT, port).and_then(|row| replica.get(QOS, row.get("qos")?.as_uuid()?));
    let is_netem = |row: &&Row| row.get("type").and_then(Datum::as_str) == Some(TYPE);
    let pairs = qos.filter(is_netem).and_then(|row| row.get("other_config")).into_iter().flat_map(Datum::pairs);
    pairs.filter_map(|(key, value)| Some((key.as_str()?.to_owned(), value.as_str()?.to_owned()))).collect()
}

fn is_of_a_pod(replica: &Replica, id: Uuid) -> bool {
    replica.get(QOS, id).and_then(|row| row.get("external_ids")).is_some_and(|ids| ids.get("iface-id").is_some())
}

fn set_qos(port: Uuid, qos: Datum) -> Op {
    Op::Update { table: PORT, on: Where::Row(port), row: [("qos", qos)].into() }
}

#[cfg(test)]
mod tests {
    use super::super::open_vswitch;
    use super::*;

    fn apply(replica: &mut Replica, ops: &[Op]) {
        for op in ops {
            match op {
                Op::Insert { table, uuid: Some(uuid), row } => drop(replica.insert(table, *uuid, row.clone())),
                Op::Update { table, on: Where::Row(id), row } => {
                    let mut now = replica.get(table, *id).unwrap().clone();
                    row.iter().for_each(|(column, value)| drop(now.insert(column, value.clone())));
                    replica.insert(table, *id, now);
                }
                Op::Delete { table, on: Where::Row(id) } => drop(replica.remove(table, *id)),
                other => panic!("{other:?}"),
            }
        }
    }

    fn netem(latency: &str) -> PortNetem {
        PortNetem {
            iface_id: "web.shop".to_owned(),
            pod: "shop/web".to_owned(),
            settings: [("latency", latency.to_owned())].into(),
        }
    }

    #[test]
    fn rows_of_pods_become_the_wanted_ones_and_others_stay() {
        let [web, other, admins] = [1, 2, 3].map(Uuid::from_u128);
        let [left, foreign] = [11, 12].map(Uuid::from_u128);
        let mut replica = Replica::new(open_vswitch());
        let ids = |key: &str| Datum::map([(key, "db.shop")]);
        replica.insert(QOS, left, [("type", "linux-htb".into()), ("external_ids", ids("iface-id"))].into());
        replica.insert(QOS, foreign, [("type", "linux-htb".into()), ("external_ids", ids("who"))].into());
        for (port, qos) in [(web, Datum::empty()), (other, left.into()), (admins, foreign.into())] {
            replica.insert(PORT, port, [("name", port.to_string().into()), ("qos", qos)].into());
        }
        let qos = |replica: &Replica, port: Uuid| replica.get(PORT, port).unwrap().get("qos").unwrap().as_uuid();

        let slow = Wanted { ports: [(web, netem("600000"))].into(), ..Wanted::default() };
        let first = step(&replica, &slow);
        apply(&mut replica, &first.ops);
        assert!(!first.again);
        assert_eq!(settings(&replica, web), [("latency".to_owned(), "600000".to_owned())].into());
        assert!(qos(&replica, other).is_none() && replica.get(QOS, left).is_none(), "kube-ovn's is gone");
        assert_eq!(qos(&replica, admins), Some(foreign));
        assert!(step(&replica, &slow).ops.is_empty(), "nothing differs");

        // Not known any more, then slower, in two steps, then nothing.
        assert!(step(&replica, &Wanted { unknown: [web].into(), ..Wanted::default() }).ops.is_empty());
        let slower = Wanted { ports: [(web, netem("700000"))].into(), ..Wanted::default() };
        for (again, latency) in [(true, None), (false, Some("700000"))] {
            let next = step(&replica, &slower);
            apply(&mut replica, &next.ops);
            assert_eq!((next.again, settings(&replica, web).get("latency").map(String::as_str)), (again, latency));
        }
        let last = step(&replica, &Wanted::default());
        apply(&mut replica, &last.ops);
        assert!(settings(&replica, web).is_empty());
        assert_eq!(replica.rows(QOS).count(), 1, "no row stays without a port");
    }
}
