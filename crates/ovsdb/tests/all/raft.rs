//! Tests the client against a real cluster of three members whose leader is killed or cut off.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use ovsdb::testing::{OvsdbCluster, OvsdbServer};
use ovsdb::{Accept, Client, Config, Endpoint, Mutation, Mutator, Op, Row, Table, TransactError, Uuid, Where};

use crate::SCHEMA;

fn config(endpoints: Vec<Endpoint>) -> Config {
    let tables = vec![Table { name: "Shelf", columns: &["name", "count"], key: None }];
    Config { accept: Accept::Leader, ..Config::new(endpoints, "Shop", tables) }
}

async fn client(endpoints: Vec<Endpoint>) -> Client {
    let (client, changes) = Client::spawn(config(endpoints));
    drop(changes);
    client.synced().await;
    client
}

fn id(name: &str) -> Uuid {
    Uuid::new_v5(&Uuid::NAMESPACE_OID, name.as_bytes())
}

fn shelf(name: &str) -> Op {
    Op::Insert { table: "Shelf", uuid: Some(id(name)), row: Row::from([("name", name.into())]) }
}

fn holds(client: &Client, name: &str) -> bool {
    client.read(|replica| replica.get("Shelf", id(name)).is_some())
}

/// Inserts a row and increments the counter.
fn counted(name: &str) -> [Op; 2] {
    let one = Mutation { column: "count", mutator: Mutator::Add, value: 1.into() };
    [shelf(name), Op::Mutate { table: "Shelf", on: Where::Row(id("sum")), mutations: vec![one] }]
}

/// Waits until this endpoint fails for this reason.
async fn fails(client: &Client, endpoint: &Endpoint, why: &str) {
    let mut failure = client.failure();
    let said = failure.wait_for(|said| said.as_ref().is_some_and(|said| **said == format!("{endpoint}: {why}")));
    let said = tokio::time::timeout(Duration::from_secs(20), said).await;
    said.unwrap_or_else(|_| panic!("no failure with {why:?}: {:?}", client.failure().borrow())).unwrap();
}

/// Returns the numbers of the other members.
fn others(leader: usize) -> [usize; 2] {
    [(leader + 1) % 3, (leader + 2) % 3]
}

#[tokio::test]
async fn only_the_leader_is_talked_to() {
    let mut cluster = OvsdbCluster::start(SCHEMA, 3).unwrap();
    let leader = cluster.leader();
    let endpoints = cluster.endpoints();
    for follower in others(leader) {
        let (refused, _changes) = Client::spawn(config(vec![endpoints[follower].clone()]));
        fails(&refused, &endpoints[follower], "the server is not the leader of its cluster").await;
        assert_eq!(refused.transact(&[shelf("a")]).await, Err(TransactError::Disconnected));
    }
    let client = client(endpoints.clone()).await;
    client.transact(&[shelf("a")]).await.unwrap();

    // The leader still answers, but the followers no longer answer the leader.
    let mut failure = client.failure();
    failure.mark_unchanged();
    for follower in others(leader) {
        cluster.member(follower).pause().unwrap();
    }
    failure.changed().await.unwrap();
    let said = failure.borrow_and_update().clone().unwrap();
    assert!(said.starts_with(&endpoints[leader].to_string()) && said.contains("cluster"), "{said}");
    for follower in others(leader) {
        cluster.member(follower).resume().unwrap();
    }
    client.synced().await;
    client.transact(&[shelf("b")]).await.unwrap();
    assert!(holds(&client, "a") && holds(&client, "b"));
}

#[tokio::test]
async fn a_standalone_server_leads_itself() {
    let server = OvsdbServer::start(SCHEMA).unwrap();
    let client = client(vec![server.endpoint()]).await;
    client.transact(&[shelf("a")]).await.unwrap();
    let other = Config { database: "Bazaar", ..config(vec![server.endpoint()]) };
    let (other, _changes) = Client::spawn(other);
    fails(&other, &server.endpoint(), "the server has no database Bazaar").await;
}

/// The outcome of a transaction as far as the writer knows.
#[derive(Debug, PartialEq, Eq)]
enum Known {
    Written,
    NotWritten,
    /// The reply was lost. After a later write was committed, the row was present or absent.
    FoundOut {
        there: bool,
    },
}

/// Writes rows until `stop` is set and records the outcome of each write.
async fn write(writer: usize, client: Client, stop: Arc<AtomicBool>, done: Arc<AtomicUsize>) -> Vec<(String, Known)> {
    let mut outcomes = Vec::new();
    let mut marks = 0;
    while !stop.load(Ordering::Relaxed) {
        let name = format!("{writer}-{}", outcomes.len());
        let known = match client.transact(&counted(&name)).await {
            Ok(_) => {
                assert!(holds(&client, &name), "{name} was committed, and the replica lacks it");
                done.fetch_add(1, Ordering::Relaxed);
                Known::Written
            }
            Err(TransactError::Disconnected) => {
                client.synced().await;
                Known::NotWritten
            }
            Err(TransactError::Unknown) => {
                // A new leader can still commit what the old leader left, but not after a later write of this client.
                loop {
                    client.synced().await;
                    marks += 1;
                    match client.transact(&[shelf(&format!("mark-{writer}-{marks}"))]).await {
                        Ok(_) => break,
                        Err(TransactError::Disconnected | TransactError::Unknown) => {}
                        Err(other) => panic!("mark of {name}: {other}"),
                    }
                }
                Known::FoundOut { there: holds(&client, &name) }
            }
            Err(other) => panic!("{name}: {other}"),
        };
        outcomes.push((name, known));
    }
    outcomes
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_row_is_accounted_for_however_often_the_leader_is_killed() {
    let mut cluster = OvsdbCluster::start(SCHEMA, 3).unwrap();
    let client = client(cluster.endpoints()).await;
    client.transact(&[shelf("sum")]).await.unwrap();
    let (stop, done) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let writers = (0..32).map(|writer| tokio::spawn(write(writer, client.clone(), stop.clone(), done.clone())));
    let writers: Vec<_> = writers.collect();
    let more = async |count: usize| {
        let goal = done.load(Ordering::Relaxed) + count;
        while done.load(Ordering::Relaxed) < goal {
            tokio::task::yield_now().await;
        }
    };
    for _ in 0..3 {
        more(200).await;
        let leader = cluster.leader();
        cluster.member(leader).kill().unwrap();
        more(200).await;
        cluster.member(leader).restart().unwrap();
        cluster.wait(leader).unwrap();
    }
    stop.store(true, Ordering::Relaxed);

    let (mut unknown, mut written) = (0, 0);
    let mut outcomes = Vec::new();
    for writer in writers {
        outcomes.extend(writer.await.unwrap());
    }
    // Compare with the final contents of the database, read through another session.
    let witness = self::client(cluster.endpoints()).await;
    client.synced().await;
    client.transact(&[shelf("end")]).await.unwrap();
    witness.transact(&[Op::Comment("after the end".into())]).await.unwrap();
    let rows = |client: &Client| {
        client.read(|replica| replica.rows("Shelf").map(|(id, row)| (id, row.clone())).collect::<BTreeMap<_, _>>())
    };
    assert_eq!(rows(&client), rows(&witness));
    for (name, known) in &outcomes {
        let there = holds(&witness, name);
        written += i64::from(there);
        unknown += usize::from(matches!(known, Known::FoundOut { .. }));
        match known {
            Known::Written => assert!(there, "{name} was committed and is gone"),
            Known::NotWritten => assert!(!there, "{name} was surely not sent and is there"),
            Known::FoundOut { there: before } => assert_eq!(*before, there, "{name} was found out wrongly"),
        }
    }
    assert!(unknown > 0, "no reply was lost, so that nothing was tested");
    assert_eq!(rows(&witness)[&id("sum")]["count"].as_int(), Some(written), "something was written twice");
    let there = outcomes.iter().filter(|(_, known)| *known == Known::FoundOut { there: true }).count();
    println!(
        "{} transactions, {written} written; {unknown} of unknown outcome, {there} of them written",
        outcomes.len()
    );
}
