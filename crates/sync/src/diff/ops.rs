//! Collects operations and puts them in an order that can be split into transactions.
//!
//! The order is: updates of columns, new root rows, new rows that need a reference (a few hundred, followed by the
//! mutations that refer to them), other additions to sets, removals from sets, and deletions of rows. A member that
//! moves from one set to another is therefore always in at least one of them.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use ovn::{Kind, RowKey, TableId};
use ovsdb::{Atom, Datum, Mutation, Mutator, Op, Row, Uuid, Where};

/// The number of rows to insert before the mutations that refer to them.
const CHUNK: usize = 200;

/// A set column of a row.
type Set = (TableId, Uuid, &'static str);

#[derive(Default)]
pub(super) struct Ops {
    updates: Vec<(RowKey, Op)>,
    inserts: Vec<NewRow>,
    adds: BTreeMap<Set, Vec<Atom>>,
    dels: BTreeMap<Set, Vec<Atom>>,
    deletes: BTreeSet<(TableId, Uuid)>,
}

struct NewRow {
    key: RowKey,
    id: Uuid,
    row: Row,
    /// The sets that receive the row.
    holders: Vec<Set>,
}

impl Ops {
    pub(super) fn update(&mut self, key: &RowKey, op: Op) {
        self.updates.push((key.clone(), op));
    }

    pub(super) fn insert(&mut self, key: &RowKey, id: Uuid, row: Row) {
        self.inserts.push(NewRow { key: key.clone(), id, row, holders: Vec::new() });
    }

    pub(super) fn delete(&mut self, table: TableId, id: Uuid) {
        self.deletes.insert((table, id));
    }

    pub(super) fn add(&mut self, table: TableId, id: Uuid, column: &'static str, atom: Atom) {
        self.adds.entry((table, id, column)).or_default().push(atom);
    }

    pub(super) fn del(&mut self, table: TableId, id: Uuid, column: &'static str, atom: Atom) {
        self.dels.entry((table, id, column)).or_default().push(atom);
    }

    pub(super) fn finish(mut self) -> Vec<Op> {
        self.updates.sort_by(|(one, _), (other, _)| one.cmp(other));
        let mut ops: Vec<Op> = std::mem::take(&mut self.updates).into_iter().map(|(_, op)| op).collect();
        let inserts = std::mem::take(&mut self.inserts).into_iter();
        let (mut roots, children): (Vec<_>, Vec<_>) = inserts.partition(|new| new.key.table.descriptor().root);
        roots.sort_by(|one, other| one.key.cmp(&other.key));
        for mut new in roots {
            self.values_of(&mut new);
            ops.push(new.op());
        }
        self.children(children, &mut ops);
        for (set, atoms) in self.adds {
            ops.push(mutate(set, Mutator::Insert, atoms));
        }
        for (set, atoms) in self.dels {
            if !self.deletes.contains(&(set.0, set.1)) {
                ops.push(mutate(set, Mutator::Delete, atoms));
            }
        }
        for (table, id) in self.deletes {
            ops.push(Op::Delete { table: table.name(), on: Where::Row(id) });
        }
        ops
    }

    /// Moves the plain values of a new row into its insert.
    fn values_of(&mut self, new: &mut NewRow) {
        let table = new.key.table;
        for column in table.descriptor().columns.iter().filter(|c| c.kind == Kind::Values) {
            if let Some(atoms) = self.adds.remove(&(table, new.id, column.name)) {
                new.row.insert(column.name, Datum::set(atoms));
            }
        }
    }

    fn children(&mut self, mut children: Vec<NewRow>, ops: &mut Vec<Op>) {
        let places: HashMap<Uuid, usize> = children.iter().enumerate().map(|(at, new)| (new.id, at)).collect();
        for (set, atoms) in &mut self.adds {
            atoms.retain(|atom| {
                let new = atom.as_uuid().and_then(|id| places.get(&id)).and_then(|at| children.get_mut(*at));
                let Some(new) = new else { return true };
                new.holders.push(*set);
                false
            });
        }
        self.adds.retain(|_, atoms| !atoms.is_empty());
        // Sort members of the same set together, so that few mutations are needed.
        children.sort_by(|one, other| (one.holders.first(), &one.key).cmp(&(other.holders.first(), &other.key)));
        let mut children = children.into_iter().peekable();
        while children.peek().is_some() {
            let mut sets: BTreeMap<Set, Vec<Atom>> = BTreeMap::new();
            for new in children.by_ref().take(CHUNK) {
                for set in &new.holders {
                    sets.entry(*set).or_default().push(new.id.into());
                }
                ops.push(new.op());
            }
            ops.extend(sets.into_iter().map(|(set, atoms)| mutate(set, Mutator::Insert, atoms)));
        }
    }
}

impl NewRow {
    fn op(self) -> Op {
        Op::Insert { table: self.key.table.name(), uuid: Some(self.id), row: self.row }
    }
}

fn mutate((table, id, column): Set, mutator: Mutator, atoms: Vec<Atom>) -> Op {
    let mutation = Mutation { column, mutator, value: Datum::set(atoms) };
    Op::Mutate { table: table.name(), on: Where::Row(id), mutations: vec![mutation] }
}
