//! How long it takes to compare: everything at 100,000 pods, and one pod's event among them.
//!
//! `cargo bench -p sync`; medians, printed with the bars of the project.

use std::hint::black_box;
use std::time::{Duration, Instant};

use ovn::{Fact, LogicalSwitch, LogicalSwitchPort, northbound};
use ovsdb::{Datum, Mutator, Op, Replica, Where};
use sync::{Facts, diff, diff_all};

const SWITCHES: usize = 10;
const PODS: usize = 100_000;

fn switch(at: usize) -> Fact {
    LogicalSwitch { name: format!("net-{at}"), seed: format!("uid-{at}").into(), ..Default::default() }.fact()
}

fn pod(at: usize, address: &str) -> [Fact; 2] {
    LogicalSwitchPort {
        name: format!("pod-{at}.shop"),
        switch: format!("net-{}", at % SWITCHES),
        seed: format!("uid-of-pod-{at}").into(),
        addresses: vec![format!("00:00:00:20:00:51 {address}")],
        external_ids: [("pod".to_owned(), format!("shop/pod-{at}"))].into(),
        ..Default::default()
    }
    .facts()
}

/// Applies what a fill of an empty database consists of.
fn fill(db: &mut Replica, ops: &[Op]) {
    for op in ops {
        match op {
            Op::Insert { table, uuid: Some(id), row } => drop(db.insert(table, *id, row.clone())),
            Op::Mutate { table, on: Where::Row(id), mutations } => {
                let Some(mut row) = db.remove(table, *id) else { continue };
                for mutation in mutations.iter().filter(|m| m.mutator == Mutator::Insert) {
                    let atoms = row.get(mutation.column).into_iter().flat_map(Datum::atoms);
                    let set = Datum::set(atoms.chain(mutation.value.atoms()).cloned().collect::<Vec<_>>());
                    row.insert(mutation.column, set);
                }
                db.insert(table, *id, row);
            }
            _ => {}
        }
    }
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times[times.len() / 2]
}

fn timed<R>(f: impl FnOnce() -> R) -> (Duration, R) {
    let start = Instant::now();
    let result = f();
    (start.elapsed(), result)
}

fn main() {
    let mut facts = Facts::new();
    let (adding, ()) = timed(|| {
        facts.extend((0..SWITCHES).map(switch));
        facts.extend((0..PODS).flat_map(|at| pod(at, "10.0.0.1")));
    });
    let mut db = Replica::new(northbound());
    let (filling, ops) = timed(|| diff_all(&facts, &db));
    fill(&mut db, &ops);
    facts.take_touched();

    let nothing = median((0..5).map(|_| timed(|| assert!(diff_all(&facts, &db).is_empty())).0).collect());
    let event = |facts: &mut Facts, at: usize, gone: &str, come: &str| {
        timed(|| {
            for fact in pod(at, gone) {
                assert!(facts.remove(&fact));
            }
            facts.extend(pod(at, come));
            let touched = facts.take_touched();
            assert_eq!(black_box(diff(facts, &touched, &db)).len(), 1);
        })
        .0
    };
    let changed = median((0..2001).map(|at| event(&mut facts, at, "10.0.0.1", "10.0.0.2")).collect());
    let new = median(
        (PODS..PODS + 2001)
            .map(|at| {
                timed(|| {
                    facts.extend(pod(at, "10.0.0.3"));
                    let touched = facts.take_touched();
                    assert_eq!(black_box(diff(&facts, &touched, &db)).len(), 2);
                })
                .0
            })
            .collect(),
    );
    println!("{PODS} pods in {SWITCHES} switches");
    println!("  their facts made and added             {:>8.1} ms", adding.as_secs_f64() * 1e3);
    println!(
        "  diff of everything, database empty     {:>8.1} ms  ({} operations)",
        filling.as_secs_f64() * 1e3,
        ops.len()
    );
    println!("  diff of everything, nothing to do      {:>8.1} ms  (bar: 1000 ms)", nothing.as_secs_f64() * 1e3);
    println!("  one pod's address: facts and diff      {:>8.1} us  (bar: 20 us)", changed.as_secs_f64() * 1e6);
    println!("  one new pod: facts and diff            {:>8.1} us  (bar: 20 us)", new.as_secs_f64() * 1e6);
}
