//! Measures the northbound side: compiling and comparing 100,000 pods, and one pod event among them.
//!
//! Run `cargo bench -p sync`. The benchmark prints medians and the project's limits.

#![allow(clippy::unwrap_used, reason = "a measurement that cannot go on ends")]

use std::hint::black_box;
use std::time::{Duration, Instant};

use ovn::{Fact, Group, northbound};
use ovsdb::client::Change;
use ovsdb::{Datum, Mutator, Op, Replica, Where};
use plan::testing::subnet;
use plan::{Key, Node, Port, Settings, World};
use serde_json::json;
use sync::{Drift, Facts, SLICE, Sweep, Touched, diff, diff_all};

const SUBNETS: usize = 10;
const PODS: usize = 100_000;

/// Returns pod number `at` with its `turn`th address.
fn port(at: usize, turn: usize) -> Port {
    let subnet = at % SUBNETS;
    let host = at / SUBNETS + 20_000 * turn + 10;
    Port {
        name: format!("pod-{at:06}.shop").into(),
        uid: format!("cb2c1dd5-6e9e-4c7f-9b8b-{at:012x}").into(),
        pod: format!("shop/pod-{at:06}").into(),
        node: format!("node-{}", at % 50).into(),
        subnet: format!("net-{subnet}").into(),
        ips: format!("10.{subnet}.{}.{}", host / 256, host % 256).parse().unwrap(),
        mac: format!("0a:58:0a:{subnet:02x}:{:02x}:{:02x}", host / 256, host % 256).parse().unwrap(),
        mirrored: false,
        north_gateway: None,
        port_security: false,
        ingress: None,
        egress: None,
        gateway: None,
        cidrs: None,
    }
}

fn world() -> World {
    let mut world = World::new(Settings::default());
    world.set_subnet(subnet("join", "100.64.0.0/16", json!({})));
    for at in 0..SUBNETS {
        world.set_subnet(subnet(&format!("net-{at}"), &format!("10.{at}.0.0/16"), json!({})));
    }
    for at in 0..50 {
        world.set_node(Node {
            chassis: None,
            name: format!("node-{at}").into(),
            uid: format!("uid-of-node-{at}").into(),
            join: format!("100.64.0.{}", at + 2).parse().unwrap(),
            mac: format!("0a:58:64:40:00:{:02x}", at + 2).parse().unwrap(),
            internal: [format!("172.30.0.{at}").parse().unwrap()].into(),
            external: false,
        });
    }
    for at in 0..PODS {
        world.set_port(port(at, 0));
    }
    world
}

/// Applies the operations that fill an empty database.
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

/// Handles an event as the controller does: the facts of the dirty keys replace the facts in `before`.
fn update(world: &mut World, facts: &mut Facts, before: &[Fact]) {
    for key in world.take_dirty() {
        let group = key.group();
        facts.extend_by(&group, world.compile(&key));
        if matches!(key, Key::Port(_)) {
            assert!(before.iter().all(|fact| facts.remove_from(&group, fact)));
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
    let mut world = world();
    world.take_dirty();
    let mut db = Replica::new(northbound());
    let compile = || {
        let (compiling, compiled) =
            timed(|| world.keys().map(|key| (key.group(), world.compile(&key))).collect::<Vec<(Group, Vec<Fact>)>>());
        let (adding, facts) = timed(|| {
            let mut all = Facts::new();
            for (group, facts) in compiled {
                all.extend_by(&group, facts);
            }
            all
        });
        (compiling, adding, facts)
    };
    let runs = |db: &Replica| -> [Duration; 4] {
        let mut parts: [Vec<Duration>; 4] = Default::default();
        for _ in 0..5 {
            let (compiling, adding, facts) = compile();
            let (comparing, _) = timed(|| black_box(diff_all(&facts, &Touched::default(), db)));
            for (part, took) in parts.iter_mut().zip([compiling, adding, comparing, compiling + adding + comparing]) {
                part.push(took);
            }
        }
        parts.map(median)
    };

    let empty = runs(&db);
    let (_, _, mut facts) = compile();
    let ops = diff_all(&facts, &Touched::default(), &db).ops();
    fill(&mut db, &ops);
    assert!(diff_all(&facts, &Touched::default(), &db).is_empty());
    let full = runs(&db);

    facts.take_touched();
    let mut sweep = Sweep::new();
    let mut slices = Vec::new();
    while !sweep.is_done() {
        let slice = || black_box(diff(&facts, &sweep.slice(&facts, &db, SLICE), &db));
        let (took, changes) = timed(slice);
        assert!(changes.is_empty());
        slices.push(took);
    }
    let (count, sum, longest) = (slices.len(), slices.iter().sum::<Duration>(), slices.iter().max().copied());

    let mut drift = Drift::learn(&db);
    let mut ports = db.rows("Logical_Switch_Port").map(|(id, _)| ("Logical_Switch_Port", id)).collect::<Vec<_>>();
    ports.truncate(2001);
    let echo = |row| {
        let change = Change { rows: [row].into(), ..Change::default() };
        let (took, changes) = timed(|| black_box(diff(&facts, &drift.follow(&db, &change), &db)));
        assert!(changes.is_empty());
        took
    };
    let echo = median(ports.into_iter().map(echo).collect());

    let mut event = |at: usize, turn: usize, operations: usize| {
        let port = port(at, turn);
        let before = world.compile(&Key::Port(port.name.clone()));
        timed(|| {
            world.set_port(port);
            update(&mut world, &mut facts, &before);
            let touched = facts.take_touched();
            assert_eq!(black_box(diff(&facts, &touched, &db)).ops().len(), operations);
        })
        .0
    };
    let changed = median((0..2001).map(|at| event(at, 1, 1)).collect());
    let new = median((PODS..PODS + 2001).map(|at| event(at, 0, 2)).collect());

    let ms = |time: Duration| time.as_secs_f64() * 1e3;
    println!("{PODS} pods in {SUBNETS} subnets");
    for (what, [compiling, adding, comparing, all]) in [("empty", empty), ("has it all", full)] {
        println!("  compile and diff, the database {what:<10} {:>8.1} ms  (bar: 1000 ms)", ms(all));
        println!(
            "    compiled {:.1} ms, facts added {:.1} ms, compared {:.1} ms",
            ms(compiling),
            ms(adding),
            ms(comparing)
        );
    }
    let us = |time: Duration| time.as_secs_f64() * 1e6;
    println!("  one pod's address: compile and diff       {:>8.1} us  (bar: 20 us)", us(changed));
    println!("  one new pod: compile and diff             {:>8.1} us  (bar: 20 us)", us(new));
    println!("  one pod's row, reported by the database   {:>8.1} us", us(echo));
    println!(
        "  everything in {count} slices: the longest     {:>8.1} ms  (bar: 20 ms)",
        ms(longest.unwrap_or_default())
    );
    println!("    all slices together {:.1} ms", ms(sum));
}
