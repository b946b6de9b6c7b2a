//! Parses `<table-updates2>` (ovsdb-server(7), section 4.1.14) and applies it to a [`Replica`].

use std::collections::BTreeSet;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;
use uuid::Uuid;

use super::{Replica, Row, RowId, Table, TableCopy};
use crate::{ColumnType, Schema};

/// A parsed update or snapshot that is not applied yet.
#[derive(Clone, Debug)]
pub struct Updates {
    tables: Vec<(&'static str, Vec<(Uuid, RowUpdate)>)>,
}

/// Why an update cannot be applied. The replica is unchanged.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum UpdateError {
    /// The update names a table that is not monitored or has no schema yet.
    #[error("update of {table}: not a monitored table")]
    Table {
        /// The table.
        table: &'static str,
    },
    /// The update modifies a row that is not in the replica.
    #[error("update of {table} {row}: no such row in the replica")]
    Row {
        /// The table.
        table: &'static str,
        /// The row.
        row: Uuid,
    },
    /// The difference of a column is a set for a map, or a map for a set.
    #[error("update of {table} {row}: column {column} changes between set and map")]
    Column {
        /// The table.
        table: &'static str,
        /// The row.
        row: Uuid,
        /// The column.
        column: &'static str,
    },
}

#[derive(Clone, Debug)]
enum RowUpdate {
    /// `initial` and `insert`: every column that does not have its default value.
    Whole(Row),
    /// `modify`: the changed columns. Sets and maps are differences.
    Modify(Row),
    Delete,
}

impl Updates {
    /// Parses the updates of these tables. Other tables and columns are skipped.
    pub fn decode(tables: &[Table], json: &RawValue) -> Result<Updates, serde_json::Error> {
        let mut from = serde_json::Deserializer::from_str(json.get());
        let updates = TablesSeed(tables).deserialize(&mut from)?;
        from.end()?;
        Ok(updates)
    }

    /// Returns the number of rows in the update.
    pub fn len(&self) -> usize {
        self.tables.iter().map(|(_, rows)| rows.len()).sum()
    }

    /// Returns true if the update contains no rows.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Replica {
    /// Adopts the column types of a schema. Declared columns that are missing in the schema are ignored from now on.
    /// Returns true if the types changed. The rows then need a new snapshot.
    pub fn adopt(&mut self, schema: &Schema) -> bool {
        let mut differs = false;
        for rows in &mut self.tables {
            let found = |name: &&'static str| Some((*name, schema.column(rows.table.name, name)?.clone()));
            let columns = rows.table.columns.iter().filter_map(found).collect();
            differs |= rows.columns != columns;
            rows.columns = columns;
        }
        self.version.clone_from(&schema.version);
        differs
    }

    /// Returns the version of the last adopted schema, for example `7.0.0`. Empty before that, or if the schema has
    /// none.
    pub fn version(&self) -> &str {
        &self.version
    }

    /// Returns the declared columns, with their tables, that the adopted schema lacks. Before a schema is adopted, all
    /// columns.
    pub fn lacking(&self) -> impl Iterator<Item = (&'static str, &'static str)> + '_ {
        self.tables.iter().flat_map(|rows| {
            let lacking = rows.table.columns.iter().filter(|column| !rows.columns.contains_key(*column));
            lacking.map(|column| (rows.table.name, *column))
        })
    }

    /// Returns the declared tables.
    pub fn tables(&self) -> impl Iterator<Item = Table> + '_ {
        self.tables.iter().map(|rows| rows.table)
    }

    /// Returns the declared columns of a table that the adopted schema has.
    pub fn columns<'a>(&'a self, table: &str) -> impl Iterator<Item = &'static str> + use<'a> {
        self.table(table).into_iter().flat_map(|rows| rows.columns.keys().copied())
    }

    /// Applies an update. Returns the rows in the update.
    pub fn apply(&mut self, updates: Updates) -> Result<BTreeSet<RowId>, UpdateError> {
        self.check(&updates)?;
        let named = updates.tables.iter().flat_map(|(name, rows)| rows.iter().map(|(uuid, _)| (*name, *uuid)));
        let touched = named.collect();
        self.write(updates);
        Ok(touched)
    }

    /// Returns a replica with the contents of the snapshot, and the rows that differ from this replica.
    pub fn snapshot(&self, snapshot: Updates) -> Result<(Replica, BTreeSet<RowId>), UpdateError> {
        let mut fresh = Replica::new(self.tables());
        fresh.version.clone_from(&self.version);
        for (fresh, rows) in fresh.tables.iter_mut().zip(&self.tables) {
            fresh.columns.clone_from(&rows.columns);
        }
        fresh.check(&snapshot)?;
        fresh.write(snapshot);
        let changed = self.tables.iter().zip(&fresh.tables).flat_map(|(old, new)| {
            let gone = old.rows.keys().filter(|uuid| !new.rows.contains_key(*uuid));
            let differs = |(uuid, row): &(&Uuid, &Row)| old.rows.get(*uuid) != Some(row);
            let came = new.rows.iter().filter(differs).map(|(uuid, _)| uuid);
            gone.chain(came).map(|uuid| (old.table.name, *uuid))
        });
        let changed = changed.collect();
        Ok((fresh, changed))
    }

    /// Applies updates that `check` accepted.
    fn write(&mut self, updates: Updates) {
        for (name, updates) in updates.tables {
            let Some(rows) = self.table_mut(name) else { continue };
            if rows.rows.is_empty() {
                rows.reserve(updates.len());
            }
            for (uuid, update) in updates {
                match update {
                    RowUpdate::Whole(given) => {
                        let row = rows.whole(given);
                        rows.put(uuid, row);
                    }
                    RowUpdate::Modify(columns) => rows.modify(uuid, columns),
                    RowUpdate::Delete => {
                        rows.take(uuid);
                    }
                }
            }
        }
    }

    /// Checks all updates before the first one is applied.
    fn check(&self, updates: &Updates) -> Result<(), UpdateError> {
        for &(table, ref updates) in &updates.tables {
            let rows = self.table(table).ok_or(UpdateError::Table { table })?;
            for &(row, ref update) in updates {
                let RowUpdate::Modify(columns) = update else { continue };
                let old = rows.rows.get(&row).ok_or(UpdateError::Row { table, row })?;
                for (column, diff) in columns {
                    let many = rows.columns.get(column).is_some_and(|column| column.many);
                    if many && old.get(column).is_some_and(|old| old.is_map() != diff.is_map()) {
                        return Err(UpdateError::Column { table, row, column });
                    }
                }
            }
        }
        Ok(())
    }
}

impl TableCopy {
    /// Completes a row with the defaults of the columns that are not given.
    fn whole(&self, mut row: Row) -> Row {
        for (name, column) in &self.columns {
            if row.get(name).is_none() {
                row.insert(name, column.default.clone());
            }
        }
        row
    }

    /// Reserves capacity for a snapshot, to avoid repeated reallocation.
    fn reserve(&mut self, rows: usize) {
        self.rows.reserve(rows);
        self.index.reserve(rows);
    }

    pub(super) fn put(&mut self, uuid: Uuid, row: Row) -> Option<Row> {
        let after = self.key(&row);
        let old = self.rows.insert(uuid, row);
        let before = old.as_ref().and_then(|old| self.key(old));
        self.renamed(uuid, before, after);
        old
    }

    pub(super) fn take(&mut self, uuid: Uuid) -> Option<Row> {
        let old = self.rows.swap_remove(&uuid)?;
        if let Some(key) = self.key(&old) {
            self.index.unlink(&key, uuid);
        }
        Some(old)
    }

    fn modify(&mut self, uuid: Uuid, columns: Row) {
        let Some(row) = self.rows.get_mut(&uuid) else { return };
        let before = self.table.key.and_then(|key| key(row));
        for (name, diff) in columns {
            match (self.columns.get(name), row.get_mut(name)) {
                (Some(ColumnType { many: true, .. }), Some(value)) => value.toggle(diff),
                _ => {
                    row.insert(name, diff);
                }
            }
        }
        let after = self.table.key.and_then(|key| key(row));
        self.renamed(uuid, before, after);
    }

    fn renamed(&mut self, uuid: Uuid, before: Option<String>, after: Option<String>) {
        if before == after {
            return;
        }
        if let Some(key) = before {
            self.index.unlink(&key, uuid);
        }
        if let Some(key) = after {
            self.index.link(key, uuid);
        }
    }

    fn key(&self, row: &Row) -> Option<String> {
        self.table.key.and_then(|key| key(row))
    }
}

struct TablesSeed<'a>(&'a [Table]);

impl<'de> DeserializeSeed<'de> for TablesSeed<'_> {
    type Value = Updates;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<Updates, D::Error> {
        from.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for TablesSeed<'_> {
    type Value = Updates;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("table updates")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Updates, A::Error> {
        let mut tables = Vec::new();
        while let Some(found) = map.next_key_seed(NameSeed(|name: &str| self.0.iter().find(|t| t.name == name)))? {
            match found {
                Some(table) => tables.push((table.name, map.next_value_seed(RowsSeed(table.columns))?)),
                None => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(Updates { tables })
    }
}

struct RowsSeed(&'static [&'static str]);

impl<'de> DeserializeSeed<'de> for RowsSeed {
    type Value = Vec<(Uuid, RowUpdate)>;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<Self::Value, D::Error> {
        from.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for RowsSeed {
    type Value = Vec<(Uuid, RowUpdate)>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("row updates by row id")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut rows = Vec::new();
        while let Some(uuid) = map.next_key::<Uuid>()? {
            rows.push((uuid, map.next_value_seed(RowSeed(self.0))?));
        }
        Ok(rows)
    }
}

#[derive(Clone, Copy)]
struct RowSeed(&'static [&'static str]);

impl<'de> DeserializeSeed<'de> for RowSeed {
    type Value = RowUpdate;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<RowUpdate, D::Error> {
        from.deserialize_map(self)
    }
}

#[derive(serde::Deserialize)]
#[serde(rename_all = "lowercase")]
enum Kind {
    Initial,
    Insert,
    Modify,
    Delete,
}

impl<'de> Visitor<'de> for RowSeed {
    type Value = RowUpdate;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("one of initial, insert, modify and delete")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<RowUpdate, A::Error> {
        let update = match map.next_key()? {
            Some(Kind::Initial | Kind::Insert) => RowUpdate::Whole(map.next_value_seed(ColumnsSeed(self.0))?),
            Some(Kind::Modify) => RowUpdate::Modify(map.next_value_seed(ColumnsSeed(self.0))?),
            Some(Kind::Delete) => {
                map.next_value::<IgnoredAny>()?;
                RowUpdate::Delete
            }
            None => return Err(A::Error::custom("a row update says nothing")),
        };
        match map.next_key::<IgnoredAny>()? {
            None => Ok(update),
            Some(_) => Err(A::Error::custom("a row update says two things")),
        }
    }
}

struct ColumnsSeed(&'static [&'static str]);

impl<'de> DeserializeSeed<'de> for ColumnsSeed {
    type Value = Row;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<Row, D::Error> {
        from.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for ColumnsSeed {
    type Value = Row;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a row")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Row, A::Error> {
        let mut row = Row::with_capacity(self.0.len());
        while let Some(found) = map.next_key_seed(NameSeed(|name: &str| self.0.iter().find(|c| **c == name)))? {
            match found {
                Some(column) => drop(row.insert(column, map.next_value()?)),
                None => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(row)
    }
}

/// Finds a declared name without allocating a string.
struct NameSeed<F>(F);

impl<'de, T, F: FnOnce(&str) -> Option<T>> DeserializeSeed<'de> for NameSeed<F> {
    type Value = Option<T>;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<Option<T>, D::Error> {
        from.deserialize_str(self)
    }
}

impl<T, F: FnOnce(&str) -> Option<T>> Visitor<'_> for NameSeed<F> {
    type Value = Option<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a name")
    }

    fn visit_str<E>(self, name: &str) -> Result<Option<T>, E> {
        Ok((self.0)(name))
    }
}
