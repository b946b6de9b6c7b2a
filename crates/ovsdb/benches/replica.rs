//! Measures the transaction rate, the time to load a large snapshot, and the memory that a row takes.
//!
//! Run `cargo bench -p ovsdb [-- <rows>]`. The benchmark starts a real `ovsdb-server`.

#![allow(clippy::unwrap_used, reason = "a measurement that cannot go on ends")]

use std::time::Instant;

use ovsdb::testing::OvsdbServer;
use ovsdb::{Client, Config, Datum, Op, Row, Table};

const SCHEMA: &str = include_str!("../tests/shop.ovsschema");

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() {
    let rows = std::env::args().find_map(|arg| arg.parse().ok()).unwrap_or(20_000);
    let server = OvsdbServer::start(SCHEMA).unwrap();
    let key = |row: &Row| row["name"].as_str().map(str::to_owned);
    let columns = &["name", "goods", "tags", "labels", "count", "open", "weight", "note"];
    let config =
        || Config::new(vec![server.endpoint()], "Shop", vec![Table { name: "Shelf", columns, key: Some(key) }]);

    // The writer keeps no replica, so only the second client's replica adds to the memory of this process.
    let (writer, _) = Client::spawn(Config { tables: vec![], ..config() });
    writer.synced().await;
    let start = Instant::now();
    for first in (0..rows).step_by(500) {
        writer.transact(&(first..first + 500).map(shelf).collect::<Vec<_>>()).await.unwrap();
    }
    report("rows written, 500 in a transaction", rows, start);

    let before = resident_kib();
    let start = Instant::now();
    let (client, _changes) = Client::spawn(config());
    client.synced().await;
    assert_eq!(client.read(|replica| replica.len("Shelf")), rows);
    report("rows in a snapshot", rows, start);
    println!("{:>12} bytes in memory for a row", (resident_kib() - before) * 1024 / rows);

    let start = Instant::now();
    for i in 0..2000 {
        client.transact(&[shelf(rows + i)]).await.unwrap();
    }
    report("transactions, 1 in flight", 2000, start);

    let start = Instant::now();
    let writers = (0..32).map(|writer| {
        let client = client.clone();
        tokio::spawn(async move {
            for i in 0..100 {
                client.transact(&[shelf(rows + 2000 + writer * 100 + i)]).await.unwrap();
            }
        })
    });
    for writer in writers.collect::<Vec<_>>() {
        writer.await.unwrap();
    }
    report("transactions, 32 in flight", 3200, start);
}

/// About the size of a `Logical_Switch_Port` with the owner's external IDs.
fn shelf(i: usize) -> Op {
    let name = format!("pod-{i:06}.namespace-{}", i % 100);
    let labels = [("vendor", "kube-ovn"), ("pod", name.as_str()), ("ls", "ovn-default"), ("ip", "10.16.0.1")];
    let row = Row::from([
        ("name", name.as_str().into()),
        (
            "tags",
            format!("0a:00:00:{:02x}:{:02x}:{:02x} 10.16.{}.{}", i >> 16, i >> 8 & 255, i & 255, i >> 8 & 255, i & 255)
                .into(),
        ),
        ("labels", Datum::map(labels)),
        ("note", "up".into()),
    ]);
    Op::Insert { table: "Shelf", uuid: None, row }
}

fn report(what: &str, count: usize, start: Instant) {
    let elapsed = start.elapsed();
    #[allow(clippy::cast_precision_loss, reason = "a rate for people")]
    let rate = count as f64 / elapsed.as_secs_f64();
    println!("{rate:>12.0} {what} per second ({count} in {elapsed:.2?})");
}

fn resident_kib() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}
