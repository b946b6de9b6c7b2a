//! The changes that a comparison asks for, as units that are written whole, in an order that the database takes.
//!
//! A unit holds all changes for one group of facts, or for one row without a group. Units that need each other become
//! one: the insert of a row that lives by reference with the change that refers to it, and units that each need the
//! other to come first. The units are ordered so that any prefix of them can be written alone: a row is inserted before
//! others refer to it, and a row that moves from one set to another is always in at least one of them.
//!
//! A change for a fact that several groups want belongs to the unit of each. It is written with the first of them that
//! the database takes.

mod collector;
mod order;
mod render;

use std::collections::HashSet;
use std::ops::Range;

use ovn::{Group, RowKey, TableId};
use ovsdb::{Atom, Op, Row, Uuid};

pub(crate) use collector::{By, Collector};

/// A set column of a row.
pub(crate) type Set = (TableId, Uuid, &'static str);

/// One difference.
#[derive(Clone, Debug)]
pub(crate) enum Change {
    /// Columns of an existing row are set.
    Update(RowKey, Uuid, Op),
    /// A row is new.
    Insert(RowKey, Uuid, Row),
    /// A set gets an element.
    Add(Set, Atom),
    /// A set loses an element.
    Del(Set, Atom),
    /// A column that refers to one row or none gets another value. The last one is the former row.
    Refer(Set, Option<Uuid>, Option<Uuid>),
    /// A row goes.
    Delete(TableId, Uuid),
}

/// Changes that are written together.
#[derive(Clone, Debug, Default)]
struct Unit {
    /// The groups whose changes these are. Empty for changes without a group.
    groups: Vec<Group>,
    changes: Vec<u32>,
}

/// The result of a comparison.
#[derive(Clone, Debug, Default)]
pub struct Changes {
    changes: Vec<Change>,
    units: Vec<Unit>,
}

/// The changes that are written already, as far as several units share them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Written(HashSet<u32>);

impl Changes {
    /// Returns true if there is nothing to write.
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }

    /// Returns the number of changed rows and elements.
    pub fn len(&self) -> usize {
        self.changes.len()
    }

    /// Returns the operations of all changes, as one transaction.
    pub fn ops(&self) -> Vec<Op> {
        render::ops(&self.changes)
    }

    /// Returns the operations as transactions of about `limit` operations, in order. A unit that has more is not split.
    pub fn batches(&self, limit: usize) -> Vec<Vec<Op>> {
        let mut written = Written::default();
        let transaction = |units: Range<usize>| {
            let ops = self.transaction(units.clone(), &written);
            self.written(units, &mut written);
            ops
        };
        self.ranges(limit).into_iter().map(transaction).filter(|ops| !ops.is_empty()).collect()
    }

    /// Returns the groups of each unit, in order.
    pub fn units(&self) -> impl Iterator<Item = &[Group]> {
        self.units.iter().map(|unit| unit.groups.as_slice())
    }

    /// Returns the units of each transaction.
    pub(crate) fn ranges(&self, limit: usize) -> Vec<Range<usize>> {
        let mut ranges = Vec::new();
        let (mut start, mut count) = (0, 0);
        let mut sets: HashSet<Set> = HashSet::new();
        for (at, unit) in self.units.iter().enumerate() {
            let size = self.size(unit, &mut sets);
            if at > start && count + size > limit {
                ranges.push(start..at);
                sets.clear();
                (start, count) = (at, self.size(unit, &mut sets));
            } else {
                count += size;
            }
        }
        if start < self.units.len() {
            ranges.push(start..self.units.len());
        }
        ranges
    }

    /// Returns the operations of these units, without what is written already.
    pub(crate) fn transaction(&self, units: Range<usize>, written: &Written) -> Vec<Op> {
        let mut seen = HashSet::new();
        let changes = self.units.get(units).into_iter().flatten().flat_map(|unit| &unit.changes);
        let left = changes.filter(|at| !written.0.contains(at) && seen.insert(**at));
        render::ops(left.filter_map(|at| self.changes.get(*at as usize)))
    }

    /// Notes that these units are written.
    pub(crate) fn written(&self, units: Range<usize>, written: &mut Written) {
        written.0.extend(self.units.get(units).into_iter().flatten().flat_map(|unit| &unit.changes));
    }

    /// Returns the groups of these units.
    pub(crate) fn groups(&self, units: Range<usize>) -> Vec<Group> {
        self.units.get(units).into_iter().flatten().flat_map(|unit| &unit.groups).cloned().collect()
    }

    /// Returns how many operations a unit adds to a transaction that changes these sets already.
    fn size(&self, unit: &Unit, sets: &mut HashSet<Set>) -> usize {
        let mut size = 0;
        for at in &unit.changes {
            size += match self.changes.get(*at as usize) {
                Some(Change::Add(set, _) | Change::Del(set, _)) => usize::from(sets.insert(*set)),
                _ => 1,
            };
        }
        size
    }
}
