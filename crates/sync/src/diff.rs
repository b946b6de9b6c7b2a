//! Computes the operations that make the database match the facts.
//!
//! [`diff`] compares only what was touched. [`diff_all`] compares everything and also finds rows and members that no
//! fact wants. Both use the same comparison of a row and of a set, so their results agree.

mod ops;

use std::collections::{BTreeSet, HashSet};

use ovn::{Element, Kind, RowKey, TableId};
use ovsdb::{Atom, Datum, Mutation, Mutator, Op, Replica, Row, Uuid, Where};

use crate::facts::{Facts, Touched, Variant, Wanted};
use crate::resolve::{Resolver, Stand};
use ops::Ops;

/// Returns the operations that correct the touched rows and members. The time depends on the number of touched items,
/// not on the size of the sets that contain them. `diff` compares all members of a row only if the row is new, was
/// adopted or exists twice, or if a column of plain values has more or fewer elements than wanted.
pub fn diff(facts: &Facts, touched: &Touched, replica: &Replica) -> Vec<Op> {
    let mut diff = Diff::new(facts, replica, false);
    diff.queue.extend(touched.rows.iter().cloned().map(Work::Row));
    diff.queue.extend(touched.members.iter().cloned().map(|(of, column, element)| Work::Member(of, column, element)));
    while let Some(work) = diff.queue.pop() {
        match work {
            Work::Row(key) => diff.row_and_around(&key),
            Work::Member(of, column, element) => diff.member(&of, column, &element),
        }
    }
    diff.ops.finish()
}

/// Returns the operations that correct everything. They add what is wanted and remove unwanted rows that carry our
/// mark.
pub fn diff_all(facts: &Facts, replica: &Replica) -> Vec<Op> {
    let mut diff = Diff::new(facts, replica, true);
    let mut kept = HashSet::new();
    for (key, wanted) in facts.iter() {
        if let Some(variant) = wanted.row() {
            diff.row(key, variant);
        }
    }
    for (key, _) in facts.iter().filter(|(key, _)| is_looked_through(key.table)) {
        if let Some(stand) = diff.on.stand(key) {
            diff.sets(key, stand);
            kept.insert(stand.id());
        }
    }
    for table in TableId::ALL.into_iter().filter(|table| is_looked_through(*table)) {
        for (id, row) in replica.rows(table.name()).filter(|(id, _)| !kept.contains(id)) {
            if !diff.on.ours(table, row) {
                diff.foreign_sets(table, id, row);
            } else if table.descriptor().root {
                diff.ops.delete(table, id);
            }
        }
    }
    diff.ops.finish()
}

/// Returns true if the database contains this wanted row and its memberships. Returns false if no fact wants the row.
/// The caller uses it to find out what it can announce after a partly refused commit.
pub fn holds(facts: &Facts, key: &RowKey, replica: &Replica) -> bool {
    let there = matches!(Resolver::new(facts, replica).stand(key), Some(Stand::There(_)));
    let mut touched = Touched::default();
    touched.row(key.clone());
    facts.wants(key) && there && diff(facts, &touched, replica).is_empty()
}

/// Returns true if rows of this table are root rows or have members. All other rows disappear with their references.
fn is_looked_through(table: TableId) -> bool {
    table.descriptor().root || table.descriptor().member_columns().next().is_some()
}

enum Work {
    Row(RowKey),
    Member(RowKey, &'static str, Element),
}

struct Diff<'a> {
    on: Resolver<'a>,
    seen: HashSet<RowKey>,
    queue: Vec<Work>,
    /// True if every row is compared anyway.
    everything: bool,
    ops: Ops,
}

impl<'a> Diff<'a> {
    fn new(facts: &'a Facts, replica: &'a Replica, everything: bool) -> Self {
        let on = Resolver::new(facts, replica);
        Self { on, seen: HashSet::new(), queue: Vec::new(), everything, ops: Ops::default() }
    }

    /// Compares a row, and in the sets around it the elements that may have changed with it.
    fn row_and_around(&mut self, key: &RowKey) {
        if !self.seen.insert(key.clone()) {
            return;
        }
        match self.on.facts.row(key) {
            Some(variant) => match self.row(key, variant) {
                Some(Stand::New(id)) => self.sets(key, Stand::New(id)),
                Some(Stand::There(id)) if !self.on.marked(key.table, id) || self.on.candidates(key).len() > 1 => {
                    self.sets(key, Stand::There(id));
                    self.evict(key, id);
                }
                Some(Stand::There(id)) if self.miscounts(key, id) => self.sets(key, Stand::There(id)),
                _ => {}
            },
            None if key.table.descriptor().root => {
                for id in self.on.candidates(key) {
                    if self.on.marked(key.table, id) {
                        self.ops.delete(key.table, id);
                    }
                }
                // A row of another owner with the same name can appear.
                if let Some(stand) = self.on.stand(key) {
                    self.sets(key, stand);
                }
            }
            None => {}
        }
        if let Some(wanted) = self.on.facts.get(key) {
            let holders =
                wanted.held_by().map(|(of, column)| Work::Member(of.clone(), column, Element::Row(key.clone())));
            self.queue.extend(holders);
        }
    }

    /// Compares the columns of a wanted row, except for sets of members. Deletes our duplicates of the row.
    fn row(&mut self, key: &RowKey, variant: &Variant) -> Option<Stand> {
        let stand = self.on.stand(key)?;
        match stand {
            Stand::New(id) => self.ops.insert(key, id, variant.columns.clone()),
            Stand::There(id) => {
                let row = self.on.get(key.table, id)?;
                self.columns(key, id, &variant.columns, row);
                if key.table.descriptor().root {
                    for double in self.on.candidates(key) {
                        if double != id && self.on.marked(key.table, double) {
                            self.ops.delete(key.table, double);
                        }
                    }
                }
            }
        }
        Some(stand)
    }

    fn columns(&mut self, key: &RowKey, id: Uuid, wanted: &Row, there: &Row) {
        let table = key.table;
        let mut update = Row::new();
        for &(column, ref want) in wanted {
            let have = there.get(column);
            if have == Some(want) || want.is_empty() && have.is_none_or(Datum::is_empty) {
                continue;
            }
            if table.descriptor().kind(column) != Kind::Keys {
                update.insert(column, want.clone());
                continue;
            }
            let lookup = |key| have.and_then(|have| have.value(key));
            let stale =
                Datum::set(want.pairs().filter(|(k, v)| lookup(k).is_some_and(|h| h != *v)).map(|(k, _)| k.clone()));
            let missing = want.pairs().filter(|(k, v)| lookup(k) != Some(v));
            let missing = Datum::map(missing.map(|(k, v)| (k.clone(), v.clone())));
            let mut mutations = Vec::new();
            if !stale.is_empty() {
                mutations.push(Mutation { column, mutator: Mutator::Delete, value: stale });
            }
            if !missing.is_empty() {
                mutations.push(Mutation { column, mutator: Mutator::Insert, value: missing });
                self.ops.update(key, Op::Mutate { table: table.name(), on: Where::Row(id), mutations });
            }
        }
        if !update.is_empty() {
            self.ops.update(key, Op::Update { table: table.name(), on: Where::Row(id), row: update });
        }
    }

    /// Compares one element of one set.
    fn member(&mut self, of: &RowKey, column: &'static str, element: &Element) {
        let Some(holder) = self.on.stand(of) else { return };
        let set = match holder {
            Stand::There(id) => self.on.get(of.table, id).and_then(|row| row.get(column)),
            Stand::New(_) => {
                self.queue.push(Work::Row(of.clone()));
                None
            }
        };
        let has = |atom: &Atom| set.is_some_and(|set| set.contains(atom));
        let wanted = self.on.facts.get(of).is_some_and(|w| w.has(column, element));
        match element {
            Element::Value(value) if wanted && !has(value) => {
                self.ops.add(of.table, holder.id(), column, value.clone());
            }
            Element::Value(value) if !wanted && has(value) && self.on.facts.wants(of) => {
                self.ops.del(of.table, holder.id(), column, value.clone());
            }
            Element::Value(_) => {}
            Element::Row(row) => {
                let stand = self.on.stand(row).filter(|_| wanted);
                if let Some(stand) = stand {
                    if let Stand::New(_) = stand {
                        self.queue.push(Work::Row(row.clone()));
                    }
                    if !has(&stand.id().into()) {
                        self.ops.add(of.table, holder.id(), column, stand.id().into());
                    }
                }
                for other in self.on.candidates(row) {
                    if Some(other) != stand.map(Stand::id) && has(&other.into()) && self.is_ours(row.table, other) {
                        self.ops.del(of.table, holder.id(), column, other.into());
                    }
                }
            }
        }
    }

    /// Returns true if a set of values has more or fewer elements than wanted. This means that another client changed
    /// it.
    fn miscounts(&self, key: &RowKey, id: Uuid) -> bool {
        let row = self.on.get(key.table, id);
        let has = |column| row.and_then(|row| row.get(column)).map_or(0, Datum::len);
        let wants = |column| self.on.facts.get(key).map_or(0, |wanted| wanted.count(column));
        let values = key.table.descriptor().member_columns().filter(|(_, to)| to.is_none());
        values.into_iter().any(|(column, _)| has(column) != wants(column))
    }

    /// Compares every element of every set of a row.
    fn sets(&mut self, key: &RowKey, holder: Stand) {
        let there = match holder {
            Stand::There(id) => self.on.get(key.table, id),
            Stand::New(_) => None,
        };
        for (column, to) in key.table.descriptor().member_columns() {
            let mut wanted = BTreeSet::new();
            for element in self.on.facts.get(key).into_iter().flat_map(|wanted| wanted.members(column)) {
                match element {
                    Element::Value(value) => drop(wanted.insert(value.clone())),
                    Element::Row(row) => {
                        let Some(stand) = self.on.stand(row) else { continue };
                        if !self.everything {
                            self.queue.push(Work::Row(row.clone()));
                        }
                        wanted.insert(stand.id().into());
                    }
                }
            }
            let set = there.and_then(|row| row.get(column));
            for atom in set.into_iter().flat_map(Datum::atoms).filter(|atom| !wanted.contains(atom)) {
                if self.may_go(key, to, atom) {
                    self.ops.del(key.table, holder.id(), column, atom.clone());
                }
            }
            for atom in wanted {
                if !set.is_some_and(|set| set.contains(&atom)) {
                    self.ops.add(key.table, holder.id(), column, atom);
                }
            }
        }
    }

    /// Returns true if an unwanted element may be removed from a set of `of`.
    fn may_go(&mut self, of: &RowKey, to: Option<TableId>, atom: &Atom) -> bool {
        match (to, atom.as_uuid()) {
            (None, _) => self.on.facts.wants(of),
            (Some(table), Some(id)) => self.is_ours(table, id),
            (Some(_), None) => false,
        }
    }

    /// Returns true if a row carries our mark, or will carry it because it is adopted.
    fn is_ours(&mut self, table: TableId, id: Uuid) -> bool {
        let Some(row) = self.on.get(table, id) else { return false };
        if self.on.ours(table, row) {
            return true;
        }
        let known = table.descriptor();
        match (known.key)(row) {
            Some(name) if known.scope.is_none() => {
                let key = RowKey::new(table, name);
                self.on.facts.wants(&key) && self.on.stand(&key) == Some(Stand::There(id))
            }
            _ => false,
        }
    }

    /// Removes our unwanted rows from the sets of another owner's row.
    fn foreign_sets(&mut self, table: TableId, id: Uuid, row: &Row) {
        for (column, to) in table.descriptor().member_columns() {
            let (Some(to), Some(set)) = (to, row.get(column)) else { continue };
            for child in set.uuids() {
                if self.is_ours(to, child) {
                    self.ops.del(table, id, column, child.into());
                }
            }
        }
    }

    /// Removes an adopted row from the sets of its former owner.
    fn evict(&mut self, key: &RowKey, id: Uuid) {
        if key.table.descriptor().root {
            return;
        }
        let wanted = self.on.facts.get(key);
        let holders: Vec<(RowKey, &'static str)> =
            wanted.into_iter().flat_map(Wanted::held_by).map(|(of, column)| (of.clone(), column)).collect();
        for (table, column) in key.table.descriptor().referrers() {
            let right: Vec<Uuid> = holders
                .iter()
                .filter(|(of, c)| of.table == table && *c == column)
                .filter_map(|(of, _)| self.on.stand(of))
                .map(Stand::id)
                .collect();
            let holding = |row: &Row| row.get(column).is_some_and(|set| set.contains(&id.into()));
            for (holder, _) in self.on.replica.rows(table.name()).filter(|(_, row)| holding(row)) {
                if !right.contains(&holder) {
                    self.ops.del(table, holder, column, id.into());
                }
            }
        }
    }
}
