//! Finds changes that other clients made to our rows: maps the changed row IDs of a database update back to keys of
//! facts.
//!
//! Every row that was modified, renamed or deleted is reported, whether or not it still exists. The time depends on the
//! number of changed rows. Our own writes are reported too; comparing them finds nothing to do. For a set of plain
//! values, only the row is reported. If the set has more or fewer elements than wanted, the comparison looks at each
//! element. If one element was replaced by another, only the next sweep finds it.

use std::collections::HashMap;

use ovn::{Column, Kind, RowKey, TableId};
use ovsdb::client::Change;
use ovsdb::{Datum, Replica, Uuid};

use crate::facts::Touched;

/// The key of every row as of the last look at it.
#[derive(Clone, Debug, Default)]
pub struct Drift {
    keys: HashMap<Uuid, RowKey>,
}

impl Drift {
    /// Records all existing rows.
    pub fn learn(replica: &Replica) -> Self {
        let mut drift = Self::default();
        let rows =
            || TableId::ALL.into_iter().flat_map(|table| replica.rows(table.name()).map(move |(id, _)| (table, id)));
        let parents = Parents::among(replica, rows());
        for (table, id) in rows() {
            drift.look(replica, &parents, table, id, &mut Touched::default());
        }
        drift
    }

    /// Returns the rows that may differ from the facts because of this change.
    pub fn follow(&mut self, replica: &Replica, change: &Change) -> Touched {
        let mut touched = Touched::default();
        let table = |name: &str| TableId::ALL.into_iter().find(|table| table.name() == name);
        let rows = || change.rows.iter().filter_map(|&(name, id)| Some((table(name)?, id)));
        let parents = Parents::among(replica, rows());
        for (table, id) in rows() {
            self.look(replica, &parents, table, id, &mut touched);
        }
        touched
    }

    fn look(&mut self, replica: &Replica, parents: &Parents, table: TableId, id: Uuid, touched: &mut Touched) {
        let now = self.key_of(replica, parents, table, id);
        let before = match &now {
            Some(key) => self.keys.insert(id, key.clone()),
            None => self.keys.remove(&id),
        };
        for key in [before, now].into_iter().flatten() {
            touched.row(key);
        }
    }

    /// Returns the natural key of a row. `None` if the row does not exist, or has no parent that completes the key.
    fn key_of(&self, replica: &Replica, parents: &Parents, table: TableId, id: Uuid) -> Option<RowKey> {
        let known = table.descriptor();
        let local = (known.key)(replica.get(table.name(), id)?)?;
        if known.scope.is_empty() {
            return Some(RowKey::new(table, local));
        }
        if let Some(parent) = parents.0.get(&id) {
            return Some(RowKey::within(table, parent, local));
        }
        // No parent has changed, so it is the one of the last look.
        let (parent, column) = self.keys.get(&id)?.scope()?;
        let mut rows = replica.find(parent.table.name(), &parent.name);
        let holds = |holder| {
            let set = replica.get(parent.table.name(), holder).and_then(|row| row.get(column));
            set.is_some_and(|set| set.contains(&id.into()))
        };
        rows.any(holds).then(|| RowKey::within(table, &parent, local))
    }
}

/// The parents of rows whose own columns are not a complete key.
struct Parents(HashMap<Uuid, RowKey>);

impl Parents {
    /// Returns the parents among these rows.
    fn among(replica: &Replica, rows: impl Iterator<Item = (TableId, Uuid)>) -> Self {
        let mut parents = HashMap::new();
        for (table, id) in rows {
            let columns = table.descriptor().columns.iter().filter(|column| is_parent(table, column));
            for column in columns {
                let Some(row) = replica.get(table.name(), id) else { continue };
                let Some(name) = (table.descriptor().key)(row) else { continue };
                let key = RowKey::new(table, name);
                parents.extend(row.get(column.name).into_iter().flat_map(Datum::uuids).map(|row| (row, key.clone())));
            }
        }
        Self(parents)
    }
}

/// Returns true if the rows that this column refers to have the row as their parent.
fn is_parent(table: TableId, column: &Column) -> bool {
    matches!(column.kind, Kind::References(link) if link.to.descriptor().scope.contains(&(table, column.name)))
}

#[cfg(test)]
mod tests {
    use ovn::{Action, LogicalRouter, RouterPolicy, northbound};
    use ovsdb::Row;

    use super::*;
    use crate::{Facts, diff};

    fn policy() -> RouterPolicy {
        let match_ = "ip4.dst == 10.0.0.0/8".to_owned();
        RouterPolicy { router: "r".into(), seed: "s".into(), priority: 1, match_, action: Action::Allow }
    }

    /// Returns a replica with a router and one policy, as the database would contain them.
    fn written(facts: &Facts) -> (Replica, Uuid, Uuid) {
        let mut replica = Replica::new(northbound());
        let columns = |key: &RowKey| -> Row { facts.variants(key).next().unwrap().clone() };
        let (router, policy) = (LogicalRouter::key("r"), policy().key());
        let (router_id, policy_id) = (Uuid::from_u128(1), Uuid::from_u128(2));
        let mut row = columns(&router);
        row.insert("policies", Datum::from(policy_id));
        replica.insert("Logical_Router", router_id, row);
        replica.insert("Logical_Router_Policy", policy_id, columns(&policy));
        (replica, router_id, policy_id)
    }

    #[test]
    fn a_row_that_others_removed_is_named_and_written_again() {
        let router = LogicalRouter { name: "r".into(), seed: "s".into(), ..LogicalRouter::default() };
        let mut facts: Facts = policy().facts().into_iter().chain([router.fact()]).collect();
        facts.take_touched();
        let (mut replica, router_id, policy_id) = written(&facts);
        let mut drift = Drift::learn(&replica);

        let mut row = replica.remove("Logical_Router", router_id).unwrap();
        row.insert("policies", Datum::empty());
        replica.insert("Logical_Router", router_id, row);
        replica.remove("Logical_Router_Policy", policy_id);
        let rows = [("Logical_Router", router_id), ("Logical_Router_Policy", policy_id)].into();
        let touched = drift.follow(&replica, &Change { rows, ..Change::default() });

        assert!(!touched.is_empty());
        let ops = diff(&facts, &touched, &replica);
        assert_eq!(ops.len(), 2, "the policy, and its place in the router: {ops:?}");
    }

    #[test]
    fn what_is_as_it_should_be_costs_a_look_and_no_write() {
        let router = LogicalRouter { name: "r".into(), seed: "s".into(), ..LogicalRouter::default() };
        let facts: Facts = policy().facts().into_iter().chain([router.fact()]).collect();
        let (replica, _, policy_id) = written(&facts);
        let rows = [("Logical_Router_Policy", policy_id)].into();
        let touched = Drift::learn(&replica).follow(&replica, &Change { rows, ..Change::default() });
        assert_eq!(touched.len(), 1, "named once, before and after alike");
        assert!(diff(&facts, &touched, &replica).is_empty());
    }
}
