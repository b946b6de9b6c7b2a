//! The local copy of the monitored tables. Rows are indexed by UUID and by the declared key of each table.
//!
//! The index always matches the rows. An update that does not fit is an error and leaves the copy unchanged.

mod index;
mod row;
mod update;

use std::collections::BTreeMap;

use indexmap::IndexMap;
use uuid::Uuid;

use index::Index;
pub use row::Row;
pub use update::{UpdateError, Updates};

/// A row: the name of its table and its UUID.
pub type RowId = (&'static str, Uuid);

/// A table to replicate.
#[derive(Clone, Copy, Debug)]
pub struct Table {
    /// The name in the schema.
    pub name: &'static str,
    /// The columns to replicate.
    pub columns: &'static [&'static str],
    /// Computes the key for [`Replica::find`] from a row. Keys need not be unique. With `None`, the row is not indexed.
    pub key: Option<fn(&Row) -> Option<String>>,
}

/// A copy of some tables of one database.
#[derive(Clone, Debug, Default)]
pub struct Replica {
    tables: Vec<TableCopy>,
    /// The version of the last adopted schema.
    version: String,
}

#[derive(Clone, Debug)]
struct TableCopy {
    table: Table,
    /// The declared columns that the server has, with their types. Empty until a schema is adopted.
    columns: BTreeMap<&'static str, crate::ColumnType>,
    rows: IndexMap<Uuid, Row>,
    index: Index,
}

impl Replica {
    /// Returns an empty copy of these tables.
    pub fn new(tables: impl IntoIterator<Item = Table>) -> Replica {
        let tables = tables.into_iter().map(|table| TableCopy {
            table,
            columns: BTreeMap::new(),
            rows: IndexMap::new(),
            index: Index::default(),
        });
        Replica { tables: tables.collect(), version: String::new() }
    }

    /// Returns the row with this UUID.
    pub fn get(&self, table: &str, uuid: Uuid) -> Option<&Row> {
        self.table(table)?.rows.get(&uuid)
    }

    /// Returns all rows of a table, in no particular order.
    pub fn rows<'a>(&'a self, table: &str) -> impl Iterator<Item = (Uuid, &'a Row)> + use<'a> {
        self.table(table).into_iter().flat_map(|rows| &rows.rows).map(|(uuid, row)| (*uuid, row))
    }

    /// Returns the row at a place, from 0 to [`Replica::len`]. A new row comes last, and a changed row keeps its
    /// place. When a row is removed, the last row takes its place. A walk from the last place to the first one therefore meets every row that is there all the
    /// time, whatever changes between its steps.
    pub fn row_at(&self, table: &str, place: usize) -> Option<(Uuid, &Row)> {
        self.table(table)?.rows.get_index(place).map(|(uuid, row)| (*uuid, row))
    }

    /// Returns the rows with this key, ordered by UUID. Returns nothing for a table without a key.
    pub fn find<'a>(&'a self, table: &str, key: &str) -> impl Iterator<Item = Uuid> + use<'a> {
        self.table(table).map(|rows| rows.index.find(key)).into_iter().flatten()
    }

    /// Returns the number of rows of a table.
    pub fn len(&self, table: &str) -> usize {
        self.table(table).map_or(0, |rows| rows.rows.len())
    }

    /// Returns true if a table has no rows.
    pub fn is_empty(&self, table: &str) -> bool {
        self.len(table) == 0
    }

    /// Returns true if any table has a row.
    pub fn has_rows(&self) -> bool {
        self.tables.iter().any(|table| !table.rows.is_empty())
    }

    /// Inserts or replaces a row, as the server would. Ignores unknown tables.
    pub fn insert(&mut self, table: &str, uuid: Uuid, row: Row) -> Option<Row> {
        self.table_mut(table)?.put(uuid, row)
    }

    /// Removes a row.
    pub fn remove(&mut self, table: &str, uuid: Uuid) -> Option<Row> {
        self.table_mut(table)?.take(uuid)
    }

    fn table(&self, name: &str) -> Option<&TableCopy> {
        self.tables.iter().find(|rows| rows.table.name == name)
    }

    fn table_mut(&mut self, name: &str) -> Option<&mut TableCopy> {
        self.tables.iter_mut().find(|rows| rows.table.name == name)
    }
}

#[cfg(test)]
mod tests;
