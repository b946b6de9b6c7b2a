//! Facts: the wanted contents of the database. A fact is a row with its columns, or one element of a set column.

use std::fmt;
use std::sync::Arc;

use ovsdb::{Atom, Row};

use crate::key::RowKey;
use crate::text;

/// Something that the database must contain. Facts are values: two equal facts are the same fact, wanted twice.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Fact {
    /// A row exists with these values.
    Row {
        /// The key of the row.
        key: RowKey,
        /// The UID of the object that the row belongs to. A new row's UUID is derived from it.
        seed: Arc<str>,
        /// The wanted columns. Other columns are not changed.
        columns: Row,
    },
    /// A set column of a row contains this element.
    Member {
        /// The row with the set column.
        of: RowKey,
        /// The column.
        column: &'static str,
        /// The element.
        element: Element,
    },
}

/// An element of a set column.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Element {
    /// A reference to a row, by its natural key.
    Row(RowKey),
    /// A value.
    Value(Atom),
}

impl Fact {
    /// Returns the key of the row that the fact applies to.
    pub fn key(&self) -> &RowKey {
        match self {
            Fact::Row { key, .. } => key,
            Fact::Member { of, .. } => of,
        }
    }

    /// Returns the fact that `column` of `of` refers to `row`.
    pub fn reference(of: RowKey, column: &'static str, row: RowKey) -> Self {
        Fact::Member { of, column, element: Element::Row(row) }
    }

    /// Returns the fact that `column` of `of` contains `value`.
    pub fn value(of: RowKey, column: &'static str, value: impl Into<Atom>) -> Self {
        Fact::Member { of, column, element: Element::Value(value.into()) }
    }
}

/// Formats a fact as one line: `Logical_Switch_Port a.ns addresses=["0a:.. 10.."] external_ids={vendor=kube-ovn}` or
/// `Logical_Switch net ports += Logical_Switch_Port a.ns`. Omits empty columns and the name.
impl fmt::Display for Fact {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fact::Row { key, columns, .. } => {
                write!(f, "{key}")?;
                for (column, datum) in columns {
                    if *column == "name" || text::is_empty(datum) {
                        continue;
                    }
                    write!(f, " {column}={}", text::Show(key.table.descriptor().kind(column), datum))?;
                }
                Ok(())
            }
            Fact::Member { of, column, element } => write!(f, "{of} {column} += {element}"),
        }
    }
}

impl fmt::Display for Element {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Element::Row(key) => write!(f, "{key}"),
            Element::Value(atom) => text::atom(f, atom),
        }
    }
}
