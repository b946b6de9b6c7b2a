//! Tests the whole path: events in any order, split into arbitrary batches and transactions, next to arbitrary other
//! rows, produce exactly what a compile from scratch wants.

use plan::testing::{Event, event};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;
use sync::{BATCH, diff, text::describe};

use crate::laws::{Desired, check_foreign};
use crate::model::{apply, diff_all};
use crate::random::{Found, database, found, left_over};
use crate::scene::Scene;

/// Events that are written together.
#[derive(Clone, Debug)]
struct Step {
    events: Vec<Event>,
    /// The maximum number of operations in a transaction.
    limit: usize,
    /// The number of transactions after which the session ends, if it does. The next step continues from there.
    lost: Option<Index>,
}

fn step() -> impl Strategy<Value = Step> {
    let parts = (vec(event(), 1..8), 1..40usize, prop::option::weighted(0.3, any::<Index>()));
    parts.prop_map(|(events, limit, lost)| Step { events, limit, lost })
}

/// Returns rows that other clients wrote, under our names and under other names.
fn others() -> impl Strategy<Value = Vec<Found>> {
    (left_over(), vec(found(), 0..6)).prop_map(|(left, found)| [left, found].concat())
}

proptest! {
    #[test]
    fn events_end_in_the_facts_of_a_compile_from_scratch(rows in others(), steps in vec(step(), 1..8)) {
        let mut scene = Scene::beside(database(rows));
        // The controller also compares everything at startup and after a lost session.
        let mut compare_all = true;
        let end = Step { events: Vec::new(), limit: BATCH, lost: None };
        for step in steps.into_iter().chain([end]) {
            let touched = scene.happen(step.events);
            let changes = if compare_all { diff_all(&scene.facts, &scene.db) } else { diff(&scene.facts, &touched, &scene.db) };
            let before = scene.db.clone();
            let desired = Desired::of(&scene.compiled_anew(), &before);
            let transactions = changes.batches(step.limit);
            let written = step.lost.map_or(transactions.len(), |at| at.index(transactions.len() + 1));
            for transaction in &transactions[..written] {
                apply(&mut scene.db, transaction);
                check_foreign(&before, &scene.db, &scene.facts);
            }
            compare_all = written < transactions.len();
            if !compare_all {
                desired.check(&scene.db);
                let rest = diff_all(&scene.compiled_anew().into_iter().collect(), &scene.db);
                prop_assert!(rest.is_empty(), "left over: {:#?}", describe(&rest.ops(), &scene.db));
            }
        }
    }
}
