//! Formats operations for logs and tests, with names instead of UUIDs.

use std::collections::HashMap;
use std::fmt::Write;

use ovn::{Kind, TableId, text::Show};
use ovsdb::{Atom, Datum, Mutator, Op, Replica, Row, Uuid, Where};

/// Returns one line for each operation, for example `insert Logical_Switch_Port web-0.shop addresses=[..]`,
/// `mutate Logical_Switch shop-net ports += web-0.shop` or `delete Logical_Switch old-net`.
pub fn describe(ops: &[Op], replica: &Replica) -> Vec<String> {
    let mut names = HashMap::new();
    for op in ops {
        if let Op::Insert { table, uuid: Some(uuid), row } = op {
            names.insert(*uuid, name(table, row));
        }
    }
    let text = Names { names, replica };
    ops.iter().map(|op| text.op(op)).collect()
}

struct Names<'a> {
    names: HashMap<Uuid, Option<String>>,
    replica: &'a Replica,
}

fn name(table: &str, row: &Row) -> Option<String> {
    let table = TableId::ALL.into_iter().find(|id| id.name() == table)?;
    (table.descriptor().key)(row)
}

fn kind(table: &str, column: &str) -> Kind {
    TableId::ALL.into_iter().find(|id| id.name() == table).map_or(Kind::Scalar, |id| id.descriptor().kind(column))
}

impl Names<'_> {
    fn op(&self, op: &Op) -> String {
        match op {
            Op::Insert { table, uuid, row } => {
                format!(
                    "insert {table} {}{}",
                    uuid.map_or_else(String::new, |id| self.id(table, id)),
                    self.columns(table, row)
                )
            }
            Op::Update { table, on, row } => {
                format!("update {table} {}{}", self.on(table, on), self.columns(table, row))
            }
            Op::Mutate { table, on, mutations } => {
                let mut line = format!("mutate {table} {}", self.on(table, on));
                for mutation in mutations {
                    let sign = match mutation.mutator {
                        Mutator::Insert | Mutator::Add => "+=",
                        Mutator::Delete => "-=",
                    };
                    let value = self.operand(table, mutation.column, &mutation.value);
                    let _ = write!(line, " {} {sign} {value}", mutation.column);
                }
                line
            }
            Op::Delete { table, on } => format!("delete {table} {}", self.on(table, on)),
            other => other.to_json().to_string(),
        }
    }

    fn on(&self, table: &str, on: &Where) -> String {
        match on {
            Where::Row(id) => self.id(table, *id),
            Where::All => "*".to_owned(),
            Where::Conditions(conditions) => format!("{conditions:?}"),
        }
    }

    fn id(&self, table: &str, id: Uuid) -> String {
        let there = || self.replica.get(table, id).and_then(|row| name(table, row));
        self.names.get(&id).cloned().flatten().or_else(there).unwrap_or_else(|| id.to_string())
    }

    fn operand(&self, table: &str, column: &str, value: &Datum) -> String {
        let Kind::References(link) = kind(table, column) else { return Show(kind(table, column), value).to_string() };
        let names: Vec<String> =
            value.atoms().filter_map(Atom::as_uuid).map(|id| self.id(link.to.name(), id)).collect();
        names.join(", ")
    }

    fn columns(&self, table: &str, row: &Row) -> String {
        let mut line = String::new();
        for (column, value) in row.iter().filter(|(column, _)| *column != "name") {
            let _ = write!(line, " {column}={}", self.operand(table, column, value));
        }
        line
    }
}
