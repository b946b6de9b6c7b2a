//! What a table is described by: how its columns are compared, and what completes the keys of its rows.

use ovsdb::Row;

use super::{TABLES, TableId};

/// How a column is compared and written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// One or no value. It is compared and written as a whole.
    Scalar,
    /// A small set. It is compared and written as a whole.
    Set,
    /// A map that only the controller writes. It is compared and written as a whole.
    Map,
    /// A map that other clients also write. Only these keys, which are ours, are compared and written. One of them that
    /// no fact wants is deleted, whoever wrote it: so it also goes when a later controller no longer knows that it was
    /// wanted. A key that a fact wants is written although it is not listed, but then it stays.
    Keys(&'static [&'static str]),
    /// A set of values. A fact wants each value, and values are written by mutation.
    Values,
    /// References to rows of a table. A fact wants each of them.
    References(Link),
}

/// What a column of references refers to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Link {
    /// The table of the rows.
    pub to: TableId,
    /// Whether a reference keeps its row (RFC 7047, 3.2 `refType`). A weak one goes when its row goes.
    pub strong: bool,
    /// Whether the column holds any number of references, which are written by mutation. Otherwise it holds one or none
    /// and is written as a whole; if facts want several rows, the one with the smallest key is written.
    pub many: bool,
}

impl Link {
    pub(super) const fn strong(to: TableId) -> Kind {
        Kind::References(Self { to, strong: true, many: true })
    }

    pub(super) const fn weak(to: TableId) -> Kind {
        Kind::References(Self { to, strong: false, many: true })
    }

    pub(super) const fn weak_or_none(to: TableId) -> Kind {
        Kind::References(Self { to, strong: false, many: false })
    }
}

/// A monitored column.
#[derive(Clone, Copy, Debug)]
pub struct Column {
    /// The name in the schema.
    pub name: &'static str,
    /// How the column is compared and written.
    pub kind: Kind,
}

/// The parents of rows whose own columns are not a complete key: tables, and their columns that refer to the rows. The
/// parent completes the key.
pub type Scope = &'static [(TableId, &'static str)];

/// The description of a table.
#[derive(Debug)]
pub struct Descriptor {
    /// The table.
    pub id: TableId,
    /// The name in the schema.
    pub name: &'static str,
    /// Whether the table is a root table. The server garbage-collects rows of other tables without references (RFC
    /// 7047, 3.2 `isRoot`), so they are removed by removing the reference.
    pub root: bool,
    /// The monitored columns.
    pub columns: &'static [Column],
    /// The names of `columns`.
    pub names: &'static [&'static str],
    /// Returns the local part of a row's key.
    pub key: fn(&Row) -> Option<String>,
    /// The parents that complete the key. Empty if the row alone is enough.
    pub scope: Scope,
}

impl Descriptor {
    /// Returns how `column` is compared. A column that is not monitored counts as a scalar.
    pub fn kind(&self, column: &str) -> Kind {
        self.columns.iter().find(|c| c.name == column).map_or(Kind::Scalar, |c| c.kind)
    }

    /// Returns the columns with members, and what they refer to (`None` for plain values).
    pub fn member_columns(&self) -> impl Iterator<Item = (&'static str, Option<Link>)> {
        self.columns.iter().filter_map(|c| match c.kind {
            Kind::Values => Some((c.name, None)),
            Kind::References(link) => Some((c.name, Some(link))),
            _ => None,
        })
    }

    /// Returns what a column refers to.
    pub fn link(&self, column: &str) -> Option<Link> {
        match self.kind(column) {
            Kind::References(link) => Some(link),
            _ => None,
        }
    }

    /// Returns the columns of other tables that refer to rows of this table.
    pub fn referrers(&self) -> impl Iterator<Item = (TableId, &'static str)> {
        let id = self.id;
        TABLES.iter().flat_map(move |table| {
            let to = move |c: &&Column| matches!(c.kind, Kind::References(link) if link.to == id);
            table.columns.iter().filter(to).map(move |c| (table.id, c.name))
        })
    }
}
