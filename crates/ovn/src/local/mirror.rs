//! A mirror of a bridge: copies of the packets of some ports go out by another port (ovs-vswitchd.conf.db(5), Mirror).
//!
//! A port that is selected is selected as source and as destination. ovs-vswitchd copies a packet once to a mirror, also if
//! it comes from a selected port and goes to another one.

use std::collections::BTreeSet;

use ovsdb::{Atom, Datum, Mutation, Mutator, Op, Replica, Row, Uuid, Where};

use super::{BRIDGE, Bridge, MIRROR, local_id};

/// The columns with the selected ports.
const SELECTED: [&str; 2] = ["select_src_port", "select_dst_port"];

/// A mirror.
#[derive(Clone, Copy, Debug)]
pub struct Mirror<'a> {
    /// The UUID of the row.
    pub id: Uuid,
    row: &'a Row,
}

impl<'a> Mirror<'a> {
    /// Returns the mirror of the bridge with this name.
    pub fn find(replica: &'a Replica, bridge: &Bridge<'_>, name: &str) -> Option<Self> {
        let id = replica.find(MIRROR, name).find(|id| bridge.mirrors().any(|own| own == *id))?;
        Some(Self { id, row: replica.get(MIRROR, id)? })
    }

    /// Returns whether the packets of a port are copied, both those that come from it and those that go to it.
    pub fn has(&self, port: Uuid) -> bool {
        self.selects_all() || SELECTED.iter().all(|column| self.contains(column, port))
    }

    /// `output_port`: where the copies go.
    pub fn output(&self) -> Option<Uuid> {
        self.row.get("output_port")?.as_uuid()
    }

    /// Returns the number of ports whose packets are copied in both directions.
    pub fn count(&self) -> usize {
        self.selected(SELECTED[0]).intersection(&self.selected(SELECTED[1])).count()
    }

    /// `select_all`: whether all packets of the bridge are copied.
    fn selects_all(&self) -> bool {
        self.row.get("select_all").and_then(Datum::as_bool) == Some(true)
    }

    fn contains(&self, column: &str, port: Uuid) -> bool {
        self.row.get(column).is_some_and(|ports| ports.contains(&Atom::from(port)))
    }

    fn selected(&self, column: &str) -> BTreeSet<Uuid> {
        self.row.get(column).into_iter().flat_map(Datum::uuids).collect()
    }
}

/// Returns the operation that selects a port.
pub fn select(mirror: Uuid, port: Uuid) -> Op {
    let mutation = |column| Mutation { column, mutator: Mutator::Insert, value: port.into() };
    Op::Mutate { table: MIRROR, on: Where::Row(mirror), mutations: SELECTED.map(mutation).into() }
}

/// A mirror as it should be.
#[derive(Clone, Debug)]
pub struct NewMirror {
    /// The name.
    pub name: &'static str,
    /// The port by which the copies go out.
    pub output: Uuid,
    /// The ports whose packets are copied.
    pub ports: BTreeSet<Uuid>,
}

impl NewMirror {
    /// Returns the operations that add the mirror to a bridge, for one transaction.
    pub fn add_to(&self, bridge: Uuid) -> Vec<Op> {
        let id = local_id(MIRROR, self.name, "");
        let ports = Datum::set(self.ports.iter().copied());
        let mut row: Row = [("name", self.name.into()), ("output_port", self.output.into())].into();
        for column in SELECTED {
            row.insert(column, ports.clone());
        }
        let mutation = Mutation { column: "mirrors", mutator: Mutator::Insert, value: id.into() };
        vec![
            Op::Insert { table: MIRROR, uuid: Some(id), row },
            Op::Mutate { table: BRIDGE, on: Where::Row(bridge), mutations: vec![mutation] },
        ]
    }

    /// Returns the operations that give an existing mirror what differs. A port that a concurrent transaction selects stays
    /// selected.
    pub fn changes(&self, mirror: &Mirror<'_>) -> Vec<Op> {
        let on = Where::Row(mirror.id);
        let mut columns = Row::new();
        if mirror.selects_all() {
            columns.insert("select_all", false.into());
        }
        if mirror.output() != Some(self.output) {
            columns.insert("output_port", self.output.into());
        }
        let mut mutations = Vec::new();
        for column in SELECTED {
            let now = mirror.selected(column);
            for (mutator, ports) in
                [(Mutator::Delete, now.difference(&self.ports)), (Mutator::Insert, self.ports.difference(&now))]
            {
                let value = Datum::set(ports.copied());
                if !value.is_empty() {
                    mutations.push(Mutation { column, mutator, value });
                }
            }
        }
        let mut ops = Vec::new();
        if !columns.is_empty() {
            ops.push(Op::Update { table: MIRROR, on: on.clone(), row: columns });
        }
        if !mutations.is_empty() {
            ops.push(Op::Mutate { table: MIRROR, on, mutations });
        }
        ops
    }
}

#[cfg(test)]
mod tests {
    use super::super::open_vswitch;
    use super::*;

    const OUTPUT: Uuid = Uuid::from_u128(1);

    /// Returns the replica after `ops`: inserts and mutations.
    fn apply(replica: &mut Replica, ops: &[Op]) {
        for op in ops {
            match op {
                Op::Insert { table, uuid: Some(uuid), row } => drop(replica.insert(table, *uuid, row.clone())),
                Op::Update { table, on: Where::Row(id), row } => {
                    let mut now = replica.get(table, *id).unwrap().clone();
                    row.iter().for_each(|(column, value)| drop(now.insert(column, value.clone())));
                    replica.insert(table, *id, now);
                }
                Op::Mutate { table, on: Where::Row(id), mutations } => {
                    let mut now = replica.get(table, *id).unwrap().clone();
                    for Mutation { column, mutator, value } in mutations {
                        let mut set: BTreeSet<Uuid> = now.get(column).into_iter().flat_map(Datum::uuids).collect();
                        for uuid in value.uuids() {
                            match mutator {
                                Mutator::Insert => drop(set.insert(uuid)),
                                _ => drop(set.remove(&uuid)),
                            }
                        }
                        now.insert(column, Datum::set(set));
                    }
                    replica.insert(table, *id, now);
                }
                other => panic!("{other:?}"),
            }
        }
    }

    #[test]
    fn a_mirror_becomes_what_it_should_be_from_any_state() {
        let [a, b, c] = [2, 3, 4].map(Uuid::from_u128);
        let wanted = |ports: &[Uuid]| NewMirror { name: "m0", output: OUTPUT, ports: ports.iter().copied().collect() };
        let bridge = Uuid::from_u128(9);
        let mut replica = Replica::new(open_vswitch());
        replica.insert(BRIDGE, bridge, [("name", "br-int".into())].into());
        let find = |replica: &Replica| {
            let mirror = Mirror::find(replica, &Bridge::find(replica, "br-int").unwrap(), "m0").unwrap();
            [a, b, c].map(|port| mirror.has(port))
        };
        let changes = |replica: &Replica, ports: &[Uuid]| {
            let bridge = Bridge::find(replica, "br-int").unwrap();
            wanted(ports).changes(&Mirror::find(replica, &bridge, "m0").unwrap())
        };

        // Another bridge has a mirror of this name.
        replica.insert(MIRROR, Uuid::from_u128(8), [("name", "m0".into())].into());
        assert!(Mirror::find(&replica, &Bridge::find(&replica, "br-int").unwrap(), "m0").is_none());
        apply(&mut replica, &wanted(&[a, b]).add_to(bridge));
        assert_eq!(find(&replica), [true, true, false]);
        let ops = changes(&replica, &[b, c]);
        apply(&mut replica, &ops);
        assert_eq!(find(&replica), [false, true, true]);
        assert!(changes(&replica, &[b, c]).is_empty(), "nothing differs");

        // kube-ovn mirrors everything, and somebody has taken a direction away.
        let id = Mirror::find(&replica, &Bridge::find(&replica, "br-int").unwrap(), "m0").unwrap().id;
        let mut row = replica.get(MIRROR, id).unwrap().clone();
        row.insert("select_all", true.into());
        row.insert("select_src_port", Datum::set([a]));
        row.insert("output_port", Datum::empty());
        replica.insert(MIRROR, id, row);
        assert_eq!(find(&replica), [true, true, true]);
        let ops = changes(&replica, &[c]);
        apply(&mut replica, &ops);
        assert_eq!(find(&replica), [false, false, true]);
        assert!(changes(&replica, &[c]).is_empty());

        apply(&mut replica, &[select(id, a)]);
        assert_eq!(find(&replica), [true, false, true]);
    }
}
