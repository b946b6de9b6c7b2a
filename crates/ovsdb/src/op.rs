//! The operations of a transaction (RFC 7047 section 5.2) and their JSON.

use serde_json::{Map, Value, json};
use uuid::Uuid;

use crate::{Datum, Row};

/// One operation of a transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Op {
    /// Inserts a row. Columns that are not named get their defaults.
    Insert {
        /// The table.
        table: &'static str,
        /// The UUID of the new row (OVS 2.13 and later). Other operations, earlier ones included, can refer to it. A
        /// second insert with the same UUID is refused with "duplicate uuid". With `None`, the server chooses the UUID.
        uuid: Option<Uuid>,
        /// The values of the named columns.
        row: Row,
    },
    /// Sets columns of the matching rows.
    Update {
        /// The table.
        table: &'static str,
        /// The rows.
        on: Where,
        /// The values of the named columns.
        row: Row,
    },
    /// Modifies sets, maps and numbers in place.
    Mutate {
        /// The table.
        table: &'static str,
        /// The rows.
        on: Where,
        /// The mutations, in order.
        mutations: Vec<Mutation>,
    },
    /// Deletes the matching rows.
    Delete {
        /// The table.
        table: &'static str,
        /// The rows.
        on: Where,
    },
    /// Fails the transaction unless the matching rows are equal (or not equal) to the given rows.
    Wait {
        /// The table.
        table: &'static str,
        /// The rows.
        on: Where,
        /// The columns to compare.
        columns: Vec<&'static str>,
        /// The condition.
        until: Until,
        /// The rows to compare with. Each row names exactly `columns`.
        rows: Vec<Row>,
        /// The timeout. 0 fails at once with "timed out". `None` waits without a limit.
        timeout_ms: Option<u64>,
    },
    /// Reads the matching rows.
    Select {
        /// The table.
        table: &'static str,
        /// The rows.
        on: Where,
        /// The columns to read. Name `_uuid` to read the row's UUID.
        columns: Vec<&'static str>,
    },
    /// Adds a comment to the database's log.
    Comment(String),
    /// Fails the transaction with "aborted".
    Abort,
}

/// The rows that an operation applies to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Where {
    /// The row with this UUID.
    Row(Uuid),
    /// Every row.
    All,
    /// The rows that match all conditions.
    Conditions(Vec<Condition>),
}

/// One condition on a column (RFC 7047 section 5.1, `<condition>`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Condition {
    /// The column.
    pub column: &'static str,
    /// The comparison.
    pub function: Function,
    /// The value to compare with.
    pub value: Datum,
}

/// The comparison of a condition (RFC 7047 section 5.1, `<function>`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Function {
    /// `==`
    Equal,
    /// The column contains all given elements.
    Includes,
}

/// One in-place change of a column (RFC 7047 section 5.1, `<mutation>`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mutation {
    /// The column.
    pub column: &'static str,
    /// The kind of change.
    pub mutator: Mutator,
    /// The operand. To delete from a map, give a set of keys, or a map of pairs that must match key and value.
    pub value: Datum,
}

/// The kind of a mutation (RFC 7047 section 5.1, `<mutator>`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mutator {
    /// `+=`
    Add,
    /// Adds elements. Existing keys of a map keep their values.
    Insert,
    /// Removes elements, keys or pairs.
    Delete,
}

/// The condition of an [`Op::Wait`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Until {
    /// The rows are equal to the given rows.
    Equal,
    /// The rows differ from the given rows.
    NotEqual,
}

impl Op {
    /// Returns the JSON of RFC 7047 section 5.2.
    pub fn to_json(&self) -> Value {
        match self {
            Op::Insert { table, uuid, row } => {
                let mut op = json!({"op": "insert", "table": table, "row": row_json(row)});
                if let Some(uuid) = uuid {
                    op["uuid"] = json!(uuid);
                }
                op
            }
            Op::Update { table, on, row } => {
                json!({"op": "update", "table": table, "where": on.to_json(), "row": row_json(row)})
            }
            Op::Mutate { table, on, mutations } => json!({
                "op": "mutate",
                "table": table,
                "where": on.to_json(),
                "mutations": mutations.iter().map(|m| json!([m.column, m.mutator.name(), m.value])).collect::<Vec<_>>(),
            }),
            Op::Delete { table, on } => json!({"op": "delete", "table": table, "where": on.to_json()}),
            Op::Wait { table, on, columns, until, rows, timeout_ms } => {
                let mut op = json!({
                    "op": "wait",
                    "table": table,
                    "where": on.to_json(),
                    "columns": columns,
                    "until": until.name(),
                    "rows": rows.iter().map(row_json).collect::<Vec<_>>(),
                });
                if let Some(timeout) = timeout_ms {
                    op["timeout"] = json!(timeout);
                }
                op
            }
            Op::Select { table, on, columns } => {
                json!({"op": "select", "table": table, "where": on.to_json(), "columns": columns})
            }
            Op::Comment(text) => json!({"op": "comment", "comment": text}),
            Op::Abort => json!({"op": "abort"}),
        }
    }
}

impl Where {
    fn to_json(&self) -> Value {
        match self {
            Where::Row(uuid) => json!([["_uuid", "==", ["uuid", uuid]]]),
            Where::All => json!([]),
            Where::Conditions(conditions) => conditions.iter().map(Condition::to_json).collect(),
        }
    }
}

impl Condition {
    pub(crate) fn to_json(&self) -> Value {
        json!([self.column, self.function.name(), self.value])
    }
}

impl Function {
    fn name(self) -> &'static str {
        match self {
            Function::Equal => "==",
            Function::Includes => "includes",
        }
    }
}

impl Mutator {
    fn name(self) -> &'static str {
        match self {
            Mutator::Add => "+=",
            Mutator::Insert => "insert",
            Mutator::Delete => "delete",
        }
    }
}

impl Until {
    fn name(self) -> &'static str {
        match self {
            Until::Equal => "==",
            Until::NotEqual => "!=",
        }
    }
}

fn row_json(row: &Row) -> Value {
    row.iter().map(|(column, value)| ((*column).to_owned(), json!(value))).collect::<Map<_, _>>().into()
}

#[cfg(test)]
mod tests;
