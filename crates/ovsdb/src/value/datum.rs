//! The value of a column: a set or a map of atoms.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};
use std::{fmt, iter, mem};

use uuid::Uuid;

use super::Atom;

/// The value of a column (RFC 7047 section 5.1, `<value>`): a set, or a map. A scalar is a set of one, an absent optional
/// is the empty set, and an empty map is not an empty set.
///
/// It is no larger than an atom, and a set of one, which nearly every column is, costs no memory besides.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Datum(Form);

/// Every value has one form, so that equal values are equal forms.
#[derive(Clone, PartialEq, Eq, Hash)]
enum Form {
    /// The empty set.
    Empty,
    /// A set of one.
    One(Atom),
    /// A set of two or more; maybe of every port of a switch, which come and go one by one.
    #[allow(clippy::box_collection, reason = "a datum is no larger than an atom")]
    Many(Box<BTreeSet<Atom>>),
    /// A map: its pairs in the order of their keys, no key twice.
    Map(Box<[Pair]>),
}

type Pair = (Atom, Atom);

impl Datum {
    /// The empty set: an absent optional. For a map column use [`Datum::empty_map`].
    pub const fn empty() -> Datum {
        Datum(Form::Empty)
    }

    /// The empty map.
    pub fn empty_map() -> Datum {
        Datum(Form::Map(Box::default()))
    }

    /// A set of the given elements.
    pub fn set<A: Into<Atom>>(elements: impl IntoIterator<Item = A>) -> Datum {
        let mut elements = elements.into_iter().map(Into::into);
        match (elements.next(), elements.next()) {
            (Some(first), Some(second)) => Datum::of_set([first, second].into_iter().chain(elements).collect()),
            (Some(only), None) => Datum(Form::One(only)),
            (None, _) => Datum::empty(),
        }
    }

    /// A map of the given pairs; of equal keys the last one stays.
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
            // The sort keeps the order of equal keys, and the first of them is what stays.
            pairs.reverse();
            pairs.sort_by(|(one, _), (other, _)| one.cmp(other));
            pairs.dedup_by(|(one, _), (other, _)| one == other);
        }
        Datum(Form::Map(pairs.into()))
    }

    /// Whether it is a map.
    pub fn is_map(&self) -> bool {
        matches!(self.0, Form::Map(_))
    }

    /// Whether it holds nothing.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The number of elements or pairs.
    pub fn len(&self) -> usize {
        match &self.0 {
            Form::Empty => 0,
            Form::One(_) => 1,
            Form::Many(set) => set.len(),
            Form::Map(pairs) => pairs.len(),
        }
    }

    /// The one element of a set of one.
    pub fn as_atom(&self) -> Option<&Atom> {
        match &self.0 {
            Form::One(atom) => Some(atom),
            _ => None,
        }
    }

    /// The string of a set of one string.
    pub fn as_str(&self) -> Option<&str> {
        self.as_atom().and_then(Atom::as_str)
    }

    /// The integer of a set of one integer.
    pub fn as_int(&self) -> Option<i64> {
        self.as_atom().and_then(Atom::as_int)
    }

    /// The boolean of a set of one boolean.
    pub fn as_bool(&self) -> Option<bool> {
        self.as_atom().and_then(Atom::as_bool)
    }

    /// The row id of a set of one row id.
    pub fn as_uuid(&self) -> Option<Uuid> {
        self.as_atom().and_then(Atom::as_uuid)
    }

    /// The elements of a set, in order; nothing for a map.
    pub fn atoms(&self) -> impl Iterator<Item = &Atom> {
        let (one, many) = match &self.0 {
            Form::One(atom) => (Some(atom), None),
            Form::Many(set) => (None, Some(set)),
            Form::Empty | Form::Map(_) => (None, None),
        };
        one.into_iter().chain(many.into_iter().flat_map(|set| set.iter()))
    }

    /// The strings of a set, in order.
    pub fn strs(&self) -> impl Iterator<Item = &str> {
        self.atoms().filter_map(Atom::as_str)
    }

    /// The row ids of a set, in order.
    pub fn uuids(&self) -> impl Iterator<Item = Uuid> + '_ {
        self.atoms().filter_map(Atom::as_uuid)
    }

    /// Whether a set holds this element, or a map this key.
    pub fn contains(&self, atom: &Atom) -> bool {
        match &self.0 {
            Form::Empty => false,
            Form::One(one) => one == atom,
            Form::Many(set) => set.contains(atom),
            Form::Map(_) => self.value(atom).is_some(),
        }
    }

    /// The pairs of a map, in order of their keys; nothing for a set.
    pub fn pairs(&self) -> impl Iterator<Item = (&Atom, &Atom)> {
        self.slice().iter().map(|(key, value)| (key, value))
    }

    /// The value that a map has under this key.
    pub fn value(&self, key: &Atom) -> Option<&Atom> {
        self.look(|other| other.cmp(key))
    }

    /// The string that a map of strings has under this key.
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

    /// Applies a difference, as `<table-updates2>` has it (ovsdb-server(7), section 4.1.14). Of a set: the elements in
    /// exactly one of old and new. Of a map: the pairs that went (with their old value), came, or changed (with their new
    /// value). The difference of a set is no difference of a map; it takes the map's place.
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

/// Sets before maps, each by what they hold, in order.
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

/// A set of one as its element, other sets as `[a, b]`, maps as `{k=v, l=w}`.
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

/// As it is displayed: what tells two values apart is in that.
impl fmt::Debug for Datum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests;
