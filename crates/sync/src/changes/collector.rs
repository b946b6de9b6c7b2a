//! Collects changes with the units that they belong to.

use std::collections::{HashMap, HashSet};

use ovn::{Group, RowKey, TableId};
use ovsdb::{Atom, Op, Replica, Row, Uuid};

use super::{Change, Changes, Set, order};
use crate::facts::{Owners, Variant};

/// What a unit is made for.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Part {
    Row(Uuid),
    Group(Group),
}

/// Whose change it is.
#[derive(Clone, Copy, Debug)]
pub(crate) enum By<'a> {
    /// The owners of a fact.
    Owners(&'a Owners),
    /// The owners of all opinions about a row. It is there for each of them, whichever is written.
    Row(&'a [Variant]),
    /// The group that let go of a fact, if it is known.
    Left(Option<&'a Group>),
}

/// The changes so far.
#[derive(Debug, Default)]
pub(crate) struct Collector {
    pub(super) changes: Vec<Change>,
    /// The unit of each change.
    pub(super) unit: Vec<u32>,
    /// The other units of changes that several of them share.
    pub(super) shared: HashMap<u32, Vec<u32>>,
    pub(super) parts: Vec<Part>,
    groups: HashMap<Group, u32>,
    rows: HashMap<Uuid, u32>,
    deleted: HashSet<Uuid>,
}

impl Collector {
    pub(crate) fn update(&mut self, key: &RowKey, id: Uuid, op: Op, by: By<'_>) {
        self.push(Change::Update(key.clone(), id, op), id, by);
    }

    pub(crate) fn insert(&mut self, key: &RowKey, id: Uuid, row: Row, by: By<'_>) {
        self.push(Change::Insert(key.clone(), id, row), id, by);
    }

    pub(crate) fn delete(&mut self, table: TableId, id: Uuid, by: By<'_>) {
        // A double of a row is met twice: next to that row, and as a row that nobody wants.
        if self.deleted.insert(id) {
            self.push(Change::Delete(table, id), id, by);
        }
    }

    pub(crate) fn add(&mut self, set: Set, atom: Atom, by: By<'_>) {
        let row = atom.as_uuid().unwrap_or(set.1);
        self.push(Change::Add(set, atom), row, by);
    }

    pub(crate) fn del(&mut self, set: Set, atom: Atom, by: By<'_>) {
        let row = atom.as_uuid().unwrap_or(set.1);
        self.push(Change::Del(set, atom), row, by);
    }

    pub(crate) fn refer(&mut self, set: Set, new: Option<Uuid>, old: Option<Uuid>, by: By<'_>) {
        self.push(Change::Refer(set, new, old), set.1, by);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }

    /// Returns the changes in units, in an order that the database takes.
    pub(crate) fn finish(self, replica: &Replica) -> Changes {
        let (units, needs) = order::units(&self, replica);
        Changes { all: self.changes, units, needs }
    }

    /// Returns the units of a change.
    pub(super) fn units_of(&self, change: u32) -> impl Iterator<Item = u32> {
        let first = self.unit.get(change as usize).copied();
        first.into_iter().chain(self.shared.get(&change).into_iter().flatten().copied())
    }

    fn push(&mut self, change: Change, row: Uuid, by: By<'_>) {
        let at = index(self.changes.len());
        self.changes.push(change);
        match by {
            By::Left(group) => {
                let unit = self.unit_for(group, row);
                self.unit.push(unit);
            }
            By::Owners(owners) => self.share(at, owners.groups(), row),
            By::Row(variants) => self.share(at, variants.iter().flat_map(|variant| variant.owners.groups()), row),
        }
    }

    fn share<'a>(&mut self, change: u32, mut groups: impl Iterator<Item = Option<&'a Group>>, row: Uuid) {
        let first = groups.next().map(|group| self.unit_for(group, row));
        self.unit.extend(first);
        let mut others: Vec<u32> = groups.map(|group| self.unit_for(group, row)).collect();
        if !others.is_empty() {
            others.sort_unstable();
            others.dedup();
            others.retain(|unit| Some(*unit) != first);
            self.shared.insert(change, others);
        }
    }

    fn unit_for(&mut self, group: Option<&Group>, row: Uuid) -> u32 {
        let known = match group {
            Some(group) => self.groups.get(group),
            None => self.rows.get(&row),
        };
        if let Some(unit) = known {
            return *unit;
        }
        let unit = index(self.parts.len());
        if let Some(group) = group {
            self.groups.insert(group.clone(), unit);
            self.parts.push(Part::Group(group.clone()));
        } else {
            self.rows.insert(row, unit);
            self.parts.push(Part::Row(row));
        }
        unit
    }
}

/// A comparison has fewer than 2^32 changes: each takes more than one byte of memory.
pub(super) fn index(at: usize) -> u32 {
    u32::try_from(at).unwrap_or(u32::MAX)
}
