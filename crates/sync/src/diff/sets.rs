//! Compares sets: one element, or all elements of a row's sets.

use std::collections::BTreeMap;

use ovn::{Element, Link, RowKey, TableId};
use ovsdb::{Atom, Datum, Row, Uuid};

use super::{Diff, Work};
use crate::changes::By;
use crate::facts::{Owners, Wanted};
use crate::resolve::{Stand, key_of};

impl Diff<'_> {
    /// Compares one element of one set.
    pub(super) fn member(&mut self, of: &RowKey, column: &'static str, element: &Element) {
        let Some(holder) = self.on.stand(of) else { return };
        if of.table.descriptor().link(column).is_some_and(|link| !link.many) {
            return self.single(of, holder, column);
        }
        let set = match holder {
            Stand::There(id) => self.on.get(of.table, id).and_then(|row| row.get(column)),
            Stand::New(_) => {
                self.queue.push(Work::Row(of.clone()));
                None
            }
        };
        let has = |atom: &Atom| set.is_some_and(|set| set.contains(atom));
        let owners = self.on.facts.get(of).and_then(|wanted| wanted.member(column, element));
        let to = (of.table, holder.id(), column);
        match element {
            Element::Value(value) => match owners {
                Some(owners) if !has(value) => self.ops.add(to, value.clone(), By::Owners(owners)),
                None if has(value) && self.on.facts.wants(of) => self.drop_value(of, to, value),
                _ => {}
            },
            Element::Row(row) => {
                let stand = owners.and_then(|owners| Some((self.on.stand(row)?, owners)));
                if let Some((stand, owners)) = stand {
                    if let Stand::New(_) = stand {
                        self.queue.push(Work::Row(row.clone()));
                    }
                    if !has(&stand.id().into()) {
                        self.ops.add(to, stand.id().into(), By::Owners(owners));
                    }
                }
                for other in self.on.candidates(row) {
                    let right = stand.is_some_and(|(stand, _)| stand.id() == other);
                    if !right && has(&other.into()) && self.on.is_ours(row.table, other) {
                        self.cut(to, other);
                    }
                }
            }
        }
    }

    /// Returns true if a set of values has more or fewer elements than wanted. This means that another client changed
    /// it.
    pub(super) fn miscounts(&self, key: &RowKey, id: Uuid) -> bool {
        let row = self.on.get(key.table, id);
        let has = |column| row.and_then(|row| row.get(column)).map_or(0, Datum::len);
        let wants = |column| self.on.facts.get(key).map_or(0, |wanted| wanted.count(column));
        let values = key.table.descriptor().member_columns().filter(|(_, to)| to.is_none());
        values.into_iter().any(|(column, _)| has(column) != wants(column))
    }

    /// Compares every element of every set of a row.
    pub(super) fn sets(&mut self, key: &RowKey, holder: Stand) {
        let there = match holder {
            Stand::There(id) => self.on.get(key.table, id),
            Stand::New(_) => None,
        };
        for (column, to) in key.table.descriptor().member_columns() {
            if to.is_some_and(|link| !link.many) {
                self.single(key, holder, column);
                continue;
            }
            let at = (key.table, holder.id(), column);
            let mut wanted = BTreeMap::new();
            let members = self.on.facts.get(key).into_iter().flat_map(|wanted| wanted.members(column));
            for (element, owners) in members {
                match element {
                    Element::Value(value) => drop(wanted.insert(value.clone(), owners)),
                    Element::Row(row) => {
                        let Some(stand) = self.on.stand(row) else { continue };
                        if !self.everything {
                            self.queue.push(Work::Row(row.clone()));
                        }
                        wanted.insert(stand.id().into(), owners);
                    }
                }
            }
            let set = there.and_then(|row| row.get(column));
            for atom in set.into_iter().flat_map(Datum::atoms).filter(|atom| !wanted.contains_key(atom)) {
                match atom.as_uuid() {
                    _ if !self.may_go(key, to, atom) => {}
                    Some(id) => self.cut(at, id),
                    None => self.drop_value(key, at, atom),
                }
            }
            for (atom, owners) in wanted {
                if !set.is_some_and(|set| set.contains(&atom)) {
                    self.ops.add(at, atom, By::Owners(owners));
                }
            }
        }
    }

    /// Compares a column that refers to one row or to none.
    fn single(&mut self, of: &RowKey, holder: Stand, column: &'static str) {
        let set = (of.table, holder.id(), column);
        let Some(link) = of.table.descriptor().link(column).filter(|_| self.singles.insert(set)) else { return };
        let have = match holder {
            Stand::There(id) => self.on.get(of.table, id).and_then(|row| row.get(column)?.as_uuid()),
            Stand::New(_) => {
                self.queue.push(Work::Row(of.clone()));
                None
            }
        };
        let facts = self.on.facts;
        let mut wanted: Option<(&RowKey, Stand, &Owners)> = None;
        for (element, owners) in facts.get(of).into_iter().flat_map(|wanted| wanted.members(column)) {
            let Element::Row(row) = element else { continue };
            if wanted.as_ref().is_none_or(|(first, ..)| row < *first)
                && let Some(stand) = self.on.stand(row)
            {
                wanted = Some((row, stand, owners));
            }
        }
        match (wanted, have) {
            (Some((row, stand, owners)), have) if have != Some(stand.id()) => {
                if let (Stand::New(_), false) = (stand, self.everything) {
                    self.queue.push(Work::Row(row.clone()));
                }
                self.ops.refer(set, Some(stand.id()), have, By::Owners(owners));
            }
            (None, Some(old)) if self.left.contains_key(&(set, old)) || self.on.is_ours(link.to, old) => {
                let left = self.left.get(&(set, old)).copied().flatten();
                self.ops.refer(set, None, Some(old), By::Left(left));
            }
            _ => {}
        }
    }

    /// Returns true if an unwanted element may be removed from a set of `of`.
    fn may_go(&mut self, of: &RowKey, to: Option<Link>, atom: &Atom) -> bool {
        match (to, atom.as_uuid()) {
            (None, _) => self.on.facts.wants(of),
            (Some(link), Some(id)) => self.on.is_ours(link.to, id),
            (Some(_), None) => false,
        }
    }

    /// Compares the sets of a row that was another owner's when it was found.
    pub(super) fn stranger(&mut self, table: TableId, id: Uuid) {
        if let Some(row) = self.on.get(table, id).filter(|row| !self.on.ours(table, row)) {
            self.foreign_sets(table, id, row);
        }
    }

    /// Removes our unwanted rows from the sets of another owner's row that keep them.
    pub(super) fn foreign_sets(&mut self, table: TableId, id: Uuid, row: &Row) {
        for (column, to) in table.descriptor().member_columns() {
            let (Some(to), Some(set)) = (to.filter(|link| link.strong), row.get(column)) else { continue };
            for child in set.uuids() {
                if self.on.is_ours(to.to, child) {
                    self.cut((table, id, column), child);
                }
            }
        }
    }

    /// Removes an adopted row from the sets of its former owner, and the references to it that were not ours to remove
    /// while the row was not ours.
    pub(super) fn evict(&mut self, key: &RowKey, id: Uuid) {
        let wanted = self.on.facts.get(key);
        let holders: Vec<(RowKey, &'static str)> =
            wanted.into_iter().flat_map(Wanted::held_by).map(|(of, column)| (of.clone(), column)).collect();
        for (table, column) in key.table.descriptor().referrers() {
            let Some(link) = table.descriptor().link(column) else { continue };
            let right: Vec<Uuid> = holders
                .iter()
                .filter(|(of, c)| of.table == table && *c == column)
                .filter_map(|(of, _)| self.on.stand(of))
                .map(Stand::id)
                .collect();
            let holding = |row: &Row| row.get(column).is_some_and(|set| set.contains(&id.into()));
            for (holder, row) in self.on.replica.rows(table.name()).filter(|(_, row)| holding(row)) {
                let set = (table, holder, column);
                if right.contains(&holder) || !link.strong && !self.on.ours(table, row) {
                    continue;
                }
                if link.many {
                    self.cut(set, id);
                } else {
                    self.queue.extend(key_of(self.on.replica, table, holder, row).map(Work::Sets));
                }
            }
        }
    }
}
