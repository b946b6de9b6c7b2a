//! The value of a column: a set or a map of atoms.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::{fmt, iter, mem};

use uuid::Uuid;

use super::Atom;

/// The value of a column (RFC 7047 section 5.1, `<value>`): a set or a map. A scalar is a set of one element, an absent
/// optional value is the empty set. An empty map differs from an empty set.
///
/// A datum has the size of an atom. A set of one element, the common case, needs no heap allocation of its own.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Datum(Form);

/// Every value has exactly one form, so equal values have equal forms.
#[derive(Clone, PartialEq, Eq, Hash)]
enum Form {
    /// The empty set.
    Empty,
    /// A set of one element.
    One(Atom),
    /// A set of two or more elements. It can be large, for example all ports of a switch, which change one by one.
    #[allow(clippy::box_collection, reason = "a datum is no larger than an atom")]
    Many(Box<BTreeSet<Atom>>),
    /// A map: its pairs ordered by key, without duplicate keys.
    Map(Box<[Pair]>),
}

type Pair = (Atom, Atom);

impl Datum {
    /// Returns the empty set, which is also an absent optional value. For a map column use [`Datum::empty_map`].
    pub const fn empty() -> Datum {
        Datum(Form::Empty)
    }

    /// Returns the empty map.
    pub fn empty_map() -> Datum {
        Datum(Form::Map(Box::default()))
    }

    /// Returns a set of the given elements.
    pub fn set<A: Into<Atom>>(elements: impl IntoIterator<Item = A>) -> Datum {
        let mut elements = elements.into_iter().map(Into::into);
        match (elements.next(), elements.next()) {
            (Some(first), Some(second)) => Datum::of_set([first, second].into_iter().chain(elements).collect()),
            (Some(only), None) => Datum(Form::One(only)),
            (None, _) => Datum::empty(),
        }
    }

    /// Returns a map of the given pairs. If a key occurs more than once, the last value wins.
    pub fn map<K: Into<Atom>, V: Into<Atom>>(pairs: impl IntoIterator<Item = (K, V)>) -> Datum {
        Datum::of_pairs(pairs.into_iter().map(|(k, v)| (k.into(), v.into())).collect())
    }

    fn of_set(mut set: BTreeSet<Atom>) -> Datum {
        Datum(match set.len() {
            0 | 1 => set.pop_first().map_or(Form::Empty, Form::One),
            _ => Form::Many(Box::new(set)),
        })
    }

    fn of_pairs(mut pairs: Vec<Pair>) -> Datum {
        if !pairs.is_sorted_by(|(before, _), (after, _)| before < after) {
            // The sort is stable and `dedup_by` keeps the first of equal keys, so the reversal makes the last value
            // win.
            pairs.reverse();
            pairs.sort_by(|(one, _), (other, _)| one.cmp(other));
            pairs.dedup_by(|(one, _), (other, _)| one == other);
        }
        Datum(Form::Map(pairs.into()))
    }

    /// Returns true for a map.
    pub fn is_map(&self) -> bool {
        matches!(self.0, Form::Map(_))
    }

    /// Returns true if the datum has no elements or pairs.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns the number of elements or pairs.
    pub fn len(&self) -> usize {
        match &self.0 {
            Form::Empty => 0,
            Form::One(_) => 1,
            Form::Many(set) => set.len(),
            Form::Map(pairs) => pairs.len(),
        }
    }

    /// Returns the element of a set of one element.
    pub fn as_atom(&self) -> Option<&Atom> {
        match &self.0 {
            Form::One(atom) => Some(atom),
            _ => None,
        }
    }

    /// Returns the string of a set of one string.
    pub fn as_str(&self) -> Option<&str> {
        self.as_atom().and_then(Atom::as_str)
    }

    /// Returns the integer of a set of one integer.
    pub fn as_int(&self) -> Option<i64> {
        self.as_atom().and_then(Atom::as_int)
    }

    /// Returns the boolean of a set of one boolean.
    pub fn as_bool(&self) -> Option<bool> {
        self.as_atom().and_then(Atom::as_bool)
    }

    /// Returns the UUID of a set of one UUID.
    pub fn as_uuid(&self) -> Option<Uuid> {
        self.as_atom().and_then(Atom::as_uuid)
    }

    /// Iterates over the elements of a set, in order. Yields nothing for a map.
    pub fn atoms(&self) -> impl Iterator<Item = &Atom> {
        let (one, many) = match &self.0 {
            Form::One(atom) => (Some(atom), None),
            Form::Many(set) => (None, Some(set)),
            Form::Empty | Form::Map(_) => (None, None),
        };
        one.into_iter().chain(many.into_iter().flat_map(|set| set.iter()))
    }

    /// Iterates over the elements of a set that are larger than `last`, in order. Without `last`, over all. The time to
    /// find the first one grows with the logarithm of the size.
    pub fn atoms_after(&self, last: Option<&Atom>) -> impl Iterator<Item = &Atom> {
        let (one, many) = match &self.0 {
            Form::One(atom) => (Some(atom).filter(|atom| last.is_none_or(|last| last < *atom)), None),
            Form::Many(set) => (None, Some(set)),
            Form::Empty | Form::Map(_) => (None, None),
        };
        let from = last.map_or(Bound::Unbounded, Bound::Excluded);
        one.into_iter().chain(many.into_iter().flat_map(move |set| set.range((from, Bound::Unbounded))))
    }

    /// Iterates over the strings of a set, in order.
    pub fn strs(&self) -> impl Iterator<Item = &str> {
        self.atoms().filter_map(Atom::as_str)
    }

    /// Iterates over the UUIDs of a set, in order.
    pub fn uuids(&self) -> impl Iterator<Item = Uuid> + '_ {
        self.atoms().filter_map(Atom::as_uuid)
    }

    /// Returns true if a set contains this element or a map contains this key.
    pub fn contains(&self, atom: &Atom) -> bool {
        match &self.0 {
            Form::Empty => false,
            Form::One(one) => one == atom,
            Form::Many(set) => set.contains(atom),
            Form::Map(_) => self.value(atom).is_some(),
        }
    }

    /// Iterates over the pairs of a map, ordered by key. Yields nothing for a set.
    pub fn pairs(&self) -> impl Iterator<Item = (&Atom, &Atom)> {
        self.slice().iter().map(|(key, value)| (key, value))
    }

    /// Returns the value of a key in a map.
    pub fn value(&self, key: &Atom) -> Option<&Atom> {
        self.look(|other| other.cmp(key))
    }

    /// Returns the string value of a string key in a map.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.look(|other| other.cmp_str(key)).and_then(Atom::as_str)
    }

    fn slice(&self) -> &[Pair] {
        match &self.0 {
            Form::Map(pairs) => pairs,
            _ => &[],
        }
    }

    fn look(&self, compare: impl Fn(&Atom) -> Ordering) -> Option<&Atom> {
        let pairs = self.slice();
        let at = pairs.binary_search_by(|(key, _)| compare(key)).ok()?;
        pairs.get(at).map(|(_, value)| value)
    }

    /// Applies a difference in the form of `<table-updates2>` (ovsdb-server(7), section 4.1.14). The difference of a
    /// set contains the elements that are in exactly one of old and new. The difference of a map contains the pairs
    /// that were deleted (with the old value), inserted, or changed (with the new value). A set given for a map, or a
    /// map for a set, replaces the value.
    pub(crate) fn toggle(&mut self, diff: Datum) {
        let old = mem::replace(&mut self.0, Form::Empty);
        *self = match (old, diff.0) {
            (Form::Map(old), Form::Map(diff)) => {
                let mut map: BTreeMap<Atom, Atom> = old.into_iter().collect();
                for (key, new) in diff {
                    if map.get(&key) == Some(&new) {
                        map.remove(&key);
                    } else {
                        map.insert(key, new);
                    }
                }
                Datum(Form::Map(map.into_iter().collect()))
            }
            (old @ (Form::One(_) | Form::Many(_)), diff @ (Form::Empty | Form::One(_) | Form::Many(_))) => {
                let mut set = old.into_set();
                for atom in diff.into_set() {
                    if !set.remove(&atom) {
                        set.insert(atom);
                    }
                }
                Datum::of_set(set)
            }
            (_, other) => Datum(other),
        };
    }
}

impl Form {
    fn into_set(self) -> BTreeSet<Atom> {
        match self {
            Form::One(atom) => iter::once(atom).collect(),
            Form::Many(set) => *set,
            Form::Empty | Form::Map(_) => BTreeSet::new(),
        }
    }
}

/// Sets come before maps. Equal kinds are compared by their contents, in order.
impl Ord for Datum {
    fn cmp(&self, other: &Datum) -> Ordering {
        let kinds = self.is_map().cmp(&other.is_map());
        kinds.then_with(|| self.atoms().cmp(other.atoms())).then_with(|| self.slice().cmp(other.slice()))
    }
}

impl PartialOrd for Datum {
    fn partial_cmp(&self, other: &Datum) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<A: Into<Atom>> From<A> for Datum {
    fn from(atom: A) -> Datum {
        Datum(Form::One(atom.into()))
    }
}

/// Displays a set of one element as the element, other sets as `[a, b]`, and maps as `{k=v, l=w}`.
impl fmt::Display for Datum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Form::One(atom) => atom.fmt(f),
            Form::Map(pairs) => {
                f.write_str("{")?;
                for (i, (key, value)) in pairs.iter().enumerate() {
                    write!(f, "{}{key}={value}", if i == 0 { "" } else { ", " })?;
                }
                f.write_str("}")
            }
            Form::Empty | Form::Many(_) => {
                f.write_str("[")?;
                for (i, atom) in self.atoms().enumerate() {
                    write!(f, "{}{atom}", if i == 0 { "" } else { ", " })?;
                }
                f.write_str("]")
            }
        }
    }
}

/// Same as `Display`, which distinguishes any two values.
impl fmt::Debug for Datum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests;
