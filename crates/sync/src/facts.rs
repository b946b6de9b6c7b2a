//! The wanted facts, counted. Two owners can want the same fact; it stays until both remove it.
//!
//! The result depends on which facts were added and not removed, never on their order. Every change is in the touched
//! set until it is taken.

mod owners;
mod touched;
mod wanted;

use std::collections::BTreeSet;

use indexmap::IndexMap;
use ovn::{Element, Fact, Group, RowKey, TableId};
use ovsdb::Row;

pub(crate) use owners::Owners;
pub use touched::Touched;
pub(crate) use wanted::{Variant, Wanted};

/// A counted multiset of facts, by row. Each fact is wanted by a [`Group`] or by none.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    rows: IndexMap<RowKey, Wanted>,
    /// The keys of `rows` that have a parent, in order: those within one parent follow each other.
    scoped: BTreeSet<RowKey>,
    conflicts: BTreeSet<RowKey>,
    touched: Touched,
}

impl Facts {
    /// Returns an empty collection.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a fact without a group. Changes for it are written together with those for the same row.
    pub fn add(&mut self, fact: Fact) {
        self.put(None, fact);
    }

    /// Adds a fact of a group.
    pub fn add_to(&mut self, group: &Group, fact: Fact) {
        self.put(Some(group), fact);
    }

    /// Adds facts of a group.
    pub fn extend_by(&mut self, group: &Group, facts: impl IntoIterator<Item = Fact>) {
        facts.into_iter().for_each(|fact| self.add_to(group, fact));
    }

    /// Removes a fact without a group. Returns false if the fact was not in the collection.
    pub fn remove(&mut self, fact: &Fact) -> bool {
        self.take(None, fact).is_some()
    }

    /// Removes a fact of a group. Returns false if the group did not want the fact.
    pub fn remove_from(&mut self, group: &Group, fact: &Fact) -> bool {
        self.take(Some(group), fact).is_some()
    }

    fn put(&mut self, by: Option<&Group>, fact: Fact) {
        match fact {
            Fact::Row { key, seed, columns } => {
                if self.entry(key.clone()).opine(columns, seed, by) {
                    self.settle(key, None);
                }
            }
            Fact::Member { of, column, element } => {
                if let Element::Row(row) = &element {
                    self.entry(row.clone()).hold((of.clone(), column));
                }
                if self.entry(of.clone()).want(column, element.clone(), by) {
                    self.touched.left_member((of, column, element), None);
                }
            }
        }
    }

    fn entry(&mut self, key: RowKey) -> &mut Wanted {
        if key.scope().is_some() && !self.rows.contains_key(&key) {
            self.scoped.insert(key.clone());
        }
        self.rows.entry(key).or_default()
    }

    fn take(&mut self, by: Option<&Group>, fact: &Fact) -> Option<()> {
        let wanted = self.rows.get_mut(fact.key())?;
        match fact {
            Fact::Row { key, seed, columns } => {
                if wanted.recant(columns, seed, by)? {
                    self.settle(key.clone(), by);
                    self.forget(key);
                }
            }
            Fact::Member { of, column, element } => {
                if wanted.unwant(column, element, by)? {
                    self.touched.left_member((of.clone(), column, element.clone()), by);
                    self.forget(of);
                }
                if let Element::Row(row) = element {
                    self.release(row, of, column);
                }
            }
        }
        Some(())
    }

    /// Takes the changes since the last call. If the database refuses a part of them, the caller gives back what the
    /// refusal says ([`crate::Refusal::touched`]). If it is not known what was written, the caller must compare everything
    /// ([`crate::diff_all`]): a row that was adopted in the meantime can still be in a set of its former owner.
    pub fn take_touched(&mut self) -> Touched {
        std::mem::take(&mut self.touched)
    }

    /// Marks rows and members as changed.
    pub fn touch(&mut self, touched: Touched) {
        self.touched.merge(touched);
    }

    /// Returns true if there are no changes to take.
    pub fn is_settled(&self) -> bool {
        self.touched.is_empty()
    }

    /// Returns the rows whose owners disagree. The smallest variant is written, whatever the order of the requests.
    pub fn conflicts(&self) -> impl ExactSizeIterator<Item = &RowKey> {
        self.conflicts.iter()
    }

    /// Returns the variants of a row. The first one is written. There is more than one only in a conflict.
    pub fn variants(&self, key: &RowKey) -> impl Iterator<Item = &Row> {
        let mut last = None;
        let variants = self.rows.get(key).into_iter().flat_map(|wanted| &wanted.variants).map(|v| &v.columns);
        variants.filter(move |columns| last.replace(*columns) != Some(*columns))
    }

    /// Returns true if a fact wants the row.
    pub fn wants(&self, key: &RowKey) -> bool {
        self.row(key).is_some()
    }

    pub(crate) fn row(&self, key: &RowKey) -> Option<&Variant> {
        self.rows.get(key)?.variants.first()
    }

    pub(crate) fn get(&self, key: &RowKey) -> Option<&Wanted> {
        self.rows.get(key)
    }

    /// Returns the keys within a parent of which there are facts.
    pub(crate) fn within<'a>(&'a self, parent: &'a RowKey) -> impl Iterator<Item = &'a RowKey> {
        let tables =
            TableId::ALL.into_iter().filter(|table| table.descriptor().scope.iter().any(|(of, _)| *of == parent.table));
        tables.flat_map(|table| {
            let first = RowKey::within(table, parent, "");
            let name = first.name.clone();
            self.scoped.range(first..).take_while(move |key| key.table == table && key.name.starts_with(&*name))
        })
    }

    pub(crate) fn len(&self) -> usize {
        self.rows.len()
    }

    /// Returns the row at a place, as [`ovsdb::Replica::row_at`] does.
    pub(crate) fn at(&self, place: usize) -> Option<(&RowKey, &Wanted)> {
        self.rows.get_index(place)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&RowKey, &Wanted)> {
        self.rows.iter()
    }

    /// Updates the conflicts after a row got or lost a variant.
    fn settle(&mut self, key: RowKey, by: Option<&Group>) {
        let conflict = self.variants(&key).nth(1).is_some();
        if conflict {
            self.conflicts.insert(key.clone());
        } else {
            self.conflicts.remove(&key);
        }
        self.touched.left_row(key, by);
    }

    fn release(&mut self, row: &RowKey, of: &RowKey, column: &'static str) {
        if self.rows.get_mut(row).is_some_and(|wanted| wanted.release(of, column)) {
            self.forget(row);
        }
    }

    fn forget(&mut self, key: &RowKey) {
        if self.rows.get(key).is_some_and(Wanted::is_empty) {
            self.rows.swap_remove(key);
            self.scoped.remove(key);
        }
    }
}

impl Extend<Fact> for Facts {
    fn extend<I: IntoIterator<Item = Fact>>(&mut self, facts: I) {
        facts.into_iter().for_each(|fact| self.add(fact));
    }
}

impl FromIterator<Fact> for Facts {
    fn from_iter<I: IntoIterator<Item = Fact>>(facts: I) -> Self {
        let mut all = Self::new();
        all.extend(facts);
        all
    }
}

#[cfg(test)]
mod tests {
    use ovn::{AddressSet, LogicalSwitch, LogicalSwitchPort, PortGroup};

    use super::*;

    fn switch(other_config: &str) -> Fact {
        let config = [("mcast_snoop".to_owned(), other_config.to_owned())].into();
        LogicalSwitch { name: "net".into(), seed: "uid".into(), other_config: config, ..Default::default() }.fact()
    }

    #[test]
    fn a_fact_stays_until_the_last_owner_lets_go() {
        let mut facts: Facts =
            [switch("true"), switch("true"), AddressSet::member("set", "10.0.0.1")].into_iter().collect();
        let key = LogicalSwitch::key("net");
        assert_eq!(facts.take_touched().len(), 2);
        assert!(facts.remove(&switch("true")));
        assert!(facts.is_settled() && facts.wants(&key));
        assert!(facts.remove(&switch("true")));
        assert!(!facts.wants(&key) && !facts.is_settled());
        assert!(!facts.remove(&switch("true")), "it is not there any more");
        assert!(facts.remove(&AddressSet::member("set", "10.0.0.1")));
        assert_eq!(facts.iter().count(), 0, "nothing is kept of what is gone");
    }

    #[test]
    fn a_conflict_is_told_and_decided_by_value() {
        let key = LogicalSwitch::key("net");
        for order in [["false", "true"], ["true", "false"]] {
            let mut facts: Facts = order.map(switch).into_iter().collect();
            assert_eq!(facts.conflicts().collect::<Vec<_>>(), [&key]);
            assert_eq!(facts.row(&key).unwrap().columns["other_config"].get("mcast_snoop"), Some("false"));
            assert_eq!(facts.variants(&key).count(), 2);
            facts.remove(&switch("false"));
            assert_eq!(facts.conflicts().count(), 0);
            assert_eq!(facts.row(&key).unwrap().columns["other_config"].get("mcast_snoop"), Some("true"));
        }
    }

    /// With one look at each earlier one, this would take minutes.
    #[test]
    fn a_row_in_many_sets_costs_no_more_than_many_rows_in_one() {
        const MANY: usize = 200_000;
        let port = LogicalSwitchPort::key("a");
        let mut facts = Facts::new();
        let places: Vec<Fact> =
            (0..MANY).map(|at| Fact::reference(PortGroup::key(&at.to_string()), "ports", port.clone())).collect();
        facts.extend(places.iter().cloned());
        assert_eq!(facts.get(&port).unwrap().held_by().count(), MANY);
        assert!(places.iter().all(|place| facts.remove(place)));
        assert_eq!(facts.iter().count(), 0);
    }
}
