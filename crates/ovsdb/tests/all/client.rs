//! Tests the client against a real `ovsdb-server`.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use ovsdb::testing::OvsdbServer;
use ovsdb::{
    Changes, Client, Condition, Config, Datum, Endpoint, Function, Mutation, Mutator, Op, Replica, Row, Table,
    TransactError, Until, Uuid, Where,
};

use crate::SCHEMA;

fn tables() -> Vec<Table> {
    let by_name = |row: &Row| row["name"].as_str().map(str::to_owned);
    vec![
        Table {
            name: "Shelf",
            columns: &["name", "goods", "tags", "labels", "count", "open", "weight", "note"],
            key: Some(by_name),
        },
        Table { name: "Good", columns: &["name", "price"], key: Some(by_name) },
    ]
}

fn config(endpoint: Endpoint) -> Config {
    Config::new(vec![endpoint], "Shop", tables())
}

/// Starts a server and a client that is synchronized with it.
async fn shop() -> (OvsdbServer, Client, Changes) {
    let server = OvsdbServer::start(SCHEMA).unwrap();
    let (client, mut changes) = Client::spawn(config(server.endpoint()));
    client.synced().await;
    assert!(changes.next().await.reset);
    (server, client, changes)
}

fn shelf(name: &str) -> Op {
    Op::Insert { table: "Shelf", uuid: Some(id(name)), row: Row::from([("name", name.into())]) }
}

fn id(name: &str) -> Uuid {
    Uuid::new_v5(&Uuid::NAMESPACE_OID, name.as_bytes())
}

fn mutate(name: &str, column: &'static str, mutator: Mutator, value: Datum) -> Op {
    Op::Mutate { table: "Shelf", on: Where::Row(id(name)), mutations: vec![Mutation { column, mutator, value }] }
}

fn read(client: &Client, name: &str, column: &str) -> Datum {
    client.read(|replica| replica.get("Shelf", id(name)).unwrap()[column].clone())
}

#[tokio::test]
async fn a_transaction_is_in_the_replica_when_it_returns() {
    let (_server, client, mut changes) = shop().await;
    for i in 0..1000 {
        let name = format!("shelf-{i}");
        let replies = client.transact(&[shelf(&name)]).await.unwrap();
        assert_eq!(replies[0].uuid, Some(id(&name)));
        assert_eq!(read(&client, &name, "name").as_str(), Some(name.as_str()));
        assert_eq!(client.read(|replica| replica.find("Shelf", &name).collect::<Vec<_>>()), [id(&name)]);
    }
    let change = changes.next().await;
    assert_eq!((change.rows.len(), change.reset), (1000, false));
}

#[tokio::test]
async fn every_kind_of_column_follows_its_changes() {
    let (_server, client, _changes) = shop().await;
    let good = id("apple");
    client
        .transact(&[
            shelf("a"),
            Op::Insert {
                table: "Good",
                uuid: Some(good),
                row: Row::from([("name", "apple".into()), ("price", 3.into())]),
            },
            mutate("a", "goods", Mutator::Insert, good.into()),
        ])
        .await
        .unwrap();
    assert_eq!(read(&client, "a", "goods").as_uuid(), Some(good));
    assert_eq!(read(&client, "a", "open"), Datum::empty());
    assert_eq!(read(&client, "a", "labels"), Datum::empty_map());
    assert_eq!(read(&client, "a", "weight").as_int(), Some(0));

    for (column, values) in [
        ("tags", vec![Datum::set(["x", "y"]), Datum::from("y"), Datum::set(["y", "z"]), Datum::empty()]),
        ("labels", vec![Datum::map([("k", "v"), ("l", "w")]), Datum::map([("k", "u")]), Datum::empty_map()]),
        ("open", vec![true.into(), false.into(), Datum::empty(), false.into(), true.into()]),
        ("note", vec!["one \"quoted\" \\ {brace".into(), "two".into(), Datum::empty()]),
        ("count", vec![7.into(), 0.into(), i64::MIN.into()]),
        ("weight", vec![1.5.into(), 2.0.into(), 1e300.into()]),
    ] {
        for value in values {
            let row = Row::from([(column, value.clone())]);
            client.transact(&[Op::Update { table: "Shelf", on: Where::Row(id("a")), row }]).await.unwrap();
            assert_eq!(read(&client, "a", column), value, "{column}");
        }
    }

    // The server deletes the row with its last reference.
    client.transact(&[mutate("a", "goods", Mutator::Delete, good.into())]).await.unwrap();
    assert!(client.read(|replica| replica.get("Good", good).is_none() && replica.is_empty("Good")));
    client.transact(&[Op::Delete { table: "Shelf", on: Where::All }]).await.unwrap();
    assert!(client.read(|replica| replica.is_empty("Shelf") && replica.find("Shelf", "a").next().is_none()));
}

#[tokio::test]
async fn only_rows_that_meet_the_condition_are_replicated() {
    let (server, writer, _) = shop().await;
    writer.transact(&[shelf("left"), shelf("right")]).await.unwrap();
    let only = vec![("Shelf", Condition { column: "name", function: Function::Equal, value: "left".into() })];
    let (client, mut changes) = Client::spawn(Config { only, ..config(server.endpoint()) });
    client.synced().await;
    let shelves = || client.read(|replica| replica.rows("Shelf").map(|(id, _)| id).collect::<Vec<_>>());
    assert_eq!(shelves(), [id("left")]);
    changes.next().await;

    let rename = |row: &str, name: &str| Op::Update {
        table: "Shelf",
        on: Where::Row(id(row)),
        row: Row::from([("name", name.into())]),
    };
    for (row, name, left) in [("left", "was left", vec![]), ("right", "left", vec![id("right")])] {
        writer.transact(&[rename(row, name)]).await.unwrap();
        let change = changes.next().await;
        assert_eq!((change.rows.into_iter().collect::<Vec<_>>(), shelves()), (vec![("Shelf", id(row))], left));
    }
    writer.transact(&[shelf("third")]).await.unwrap();
    writer.transact(&[rename("third", "left"), rename("right", "right")]).await.unwrap();
    while shelves() != [id("third")] {
        changes.next().await;
    }
}

#[tokio::test]
async fn select_and_comment_have_replies() {
    let (_server, client, _changes) = shop().await;
    let select = Op::Select { table: "Shelf", on: Where::All, columns: vec!["_uuid", "name"] };
    let replies = client.transact(&[Op::Comment("hello".into()), shelf("a"), select]).await.unwrap();
    assert_eq!(replies.len(), 3);
    assert_eq!(replies[2].rows[0]["name"].as_str(), Some("a"));
    assert_eq!(replies[2].rows[0]["_uuid"].as_uuid(), Some(id("a")));
    assert_eq!(client.transact(&[]).await, Ok(vec![]));
}

#[tokio::test]
async fn a_refusal_names_the_operation_and_changes_nothing() {
    let (_server, client, _changes) = shop().await;
    let bad_column = Op::Insert { table: "Shelf", uuid: None, row: Row::from([("colour", "red".into())]) };
    let refused = client.transact(&[shelf("a"), bad_column, shelf("b")]).await.unwrap_err();
    assert!(matches!(&refused, TransactError::Refused { index: Some(1), .. }), "{refused}");
    assert!(client.read(|replica| replica.is_empty("Shelf")));

    let good = |price: i64| Op::Insert {
        table: "Good",
        uuid: None,
        row: Row::from([("name", "apple".into()), ("price", price.into())]),
    };
    let refused = client.transact(&[good(-1)]).await.unwrap_err();
    assert!(
        matches!(&refused, TransactError::Refused { index: Some(0), error, .. } if error == "constraint violation"),
        "{refused}"
    );

    // A server would close the session, whoever else uses it.
    let refused = client.transact(&[shelf("a"), shelf("a\0b")]).await.unwrap_err();
    assert_eq!(
        refused.to_string(),
        "the database refused operation 1: constraint violation: a string contains a NUL character"
    );

    // The server checks references after all operations.
    let refused = client.transact(&[shelf("a"), mutate("a", "goods", Mutator::Insert, id("none").into())]).await;
    let refused = refused.unwrap_err();
    assert!(
        matches!(&refused, TransactError::Refused { index: None, error, .. } if error == "referential integrity violation"),
        "{refused}"
    );

    client.transact(&[shelf("a")]).await.unwrap();
    let refused = client.transact(&[shelf("a")]).await.unwrap_err();
    assert!(refused.to_string().contains("duplicate uuid"), "{refused}");
    assert!(matches!(client.transact(&[Op::Abort]).await, Err(TransactError::Refused { index: Some(0), .. })));
}

#[tokio::test]
async fn a_fence_that_does_not_hold_refuses_at_once() {
    let (_server, client, _changes) = shop().await;
    client.transact(&[shelf("fence"), mutate("fence", "count", Mutator::Add, 5.into())]).await.unwrap();
    let fence = |epoch: i64| Op::Wait {
        table: "Shelf",
        on: Where::Row(id("fence")),
        columns: vec!["count"],
        until: Until::Equal,
        rows: vec![Row::from([("count", epoch.into())])],
        timeout_ms: Some(0),
    };
    assert_eq!(client.transact(&[fence(5), shelf("a")]).await.unwrap().len(), 2);
    let refused = client.transact(&[fence(4), shelf("b")]).await.unwrap_err();
    assert!(
        matches!(&refused, TransactError::Refused { index: Some(0), error, .. } if error == "timed out"),
        "{refused}"
    );
    assert!(client.read(|replica| replica.get("Shelf", id("b")).is_none()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_writers_at_once_are_all_accounted_for() {
    let (_server, client, _changes) = shop().await;
    client.transact(&[shelf("sum")]).await.unwrap();
    let writers = (0..32).map(|writer| {
        let client = client.clone();
        tokio::spawn(async move {
            for i in 0..25 {
                let name = format!("{writer}-{i}");
                client.transact(&[shelf(&name), mutate("sum", "count", Mutator::Add, 1.into())]).await.unwrap();
                assert!(client.read(|replica| replica.get("Shelf", id(&name)).is_some()));
            }
        })
    });
    for writer in writers.collect::<Vec<_>>() {
        writer.await.unwrap();
    }
    assert_eq!(read(&client, "sum", "count").as_int(), Some(32 * 25));
    assert_eq!(client.read(|replica| replica.len("Shelf")), 32 * 25 + 1);
}

#[tokio::test]
async fn two_clients_see_each_other() {
    let (server, one, _) = shop().await;
    let (two, mut changes) = Client::spawn(config(server.tcp()));
    two.synced().await;
    changes.next().await;
    one.transact(&[shelf("a")]).await.unwrap();
    let change = changes.next().await;
    assert_eq!(change.rows.into_iter().collect::<Vec<_>>(), [("Shelf", id("a"))]);
    assert_eq!(read(&two, "a", "name").as_str(), Some("a"));
}

#[tokio::test]
async fn after_a_restart_the_replica_is_current_and_the_change_reported() {
    let (mut server, client, mut changes) = shop().await;
    client.transact(&[shelf("a"), shelf("b")]).await.unwrap();
    changes.next().await;
    let mut connected = client.connected();

    server.kill().unwrap();
    connected.wait_for(|connected| !connected).await.unwrap();
    assert_eq!(client.transact(&[shelf("c")]).await, Err(TransactError::Disconnected));
    assert_eq!(client.read(|replica| replica.len("Shelf")), 2);

    server.restart().unwrap();
    client.synced().await;
    let change = changes.next().await;
    assert!(change.reset);
    assert!(change.rows.is_empty(), "nothing differs: {change:?}");
    client.transact(&[shelf("c")]).await.unwrap();
    assert_eq!(client.read(|replica| replica.len("Shelf")), 3);
}

#[tokio::test]
async fn a_lost_reply_is_unknown_and_never_sent_again() {
    let (mut server, client, mut changes) = shop().await;
    let mut connected = client.connected();
    server.pause().unwrap();
    let lost = tokio::spawn({
        let client = client.clone();
        async move { client.transact(&[shelf("a")]).await }
    });
    // The session is still live, and the request is sent to a server that never reads it.
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    assert!(!lost.is_finished());
    server.kill().unwrap();
    assert_eq!(lost.await.unwrap(), Err(TransactError::Unknown));
    assert!(!*connected.borrow_and_update());

    server.restart().unwrap();
    client.synced().await;
    assert!(changes.next().await.reset);
    assert!(client.read(|replica| replica.is_empty("Shelf")));
}

#[tokio::test]
async fn a_silent_server_is_given_up() {
    let server = OvsdbServer::start(SCHEMA).unwrap();
    let inactivity = Duration::from_millis(500);
    let (client, _changes) = Client::spawn(Config { inactivity, ..config(server.endpoint()) });
    client.synced().await;
    let mut connected = client.connected();
    // The server answers echo requests, so the session outlives the limit many times.
    let idle = tokio::time::timeout(inactivity * 6, connected.wait_for(|connected| !connected)).await.is_err();
    assert!(idle, "an idle session has ended");

    server.pause().unwrap();
    connected.wait_for(|connected| !connected).await.unwrap();
    server.resume().unwrap();
    client.synced().await;
    client.transact(&[shelf("a")]).await.unwrap();
}

#[tokio::test]
async fn the_servers_echo_is_answered() {
    let server = OvsdbServer::start(SCHEMA).unwrap();
    let (client, _changes) = Client::spawn(config(server.tcp()));
    client.synced().await;
    let mut connected = client.connected();
    // The server probes TCP clients after 5 s and drops them after 5 s more.
    let idle = tokio::time::timeout(Duration::from_secs(12), connected.wait_for(|connected| !connected)).await.is_err();
    assert!(idle, "the server has closed the connection: {}", server.log().unwrap());
}

#[tokio::test]
async fn a_cluster_resumes_without_a_snapshot() {
    let server = OvsdbServer::start_clustered(SCHEMA).unwrap();
    let inactivity = Duration::from_millis(500);
    let (one, mut changes) = Client::spawn(Config { inactivity, ..config(server.endpoint()) });
    let (two, _) = Client::spawn(config(server.endpoint()));
    one.synced().await;
    two.synced().await;
    one.transact(&[shelf("a")]).await.unwrap();
    assert!(changes.next().await.reset);

    // The first client drops the silent server, the second does not.
    server.pause().unwrap();
    one.connected().wait_for(|connected| !connected).await.unwrap();
    let written = tokio::spawn(async move { two.transact(&[shelf("b")]).await });
    server.resume().unwrap();
    written.await.unwrap().unwrap();
    one.synced().await;
    let mut rows = changes.next().await;
    while !rows.rows.contains(&("Shelf", id("b"))) {
        let more = changes.next().await;
        rows.rows.extend(more.rows);
        rows.reset |= more.reset;
    }
    assert!(!rows.reset, "the cluster has sent a snapshot");
    assert_eq!(one.read(|replica| replica.len("Shelf")), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn outcomes_are_true_however_often_the_server_is_killed() {
    let (mut server, client, _changes) = shop().await;
    client.transact(&[shelf("sum")]).await.unwrap();
    let stop = Arc::new(AtomicBool::new(false));
    let writers = (0..8).map(|writer| {
        let (client, stop) = (client.clone(), stop.clone());
        tokio::spawn(async move {
            let mut outcomes = Vec::new();
            while !stop.load(Ordering::Relaxed) {
                let name = format!("{writer}-{}", outcomes.len());
                let outcome = client.transact(&[shelf(&name), mutate("sum", "count", Mutator::Add, 1.into())]).await;
                if outcome.is_err() {
                    client.synced().await;
                }
                outcomes.push((name, outcome));
            }
            outcomes
        })
    });
    let writers: Vec<_> = writers.collect();
    for _ in 0..5 {
        let written = client.read(|replica| replica.len("Shelf")) + 100;
        while client.read(|replica| replica.len("Shelf")) < written {
            tokio::task::yield_now().await;
        }
        server.restart().unwrap();
        client.synced().await;
    }
    stop.store(true, Ordering::Relaxed);

    let mut unknown = 0;
    for writer in writers {
        for (name, outcome) in writer.await.unwrap() {
            let there = client.read(|replica| replica.get("Shelf", id(&name)).is_some());
            match outcome {
                Ok(_) => assert!(there, "{name} was committed and is gone"),
                Err(TransactError::Disconnected) => assert!(!there, "{name} was surely not sent and is there"),
                Err(TransactError::Unknown) => unknown += 1,
                Err(other) => assert_eq!(other, TransactError::Unknown, "{name}"),
            }
        }
    }
    assert!(unknown > 0, "no reply was lost, so that nothing was tested");
    let rows = client.read(|replica| replica.len("Shelf"));
    assert_eq!(read(&client, "sum", "count").as_int(), i64::try_from(rows - 1).ok(), "something was written twice");
}

#[tokio::test]
async fn the_servers_can_be_named_later_and_replaced() {
    let (one, two) = (OvsdbServer::start(SCHEMA).unwrap(), OvsdbServer::start(SCHEMA).unwrap());
    let (client, _changes) = Client::spawn(Config::new(Vec::new(), "Shop", tables()));
    let mut failure = client.failure();
    failure.wait_for(|why| why.as_deref() == Some("no server is known")).await.unwrap();
    client.use_endpoints(vec![one.endpoint()]);
    client.synced().await;
    client.transact(&[shelf("a")]).await.unwrap();
    // The session goes on while its server is one of them.
    client.use_endpoints(vec![two.endpoint(), one.endpoint()]);
    client.transact(&[shelf("b")]).await.unwrap();
    let mut connected = client.connected();
    client.use_endpoints(vec![two.endpoint()]);
    connected.wait_for(|connected| !connected).await.unwrap();
    client.synced().await;
    assert_eq!(client.read(|replica| replica.len("Shelf")), 0);
}

/// The contents of a database are kept while one takes its place that was founded empty and is not filled yet.
#[tokio::test]
async fn what_an_unfilled_database_replaces_is_kept_until_it_is_filled() {
    let (first, second) = (OvsdbServer::start(SCHEMA).unwrap(), OvsdbServer::start(SCHEMA).unwrap());
    let is_unfilled = |replica: &Replica| replica.find("Shelf", "unfilled").next().is_some();
    let mut config = config(first.endpoint());
    config.unfilled = Some(is_unfilled);
    config.backoff.1 = config.backoff.0;
    let (client, mut changes) = Client::spawn(config);
    client.synced().await;
    client.transact(&[shelf("a")]).await.unwrap();
    assert!(client.before().is_none());

    let other = Client::spawn(Config::new(vec![second.endpoint()], "Shop", tables())).0;
    other.synced().await;
    other.transact(&[shelf("unfilled")]).await.unwrap();
    client.use_endpoints(vec![second.endpoint()]);
    drop(first);
    let filled = || client.read(|replica| !is_unfilled(replica));
    while filled() {
        changes.next().await;
    }
    let before = client.before().expect("it is kept");
    assert!(before.get("Shelf", id("a")).is_some());

    other.transact(&[Op::Delete { table: "Shelf", on: Where::Row(id("unfilled")) }]).await.unwrap();
    while !filled() {
        changes.next().await;
    }
    assert!(client.before().is_none());
}
