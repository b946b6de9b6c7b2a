//! What is wanted of the database, in two shapes: a row with its columns, and one element of a set column.

use std::fmt;
use std::sync::Arc;

use ovsdb::{Atom, Row};

use crate::key::RowKey;
use crate::text;

/// One thing that the database shall say. Facts are values: two equal ones are the same fact, wanted twice.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Fact {
    /// This row exists and holds this.
    Row {
        /// Which row.
        key: RowKey,
        /// The uid of the object it is there for: the input of a new row's id.
        seed: Arc<str>,
        /// What is wanted in these columns; columns not named are left as they are.
        columns: Row,
    },
    /// A set column of a row has this element.
    Member {
        /// The row with the set.
        of: RowKey,
        /// The column.
        column: &'static str,
        /// What is in it.
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
    /// The row that the fact is about.
    pub fn key(&self) -> &RowKey {
        match self {
            Fact::Row { key, .. } => key,
            Fact::Member { of, .. } => of,
        }
    }

    /// That `column` of `of` refers to `row`.
    pub fn reference(of: RowKey, column: &'static str, row: RowKey) -> Self {
        Fact::Member { of, column, element: Element::Row(row) }
    }

    /// That `column` of `of` has `value`.
    pub fn value(of: RowKey, column: &'static str, value: impl Into<Atom>) -> Self {
        Fact::Member { of, column, element: Element::Value(value.into()) }
    }
}

/// One line: `Logical_Switch_Port a.ns addresses=["0a:.. 10.."] external_ids={vendor=kube-ovn}` or
/// `Logical_Switch net ports += Logical_Switch_Port a.ns`. Empty columns and the name are left out.
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
