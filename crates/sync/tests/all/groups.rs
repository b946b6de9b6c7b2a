//! Tests the law of groups: for any facts of any groups, all changes for a group are in one transaction, and the
//! transactions are in an order that the database takes.

use std::collections::{BTreeMap, BTreeSet};

use ovn::{Element, Fact, Group, RowKey, TableId};
use ovsdb::{Atom, Mutator, Op, Replica, Uuid, Where};
use proptest::collection::vec;
use proptest::prelude::*;
use sync::{Changes, Facts, diff, text::describe};

use crate::laws::{Desired, check_foreign};
use crate::model::{apply, diff_all};
use crate::random::{Want, database, found, want};

/// Returns a want whose facts contradict no other's, with an owner who shares its rows with nobody. Switches, routers and
/// sets belong to no group.
pub(crate) fn calm(want: &Want) -> Owned {
    match *want {
        Want::Global { .. } => (0, Want::Global { option: 0 }),
        Want::Switch { name, .. } => (0, Want::Switch { name, config: 0 }),
        Want::Port { name, .. } => (name % 4 + 1, Want::Port { name, switch: name % 3, address: 0 }),
        Want::Half { name, which, .. } => (name % 4 + 1, Want::Half { name, switch: name % 3, which }),
        Want::Rule { switch, network, .. } => (network + 1, Want::Rule { switch, network, drop: true }),
        Want::Router { name, .. } => (0, Want::Router { name, option: 0 }),
        Want::Leg { name, .. } => (name + 1, Want::Leg { name, router: name, interval: 1 }),
        Want::Policy { router, rule, .. } => (rule + 1, Want::Policy { router, rule, hop: 0 }),
        Want::Route { router, hop } => (hop + 1, Want::Route { router, hop }),
        Want::Address { set, address } => (address + 1, Want::Address { set, address }),
        Want::Set { name } => (0, Want::Set { name }),
        Want::Ports { name } => (0, Want::Ports { name }),
        Want::InPorts { name, port } => (port % 4 + 1, Want::InPorts { name, port }),
        Want::Session { to } => (0, Want::Session { to }),
        Want::Watched { router, hop, .. } => (hop + 1, Want::Watched { router, hop, session: hop }),
    }
}

/// Something that a group wants.
pub(crate) type Owned = (u8, Want);

pub(crate) fn group(number: u8) -> Group {
    Group::new(format!("group/{number}"))
}

pub(crate) fn owned() -> impl Strategy<Value = Owned> {
    (0..5u8, want())
}

pub(crate) fn add(facts: &mut Facts, (by, want): &Owned) {
    want.facts().into_iter().for_each(|fact| if *by == 0 { facts.add(fact) } else { facts.add_to(&group(*by), fact) });
}

pub(crate) fn add_all(facts: &mut Facts, wants: &[Owned]) {
    for owned in wants {
        add(facts, owned);
    }
}

fn remove(facts: &mut Facts, (by, want): &Owned) {
    for fact in want.facts() {
        assert!(if *by == 0 { facts.remove(&fact) } else { facts.remove_from(&group(*by), &fact) });
    }
}

pub(crate) fn list(wants: &[Owned]) -> Vec<Fact> {
    wants.iter().flat_map(|(_, want)| want.facts()).collect()
}

/// What an operation writes: a row, or an element of a set.
type Place = (TableId, Uuid, Option<(&'static str, Atom)>);

/// Returns what each transaction writes.
fn places(transactions: &[Vec<Op>]) -> BTreeMap<Place, BTreeSet<usize>> {
    let mut places: BTreeMap<Place, BTreeSet<usize>> = BTreeMap::new();
    let id = |name: &str| TableId::ALL.into_iter().find(|id| id.name() == name).unwrap();
    for (at, transaction) in transactions.iter().enumerate() {
        for op in transaction {
            let mut put = |place| places.entry(place).or_default().extend([at]);
            match op {
                Op::Insert { table, uuid: Some(uuid), row } => {
                    put((id(table), *uuid, None));
                    for (column, datum) in row {
                        datum.atoms().for_each(|atom| put((id(table), *uuid, Some((*column, atom.clone())))));
                    }
                }
                Op::Update { table, on: Where::Row(uuid), .. } => put((id(table), *uuid, None)),
                Op::Mutate { table, on: Where::Row(uuid), mutations } => {
                    for mutation in mutations {
                        if mutation.value.is_map() || mutation.column == "external_ids" {
                            put((id(table), *uuid, None));
                        }
                        if matches!(mutation.mutator, Mutator::Insert | Mutator::Delete) {
                            let atoms = mutation.value.atoms().cloned();
                            atoms.for_each(|atom| put((id(table), *uuid, Some((mutation.column, atom)))));
                        }
                    }
                }
                _ => {}
            }
        }
    }
    places
}

/// Returns the places of the facts that one group alone wants, and no other has an opinion about.
fn places_of(by: u8, wants: &[Owned], db: &Replica) -> Vec<Place> {
    let others: BTreeSet<Fact> = wants.iter().filter(|(b, _)| *b != by).flat_map(|(_, want)| want.facts()).collect();
    let rows: BTreeSet<&RowKey> =
        others.iter().filter(|fact| matches!(fact, Fact::Row { .. })).map(Fact::key).collect();
    let find = |key: &RowKey| match key.scope() {
        None => db.find(key.table.name(), &key.name).find(|id| ovn::ours(db.get(key.table.name(), *id).unwrap())),
        Some(_) => None,
    };
    let own = wants.iter().filter(|(b, _)| *b == by).flat_map(|(_, want)| want.facts());
    let place = |fact: Fact| match &fact {
        Fact::Row { key, .. } if !rows.contains(key) => Some((key.table, find(key)?, None)),
        Fact::Member { of, column, element } if !others.contains(&fact) => {
            let atom = match element {
                Element::Row(row) => find(row)?.into(),
                Element::Value(value) => value.clone(),
            };
            Some((of.table, find(of)?, Some((*column, atom))))
        }
        _ => None,
    };
    own.filter_map(place).collect()
}

/// Writes the changes in transactions of this size and checks that no group is cut.
fn write(changes: &Changes, limit: usize, db: &mut Replica, wants: &[Owned]) -> Result<(), TestCaseError> {
    let mut named: Vec<&Group> = changes.units().flatten().collect();
    let count = named.len();
    named.sort();
    named.dedup();
    prop_assert_eq!(named.len(), count, "a group has one unit");
    let transactions = changes.batches(limit);
    for transaction in &transactions {
        apply(db, transaction);
    }
    let written = places(&transactions);
    for by in 1..5 {
        let own = places_of(by, wants, db);
        let batches: BTreeSet<usize> = own.iter().filter_map(|place| written.get(place)).flatten().copied().collect();
        prop_assert!(batches.len() <= 1, "group {} is in {:?}: {:#?}", by, batches, transactions);
    }
    Ok(())
}

proptest! {
    #[test]
    fn a_group_is_in_one_transaction(
        wants in vec(owned(), 0..24), rows in vec(found(), 0..16), limit in 1..12usize,
    ) {
        let before = database(rows);
        let mut facts = Facts::new();
        add_all(&mut facts, &wants);
        let desired = Desired::of(&list(&wants), &before);
        let mut after = before.clone();
        write(&diff_all(&facts, &before), limit, &mut after, &wants)?;
        desired.check(&after);
        check_foreign(&before, &after, &facts);
    }

    #[test]
    fn a_change_of_a_group_is_in_one_transaction(
        rows in vec(found(), 0..8),
        start in vec(owned(), 0..16),
        steps in vec((vec((any::<prop::sample::Index>(), owned(), any::<bool>()), 1..6), 1..6usize, any::<bool>()), 1..8),
    ) {
        let (mut wants, mut facts, mut db) = (start, Facts::new(), database(rows));
        add_all(&mut facts, &wants);
        write(&diff_all(&facts, &db), 5, &mut db, &wants)?;
        facts.take_touched();
        for (step, limit, everything) in steps {
            for (at, new, more) in step {
                if more || wants.is_empty() {
                    add(&mut facts, &new);
                    wants.push(new);
                } else {
                    remove(&mut facts, &wants.swap_remove(at.index(wants.len())));
                }
            }
            let touched = facts.take_touched();
            let changes = if everything { sync::diff_all(&facts, &touched, &db) } else { diff(&facts, &touched, &db) };
            let desired = Desired::of(&list(&wants), &db);
            write(&changes, limit, &mut db, &wants)?;
            desired.check(&db);
            let rest = diff_all(&facts, &db);
            prop_assert!(rest.is_empty(), "left over: {:#?}", describe(&rest.ops(), &db));
        }
    }
}
