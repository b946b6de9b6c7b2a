//! A southbound database that was founded empty.
//!
//! northd and ovn-controller write everything anew, but not as it was: ports and datapaths get other keys in the headers of
//! tunnelled packets, tunnels are removed until the other end is registered again, and a port is reached only after its chassis
//! has claimed it. So packets between running pods would be lost. A controller still has the rows from before, and writes them
//! back before northd starts: northd finds a datapath by the UUID of its switch or router, which depends only on its name, and a
//! port by its name.

use std::iter;

use ovsdb::{Condition, Datum, Function, Op, Replica, Row, Until, Where};

use super::{CHASSIS, DATAPATH_BINDING, ENCAP, PORT_BINDING, SB_GLOBAL};
use crate::{INCOMPLETE_KEY, complete, is_incomplete};

/// The number of ports in one transaction.
const PORTS: usize = 2000;

/// Returns whether the rows from before may still be written to the database: it has the mark, and northd, which sets `options` with
/// the first of its writes, has not begun.
pub fn is_unfilled(replica: &Replica) -> bool {
    is_incomplete(replica, SB_GLOBAL) && !has_begun(replica)
}

/// Returns whether northd has begun although the mark is there: it has waited for too long.
pub fn is_late(replica: &Replica) -> bool {
    is_incomplete(replica, SB_GLOBAL) && has_begun(replica)
}

/// Returns whether northd has written to the database. It sets `options` of each one that it writes, also when it has nothing else
/// to write.
pub fn has_begun(replica: &Replica) -> bool {
    replica.rows(SB_GLOBAL).any(|(_, row)| row.get("options").is_some_and(|options| !options.is_empty()))
}

/// Returns the transactions that write the rows of `before` to the unfilled database `now`, and let northd begin. None of them
/// changes a database that is not unfilled. Without `before`, northd begins with an empty one.
pub fn fill(before: Option<&Replica>, now: &Replica) -> Vec<Vec<Op>> {
    let lacking = |table: &'static str| {
        let rows = before.into_iter().flat_map(move |before| before.rows(table));
        rows.filter(move |(id, _)| now.get(table, *id).is_none())
    };
    let insert = |table, id, row| Op::Insert { table, uuid: Some(id), row };
    let few = [ENCAP, CHASSIS, DATAPATH_BINDING];
    let few = few.into_iter().flat_map(|table| lacking(table).map(move |(id, row)| insert(table, id, row.clone())));
    let mut ports = lacking(PORT_BINDING).map(|(id, row)| insert(PORT_BINDING, id, port(row)));
    let ports = iter::from_fn(|| Some(ports.by_ref().take(PORTS).collect::<Vec<_>>()).filter(|some| !some.is_empty()));
    let few = Some(few.collect::<Vec<_>>()).filter(|some| !some.is_empty());
    let transactions = few.into_iter().chain(ports).chain([vec![complete(SB_GLOBAL)]]);
    transactions.map(|ops| iter::once(unfilled()).chain(ops).collect()).collect()
}

/// Fails unless the database is still unfilled.
fn unfilled() -> Op {
    let nothing = Datum::empty_map();
    let mark = Datum::map([(INCOMPLETE_KEY, "true")]);
    let mark = Condition { column: "external_ids", function: Function::Includes, value: mark };
    Op::Wait {
        table: SB_GLOBAL,
        on: Where::Conditions(vec![mark]),
        columns: vec!["options"],
        until: Until::Equal,
        rows: vec![Row::from([("options", nothing)])],
        timeout_ms: Some(0),
    }
}

/// A port as it was. One that a chassis had claimed is forwarded there still.
fn port(row: &Row) -> Row {
    let mut row = row.clone();
    if row.get("chassis").is_some_and(|chassis| !chassis.is_empty()) {
        row.insert("up", true.into());
    }
    row
}

#[cfg(test)]
mod tests {
    use ovsdb::Uuid;

    use super::*;
    use crate::southbound::tables;

    fn marked() -> Replica {
        let mut replica = Replica::new(tables());
        let mark = Datum::map([(INCOMPLETE_KEY, "true")]);
        replica.insert(SB_GLOBAL, Uuid::from_u128(1), Row::from([("external_ids", mark)]));
        replica
    }

    #[test]
    fn only_a_marked_database_is_unfilled() {
        assert!(is_unfilled(&marked()));
        let mut replica = Replica::new(tables());
        assert!(!is_unfilled(&replica));
        replica.insert(SB_GLOBAL, Uuid::from_u128(1), Row::from([("external_ids", Datum::empty_map())]));
        assert!(!is_unfilled(&replica));
        // northd has waited for too long.
        let mark = Datum::map([(INCOMPLETE_KEY, "true")]);
        let options = Datum::map([("mac_prefix", "0a:58:0a")]);
        let late = Row::from([("external_ids", mark), ("options", options)]);
        replica.insert(SB_GLOBAL, Uuid::from_u128(1), late);
        assert!(!is_unfilled(&replica) && is_late(&replica));
    }

    #[test]
    fn what_lacks_is_written_and_the_mark_goes_last() {
        let mut before = Replica::new(tables());
        let [chassis, datapath] = [2, 3].map(Uuid::from_u128);
        before.insert(CHASSIS, chassis, Row::from([("name", "a".into())]));
        before.insert(DATAPATH_BINDING, datapath, Row::from([("tunnel_key", 7.into())]));
        let ports = 1 + u128::try_from(PORTS).unwrap();
        for number in 0..ports {
            let on = if number == 0 { Datum::empty() } else { chassis.into() };
            let row = Row::from([("logical_port", format!("p{number}").into()), ("chassis", on)]);
            before.insert(PORT_BINDING, Uuid::from_u128(100 + number), row);
        }
        let mut now = marked();
        now.insert(CHASSIS, chassis, Row::from([("name", "a".into())]));

        let transactions = fill(Some(&before), &now);
        assert!(transactions.iter().all(|ops| matches!(ops[0], Op::Wait { .. })));
        let lengths: Vec<_> = transactions.iter().map(|ops| ops.len() - 1).collect();
        assert_eq!(lengths, [1, PORTS, 1, 1], "the datapath, the ports, and the mark");
        assert!(matches!(&transactions[0][1], Op::Insert { uuid, .. } if *uuid == Some(datapath)));
        assert!(matches!(&transactions[3][1], Op::Mutate { .. }));
        let up = |op: &Op| match op {
            Op::Insert { row, .. } => row.get("up").and_then(Datum::as_bool),
            _ => None,
        };
        let on_a_chassis = transactions[1..3].iter().flatten().filter(|op| up(op) == Some(true)).count();
        assert_eq!(on_a_chassis, PORTS, "all but one");
        assert_eq!(fill(None, &now).len(), 1, "without anything from before, only the mark goes");
    }
}
