//! The mark of a database that was founded empty: a key in `external_ids` of `NB_Global` or `SB_Global`, until everything is written
//! to it. `ovn-central` founds it so, and keeps ovn-northd from translating a part. The controller removes the mark.

use ovsdb::{Datum, Mutation, Mutator, Op, Replica, Where};

/// The key.
pub const INCOMPLETE_KEY: &str = "kube-ovn-incomplete";

/// Returns whether the row of settings, in the table `global`, has the mark.
pub fn is_incomplete(replica: &Replica, global: &str) -> bool {
    let mut rows = replica.rows(global);
    rows.any(|(_, row)| row.get("external_ids").is_some_and(|ids| ids.get(INCOMPLETE_KEY).is_some()))
}

/// Removes the mark from the row of settings, in the table `global`.
pub fn complete(global: &'static str) -> Op {
    let mutation = Mutation { column: "external_ids", mutator: Mutator::Delete, value: Datum::from(INCOMPLETE_KEY) };
    Op::Mutate { table: global, on: Where::All, mutations: vec![mutation] }
}
