//! The wanted facts, counted. Two owners can want the same fact; it stays until both remove it.
//!
//! The result depends on which facts were added and not removed, never on their order. Every change is in the touched
//! set until it is taken.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use ovn::{Element, Fact, RowKey};
use ovsdb::Row;

/// A counted multiset of facts, by row.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    rows: HashMap<RowKey, Wanted>,
    conflicts: BTreeSet<RowKey>,
    touched: Touched,
}

/// The changes since the last [`Facts::take_touched`]. A member of a large set is listed separately, so the comparison
/// does not need to look at the other members.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Touched {
    pub(crate) rows: HashSet<RowKey>,
    pub(crate) members: HashSet<(RowKey, &'static str, Element)>,
}

/// What the facts say about one row.
#[derive(Clone, Debug, Default)]
pub(crate) struct Wanted {
    /// The wanted contents of the row, one for each opinion of its owners, sorted and unique. The first one is written.
    variants: Vec<Variant>,
    /// The elements of the row's set columns, by column.
    members: Vec<(&'static str, HashMap<Element, u32>)>,
    /// The sets that must refer to the row. Most rows are in one set.
    held_by: Vec<(Holder, u32)>,
}

/// A set column of a row.
type Holder = (RowKey, &'static str);

/// One opinion about a row.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct Variant {
    pub(crate) columns: Row,
    pub(crate) seed: Arc<str>,
    count: u32,
}

impl Facts {
    /// Returns an empty collection.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a fact.
    pub fn add(&mut self, fact: Fact) {
        match fact {
            Fact::Row { key, seed, columns } => {
                let wanted = self.rows.entry(key.clone()).or_default();
                match wanted.variant(&columns, &seed) {
                    Ok(at) => wanted.variants[at].count += 1,
                    Err(at) => {
                        put(&mut wanted.variants, at, Variant { columns, seed, count: 1 });
                        self.settle(key);
                    }
                }
            }
            Fact::Member { of, column, element } => {
                if let Element::Row(row) = &element {
                    self.rows.entry(row.clone()).or_default().hold((of.clone(), column));
                }
                if self.rows.entry(of.clone()).or_default().want(column, element.clone()) {
                    self.touched.members.insert((of, column, element));
                }
            }
        }
    }

    /// Removes a fact. Returns false if the fact was not in the collection.
    pub fn remove(&mut self, fact: &Fact) -> bool {
        let Some(wanted) = self.rows.get_mut(fact.key()) else { return false };
        match fact {
            Fact::Row { key, seed, columns } => {
                let Ok(at) = wanted.variant(columns, seed) else { return false };
                wanted.variants[at].count -= 1;
                if wanted.variants[at].count == 0 {
                    wanted.variants.remove(at);
                    self.settle(key.clone());
                    self.forget(key);
                }
            }
            Fact::Member { of, column, element } => {
                match wanted.unwant(column, element) {
                    None => return false,
                    Some(0) => {
                        self.touched.members.insert((of.clone(), column, element.clone()));
                        self.forget(of);
                    }
                    Some(_) => {}
                }
                if let Element::Row(row) = element {
                    self.release(row, of, column);
                }
            }
        }
        true
    }

    /// Takes the changes since the last call. If the caller writes only a part of them, it must compare everything
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
    pub fn conflicts(&self) -> impl Iterator<Item = &RowKey> {
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

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&RowKey, &Wanted)> {
        self.rows.iter()
    }

    /// Updates the conflicts after a row got or lost a variant.
    fn settle(&mut self, key: RowKey) {
        let conflict = self.variants(&key).nth(1).is_some();
        if conflict {
            self.conflicts.insert(key.clone());
        } else {
            self.conflicts.remove(&key);
        }
        self.touched.rows.insert(key);
    }

    fn release(&mut self, row: &RowKey, of: &RowKey, column: &'static str) {
        if self.rows.get_mut(row).is_some_and(|wanted| wanted.release(of, column)) {
            self.forget(row);
        }
    }

    fn forget(&mut self, key: &RowKey) {
        let empty = |w: &Wanted| w.variants.is_empty() && w.members.is_empty() && w.held_by.is_empty();
        if self.rows.get(key).is_some_and(empty) {
            self.rows.remove(key);
        }
    }
}

/// Inserts a value. Nearly every list has one element, so the capacity starts at one.
fn put<T>(list: &mut Vec<T>, at: usize, value: T) {
    if list.is_empty() {
        list.reserve_exact(1);
    }
    list.insert(at, value);
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

impl Wanted {
    pub(crate) fn row(&self) -> Option<&Variant> {
        self.variants.first()
    }

    /// Returns the elements of a set column, in no particular order.
    pub(crate) fn members(&self, column: &str) -> impl Iterator<Item = &Element> {
        self.members.iter().filter(move |(name, _)| *name == column).flat_map(|(_, elements)| elements.keys())
    }

    /// Returns the number of elements of a set column.
    pub(crate) fn count(&self, column: &str) -> usize {
        self.members.iter().find(|(name, _)| *name == column).map_or(0, |(_, elements)| elements.len())
    }

    pub(crate) fn has(&self, column: &str, element: &Element) -> bool {
        self.members.iter().any(|(name, elements)| *name == column && elements.contains_key(element))
    }

    pub(crate) fn held_by(&self) -> impl Iterator<Item = (&RowKey, &'static str)> {
        self.held_by.iter().map(|((of, column), _)| (of, *column))
    }

    /// Returns the position of this variant, or the position to insert it at.
    fn variant(&self, columns: &Row, seed: &Arc<str>) -> Result<usize, usize> {
        self.variants.binary_search_by(|v| (&v.columns, &v.seed).cmp(&(columns, seed)))
    }

    /// Increments the count of an element. Returns true if the element is new.
    fn want(&mut self, column: &'static str, element: Element) -> bool {
        let at = self.members.iter().position(|(name, _)| *name == column).unwrap_or_else(|| {
            self.members.push((column, HashMap::new()));
            self.members.len() - 1
        });
        let count = self.members[at].1.entry(element).or_default();
        *count += 1;
        *count == 1
    }

    /// Decrements the count of an element. Returns the remaining count, or `None` if the element was not wanted.
    fn unwant(&mut self, column: &str, element: &Element) -> Option<u32> {
        let at = self.members.iter().position(|(name, _)| *name == column)?;
        let elements = &mut self.members[at].1;
        let count = elements.get_mut(element)?;
        *count -= 1;
        let left = *count;
        if left == 0 {
            elements.remove(element);
            if elements.is_empty() {
                self.members.swap_remove(at);
            }
        }
        Some(left)
    }

    fn hold(&mut self, by: Holder) {
        match self.held_by.iter_mut().find(|(holder, _)| *holder == by) {
            Some((_, count)) => *count += 1,
            None => put(&mut self.held_by, 0, (by, 1)),
        }
    }

    /// Decrements the count of a holder. Returns true if the holder no longer refers to the row.
    fn release(&mut self, of: &RowKey, column: &str) -> bool {
        let Some(at) = self.held_by.iter().position(|((key, name), _)| key == of && *name == column) else {
            return false;
        };
        self.held_by[at].1 -= 1;
        let last = self.held_by[at].1 == 0;
        if last {
            self.held_by.swap_remove(at);
        }
        last
    }
}

impl Touched {
    /// Returns true if nothing changed.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty() && self.members.is_empty()
    }

    /// Returns the number of changed rows and members.
    pub fn len(&self) -> usize {
        self.rows.len() + self.members.len()
    }

    /// Adds a row that may differ because the database changed.
    pub fn row(&mut self, key: RowKey) {
        self.rows.insert(key);
    }

    /// Adds the changes of another collection.
    pub fn merge(&mut self, other: Self) {
        self.rows.extend(other.rows);
        self.members.extend(other.members);
    }
}

#[cfg(test)]
mod tests {
    use ovn::{AddressSet, LogicalSwitch};

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
}
