//! The operations of a transaction (RFC 7047 section 5.2) and their JSON.

use serde_json::{Map, Value, json};
use uuid::Uuid;

use crate::{Datum, Row};

/// One operation of a transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Op {
    /// Adds a row; columns not named get their defaults.
    Insert {
        /// The table.
        table: &'static str,
        /// The id of the new row (OVS 2.13 and later), so that other operations, earlier ones too, can refer to it.
        /// A second insert of the same id is refused with "duplicate uuid". With `None` the server chooses.
        uuid: Option<Uuid>,
        /// The named columns.
        row: Row,
    },
    /// Sets columns of the rows that match.
    Update {
        /// The table.
        table: &'static str,
        /// The rows.
        on: Where,
        /// The named columns.
        row: Row,
    },
    /// Changes sets, maps and numbers in place.
    Mutate {
        /// The table.
        table: &'static str,
        /// The rows.
        on: Where,
        /// What to change, in order.
        mutations: Vec<Mutation>,
    },
    /// Deletes the rows that match.
    Delete {
        /// The table.
        table: &'static str,
        /// The rows.
        on: Where,
    },
    /// Lets the transaction go on only when the matching rows are (or are not) as given.
    Wait {
        /// The table.
        table: &'static str,
        /// The rows.
        on: Where,
        /// The columns to compare.
        columns: Vec<&'static str>,
        /// What to wait for.
        until: Until,
        /// The rows to compare with; each names exactly `columns`.
        rows: Vec<Row>,
        /// How long to wait. 0 fails at once with "timed out"; `None` waits without an end.
        timeout_ms: Option<u64>,
    },
    /// Reads the rows that match.
    Select {
        /// The table.
        table: &'static str,
        /// The rows.
        on: Where,
        /// The columns to read, `_uuid` among them if it is wanted.
        columns: Vec<&'static str>,
    },
    /// A remark for the database's log.
    Comment(String),
    /// Fails the transaction with "aborted".
    Abort,
    /// Fails unless this session holds the lock.
    Assert {
        /// The lock's name.
        lock: String,
    },
    /// Asks the server to write to disk before it replies.
    Commit {
        /// Whether to sync the disk.
        durable: bool,
    },
}

/// Which rows an operation is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Where {
    /// The row with this id.
    Row(Uuid),
    /// Every row.
    All,
    /// The rows for which all conditions hold.
    Conditions(Vec<Condition>),
}

/// One condition on a column (RFC 7047 section 5.1, `<condition>`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Condition {
    /// The column.
    pub column: &'static str,
    /// How to compare.
    pub function: Function,
    /// What to compare with.
    pub value: Datum,
}

/// How a condition compares (RFC 7047 section 5.1, `<function>`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Function {
    /// `==`
    Equal,
    /// `!=`
    NotEqual,
    /// `<`, numbers only.
    Less,
    /// `<=`, numbers only.
    LessOrEqual,
    /// `>`, numbers only.
    Greater,
    /// `>=`, numbers only.
    GreaterOrEqual,
    /// The column holds every element given.
    Includes,
    /// The column holds no element given.
    Excludes,
}

/// One change of a column in place (RFC 7047 section 5.1, `<mutation>`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mutation {
    /// The column.
    pub column: &'static str,
    /// How to change it.
    pub mutator: Mutator,
    /// The operand. To delete from a map give the set of keys, or the map of pairs that must match wholly.
    pub value: Datum,
}

/// How a mutation changes a column (RFC 7047 section 5.1, `<mutator>`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mutator {
    /// `+=`
    Add,
    /// `-=`
    Sub,
    /// `*=`
    Mul,
    /// `/=`
    Div,
    /// `%=`, integers only.
    Rem,
    /// Adds elements; keys that a map already has keep their values.
    Insert,
    /// Removes elements, keys or pairs.
    Delete,
}

/// What a [`Op::Wait`] waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Until {
    /// The rows are exactly those given.
    Equal,
    /// The rows differ from those given.
    NotEqual,
}

impl Op {
    /// The JSON of RFC 7047 section 5.2.
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
            Op::Assert { lock } => json!({"op": "assert", "lock": lock}),
            Op::Commit { durable } => json!({"op": "commit", "durable": durable}),
        }
    }
}

impl Where {
    fn to_json(&self) -> Value {
        match self {
            Where::Row(uuid) => json!([["_uuid", "==", ["uuid", uuid]]]),
            Where::All => json!([]),
            Where::Conditions(conditions) => {
                conditions.iter().map(|c| json!([c.column, c.function.name(), c.value])).collect()
            }
        }
    }
}

impl Function {
    fn name(self) -> &'static str {
        match self {
            Function::Equal => "==",
            Function::NotEqual => "!=",
            Function::Less => "<",
            Function::LessOrEqual => "<=",
            Function::Greater => ">",
            Function::GreaterOrEqual => ">=",
            Function::Includes => "includes",
            Function::Excludes => "excludes",
        }
    }
}

impl Mutator {
    fn name(self) -> &'static str {
        match self {
            Mutator::Add => "+=",
            Mutator::Sub => "-=",
            Mutator::Mul => "*=",
            Mutator::Div => "/=",
            Mutator::Rem => "%=",
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
