//! What changed since the last comparison.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::hash::Hash;

use ovn::{Element, Group, RowKey, TableId};
use ovsdb::Uuid;

/// An element of a set column.
pub(crate) type Member = (RowKey, &'static str, Element);

/// The changes since the last [`crate::Facts::take_touched`]. A member of a large set is listed separately, so the
/// comparison does not need to look at the other members. What a group let go of stands with that group.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Touched {
    pub(crate) rows: HashMap<RowKey, Option<Group>>,
    pub(crate) members: HashMap<Member, Option<Group>>,
    /// Rows of which all sets are compared.
    pub(crate) sets: HashSet<RowKey>,
    /// Rows of other owners that may refer to rows of ours.
    pub(crate) strangers: HashSet<(TableId, Uuid)>,
}

impl Touched {
    /// Returns true if nothing changed.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns the number of rows, members and sets to compare.
    pub fn len(&self) -> usize {
        self.rows.len() + self.members.len() + self.sets.len() + self.strangers.len()
    }

    /// Adds a row that may differ because the database changed.
    pub fn row(&mut self, key: RowKey) {
        self.left_row(key, None);
    }

    /// Adds the changes of another, later collection.
    pub fn merge(&mut self, later: Self) {
        note(&mut self.rows, later.rows);
        note(&mut self.members, later.members);
        self.sets.extend(later.sets);
        self.strangers.extend(later.strangers);
    }

    /// Keeps only what these groups let go of.
    pub fn keep(&mut self, groups: &BTreeSet<Group>) {
        let kept = |by: &Option<Group>| by.as_ref().is_some_and(|group| groups.contains(group));
        self.rows.retain(|_, by| kept(by));
        self.members.retain(|_, by| kept(by));
        self.sets.clear();
        self.strangers.clear();
    }

    /// Adds an element that may differ.
    pub(crate) fn member(&mut self, member: Member) {
        self.left_member(member, None);
    }

    /// Adds all sets of a row.
    pub(crate) fn sets(&mut self, key: RowKey) {
        self.sets.insert(key);
    }

    /// Adds a row of another owner.
    pub(crate) fn stranger(&mut self, table: TableId, id: Uuid) {
        self.strangers.insert((table, id));
    }

    pub(super) fn left_row(&mut self, key: RowKey, by: Option<&Group>) {
        note(&mut self.rows, [(key, by.cloned())]);
    }

    pub(super) fn left_member(&mut self, member: Member, by: Option<&Group>) {
        note(&mut self.members, [(member, by.cloned())]);
    }
}

/// A change that names no group does not hide which group let go before.
fn note<K: Eq + Hash>(all: &mut HashMap<K, Option<Group>>, later: impl IntoIterator<Item = (K, Option<Group>)>) {
    for (key, by) in later {
        let last = all.entry(key).or_default();
        if by.is_some() {
            *last = by;
        }
    }
}
