//! The local copy of the monitored tables: rows by id, and by each table's declared key.
//!
//! It promises that the key index always says what the rows say, and that a change that does not fit is an error
//! which leaves the copy as it was.

mod index;
mod row;
mod update;

use std::collections::{BTreeMap, HashMap};

use uuid::Uuid;

use index::Index;
pub use row::Row;
pub use update::{UpdateError, Updates};

/// A row of some table: the table's name and the row's id.
pub type RowId = (&'static str, Uuid);

/// A table to keep a copy of.
#[derive(Clone, Copy, Debug)]
pub struct Table {
    /// Its name in the schema.
    pub name: &'static str,
    /// The columns to keep.
    pub columns: &'static [&'static str],
    /// The key that [`Replica::find`] searches by, made of a row's columns; need not be unique. `None` leaves the row out.
    pub key: Option<fn(&Row) -> Option<String>>,
}

/// The copy of some tables of one database.
#[derive(Clone, Debug, Default)]
pub struct Replica {
    tables: Vec<TableCopy>,
    /// The version of the schema that was adopted last.
    version: String,
}

#[derive(Clone, Debug)]
struct TableCopy {
    table: Table,
    /// Those of the table's columns that the server has, with their types. Empty until a schema is adopted.
    columns: BTreeMap<&'static str, crate::ColumnType>,
    rows: HashMap<Uuid, Row>,
    index: Index,
}

impl Replica {
    /// An empty copy of these tables.
    pub fn new(tables: impl IntoIterator<Item = Table>) -> Replica {
        let tables = tables.into_iter().map(|table| TableCopy {
            table,
            columns: BTreeMap::new(),
            rows: HashMap::new(),
            index: Index::default(),
        });
        Replica { tables: tables.collect(), version: String::new() }
    }

    /// The row with this id.
    pub fn get(&self, table: &str, uuid: Uuid) -> Option<&Row> {
        self.table(table)?.rows.get(&uuid)
    }

    /// Every row of a table, in no order.
    pub fn rows<'a>(&'a self, table: &str) -> impl Iterator<Item = (Uuid, &'a Row)> + use<'a> {
        self.table(table).into_iter().flat_map(|rows| &rows.rows).map(|(uuid, row)| (*uuid, row))
    }

    /// The rows whose declared key is this one, in the order of their ids. Nothing for a table without a key.
    pub fn find<'a>(&'a self, table: &str, key: &str) -> impl Iterator<Item = Uuid> + use<'a> {
        self.table(table).map(|rows| rows.index.find(key)).into_iter().flatten()
    }

    /// The number of rows of a table.
    pub fn len(&self, table: &str) -> usize {
        self.table(table).map_or(0, |rows| rows.rows.len())
    }

    /// Whether a table has no row.
    pub fn is_empty(&self, table: &str) -> bool {
        self.len(table) == 0
    }

    /// Puts a row in place of what the id stood for, as the server would. Unknown tables are left alone.
    pub fn insert(&mut self, table: &str, uuid: Uuid, row: Row) -> Option<Row> {
        self.table_mut(table)?.put(uuid, row)
    }

    /// Takes a row away.
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
