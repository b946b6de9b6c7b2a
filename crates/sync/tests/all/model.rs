//! A small model of a northbound database. It applies operations to a replica as ovsdb-server does (RFC 7047, 5.2),
//! garbage-collects rows without references, and panics where the server would refuse.

use std::collections::{BTreeMap, BTreeSet};

use ovn::{Link, TableId};
use ovsdb::{Atom, Datum, Mutation, Mutator, Op, Replica, Row, Uuid, Where};
use sync::{Changes, Facts, Touched};

/// Tables with a unique column.
const UNIQUE: [TableId; 5] =
    [TableId::LogicalSwitchPort, TableId::LogicalRouterPort, TableId::AddressSet, TableId::PortGroup, TableId::Bfd];

/// An empty database.
pub(crate) fn empty() -> Replica {
    Replica::new(ovn::northbound())
}

/// Compares everything, as after a start: nothing is known of what was wanted before.
pub(crate) fn diff_all(facts: &Facts, db: &Replica) -> Changes {
    sync::diff_all(facts, &Touched::default(), db)
}

/// Applies one transaction.
pub(crate) fn apply(db: &mut Replica, ops: &[Op]) {
    for op in ops {
        match op {
            Op::Insert { table, uuid: Some(id), row } => {
                assert!(db.get(table, *id).is_none(), "duplicate uuid {id} in {table}");
                db.insert(table, *id, row.clone());
            }
            Op::Update { table, on: Where::Row(id), row } => {
                assert!(!row.is_empty(), "an update of nothing");
                let mut there = db.get(table, *id).expect("a row to update").clone();
                there.extend(row.clone());
                db.insert(table, *id, there);
            }
            Op::Mutate { table, on: Where::Row(id), mutations } => {
                let mut there = db.get(table, *id).unwrap_or_else(|| panic!("no {table} {id} to mutate")).clone();
                for mutation in mutations {
                    mutate(&mut there, mutation);
                }
                db.insert(table, *id, there);
            }
            Op::Delete { table, on: Where::Row(id) } => {
                db.remove(table, *id).expect("a row to delete");
            }
            other => panic!("the model does not know {other:?}"),
        }
    }
    commit(db);
}

fn mutate(row: &mut Row, Mutation { column, mutator, value }: &Mutation) {
    assert!(!value.is_empty(), "a mutation of nothing");
    let there = row[column].clone();
    let owned = |(key, value): (&Atom, &Atom)| (key.clone(), value.clone());
    let after = match mutator {
        // Existing keys of a map keep their values.
        Mutator::Insert if value.is_map() => {
            assert!(there.is_map() || there.is_empty(), "{column}: {there} += {value}");
            Datum::map(value.pairs().chain(there.pairs()).map(owned))
        }
        Mutator::Insert if !there.is_map() => Datum::set(there.atoms().chain(value.atoms()).cloned()),
        Mutator::Delete if value.is_map() => panic!("{column}: {there} -= {value}"),
        Mutator::Delete if there.is_map() => {
            Datum::map(there.pairs().filter(|(key, _)| !value.contains(key)).map(owned))
        }
        Mutator::Delete => Datum::set(there.atoms().filter(|atom| !value.contains(atom)).cloned()),
        mutator => panic!("{column}: {there} {mutator:?} {value}"),
    };
    row.insert(column, after);
}

/// Ends a transaction: collects rows without references, and checks references and names.
pub(crate) fn commit(db: &mut Replica) {
    // The server checks references before it collects rows: a collected row still keeps a row that the transaction deletes.
    for (table, id) in references(db).keys() {
        assert!(db.get(table.name(), *id).is_some(), "a reference to {table} {id}, which does not exist");
    }
    // A collected row keeps no others.
    loop {
        let held = references(db);
        let collected = TableId::ALL.into_iter().filter(|table| !table.descriptor().root);
        let rows = |table: TableId| db.rows(table.name()).map(move |(id, _)| (table, id)).collect::<Vec<_>>();
        let lost: Vec<_> = collected.flat_map(rows).filter(|row| !held.contains_key(row)).collect();
        if lost.is_empty() {
            break;
        }
        for (table, id) in lost {
            db.remove(table.name(), id);
        }
    }
    weaken(db);
    for table in UNIQUE {
        let names: Vec<String> = db.rows(table.name()).filter_map(|(_, row)| (table.descriptor().key)(row)).collect();
        assert_eq!(names.iter().collect::<BTreeSet<_>>().len(), names.len(), "two {table} of one name: {names:?}");
    }
}

/// Returns every referenced row with the rows that refer to it so that it stays.
pub(crate) fn references(db: &Replica) -> BTreeMap<(TableId, Uuid), Vec<(TableId, Uuid)>> {
    let mut held: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for (table, column, link) in links().filter(|(.., link)| link.strong) {
        for (id, row) in db.rows(table.name()) {
            for child in row.get(column).into_iter().flat_map(Datum::uuids) {
                held.entry((link.to, child)).or_default().push((table, id));
            }
        }
    }
    held
}

fn links() -> impl Iterator<Item = (TableId, &'static str, Link)> {
    TableId::ALL.into_iter().flat_map(|table| {
        let columns = table.descriptor().columns.iter();
        columns.filter_map(move |column| Some((table, column.name, table.descriptor().link(column.name)?)))
    })
}

/// Removes weak references to rows that are gone.
fn weaken(db: &mut Replica) {
    for (table, column, link) in links().filter(|(.., link)| !link.strong) {
        let rows: Vec<(Uuid, Row)> = db.rows(table.name()).map(|(id, row)| (id, row.clone())).collect();
        for (id, mut row) in rows {
            let have: Vec<Uuid> = row.get(column).into_iter().flat_map(Datum::uuids).collect();
            assert!(link.many || have.len() < 2, "{table} {id} {column}");
            let stay: Vec<Uuid> = have.iter().copied().filter(|to| db.get(link.to.name(), *to).is_some()).collect();
            if stay.len() < have.len() {
                row.insert(column, Datum::set(stay));
                db.insert(table.name(), id, row);
            }
        }
    }
}
