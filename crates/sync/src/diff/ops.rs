//! Collects what has to be done, and puts it in an order that may be cut into transactions.
//!
//! The order: changes of columns, new rows that live by themselves, new rows that something must refer to (a few hundred,
//! then at once what refers to them), what else is added to sets, what is removed from sets, rows that go. What moves from
//! one set to another is thus in one of them at any time.

use std::collections::{BTreeMap, BTreeSet};

use ovn::{Kind, RowKey, TableId};
use ovsdb::{Atom, Datum, Mutation, Mutator, Op, Row, Uuid, Where};

/// So many rows are inserted before what refers to them.
const CHUNK: usize = 200;

/// A set column of a row.
type Set = (TableId, Uuid, &'static str);

#[derive(Default)]
pub(super) struct Ops {
    updates: Vec<Op>,
    inserts: BTreeMap<RowKey, (Uuid, Row)>,
    adds: BTreeMap<Set, BTreeSet<Atom>>,
    dels: BTreeMap<Set, BTreeSet<Atom>>,
    deletes: BTreeSet<(TableId, Uuid)>,
}

impl Ops {
    pub(super) fn update(&mut self, op: Op) {
        self.updates.push(op);
    }

    pub(super) fn insert(&mut self, key: &RowKey, id: Uuid, row: Row) {
        self.inserts.insert(key.clone(), (id, row));
    }

    pub(super) fn delete(&mut self, table: TableId, id: Uuid) {
        self.deletes.insert((table, id));
    }

    pub(super) fn add(&mut self, table: TableId, id: Uuid, column: &'static str, atom: Atom) {
        self.adds.entry((table, id, column)).or_default().insert(atom);
    }

    pub(super) fn del(&mut self, table: TableId, id: Uuid, column: &'static str, atom: Atom) {
        self.dels.entry((table, id, column)).or_default().insert(atom);
    }

    pub(super) fn finish(mut self) -> Vec<Op> {
        let mut ops = std::mem::take(&mut self.updates);
        let (roots, children): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.inserts).into_iter().partition(|(key, _)| key.table.descriptor().root);
        for (key, (id, mut row)) in roots {
            self.values_of(&key, id, &mut row);
            ops.push(insert(key.table, id, row));
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

    /// Plain values of a new row go in with it.
    fn values_of(&mut self, key: &RowKey, id: Uuid, row: &mut Row) {
        for column in key.table.descriptor().columns.iter().filter(|c| c.kind == Kind::Values) {
            if let Some(atoms) = self.adds.remove(&(key.table, id, column.name)) {
                row.insert(column.name, Datum::set(atoms));
            }
        }
    }

    fn children(&mut self, mut children: Vec<(RowKey, (Uuid, Row))>, ops: &mut Vec<Op>) {
        let new: BTreeSet<Atom> = children.iter().map(|(_, (id, _))| Atom::Uuid(*id)).collect();
        let mut holders: BTreeMap<Atom, Vec<Set>> = BTreeMap::new();
        if !new.is_empty() {
            for (set, atoms) in &mut self.adds {
                for atom in atoms.extract_if(.., |atom| new.contains(atom)) {
                    holders.entry(atom).or_default().push(*set);
                }
            }
            self.adds.retain(|_, atoms| !atoms.is_empty());
        }
        // Neighbours in a set stay together, so that few mutations are needed.
        children
            .sort_by_cached_key(|(_, (id, _))| holders.get(&Atom::Uuid(*id)).and_then(|sets| sets.first()).copied());
        let mut children = children.into_iter().peekable();
        while children.peek().is_some() {
            let mut sets: BTreeMap<Set, BTreeSet<Atom>> = BTreeMap::new();
            for (key, (id, row)) in children.by_ref().take(CHUNK) {
                for set in holders.remove(&Atom::Uuid(id)).into_iter().flatten() {
                    sets.entry(set).or_default().insert(id.into());
                }
                ops.push(insert(key.table, id, row));
            }
            ops.extend(sets.into_iter().map(|(set, atoms)| mutate(set, Mutator::Insert, atoms)));
        }
    }
}

fn insert(table: TableId, id: Uuid, row: Row) -> Op {
    Op::Insert { table: table.name(), uuid: Some(id), row }
}

fn mutate((table, id, column): Set, mutator: Mutator, atoms: BTreeSet<Atom>) -> Op {
    let mutation = Mutation { column, mutator, value: Datum::set(atoms) };
    Op::Mutate { table: table.name(), on: Where::Row(id), mutations: vec![mutation] }
}
