//! The part of a database's schema that a replica needs: which columns there are, and the type of each.
//!
//! An update leaves out columns at their default and gives sets and maps as differences,
//! so without the types of the columns it cannot be read.

use std::collections::{BTreeMap, HashMap};

use serde::Deserialize;
use serde_json::Value;
use uuid::Uuid;

use crate::{Atom, Datum};

/// A database's tables and their columns, by name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Schema {
    /// The schema's version, such as `7.0.0`; empty when it has none.
    pub version: String,
    /// Table -> column -> type.
    pub tables: BTreeMap<String, BTreeMap<String, ColumnType>>,
}

/// What a replica must know of a column's type (RFC 7047 section 3.2, `<type>`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ColumnType {
    /// The value of a column that nobody has set.
    pub default: Datum,
    /// Whether it can hold more than one element: its changes then come as differences.
    pub many: bool,
}

/// Why a schema could not be read.
#[derive(Debug, thiserror::Error)]
#[error("schema of the database: {0}")]
pub struct SchemaError(#[from] serde_json::Error);

impl Schema {
    /// Reads the JSON of RFC 7047 section 3.2, which is the reply to `get_schema` and what an `.ovsschema` file holds.
    pub fn from_json(json: &[u8]) -> Result<Schema, SchemaError> {
        let raw: RawSchema = serde_json::from_slice(json)?;
        let tables = raw.tables.into_iter().map(|(name, table)| {
            let columns = table.columns.into_iter().map(|(name, column)| (name, column.r#type.resolve()));
            (name, columns.collect())
        });
        Ok(Schema { version: raw.version, tables: tables.collect() })
    }

    /// The type of a column, if there is such a table and column.
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

/// `"string"`, or the long form.
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

/// RFC 7047 section 5.2.1: what an insert gives a column that it does not name.
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
