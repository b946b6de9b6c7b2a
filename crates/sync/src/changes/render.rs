//! Turns the changes of a transaction into operations.
//!
//! The order is: updates of columns, new root rows, other new rows, additions to sets, single references, removals from
//! sets, and deletions of rows.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use ovn::{Kind, RowKey};
use ovsdb::{Atom, Datum, Mutation, Mutator, Op, Row, Uuid, Where};

use super::{Change, Set};

struct NewRow<'a> {
    key: &'a RowKey,
    id: Uuid,
    row: Row,
}

pub(super) fn ops<'a>(changes: impl IntoIterator<Item = &'a Change>) -> Vec<Op> {
    let (mut updates, mut roots, mut children) = (Vec::new(), Vec::new(), Vec::new());
    let (mut adds, mut dels) = (BTreeMap::<Set, Vec<Atom>>::new(), BTreeMap::<Set, Vec<Atom>>::new());
    let (mut refers, mut deletes) = (Vec::new(), BTreeSet::new());
    for change in changes {
        match change {
            Change::Update(key, _, op) => updates.push((key, op)),
            Change::Insert(key, id, row) => {
                let rows = if key.table.descriptor().root { &mut roots } else { &mut children };
                rows.push(NewRow { key, id: *id, row: row.clone() });
            }
            Change::Add(set, atom) => adds.entry(*set).or_default().push(atom.clone()),
            Change::Del(set, atom) => dels.entry(*set).or_default().push(atom.clone()),
            Change::Refer((table, id, column), new, _) => {
                let row = [(*column, new.map_or_else(Datum::empty, Datum::from))].into();
                refers.push(Op::Update { table: table.name(), on: Where::Row(*id), row });
            }
            Change::Delete(table, id) => drop(deletes.insert((*table, *id))),
        }
    }
    updates.sort_by_key(|(key, _)| *key);
    let mut ops: Vec<Op> = updates.into_iter().map(|(_, op)| op.clone()).collect();
    roots.sort_by_key(|new| new.key);
    for mut new in roots {
        // The plain values of a new row are part of its insert.
        let table = new.key.table;
        for column in table.descriptor().columns.iter().filter(|c| c.kind == Kind::Values) {
            if let Some(atoms) = adds.remove(&(table, new.id, column.name)) {
                new.row.insert(column.name, Datum::set(atoms));
            }
        }
        ops.push(new.op());
    }
    // Members of the same set stand together.
    let places: HashMap<Uuid, Set> =
        adds.iter().rev().flat_map(|(set, atoms)| atoms.iter().filter_map(|a| Some((a.as_uuid()?, *set)))).collect();
    children.sort_by_cached_key(|new| (places.get(&new.id), new.key));
    ops.extend(children.into_iter().map(NewRow::op));
    ops.extend(adds.into_iter().map(|(set, atoms)| mutate(set, Mutator::Insert, atoms)));
    ops.extend(refers);
    let left = dels.into_iter().filter(|((table, id, _), _)| !deletes.contains(&(*table, *id)));
    ops.extend(left.map(|(set, atoms)| mutate(set, Mutator::Delete, atoms)));
    ops.extend(deletes.into_iter().map(|(table, id)| Op::Delete { table: table.name(), on: Where::Row(id) }));
    ops
}

impl NewRow<'_> {
    fn op(self) -> Op {
        Op::Insert { table: self.key.table.name(), uuid: Some(self.id), row: self.row }
    }
}

fn mutate((table, id, column): Set, mutator: Mutator, atoms: Vec<Atom>) -> Op {
    let mutation = Mutation { column, mutator, value: Datum::set(atoms) };
    Op::Mutate { table: table.name(), on: Where::Row(id), mutations: vec![mutation] }
}
