//! Tests the laws of the diff:
//!
//! 1. For any database and any facts: after one `diff_all`, the database matches the facts, other clients' data is
//!    unchanged, rows keep their UUIDs, and a second diff is empty.
//! 2. For any rows that carry our mark, any facts and slices of any size: one sweep makes the database match the facts.
//!    So it does if facts change between the slices, and others had damaged a database that matched.
//! 3. For any changes of facts, in any order and in steps of any size: `diff` of the touched items has the same result
//!    as `diff_all`.

use std::collections::BTreeSet;

use ovn::{Element, Fact, Kind, Link, RowKey, TableId, ours};
use ovsdb::{Atom, Datum, Replica, Row, Uuid};
use proptest::collection::vec;
use proptest::prelude::*;
use sync::{Facts, Sweep, diff, text::describe};

use crate::model::{self, apply, diff_all, references};
use crate::random::{Want, damage, database, found, left_behind, want};

/// The wanted contents, computed from the list of facts in the simplest way.
pub(crate) struct Desired {
    rows: Vec<(RowKey, Row)>,
    members: BTreeSet<(RowKey, &'static str, Element)>,
}

impl Desired {
    pub(crate) fn of(facts: &[Fact], db: &Replica) -> Self {
        let wanted: BTreeSet<&RowKey> = facts.iter().filter(|f| matches!(f, Fact::Row { .. })).map(Fact::key).collect();
        let foreign = |key: &RowKey| {
            !wanted.contains(key) && named(db, key).iter().any(|id| !ours(db.get(key.table.name(), *id).unwrap()))
        };
        let there = |key: &RowKey| {
            let held = |fact: &Fact| match fact {
                Fact::Member { of, column, element: Element::Row(row) } => {
                    let strong = of.table.descriptor().link(column).is_some_and(|link| link.strong);
                    strong && row == key && (wanted.contains(of) || foreign(of))
                }
                _ => false,
            };
            let exists = key.table.descriptor().root || facts.iter().any(held);
            wanted.contains(key) && exists || foreign(key)
        };
        let mut rows: Vec<(RowKey, Row)> = Vec::new();
        for key in wanted.iter().filter(|key| there(key)) {
            let variants = facts.iter().filter_map(|fact| match fact {
                Fact::Row { key: k, columns, .. } if k == *key => Some(columns),
                _ => None,
            });
            rows.push(((*key).clone(), variants.min().unwrap().clone()));
        }
        let members = facts.iter().filter_map(|fact| match fact {
            Fact::Member { of, column, element } if there(of) => match element {
                Element::Row(row) if !there(row) => None,
                _ => Some((of.clone(), *column, element.clone())),
            },
            _ => None,
        });
        // Of several rows that a column wants, one is written.
        let mut members: BTreeSet<(RowKey, &'static str, Element)> = members.collect();
        let all = members.clone();
        let single = |of: &RowKey, column| of.table.descriptor().link(column).is_some_and(|link| !link.many);
        members.retain(|(of, column, element)| {
            !single(of, column) || !all.iter().any(|(o, c, other)| (o, c) == (of, column) && other < element)
        });
        Self { rows, members }
    }

    /// Panics unless `db` contains exactly these rows of ours.
    pub(crate) fn check(&self, db: &Replica) {
        let mut right = BTreeSet::new();
        for (key, columns) in &self.rows {
            let ids = named(db, key);
            let mine: Vec<&Uuid> = match key.table {
                TableId::NbGlobal => ids.iter().collect(),
                _ => ids.iter().filter(|id| ours(db.get(key.table.name(), **id).unwrap())).collect(),
            };
            assert_eq!(mine.len(), 1, "rows that are {key}: {ids:?}");
            let row = db.get(key.table.name(), *mine[0]).unwrap();
            right.insert((key.table, *mine[0]));
            for (column, want) in columns {
                let have = row.get(column).cloned().unwrap_or_else(Datum::empty);
                let same = match key.table.descriptor().kind(column) {
                    Kind::Keys(ours) => {
                        let stale = ours.iter().any(|key| want.get(key).is_none() && have.get(key).is_some());
                        !stale && want.pairs().all(|(k, v)| have.pairs().any(|(hk, hv)| (hk, hv) == (k, v)))
                    }
                    _ => have == *want || have.is_empty() && want.is_empty(),
                };
                assert!(same, "{key} {column}: {have}, wanted {want}");
            }
            for (column, to) in key.table.descriptor().member_columns() {
                let have = row.get(column).cloned().unwrap_or_else(Datum::empty);
                self.check_set(db, key, column, to, &have);
            }
        }
        for table in TableId::ALL {
            for (id, row) in db.rows(table.name()).filter(|(_, row)| ours(row)) {
                assert!(right.contains(&(table, id)), "{table} {id} carries our mark and is not wanted: {row:?}");
            }
        }
    }

    fn check_set(&self, db: &Replica, of: &RowKey, column: &'static str, to: Option<Link>, have: &Datum) {
        let wanted = self.members.iter().filter(|(o, c, _)| o == of && *c == column).map(|(_, _, element)| element);
        let wanted: BTreeSet<Atom> = wanted
            .filter_map(|element| match element {
                Element::Value(value) => Some(value.clone()),
                Element::Row(row) => {
                    let wanted = self.rows.iter().any(|(key, _)| key == row);
                    let right = |id: &Uuid| ours(db.get(row.table.name(), *id).unwrap()) == wanted;
                    let found = named(db, row).into_iter().find(right);
                    // A weak reference does not keep another client's row.
                    let may_lack = !wanted && to.is_some_and(|link| !link.strong);
                    assert!(found.is_some() || may_lack, "{of} lacks {row}");
                    found.map(Atom::from)
                }
            })
            .collect();
        let mine = |atom: &&Atom| match to {
            None => true,
            Some(link) => wanted.contains(*atom) || ours(db.get(link.to.name(), atom.as_uuid().unwrap()).unwrap()),
        };
        let have: BTreeSet<Atom> = have.atoms().filter(mine).cloned().collect();
        assert_eq!(have, wanted, "{of} {column}");
    }
}

/// Returns the rows with this natural key. For a scoped key, the parent is any row with the parent's name.
fn named(db: &Replica, key: &RowKey) -> Vec<Uuid> {
    let there = db.find(key.table.name(), key.local());
    let Some((parent, column)) = key.scope() else { return there.collect() };
    let parents: Vec<&Row> =
        db.find(parent.table.name(), &parent.name).filter_map(|id| db.get(parent.table.name(), id)).collect();
    let holds = |row: &&Row, id: Uuid| row.get(column).is_some_and(|set| set.contains(&id.into()));
    there.filter(|id| parents.iter().any(|row| holds(row, *id))).collect()
}

/// Checks that other clients' data is unchanged: unwanted rows, and their references from rows that still exist.
pub(crate) fn check_foreign(before: &Replica, after: &Replica, facts: &Facts) {
    let held = references(before);
    let scoped = |table: TableId| !table.descriptor().scope.is_empty();
    let foreign = |table: TableId, id: Uuid| {
        let row = before.get(table.name(), id).unwrap();
        let key = (table.descriptor().key)(row).unwrap();
        let scoped = !table.descriptor().scope.is_empty();
        !ours(row) && (scoped || !facts.wants(&RowKey::new(table, key)))
    };
    for table in TableId::ALL {
        for (id, row) in before.rows(table.name()).filter(|(id, _)| foreign(table, *id)) {
            let holders = held.get(&(table, id)).into_iter().flatten();
            let kept = table.descriptor().root
                || holders.into_iter().any(|(table, holder)| after.get(table.name(), *holder).is_some());
            if !kept {
                continue;
            }
            let Some(now) = after.get(table.name(), id) else { panic!("{table} {id} was not ours: {row:?}") };
            for column in table.descriptor().columns {
                let (old, new) = (row.get(column.name), now.get(column.name));
                match column.kind {
                    // A fact may give the only reference of another client's row a new value.
                    Kind::References(link) if !link.many && new.is_some_and(|new| !new.is_empty()) => {}
                    Kind::References(link) => {
                        // A weak reference goes when its row goes.
                        let lives = |child: &Uuid| link.strong || after.get(link.to.name(), *child).is_some();
                        let mut stay: Vec<Uuid> = old.into_iter().flat_map(Datum::uuids).collect();
                        stay.retain(|child| foreign(link.to, *child) && lives(child));
                        for child in stay {
                            assert!(new.is_some_and(|new| new.contains(&child.into())), "{table} {id} lost {child}");
                        }
                    }
                    Kind::Values => {
                        let mut old = old.into_iter().flat_map(Datum::atoms);
                        assert!(old.all(|atom| new.is_some_and(|new| new.contains(atom))), "{table} {id} lost a value");
                    }
                    // A scoped row of another client may be adopted.
                    _ if scoped(table) && ours(now) => {}
                    _ => assert_eq!(old, new, "{table} {id} {}", column.name),
                }
            }
        }
    }
}

fn check_ids(before: &Replica, after: &Replica, facts: &[Fact]) {
    for fact in facts.iter().filter(|f| matches!(f, Fact::Row { .. }) && f.key().scope().is_none()) {
        let (old, new) = (named(before, fact.key()), named(after, fact.key()));
        assert!(
            old.is_empty() || new.is_empty() || new.iter().any(|id| old.contains(id)),
            "{} got a new id",
            fact.key()
        );
    }
}

fn facts_of(wants: &[Want]) -> Vec<Fact> {
    wants.iter().flat_map(Want::facts).collect()
}

/// Sweeps, and changes the facts after each slice.
fn sweep(facts: &mut Facts, db: &mut Replica, limit: usize, mut step: impl FnMut(&mut Facts)) {
    let mut sweep = Sweep::new();
    while !sweep.is_done() {
        let slice = sweep.slice(facts, db, limit);
        assert!(slice.len() <= 2 * limit, "{} of {limit}", slice.len());
        facts.touch(slice);
        write(facts, db);
        step(facts);
    }
    write(facts, db);
}

/// Writes what is touched.
fn write(facts: &mut Facts, db: &mut Replica) {
    let touched = facts.take_touched();
    let ops = diff(facts, &touched, db).ops();
    let before = db.clone();
    apply(db, &ops);
    check_foreign(&before, db, facts);
}

proptest! {
    #[test]
    fn one_diff_of_everything_makes_everything_right(wants in vec(want(), 0..24), rows in vec(found(), 0..24)) {
        let before = database(rows);
        let list = facts_of(&wants);
        let facts: Facts = list.iter().cloned().collect();
        let desired = Desired::of(&list, &before);
        let mut after = before.clone();
        let ops = diff_all(&facts, &before).ops();
        apply(&mut after, &ops);
        desired.check(&after);
        check_foreign(&before, &after, &facts);
        check_ids(&before, &after, &list);
        let again = diff_all(&facts, &after);
        prop_assert!(again.is_empty(), "a second diff: {:#?}", describe(&again.ops(), &after));
    }

    #[test]
    fn a_sweep_makes_everything_right(
        wants in vec(want(), 0..24),
        rows in vec(left_behind(), 0..24),
        limit in 1..8usize,
    ) {
        let list = facts_of(&wants);
        let mut facts: Facts = list.iter().cloned().collect();
        facts.take_touched();
        let mut db = database(rows);
        let desired = Desired::of(&list, &db);
        sweep(&mut facts, &mut db, limit, |_| {});
        desired.check(&db);
        let rest = diff_all(&facts, &db);
        prop_assert!(rest.is_empty(), "left over: {:#?}", describe(&rest.ops(), &db));
        let mut again = Sweep::new();
        while !again.is_done() {
            prop_assert!(diff(&facts, &again.slice(&facts, &db, limit), &db).is_empty());
        }
    }

    #[test]
    fn facts_may_change_during_a_sweep(
        start in vec(want(), 0..24),
        damages in vec(damage(), 0..6),
        steps in vec((any::<prop::sample::Index>(), want(), 0..3u8), 0..24),
        limit in 1..8usize,
    ) {
        let mut wants = start;
        let mut facts: Facts = facts_of(&wants).into_iter().collect();
        facts.take_touched();
        let mut db = model::empty();
        let ops = diff_all(&facts, &db).ops();
        apply(&mut db, &ops);
        for damage in damages {
            damage.happens(&mut db);
        }
        let mut steps = steps.into_iter();
        sweep(&mut facts, &mut db, limit, |facts| match steps.next() {
            Some((_, want, 0)) => {
                facts.extend(want.facts());
                wants.push(want);
            }
            Some((at, _, 1)) if !wants.is_empty() => {
                for fact in wants.swap_remove(at.index(wants.len())).facts() {
                    assert!(facts.remove(&fact));
                }
            }
            _ => {}
        });
        Desired::of(&facts_of(&wants), &db).check(&db);
        let rest = diff_all(&facts, &db);
        prop_assert!(rest.is_empty(), "left over: {:#?}", describe(&rest.ops(), &db));
    }

    #[test]
    fn steps_get_where_a_diff_of_everything_gets(
        rows in vec(found(), 0..16),
        start in vec(want(), 0..16),
        steps in vec(vec((any::<prop::sample::Index>(), want(), any::<bool>()), 1..4), 1..12),
    ) {
        let mut wants = start;
        let mut facts: Facts = facts_of(&wants).into_iter().collect();
        let mut db = database(rows);
        let ops = diff_all(&facts, &db).ops();
        apply(&mut db, &ops);
        facts.take_touched();
        for step in steps {
            for (at, want, add) in step {
                if add || wants.is_empty() {
                    facts.extend(want.facts());
                    wants.push(want);
                } else {
                    let gone = wants.swap_remove(at.index(wants.len()));
                    for fact in gone.facts() {
                        prop_assert!(facts.remove(&fact));
                    }
                }
            }
            let desired = Desired::of(&facts_of(&wants), &db);
            let touched = facts.take_touched();
            let ops = diff(&facts, &touched, &db).ops();
            let before = db.clone();
            apply(&mut db, &ops);
            desired.check(&db);
            check_foreign(&before, &db, &facts);
            let rest = diff_all(&facts, &db);
            prop_assert!(rest.is_empty(), "left over by {:#?}: {:#?}", describe(&ops, &before), describe(&rest.ops(), &db));
        }
        let from_scratch: Facts = facts_of(&wants).into_iter().collect();
        prop_assert!(diff_all(&from_scratch, &db).is_empty());
    }
}

#[test]
fn a_row_renamed_by_others_is_taken_back() {
    let facts: Facts = Want::Switch { name: 0, config: 0 }.facts().into_iter().collect();
    let mut db = model::empty();
    let ops = diff_all(&facts, &db).ops();
    apply(&mut db, &ops);
    let (id, row) = db.rows("Logical_Switch").next().map(|(id, row)| (id, row.clone())).unwrap();
    db.insert("Logical_Switch", id, row.into_iter().chain([("name", "renamed".into())]).collect::<Row>());
    let ops = diff_all(&facts, &db).ops();
    apply(&mut db, &ops);
    assert_eq!(db.find("Logical_Switch", "s0").collect::<Vec<_>>(), [id]);
    assert_eq!(db.len("Logical_Switch"), 1);
}
