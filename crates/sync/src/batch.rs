//! Splits a list of operations into transactions.
//!
//! A split never separates the insert of a row that lives by reference from the operation that refers to it, because
//! the database would garbage-collect the row. A split never precedes a mutation as long as the transaction stays below
//! its limit, so changes that belong together become visible together. Only a refused transaction is split further
//! ([`units`]).

use std::collections::{BTreeMap, BTreeSet};

use ovn::TableId;
use ovsdb::{Atom, Datum, Mutation, Mutator, Op, Uuid, Where};

/// From this number of operations on, a transaction ends at the next operation that is not a mutation.
const SOFT: usize = 400;

/// Returns the operations in order, in lists of at most `limit`. A list is longer if its operations must stay together.
pub fn batches(ops: Vec<Op>, limit: usize) -> Vec<Vec<Op>> {
    let mut all = Vec::new();
    let mut batch: Vec<Op> = Vec::new();
    let mut unheld: BTreeSet<Uuid> = BTreeSet::new();
    for op in ops {
        let good = !matches!(op, Op::Mutate { .. });
        if unheld.is_empty() && (batch.len() >= limit || good && batch.len() >= limit.min(SOFT)) {
            all.push(std::mem::take(&mut batch));
        }
        match &op {
            Op::Insert { table, uuid: Some(uuid), row } => {
                held(&mut unheld, row.values());
                if is_collected(table) {
                    unheld.insert(*uuid);
                }
            }
            Op::Update { row, .. } => held(&mut unheld, row.values()),
            Op::Mutate { mutations, .. } => {
                let inserted = mutations.iter().filter(|mutation| mutation.mutator == Mutator::Insert);
                held(&mut unheld, inserted.map(|mutation| &mutation.value));
            }
            _ => {}
        }
        batch.push(op);
    }
    if !batch.is_empty() {
        all.push(batch);
    }
    all
}

/// Returns the smallest parts of a transaction that are valid alone, in order. A part is a new row with the operations
/// that refer to it, or one other operation.
pub(crate) fn units(batch: Vec<Op>) -> Vec<Vec<Op>> {
    let mut units: Vec<Vec<Op>> = Vec::new();
    let mut new: BTreeMap<Atom, usize> = BTreeMap::new();
    for op in batch {
        match op {
            Op::Insert { table, uuid: Some(id), .. } if is_collected(table) => {
                new.insert(id.into(), units.len());
                units.push(vec![op]);
            }
            Op::Mutate { table, on: Where::Row(id), mutations } if is_insert(&mutations) => {
                for Mutation { column, mutator, value } in mutations {
                    let mutate = |atoms: BTreeSet<Atom>| Op::Mutate {
                        table,
                        on: Where::Row(id),
                        mutations: vec![Mutation { column, mutator, value: Datum::set(atoms) }],
                    };
                    let (held, rest): (BTreeSet<_>, _) =
                        value.atoms().cloned().partition(|atom| new.contains_key(atom));
                    for atom in held {
                        if let Some(unit) = new.get(&atom).and_then(|at| units.get_mut(*at)) {
                            unit.push(mutate([atom].into()));
                        }
                    }
                    if !rest.is_empty() {
                        units.push(vec![mutate(rest)]);
                    }
                }
            }
            other => units.push(vec![other]),
        }
    }
    units
}

/// Whether this adds elements to sets and does nothing else.
fn is_insert(mutations: &[Mutation]) -> bool {
    mutations.iter().all(|m| m.mutator == Mutator::Insert && !m.value.is_map())
}

fn held<'a>(unheld: &mut BTreeSet<Uuid>, by: impl Iterator<Item = &'a Datum>) {
    if !unheld.is_empty() {
        for id in by.flat_map(Datum::uuids) {
            unheld.remove(&id);
        }
    }
}

fn is_collected(table: &str) -> bool {
    TableId::ALL.iter().any(|id| id.name() == table && !id.descriptor().root)
}

#[cfg(test)]
mod tests {
    use ovn::{Fact, LogicalSwitch, LogicalSwitchPort, northbound};
    use ovsdb::Replica;

    use super::*;
    use crate::{Facts, diff_all};

    #[test]
    fn a_new_port_and_its_place_in_the_switch_stay_together() {
        let mut facts = Facts::new();
        for switch in 0..4 {
            let switch = format!("net-{switch}");
            facts.add(LogicalSwitch { name: switch.clone(), ..Default::default() }.fact());
            for port in 0..700 {
                let name = format!("pod-{port}.{switch}").into();
                facts.extend(LogicalSwitchPort { name, switch: switch.as_str().into(), ..Default::default() }.facts());
            }
        }
        let ops = diff_all(&facts, &Replica::new(northbound()));
        let total = ops.len();
        let all = batches(ops, 500);
        assert_eq!(all.iter().map(Vec::len).sum::<usize>(), total);
        for batch in &all {
            assert!(batch.len() <= 500, "{}", batch.len());
            let (mut made, mut held) = (BTreeSet::new(), BTreeSet::new());
            for op in batch {
                match op {
                    Op::Insert { table: "Logical_Switch_Port", uuid, .. } => drop(made.insert(uuid.unwrap())),
                    Op::Mutate { mutations, .. } => held.extend(mutations[0].value.uuids()),
                    _ => {}
                }
            }
            assert_eq!(made, held);
        }
        assert!((6..=9).contains(&all.len()), "{}", all.len());
    }

    #[test]
    fn units_are_ports_with_their_places() {
        let mut facts: Facts =
            [LogicalSwitch { name: "net".into(), ..Default::default() }.fact()].into_iter().collect();
        for name in ["a", "b"] {
            facts.extend(LogicalSwitchPort { name: name.into(), switch: "net".into(), ..Default::default() }.facts());
        }
        let replica = Replica::new(northbound());
        let units = units(diff_all(&facts, &replica));
        let shape: Vec<Vec<&str>> = units.iter().map(|unit| unit.iter().map(|op| kind(op)).collect()).collect();
        assert_eq!(shape, [vec!["insert"], vec!["insert", "mutate"], vec!["insert", "mutate"]]);
    }

    fn kind(op: &Op) -> &'static str {
        match op {
            Op::Insert { .. } => "insert",
            Op::Mutate { .. } => "mutate",
            _ => "other",
        }
    }

    #[test]
    fn nothing_makes_no_batch() {
        assert!(batches(Vec::new(), 500).is_empty());
        let facts: Facts = std::iter::empty::<Fact>().collect();
        assert!(diff_all(&facts, &Replica::new(northbound())).is_empty());
    }
}
