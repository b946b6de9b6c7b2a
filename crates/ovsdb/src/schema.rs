//! The part of a database schema that a replica needs: the columns and their types.
//!
//! An update omits columns that have their default value, and it sends sets and maps as differences. Parsing it
//! therefore requires the types of the columns.

use std::collections::{BTreeMap, HashMap};

use serde::Deserialize;
use serde_json::Value;
use uuid::Uuid;

use crate::{Atom, Datum};

/// The tables of a database and their columns, by name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Schema {
    /// The version of the schema, for example `7.0.0`. Empty if the schema has none.
    pub version: String,
    /// Maps a table to its columns and their types.
    pub tables: BTreeMap<String, BTreeMap<String, ColumnType>>,
}

/// The part of a column type that a replica needs (RFC 7047 section 3.2, `<type>`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ColumnType {
    /// The default value of the column.
    pub default: Datum,
    /// True if the column can contain more than one element. Its changes are then sent as differences.
    pub many: bool,
}

/// Why a schema cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("schema of the database: {0}")]
pub struct SchemaError(#[from] serde_json::Error);

impl Schema {
    /// Parses the JSON of RFC 7047 section 3.2: the reply to `get_schema`, or the contents of an `.ovsschema` file.
    pub fn from_json(json: &[u8]) -> Result<Schema, SchemaError> {
        let raw: RawSchema = serde_json::from_slice(json)?;
        let tables = raw.tables.into_iter().map(|(name, table)| {
            let columns = table.columns.into_iter().map(|(name, column)| (name, column.r#type.resolve()));
            (name, columns.collect())
        });
        Ok(Schema { version: raw.version, tables: tables.collect() })
    }

    /// Returns the type of a column, if the table and the column exist.
    pub fn column(&self, table: &str, column: &str) -> Option<&ColumnType> {
        self.tables.get(table)?.get(column)
    }
}

#[derive(Deserialize)]
struct RawSchema {
    #[serde(default)]
    version: String,
    tables: HashMap<String, RawTable>,
}

#[derive(Deserialize)]
struct RawTable {
    columns: HashMap<String, RawColumn>,
}

#[derive(Deserialize)]
struct RawColumn {
    r#type: RawType,
}

/// `"string"`, or an object.
#[derive(Deserialize)]
#[serde(untagged)]
enum RawType {
    Atomic(String),
    Full {
        key: RawBase,
        value: Option<RawBase>,
        min: Option<u64>,
        /// A number or `"unlimited"`.
        max: Option<Value>,
    },
}

/// `"string"`, or an object with a `type` and constraints.
#[derive(Deserialize)]
#[serde(untagged)]
enum RawBase {
    Name(String),
    Full { r#type: String },
}

impl RawType {
    fn resolve(self) -> ColumnType {
        match self {
            RawType::Atomic(name) => ColumnType { default: default_atom(&name).into(), many: false },
            RawType::Full { key, value, min, max } => {
                let many = match max {
                    None => false,
                    Some(max) => max.as_u64() != Some(1),
                };
                let required = min.unwrap_or(1) != 0;
                let default = match value {
                    None if required => default_atom(key.name()).into(),
                    None => Datum::empty(),
                    Some(value) if required => Datum::map([(default_atom(key.name()), default_atom(value.name()))]),
                    Some(_) => Datum::empty_map(),
                };
                ColumnType { default, many }
            }
        }
    }
}

impl RawBase {
    fn name(&self) -> &str {
        match self {
            RawBase::Name(name) | RawBase::Full { r#type: name } => name,
        }
    }
}

/// Returns the default value of an atomic type (RFC 7047 section 5.2.1).
fn default_atom(name: &str) -> Atom {
    match name {
        "integer" | "real" => Atom::Int(0),
        "boolean" => Atom::Bool(false),
        "uuid" => Atom::Uuid(Uuid::nil()),
        _ => Atom::from(""),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_give_defaults_and_how_changes_come() {
        let nil = Datum::from(Uuid::nil());
        for (json, default, many) in [
            (r#""string""#, Datum::from(""), false),
            (r#""integer""#, Datum::from(0), false),
            (r#""real""#, Datum::from(0), false),
            (r#""boolean""#, Datum::from(false), false),
            (r#"{"key":"uuid"}"#, nil.clone(), false),
            (r#"{"key":{"type":"uuid","refTable":"Good"}}"#, nil, false),
            (r#"{"key":"string","min":0}"#, Datum::empty(), false),
            (r#"{"key":{"type":"string","enum":["set",["a"]]},"min":0,"max":1}"#, Datum::empty(), false),
            (r#"{"key":"string","min":0,"max":"unlimited"}"#, Datum::empty(), true),
            (r#"{"key":"string","min":1,"max":3}"#, Datum::from(""), true),
            (r#"{"key":"string","value":"integer","min":0,"max":"unlimited"}"#, Datum::empty_map(), true),
            (r#"{"key":"string","value":"integer"}"#, Datum::map([("", 0)]), false),
        ] {
            let schema = format!(r#"{{"version":"1","tables":{{"T":{{"columns":{{"c":{{"type":{json}}}}}}}}}}}"#);
            let schema = Schema::from_json(schema.as_bytes()).unwrap();
            assert_eq!(schema.column("T", "c"), Some(&ColumnType { default, many }), "{json}");
        }
    }
}
