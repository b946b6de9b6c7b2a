//! Computes the changes that make the database match the facts.
//!
//! [`diff`] compares only what was touched. [`diff_all`] compares everything and also finds rows and members that no
//! fact wants. Both use the same comparison of a row and of a set, so their results agree.

mod sets;

use std::collections::{HashMap, HashSet};

use ovn::{Element, Group, Kind, RowKey, TableId};
use ovsdb::{Atom, Datum, Mutation, Mutator, Op, Replica, Row, Uuid, Where};

use crate::changes::{By, Changes, Collector, Set};
use crate::facts::{Facts, Touched, Variant, Wanted};
use crate::resolve::{Resolver, Stand};
use crate::sweep::is_looked_through;

/// Returns the changes that correct the touched rows and members. The time depends on the number of touched items, not on
/// the size of the sets that contain them. `diff` compares all members of a row only if the row is new, was adopted or
/// exists twice, or if a column of plain values has more or fewer elements than wanted.
pub fn diff(facts: &Facts, touched: &Touched, replica: &Replica) -> Changes {
    touched_only(facts, touched, replica).ops.finish(replica)
}

fn touched_only<'a>(facts: &'a Facts, touched: &'a Touched, replica: &'a Replica) -> Diff<'a> {
    let mut diff = Diff::new(facts, touched, replica, false);
    diff.queue.extend(touched.rows.keys().cloned().map(Work::Row));
    let members = touched.members.keys().cloned();
    diff.queue.extend(members.map(|(of, column, element)| Work::Member(of, column, element)));
    diff.queue.extend(touched.sets.iter().cloned().map(Work::Sets));
    diff.queue.extend(touched.strangers.iter().map(|(table, id)| Work::Stranger(*table, *id)));
    while let Some(work) = diff.queue.pop() {
        match work {
            Work::Row(key) => diff.row_and_around(&key),
            Work::Member(of, column, element) => diff.member(&of, column, &element),
            Work::Sets(key) => {
                if let Some(stand) = diff.on.stand(&key) {
                    diff.sets(&key, stand);
                }
            }
            Work::Stranger(table, id) => diff.stranger(table, id),
        }
    }
    diff
}

/// Returns the changes that correct everything. They add what is wanted and remove unwanted rows that carry our mark.
/// What is removed belongs to the group that let go of it as `touched` has it, and else to no group.
pub fn diff_all(facts: &Facts, touched: &Touched, replica: &Replica) -> Changes {
    let mut diff = Diff::new(facts, touched, replica, true);
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
                let left = (table.descriptor().key)(row).and_then(|name| diff.left_row(&RowKey::new(table, name)));
                diff.ops.delete(table, id, By::Left(left));
            }
        }
    }
    diff.ops.finish(replica)
}

/// Returns true if the database contains this wanted row and its memberships. Returns false if no fact wants the row.
/// The caller uses it to find out what it can announce after a partly refused commit.
pub fn holds(facts: &Facts, key: &RowKey, replica: &Replica) -> bool {
    let there = matches!(Resolver::new(facts, replica).stand(key), Some(Stand::There(_)));
    let mut touched = Touched::default();
    touched.row(key.clone());
    facts.wants(key) && there && touched_only(facts, &touched, replica).ops.is_empty()
}

enum Work {
    Row(RowKey),
    Member(RowKey, &'static str, Element),
    Sets(RowKey),
    Stranger(TableId, Uuid),
}

struct Diff<'a> {
    on: Resolver<'a>,
    touched: &'a Touched,
    /// The groups that let go of references that are still there.
    left: HashMap<(Set, Uuid), Option<&'a Group>>,
    seen: HashSet<RowKey>,
    /// The compared columns that refer to one row or none.
    singles: HashSet<Set>,
    queue: Vec<Work>,
    /// True if every row is compared anyway.
    everything: bool,
    ops: Collector,
}

impl<'a> Diff<'a> {
    fn new(facts: &'a Facts, touched: &'a Touched, replica: &'a Replica, everything: bool) -> Self {
        let (on, left) = (Resolver::new(facts, replica), HashMap::new());
        let (seen, singles, ops) = (HashSet::new(), HashSet::new(), Collector::default());
        let mut diff = Self { on, touched, left, seen, singles, queue: Vec::new(), everything, ops };
        for ((of, column, element), by) in touched.members.iter().filter(|(_, by)| by.is_some()) {
            let Element::Row(row) = element else { continue };
            let Some(Stand::There(holder)) = diff.on.stand(of) else { continue };
            for id in diff.on.candidates(row) {
                diff.left.insert(((of.table, holder, column), id), by.as_ref());
            }
        }
        diff
    }

    /// Returns the group that let go of a row, if it is known.
    fn left_row(&self, key: &RowKey) -> Option<&'a Group> {
        self.touched.rows.get(key)?.as_ref()
    }

    /// Removes an element of a set of references.
    fn cut(&mut self, set: Set, id: Uuid) {
        let left = self.left.get(&(set, id)).copied().flatten();
        self.ops.del(set, id.into(), By::Left(left));
    }

    /// Removes an element of a set of values.
    fn drop_value(&mut self, of: &RowKey, set: Set, value: &Atom) {
        let member = (of.clone(), set.2, Element::Value(value.clone()));
        let left = self.touched.members.get(&member).and_then(Option::as_ref);
        self.ops.del(set, value.clone(), By::Left(left));
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
                        self.ops.delete(key.table, id, By::Left(self.left_row(key)));
                    }
                }
                // A row of another owner with the same name can appear.
                if let Some(stand) = self.on.stand(key) {
                    self.sets(key, stand);
                    // The keys within our row mean rows of the other's from now on.
                    self.queue.extend(self.on.facts.within(key).cloned().map(Work::Sets));
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
            Stand::New(id) => {
                let variants = self.on.facts.get(key).map_or(&[][..], Wanted::variants);
                self.ops.insert(key, id, variant.columns.clone(), By::Row(variants));
            }
            Stand::There(id) => {
                let row = self.on.get(key.table, id)?;
                self.columns(key, id, variant, row);
                if key.table.descriptor().root {
                    for double in self.on.candidates(key) {
                        if double != id && self.on.marked(key.table, double) {
                            self.ops.delete(key.table, double, By::Owners(&variant.owners));
                        }
                    }
                }
            }
        }
        Some(stand)
    }

    fn columns(&mut self, key: &RowKey, id: Uuid, variant: &Variant, there: &Row) {
        let table = key.table;
        let mut update = Row::new();
        for &(column, ref want) in &variant.columns {
            let have = there.get(column);
            if have == Some(want) || want.is_empty() && have.is_none_or(Datum::is_empty) {
                continue;
            }
            let Kind::Keys(ours) = table.descriptor().kind(column) else {
                update.insert(column, want.clone());
                continue;
            };
            let lookup = |key: &Atom| have.and_then(|have| have.value(key));
            let changed = want.pairs().filter(|(k, v)| lookup(k).is_some_and(|h| h != *v)).map(|(k, _)| k.clone());
            let unwanted = ours.iter().copied().map(Atom::word);
            let unwanted = unwanted.filter(|key| lookup(key).is_some() && want.value(key).is_none());
            let stale = Datum::set(changed.chain(unwanted));
            let missing = want.pairs().filter(|(k, v)| lookup(k) != Some(v));
            let missing = Datum::map(missing.map(|(k, v)| (k.clone(), v.clone())));
            let parts = [(Mutator::Delete, stale), (Mutator::Insert, missing)].into_iter();
            let mutations: Vec<Mutation> = parts
                .filter(|(_, value)| !value.is_empty())
                .map(|(mutator, value)| Mutation { column, mutator, value })
                .collect();
            if !mutations.is_empty() {
                let op = Op::Mutate { table: table.name(), on: Where::Row(id), mutations };
                self.ops.update(key, id, op, By::Owners(&variant.owners));
            }
        }
        if !update.is_empty() {
            let op = Op::Update { table: table.name(), on: Where::Row(id), row: update };
            self.ops.update(key, id, op, By::Owners(&variant.owners));
        }
    }
}
