//! One element of a column.

use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use uuid::Uuid;

use super::words;

/// One element of a column (RFC 7047 section 5.1, `<atom>`).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Atom {
    /// An integer, or a real without a fraction.
    Int(i64),
    /// A real with a fraction. Create it with `Atom::from(f64)`.
    Real(Real),
    /// A boolean.
    Bool(bool),
    /// A string.
    Str(Arc<str>),
    /// The UUID of a row.
    Uuid(Uuid),
}

/// An `f64` with the total order of IEEE 754.
#[derive(Clone, Copy, Debug)]
pub struct Real(f64);

impl Atom {
    /// Returns a string that occurs in many values. Repeated strings usually share memory.
    pub fn word(text: &str) -> Atom {
        Atom::Str(words::shared(text))
    }

    /// Returns the string, if it is one.
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Atom::Str(text) => Some(text),
            _ => None,
        }
    }

    /// Returns the integer, if it is one.
    pub fn as_int(&self) -> Option<i64> {
        match self {
            Atom::Int(number) => Some(*number),
            _ => None,
        }
    }

    /// Returns the boolean, if it is one.
    pub fn as_bool(&self) -> Option<bool> {
        match self {
            Atom::Bool(value) => Some(*value),
            _ => None,
        }
    }

    /// Returns the UUID, if it is one.
    pub fn as_uuid(&self) -> Option<Uuid> {
        match self {
            Atom::Uuid(uuid) => Some(*uuid),
            _ => None,
        }
    }

    /// Compares the atom with a string without allocating an atom for it.
    pub(super) fn cmp_str(&self, text: &str) -> Ordering {
        match self {
            Atom::Int(_) | Atom::Real(_) | Atom::Bool(_) => Ordering::Less,
            Atom::Str(own) => (**own).cmp(text),
            Atom::Uuid(_) => Ordering::Greater,
        }
    }
}

impl Real {
    /// Returns the number.
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
    fn partial_cmp(&self, other: &Real) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Real {
    fn cmp(&self, other: &Real) -> Ordering {
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
    /// A number without a fraction becomes an [`Atom::Int`], so equal numbers are equal atoms.
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

/// Strings are quoted, other atoms are not: `"a"`, `7`, `true`.
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
