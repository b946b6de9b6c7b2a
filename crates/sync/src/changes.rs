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

use std::collections::{HashMap, HashSet};
use std::ops::Range;

use ovn::{Element, Group, RowKey, TableId};
use ovsdb::{Atom, Op, Replica, Row, Uuid};

pub(crate) use collector::{By, Collector};
use order::Need;

use crate::facts::Touched;
use crate::resolve::key_of;

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
    all: Vec<Change>,
    units: Vec<Unit>,
    /// The second change must not be written if the first one, of another unit, is not.
    needs: Vec<Need>,
}

/// How far the changes are written.
#[derive(Clone, Debug, Default)]
pub(crate) struct Progress {
    /// The written changes.
    written: HashSet<u32>,
    /// The units that are not written: the database refused them, or a unit that they need.
    refused: HashSet<usize>,
    /// Those of them that need another one.
    dependent: Vec<usize>,
    /// What each change needs. It is only known after a refusal.
    needs: HashMap<u32, Vec<u32>>,
}

impl Changes {
    /// Returns true if there is nothing to write.
    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// Returns the number of changed rows and elements.
    pub fn len(&self) -> usize {
        self.all.len()
    }

    /// Returns the operations of all changes, as one transaction.
    pub fn ops(&self) -> Vec<Op> {
        render::ops(&self.all)
    }

    /// Returns the operations as transactions of about `limit` operations, in order. A unit that has more is not split.
    pub fn batches(&self, limit: usize) -> Vec<Vec<Op>> {
        let mut progress = Progress::default();
        let transaction = |units: Range<usize>| {
            let ops = self.transaction(units.clone(), &mut progress);
            self.written(units, &mut progress);
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

    /// Returns the operations of these units, without what is written already. A unit that needs a refused change is
    /// refused, too.
    pub(crate) fn transaction(&self, units: Range<usize>, progress: &mut Progress) -> Vec<Op> {
        if !progress.refused.is_empty() {
            self.refuse_dependent(units.clone(), progress);
        }
        let mut seen = HashSet::new();
        let changes = self.changes_of(units, progress).filter(|at| !progress.written.contains(at) && seen.insert(*at));
        render::ops(changes.filter_map(|at| self.all.get(at as usize)))
    }

    /// Notes that these units are written.
    pub(crate) fn written(&self, units: Range<usize>, progress: &mut Progress) {
        let written: Vec<u32> = self.changes_of(units, progress).collect();
        progress.written.extend(written);
    }

    /// Notes that the database refused a unit.
    pub(crate) fn refused(&self, unit: usize, progress: &mut Progress) {
        if progress.refused.is_empty() {
            for (before, after) in &self.needs {
                progress.needs.entry(*after).or_default().push(*before);
            }
        }
        progress.refused.insert(unit);
    }

    /// Notes which of these units need a change that is not written although its turn has come.
    fn refuse_dependent(&self, units: Range<usize>, progress: &mut Progress) {
        let mut coming: HashSet<u32> = HashSet::new();
        for at in units {
            let Some(unit) = self.units.get(at) else { continue };
            let mut needs = unit.changes.iter().filter_map(|change| progress.needs.get(change)).flatten();
            let own: HashSet<u32> = unit.changes.iter().copied().collect();
            let lacks = |need: &u32| ![&own, &coming, &progress.written].iter().any(|set| set.contains(need));
            if needs.any(lacks) {
                if progress.refused.insert(at) {
                    progress.dependent.push(at);
                }
            } else {
                coming.extend(own);
            }
        }
    }

    /// Returns the changes of those units that are not refused.
    fn changes_of<'a>(&'a self, units: Range<usize>, progress: &'a Progress) -> impl Iterator<Item = u32> + 'a {
        let units = units.filter(|at| !progress.refused.contains(at)).filter_map(|at| self.units.get(at));
        units.flat_map(|unit| unit.changes.iter().copied())
    }

    /// Returns the units that were not tried because they need a refused one.
    pub(crate) fn dependent(progress: &Progress) -> &[usize] {
        &progress.dependent
    }

    /// Returns the groups of these units.
    pub(crate) fn groups(&self, units: &[usize]) -> Vec<Group> {
        units.iter().filter_map(|at| self.units.get(*at)).flat_map(|unit| &unit.groups).cloned().collect()
    }

    /// Returns the rows and elements of these units, for another comparison.
    pub(crate) fn touched(&self, units: &[usize], replica: &Replica) -> Touched {
        let inserted = self.all.iter().filter_map(|change| match change {
            Change::Insert(key, id, _) => Some((*id, key)),
            _ => None,
        });
        let inserted: HashMap<Uuid, &RowKey> = inserted.collect();
        let key_of = |table: TableId, id: Uuid| match inserted.get(&id) {
            Some(key) => Some((*key).clone()),
            None => key_of(replica, table, id, replica.get(table.name(), id)?),
        };
        let mut touched = Touched::default();
        let changes = units.iter().filter_map(|at| self.units.get(*at)).flat_map(|unit| &unit.changes);
        for change in changes.filter_map(|at| self.all.get(*at as usize)) {
            match change {
                Change::Update(key, ..) | Change::Insert(key, ..) => touched.row(key.clone()),
                Change::Delete(table, id) => key_of(*table, *id).into_iter().for_each(|key| touched.row(key)),
                Change::Refer((table, id, _), ..) => key_of(*table, *id).into_iter().for_each(|key| touched.sets(key)),
                Change::Add((table, id, column), atom) | Change::Del((table, id, column), atom) => {
                    let Some(of) = key_of(*table, *id) else { continue };
                    let element = match (table.descriptor().link(column), atom.as_uuid()) {
                        (Some(link), Some(child)) => key_of(link.to, child).map(Element::Row),
                        _ => Some(Element::Value(atom.clone())),
                    };
                    if let Some(element) = element {
                        touched.member((of, column, element));
                    }
                }
            }
        }
        touched
    }

    /// Returns how many operations a unit adds to a transaction that changes these sets already.
    fn size(&self, unit: &Unit, sets: &mut HashSet<Set>) -> usize {
        let mut size = 0;
        for at in &unit.changes {
            size += match self.all.get(*at as usize) {
                Some(Change::Add(set, _) | Change::Del(set, _)) => usize::from(sets.insert(*set)),
                _ => 1,
            };
        }
        size
    }
}
