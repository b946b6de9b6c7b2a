//! Compares everything in slices, so that the comparison of a large database never takes long at a time.
//!
//! A sweep walks over all facts and then over all rows of the database. It returns what [`crate::diff`] has to compare:
//! each wanted row, and the rows and sets of the database that look wrong. A step of the walk costs the same, however
//! large the set that it is in.
//!
//! Facts and database may change between two slices. What changes is compared because it changed, so the walk only has
//! to visit everything that stays. It goes from the last place to the first one, because a removal fills a place with
//! the last element, which the walk has visited before.

use ovn::{Element, Link, RowKey, TableId};
use ovsdb::{Atom, Replica, Row, Uuid};

use crate::facts::{Facts, Touched, Wanted};
use crate::resolve::{Resolver, Stand};

/// The usual limit of a slice: it takes a few milliseconds to compare.
pub const SLICE: usize = 1000;

/// A walk over everything that can differ.
#[derive(Clone, Debug, Default)]
pub struct Sweep {
    at: At,
}

/// Where the next slice begins. `left` places are not visited yet; the last of them may be visited in part.
#[derive(Clone, Debug, Default)]
enum At {
    #[default]
    Start,
    Facts {
        left: usize,
        inside: Option<InFacts>,
    },
    Rows {
        table: usize,
        left: usize,
        inside: Option<InRow>,
    },
    End,
}

/// A row of facts that is visited in part: its key, the column, and the number of elements that are not visited yet.
type InFacts = (RowKey, &'static str, usize);

/// A row of the database that is visited in part: the column, and the last visited element.
type InRow = (Uuid, &'static str, Option<Atom>);

impl Sweep {
    /// Returns a sweep that has not begun.
    pub fn new() -> Self {
        Self::default()
    }

    /// Returns true if the sweep has visited everything.
    pub fn is_done(&self) -> bool {
        matches!(self.at, At::End)
    }

    /// Visits at most `limit` rows and elements. Returns what has to be compared.
    pub fn slice(&mut self, facts: &Facts, replica: &Replica, limit: usize) -> Touched {
        let mut slice = Slice { on: Resolver::new(facts, replica), budget: limit, touched: Touched::default() };
        while slice.budget > 0 && !self.is_done() {
            self.at = match std::mem::take(&mut self.at) {
                At::Start => At::Facts { left: facts.len(), inside: None },
                At::Facts { left, inside } => slice.facts(left.min(facts.len()), inside),
                At::Rows { table, left, inside } => slice.rows(table, left, inside),
                At::End => At::End,
            };
        }
        slice.touched
    }
}

/// Returns true if rows of this table are root rows or have members. All other rows disappear with their references.
pub(crate) fn is_looked_through(table: TableId) -> bool {
    table.descriptor().root || table.descriptor().member_columns().next().is_some()
}

struct Slice<'a> {
    on: Resolver<'a>,
    /// How many more rows and elements the slice may visit.
    budget: usize,
    touched: Touched,
}

impl Slice<'_> {
    /// Takes one step from the budget. Returns false if none is left.
    fn step(&mut self) -> bool {
        let may = self.budget > 0;
        self.budget = self.budget.saturating_sub(1);
        may
    }

    fn facts(&mut self, mut left: usize, mut inside: Option<InFacts>) -> At {
        while let Some((key, wanted)) = left.checked_sub(1).and_then(|place| self.on.facts.at(place)) {
            let begun = inside.take().filter(|(of, ..)| of == key).map(|(_, column, left)| (column, left));
            if begun.is_none() {
                if !self.step() {
                    return At::Facts { left, inside: None };
                }
                self.touched.row(key.clone());
                if key.table.descriptor().member_columns().any(|(_, to)| to.is_some_and(|link| !link.many)) {
                    self.touched.sets(key.clone());
                }
            }
            if let Some((column, rest)) = self.values(key, wanted, begun) {
                return At::Facts { left, inside: Some((key.clone(), column, rest)) };
            }
            left -= 1;
        }
        At::Rows { table: 0, left: usize::MAX, inside: None }
    }

    /// Visits the wanted values of a row. Wanted references are visited with the rows that they refer to. Returns where
    /// the budget ended.
    fn values(
        &mut self,
        key: &RowKey,
        wanted: &Wanted,
        begun: Option<(&'static str, usize)>,
    ) -> Option<(&'static str, usize)> {
        let columns = key.table.descriptor().member_columns().filter(|(_, to)| to.is_none()).map(|(column, _)| column);
        for column in columns.skip_while(|column| begun.is_some_and(|(at, _)| at != *column)) {
            let rest = begun.filter(|(at, _)| *at == column).map_or(usize::MAX, |(_, rest)| rest);
            for place in (0..wanted.count(column).min(rest)).rev() {
                if !self.step() {
                    return Some((column, place + 1));
                }
                if let Some(element) = wanted.member_at(column, place) {
                    self.touched.member((key.clone(), column, element.clone()));
                }
            }
        }
        None
    }

    fn rows(&mut self, table: usize, left: usize, mut inside: Option<InRow>) -> At {
        let Some(id) = TableId::ALL.get(table).copied() else { return At::End };
        let replica = self.on.replica;
        let mut left = if is_looked_through(id) { left.min(replica.len(id.name())) } else { 0 };
        while let Some((uuid, row)) = left.checked_sub(1).and_then(|place| replica.row_at(id.name(), place)) {
            let begun = inside.take().filter(|(of, ..)| *of == uuid).map(|(_, column, last)| (column, last));
            if begun.is_none() && !self.step() {
                return At::Rows { table, left, inside: None };
            }
            if let Some((column, last)) = self.row(id, uuid, row, begun.as_ref()) {
                return At::Rows { table, left, inside: Some((uuid, column, last)) };
            }
            left -= 1;
        }
        At::Rows { table: table + 1, left: usize::MAX, inside: None }
    }

    /// Visits a row of the database and the elements of its sets. Returns where the budget ended.
    fn row(
        &mut self,
        table: TableId,
        id: Uuid,
        row: &Row,
        begun: Option<&(&'static str, Option<Atom>)>,
    ) -> Option<(&'static str, Option<Atom>)> {
        let known = table.descriptor();
        let key = (known.key)(row).filter(|_| known.scope.is_empty()).map(|name| RowKey::new(table, name));
        let facts = self.on.facts;
        let wanted = key
            .as_ref()
            .filter(|key| self.on.stand(key) == Some(Stand::There(id)))
            .and_then(|key| Some((key, facts.get(key)?)));
        if wanted.is_none() && self.on.ours(table, row) {
            key.into_iter().filter(|_| known.root).for_each(|key| self.touched.row(key));
            return None;
        }
        let at = begun.map(|(column, _)| *column);
        for (column, to) in known.member_columns().skip_while(|(column, _)| at.is_some_and(|at| at != *column)) {
            let start = begun.filter(|(at, _)| *at == column).and_then(|(_, last)| last.as_ref());
            let mut last = start;
            for atom in row.get(column).into_iter().flat_map(|set| set.atoms_after(start)) {
                if !self.step() {
                    return Some((column, last.cloned()));
                }
                last = Some(atom);
                match (wanted, to, atom.as_uuid()) {
                    (Some((key, wanted)), None, _) => self.value(key, wanted, column, atom),
                    (Some((key, wanted)), Some(link), Some(child)) => self.child(key, wanted, column, link, child),
                    (None, Some(link), Some(child)) if link.strong && self.on.is_ours(link.to, child) => {
                        self.touched.stranger(table, id);
                    }
                    _ => {}
                }
            }
        }
        None
    }

    /// Visits a value that the database has in a set of this row.
    fn value(&mut self, key: &RowKey, wanted: &Wanted, column: &'static str, value: &Atom) {
        let element = Element::Value(value.clone());
        if wanted.member(column, &element).is_none() {
            self.touched.member((key.clone(), column, element));
        }
    }

    /// Visits a reference that the database has in a set of this row.
    fn child(&mut self, key: &RowKey, wanted: &Wanted, column: &'static str, link: Link, id: Uuid) {
        let known = link.to.descriptor();
        let name = self.on.get(link.to, id).and_then(|row| (known.key)(row));
        let unscoped = known.scope.is_empty();
        let child =
            name.map(|name| if unscoped { RowKey::new(link.to, name) } else { RowKey::within(link.to, key, name) });
        let right = child.is_some_and(|child| {
            self.on.stand(&child) == Some(Stand::There(id)) && wanted.member(column, &Element::Row(child)).is_some()
        });
        if !right && self.on.is_ours(link.to, id) {
            self.touched.sets(key.clone());
        }
    }
}
