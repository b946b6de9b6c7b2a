//! What the facts say about one row.

use std::collections::HashMap;
use std::sync::Arc;

use indexmap::IndexMap;
use ovn::{Element, Group, RowKey};
use ovsdb::Row;

use super::owners::Owners;

/// What the facts say about one row.
#[derive(Clone, Debug, Default)]
pub(crate) struct Wanted {
    /// The wanted contents of the row, one for each opinion of its owners, sorted and unique. The first one is written.
    pub(super) variants: Vec<Variant>,
    /// The elements of the row's set columns, by column.
    members: Vec<(&'static str, IndexMap<Element, Owners>)>,
    /// The sets that must refer to the row.
    held_by: Holders,
}

/// A set column of a row.
type Holder = (RowKey, &'static str);

/// The sets that must refer to a row, counted. Most rows are in one set or in a few, but thousands can refer to one.
#[derive(Clone, Debug)]
enum Holders {
    Few(Vec<(Holder, u32)>),
    Many(HashMap<Holder, u32>),
}

/// The number of holders from which on they are in a map.
const MANY: usize = 8;

/// One opinion about a row.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct Variant {
    pub(crate) columns: Row,
    pub(crate) seed: Arc<str>,
    pub(crate) owners: Owners,
}

impl Wanted {
    pub(crate) fn row(&self) -> Option<&Variant> {
        self.variants.first()
    }

    pub(crate) fn variants(&self) -> &[Variant] {
        &self.variants
    }

    /// Returns the elements of a set column with their owners, in no particular order.
    pub(crate) fn members(&self, column: &str) -> impl Iterator<Item = (&Element, &Owners)> {
        self.members.iter().filter(move |(name, _)| *name == column).flat_map(|(_, elements)| elements)
    }

    /// Returns the number of elements of a set column.
    pub(crate) fn count(&self, column: &str) -> usize {
        self.members.iter().find(|(name, _)| *name == column).map_or(0, |(_, elements)| elements.len())
    }

    /// Returns the owners of an element, if a fact wants it.
    pub(crate) fn member(&self, column: &str, element: &Element) -> Option<&Owners> {
        self.members.iter().find(|(name, _)| *name == column)?.1.get(element)
    }

    /// Returns the element at a place of a set column, as [`ovsdb::Replica::row_at`] does for rows.
    pub(crate) fn member_at(&self, column: &str, place: usize) -> Option<&Element> {
        let (_, elements) = self.members.iter().find(|(name, _)| *name == column)?;
        elements.get_index(place).map(|(element, _)| element)
    }

    pub(crate) fn held_by(&self) -> impl Iterator<Item = (&RowKey, &'static str)> {
        self.held_by.iter().map(|(of, column)| (of, *column))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.variants.is_empty() && self.members.is_empty() && self.held_by.is_empty()
    }

    /// Adds an opinion. Returns true if it is new.
    pub(super) fn opine(&mut self, columns: Row, seed: Arc<str>, by: Option<&Group>) -> bool {
        match self.variant(&columns, &seed) {
            Ok(at) => {
                self.variants[at].owners.add(by);
                false
            }
            Err(at) => {
                put(&mut self.variants, at, Variant { columns, seed, owners: Owners::new(by) });
                true
            }
        }
    }

    /// Removes an opinion of a group. Returns true if nobody is left who has it, and `None` if the group had it not.
    pub(super) fn recant(&mut self, columns: &Row, seed: &Arc<str>, by: Option<&Group>) -> Option<bool> {
        let at = self.variant(columns, seed).ok()?;
        let last = self.variants[at].owners.remove(by)?;
        if last {
            self.variants.remove(at);
        }
        Some(last)
    }

    /// Returns the position of this variant, or the position to insert it at.
    fn variant(&self, columns: &Row, seed: &Arc<str>) -> Result<usize, usize> {
        self.variants.binary_search_by(|v| (&v.columns, &v.seed).cmp(&(columns, seed)))
    }

    /// Adds an owner of an element. Returns true if the element is new.
    pub(super) fn want(&mut self, column: &'static str, element: Element, by: Option<&Group>) -> bool {
        let at = self.members.iter().position(|(name, _)| *name == column).unwrap_or_else(|| {
            self.members.push((column, IndexMap::new()));
            self.members.len() - 1
        });
        let mut new = false;
        self.members[at].1.entry(element).and_modify(|owners| owners.add(by)).or_insert_with(|| {
            new = true;
            Owners::new(by)
        });
        new
    }

    /// Removes an owner of an element. Returns true if nobody is left who wants it, and `None` if this one did not.
    pub(super) fn unwant(&mut self, column: &str, element: &Element, by: Option<&Group>) -> Option<bool> {
        let at = self.members.iter().position(|(name, _)| *name == column)?;
        let elements = &mut self.members[at].1;
        let last = elements.get_mut(element)?.remove(by)?;
        if last {
            elements.swap_remove(element);
            if elements.is_empty() {
                self.members.swap_remove(at);
            }
        }
        Some(last)
    }

    pub(super) fn hold(&mut self, by: Holder) {
        self.held_by.add(by);
    }

    /// Decrements the count of a holder. Returns true if the holder no longer refers to the row.
    pub(super) fn release(&mut self, of: &RowKey, column: &'static str) -> bool {
        self.held_by.remove(of, column)
    }
}

impl Default for Holders {
    fn default() -> Self {
        Self::Few(Vec::new())
    }
}

impl Holders {
    fn add(&mut self, by: Holder) {
        match self {
            Self::Few(list) => {
                if let Some((_, count)) = list.iter_mut().find(|(holder, _)| *holder == by) {
                    *count += 1;
                    return;
                }
                put(list, 0, (by, 1));
                if list.len() > MANY {
                    *self = Self::Many(list.drain(..).collect());
                }
            }
            Self::Many(map) => *map.entry(by).or_default() += 1,
        }
    }

    fn remove(&mut self, of: &RowKey, column: &'static str) -> bool {
        match self {
            Self::Few(list) => {
                let Some(at) = list.iter().position(|((key, name), _)| key == of && *name == column) else {
                    return false;
                };
                list[at].1 -= 1;
                let gone = list[at].1 == 0;
                if gone {
                    list.swap_remove(at);
                }
                gone
            }
            Self::Many(map) => {
                let holder = (of.clone(), column);
                let Some(count) = map.get_mut(&holder) else { return false };
                *count -= 1;
                let gone = *count == 0;
                if gone {
                    map.remove(&holder);
                }
                gone
            }
        }
    }

    fn is_empty(&self) -> bool {
        self.iter().next().is_none()
    }

    fn iter(&self) -> impl Iterator<Item = &Holder> {
        let (few, many) = match self {
            Self::Few(list) => (Some(list), None),
            Self::Many(map) => (None, Some(map)),
        };
        let few = few.into_iter().flatten().map(|(holder, _)| holder);
        few.chain(many.into_iter().flat_map(HashMap::keys))
    }
}

/// Inserts a value. Nearly every list has one element, so the capacity starts at one.
fn put<T>(list: &mut Vec<T>, at: usize, value: T) {
    if list.is_empty() {
        list.reserve_exact(1);
    }
    list.insert(at, value);
}
