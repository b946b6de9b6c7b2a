//! OVSDB values: [`Atom`] and [`Datum`], with a total order, so that rows can be compared, hashed and sorted.
//!
//! A value is in one form only: a scalar is a set of one, an absent optional is the empty set,
//! and a number without a fraction is always [`Atom::Int`].

mod json;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use uuid::Uuid;

/// One element of a column (RFC 7047 section 5.1, `<atom>`).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Atom {
    /// An integer, or a real without a fraction.
    Int(i64),
    /// A real with a fraction; make it with `Atom::from(f64)`.
    Real(Real),
    /// A boolean.
    Bool(bool),
    /// A string.
    Str(Arc<str>),
    /// The id of a row.
    Uuid(Uuid),
}

/// An `f64` with the total order of IEEE 754.
#[derive(Clone, Copy, Debug)]
pub struct Real(f64);

/// The value of a column (RFC 7047 section 5.1, `<value>`).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Datum {
    /// A set; a scalar is a set of one, an absent optional is the empty set.
    Set(BTreeSet<Atom>),
    /// A map. An empty map is not an empty set.
    Map(BTreeMap<Atom, Atom>),
}

impl Datum {
    /// The empty set: an absent optional. For a map column use [`Datum::empty_map`].
    pub fn empty() -> Datum {
        Datum::Set(BTreeSet::new())
    }

    /// The empty map.
    pub fn empty_map() -> Datum {
        Datum::Map(BTreeMap::new())
    }

    /// A set of the given elements.
    pub fn set<A: Into<Atom>>(elements: impl IntoIterator<Item = A>) -> Datum {
        Datum::Set(elements.into_iter().map(Into::into).collect())
    }

    /// A map of the given pairs; of equal keys the last one stays.
    pub fn map<K: Into<Atom>, V: Into<Atom>>(pairs: impl IntoIterator<Item = (K, V)>) -> Datum {
        Datum::Map(pairs.into_iter().map(|(k, v)| (k.into(), v.into())).collect())
    }

    /// Whether it holds nothing.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The number of elements or pairs.
    pub fn len(&self) -> usize {
        match self {
            Datum::Set(set) => set.len(),
            Datum::Map(map) => map.len(),
        }
    }

    /// The one element of a set of one.
    pub fn as_atom(&self) -> Option<&Atom> {
        match self {
            Datum::Set(set) if set.len() == 1 => set.first(),
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
        let set = match self {
            Datum::Set(set) => Some(set),
            Datum::Map(_) => None,
        };
        set.into_iter().flatten()
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
        match self {
            Datum::Set(set) => set.contains(atom),
            Datum::Map(map) => map.contains_key(atom),
        }
    }

    /// The pairs of a map, in order of their keys; nothing for a set.
    pub fn pairs(&self) -> impl Iterator<Item = (&Atom, &Atom)> {
        let map = match self {
            Datum::Map(map) => Some(map),
            Datum::Set(_) => None,
        };
        map.into_iter().flatten()
    }

    /// The string that a map of strings has under this key.
    pub fn get(&self, key: &str) -> Option<&str> {
        match self {
            Datum::Map(map) => map.get(&Atom::from(key)).and_then(Atom::as_str),
            Datum::Set(_) => None,
        }
    }
}

impl Atom {
    /// The string, if it is one.
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Atom::Str(text) => Some(text),
            _ => None,
        }
    }

    /// The integer, if it is one.
    pub fn as_int(&self) -> Option<i64> {
        match self {
            Atom::Int(number) => Some(*number),
            _ => None,
        }
    }

    /// The boolean, if it is one.
    pub fn as_bool(&self) -> Option<bool> {
        match self {
            Atom::Bool(value) => Some(*value),
            _ => None,
        }
    }

    /// The row id, if it is one.
    pub fn as_uuid(&self) -> Option<Uuid> {
        match self {
            Atom::Uuid(uuid) => Some(*uuid),
            _ => None,
        }
    }
}

impl Real {
    /// The number itself.
    pub fn get(self) -> f64 {
        self.0
    }
}

impl PartialEq for Real {
    fn eq(&self, other: &Real) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Real {}

impl PartialOrd for Real {
    fn partial_cmp(&self, other: &Real) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Real {
    fn cmp(&self, other: &Real) -> std::cmp::Ordering {
        self.0.total_cmp(&other.0)
    }
}

impl Hash for Real {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.to_bits().hash(state);
    }
}

impl From<i64> for Atom {
    fn from(number: i64) -> Atom {
        Atom::Int(number)
    }
}

impl From<f64> for Atom {
    /// A number without a fraction becomes an [`Atom::Int`], so that equal numbers are equal atoms.
    fn from(number: f64) -> Atom {
        /// 2^63
        const LIMIT: f64 = 9_223_372_036_854_775_808.0;
        if number.fract() == 0.0 && number.abs() < LIMIT {
            #[allow(clippy::cast_possible_truncation, reason = "it is an integer and in range")]
            return Atom::Int(number as i64);
        }
        Atom::Real(Real(number))
    }
}

impl From<bool> for Atom {
    fn from(value: bool) -> Atom {
        Atom::Bool(value)
    }
}

impl From<&str> for Atom {
    fn from(text: &str) -> Atom {
        Atom::Str(text.into())
    }
}

impl From<&String> for Atom {
    fn from(text: &String) -> Atom {
        Atom::Str(text.as_str().into())
    }
}

impl From<String> for Atom {
    fn from(text: String) -> Atom {
        Atom::Str(text.into())
    }
}

impl From<Arc<str>> for Atom {
    fn from(text: Arc<str>) -> Atom {
        Atom::Str(text)
    }
}

impl From<Uuid> for Atom {
    fn from(uuid: Uuid) -> Atom {
        Atom::Uuid(uuid)
    }
}

impl<A: Into<Atom>> From<A> for Datum {
    fn from(atom: A) -> Datum {
        Datum::set([atom])
    }
}

/// Strings quoted, the rest bare: `"a"`, `7`, `true`.
impl fmt::Display for Atom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Atom::Int(number) => write!(f, "{number}"),
            Atom::Real(number) => write!(f, "{}", number.0),
            Atom::Bool(value) => write!(f, "{value}"),
            Atom::Str(text) => write!(f, "{text:?}"),
            Atom::Uuid(uuid) => write!(f, "{uuid}"),
        }
    }
}

/// A set of one as its element, other sets as `[a, b]`, maps as `{k=v, l=w}`.
impl fmt::Display for Datum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(atom) = self.as_atom() {
            return atom.fmt(f);
        }
        match self {
            Datum::Set(set) => {
                f.write_str("[")?;
                for (i, atom) in set.iter().enumerate() {
                    write!(f, "{}{atom}", if i == 0 { "" } else { ", " })?;
                }
                f.write_str("]")
            }
            Datum::Map(map) => {
                f.write_str("{")?;
                for (i, (key, value)) in map.iter().enumerate() {
                    write!(f, "{}{key}={value}", if i == 0 { "" } else { ", " })?;
                }
                f.write_str("}")
            }
        }
    }
}
