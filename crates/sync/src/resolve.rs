//! Resolves a natural key to its row: an existing row, or the row to insert.

use std::collections::HashMap;

use ovn::{LogicalSwitch, RowKey, TableId, of_kube_ovn, ours, row_id};
use ovsdb::{Replica, Row, Uuid};

use crate::facts::Facts;

/// The row of a key.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Stand {
    /// An existing row of the replica.
    There(Uuid),
    /// A row to insert with this UUID.
    New(Uuid),
}

impl Stand {
    pub(crate) fn id(self) -> Uuid {
        match self {
            Stand::There(id) | Stand::New(id) => id,
        }
    }
}

/// Facts and replica, with a cache of resolved keys.
pub(crate) struct Resolver<'a> {
    pub(crate) facts: &'a Facts,
    pub(crate) replica: &'a Replica,
    known: HashMap<RowKey, Option<Stand>>,
}

impl<'a> Resolver<'a> {
    pub(crate) fn new(facts: &'a Facts, replica: &'a Replica) -> Self {
        Self { facts, replica, known: HashMap::new() }
    }

    pub(crate) fn get(&self, table: TableId, id: Uuid) -> Option<&'a Row> {
        self.replica.get(table.name(), id)
    }

    /// Returns true if a row of the replica is ours to delete.
    pub(crate) fn marked(&self, table: TableId, id: Uuid) -> bool {
        self.get(table, id).is_some_and(|row| self.ours(table, row))
    }

    /// Returns true if a row is ours to delete: it carries our mark, or it is a pod's port that kube-ovn left on a switch
    /// of ours.
    pub(crate) fn ours(&self, table: TableId, row: &Row) -> bool {
        ours(row) || table == TableId::LogicalSwitchPort && of_kube_ovn(row) && self.is_pod_of_ours(row)
    }

    /// Returns true if a row carries our mark, or will carry it because it is adopted.
    pub(crate) fn is_ours(&mut self, table: TableId, id: Uuid) -> bool {
        let Some(row) = self.get(table, id) else { return false };
        if self.ours(table, row) {
            return true;
        }
        let known = table.descriptor();
        match (known.key)(row) {
            Some(name) if known.scope.is_empty() => {
                let key = RowKey::new(table, name);
                self.facts.wants(&key) && self.stand(&key) == Some(Stand::There(id))
            }
            _ => false,
        }
    }

    fn is_pod_of_ours(&self, row: &Row) -> bool {
        let Some(ids) = row.get("external_ids") else { return false };
        let switch = ids.get("ls").filter(|_| ids.get("pod").is_some());
        switch.is_some_and(|switch| self.facts.wants(&LogicalSwitch::key(switch)))
    }

    /// Returns the rows with this natural key: first the rows with our mark, then by UUID.
    pub(crate) fn candidates(&mut self, key: &RowKey) -> Vec<Uuid> {
        let found = self.replica.find(key.table.name(), key.local());
        let mut rows: Vec<Uuid> = match key.scope() {
            None if key.table.descriptor().scope.is_empty() => found.collect(),
            None => Vec::new(),
            Some((parent, column)) => {
                let row = self.stand(&parent).and_then(|stand| self.get(parent.table, stand.id()));
                let Some(set) = row.and_then(|row| row.get(column)) else { return Vec::new() };
                found.filter(|&id| set.contains(&id.into())).collect()
            }
        };
        if rows.len() > 1 {
            rows.sort_by_key(|&id| (!self.marked(key.table, id), id));
        }
        rows
    }

    /// Returns the row of this key after the facts are written: an existing row or a row to insert. Returns `None` if
    /// no fact wants the row or no reference would keep it alive. An unwanted row counts only if it is not ours.
    pub(crate) fn stand(&mut self, key: &RowKey) -> Option<Stand> {
        if let Some(known) = self.known.get(key) {
            return *known;
        }
        let stand = self.find(key);
        self.known.insert(key.clone(), stand);
        stand
    }

    fn find(&mut self, key: &RowKey) -> Option<Stand> {
        let there = self.candidates(key);
        let Some(wanted) = self.facts.row(key) else {
            return there.into_iter().find(|&id| !self.marked(key.table, id)).map(Stand::There);
        };
        if let Some(&id) = there.first() {
            return Some(Stand::There(id));
        }
        if !key.table.descriptor().root {
            let held = self.facts.get(key)?;
            // Only rows of other tables hold a row, so the recursion ends.
            let keeps = |of: &RowKey, column| of.table.descriptor().link(column).is_some_and(|link| link.strong);
            held.held_by().find(|(of, c)| of.table != key.table && keeps(of, c) && self.stand(of).is_some())?;
        }
        Some(self.fresh(key, &wanted.seed))
    }

    /// Returns the UUID for a new row. The UUID is in use if another client renamed the row that had it. If no fact
    /// wants that row under its new name, it is taken back.
    fn fresh(&mut self, key: &RowKey, seed: &str) -> Stand {
        let id = row_id(key, seed);
        let Some(row) = self.get(key.table, id) else { return Stand::New(id) };
        if let Some(name) = self.name_of(key, id, row)
            && !self.facts.wants(&name)
        {
            return Stand::There(id);
        }
        let mut seed = seed.to_owned();
        loop {
            seed.push('+');
            let id = row_id(key, &seed);
            if self.get(key.table, id).is_none() {
                return Stand::New(id);
            }
        }
    }

    /// Returns the natural key of a row if the row is in the scope of `like`.
    fn name_of(&mut self, like: &RowKey, id: Uuid, row: &Row) -> Option<RowKey> {
        let table = like.table.descriptor();
        let local = (table.key)(row)?;
        if table.scope.is_empty() {
            return Some(RowKey::new(like.table, local));
        }
        let (parent, column) = like.scope()?;
        let set = self.stand(&parent).and_then(|stand| self.get(parent.table, stand.id()))?.get(column)?;
        set.contains(&id.into()).then(|| RowKey::within(like.table, &parent, local))
    }
}

/// Returns the natural key of a row. For a table with a scope, the time grows with the number of possible parents.
pub(crate) fn key_of(replica: &Replica, table: TableId, id: Uuid, row: &Row) -> Option<RowKey> {
    let known = table.descriptor();
    let local = (known.key)(row)?;
    if known.scope.is_empty() {
        return Some(RowKey::new(table, local));
    }
    known.scope.iter().find_map(|(parent, column)| {
        let holds = |row: &Row| row.get(column).is_some_and(|set| set.contains(&id.into()));
        let (_, row) = replica.rows(parent.name()).find(|(_, row)| holds(row))?;
        let parent = RowKey::new(*parent, (parent.descriptor().key)(row)?);
        Some(RowKey::within(table, &parent, &local))
    })
}
