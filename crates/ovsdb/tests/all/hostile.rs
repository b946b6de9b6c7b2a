//! Tests the client against servers that send invalid messages, or valid messages in an invalid order.

use std::time::Duration;

use ovsdb::{Change, Client, Config, Op, Row, Table, TransactError, Uuid};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::script::Script;

const A: &str = "aaaaaaaa-0000-4000-8000-000000000000";

fn a() -> Uuid {
    A.parse().unwrap()
}

fn count(client: &Client) -> Option<i64> {
    client.read(|replica| replica.get("Shelf", a())?["count"].as_int())
}

/// A change of the only row.
fn told(reset: bool, connected: bool) -> Change {
    Change { rows: [("Shelf", a())].into(), reset, connected }
}

fn snapshot(count: i64) -> Value {
    json!([false, "t1", {"Shelf": {A: {"initial": {"name": "a", "count": count}}}}])
}

fn update(txn: &str, count: i64) -> Value {
    let rows = json!({"Shelf": {A: {"modify": {"count": count}}}});
    json!({"id": null, "method": "update3", "params": ["Shop", txn, rows]})
}

#[tokio::test]
async fn a_snapshot_never_overtakes_the_update_behind_it() {
    let server = Script::new();
    let (client, _changes) = server.client();
    let mut connection = server.accept().await;
    connection.give_schema().await;
    let request = connection.request("monitor_cond_since").await;
    // Send both in one write.
    let both = format!("{}{}", json!({"id": request["id"], "result": snapshot(1)}), update("t2", 2));
    connection.raw(both.as_bytes()).await;
    client.synced().await;
    let pending = tokio::spawn({
        let client = client.clone();
        async move { client.transact(&[Op::Abort]).await }
    });
    let request = connection.request("transact").await;
    let both = format!("{}{}", update("t3", 3), json!({"id": request["id"], "result": [{}]}));
    connection.raw(both.as_bytes()).await;
    pending.await.unwrap().unwrap();
    assert_eq!(count(&client), Some(3));
}

#[tokio::test]
async fn a_session_resumes_by_the_last_transaction() {
    let server = Script::new();
    let (client, mut changes) = server.client();
    let (mut connection, request) = server.open(snapshot(1)).await;
    assert_eq!(request["params"][3], json!(Uuid::nil()));
    assert_eq!(changes.next().await, told(true, true));
    connection.say(&update("t2", 2)).await;
    assert_eq!(changes.next().await, told(false, false));
    drop(connection);

    let missed = json!([true, "t3", {"Shelf": {A: {"modify": {"count": 3}}}}]);
    let (_connection, request) = server.open(missed).await;
    assert_eq!(request["params"][3], "t2");
    assert_eq!(changes.next().await, told(false, true));
    assert_eq!(count(&client), Some(3));
}

#[tokio::test]
async fn an_update_that_does_not_fit_brings_a_new_snapshot() {
    let server = Script::new();
    let (client, mut changes) = server.client();
    let (mut connection, _) = server.open(snapshot(1)).await;
    changes.next().await;
    let rows = json!({"Shelf": {Uuid::nil().to_string(): {"modify": {"count": 9}}}});
    connection.say(&json!({"id": null, "method": "update3", "params": ["Shop", "t2", rows]})).await;
    connection.closed().await;

    let (_connection, request) = server.open(snapshot(5)).await;
    assert_eq!(request["params"][3], json!(Uuid::nil()));
    assert_eq!(changes.next().await, told(true, true));
    assert_eq!(count(&client), Some(5));
}

#[tokio::test]
async fn nothing_said_on_the_wire_ends_more_than_the_session() {
    let server = Script::new();
    let (client, _changes) = server.client();
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    let huge = format!("{{\"id\":\"{}", "x".repeat(1 << 20));
    for (i, words) in [
        "}",
        "hello",
        "[]",
        "{}}",
        "{\"id\":",
        "{]}",
        "{\"id\":\"\u{1}\"}",
        r#"{"id":4711,"result":[]}"#,
        r#"{"id":{"a":[]},"result":[]}"#,
        r#"{"id":null,"method":"update3","params":null}"#,
        r#"{"id":null,"method":"update3","params":["Shop","t",{"Shelf":7}]}"#,
        r#"{"id":null,"method":"monitor_canceled","params":["Shop"]}"#,
        &"{\"a\":".repeat(1000),
        &format!(r#"{{"id":null,"method":"update3","params":["Shop","t",{deep}]}}"#),
        &format!(r#"{{"id":4711,"result":{deep}}}"#),
        &format!(r#"{{"id":4711,"error":{deep}}}"#),
        &huge,
    ]
    .into_iter()
    .enumerate()
    {
        let number = i64::try_from(i).unwrap() + 1;
        let (mut connection, _) = server.open(snapshot(number)).await;
        client.synced().await;
        assert_eq!(count(&client), Some(number));
        // The client may close the connection before it has read everything.
        let _ = connection.stream.write_all(words.as_bytes()).await;
        if words == "{\"id\":" {
            drop(connection);
        } else {
            connection.closed().await;
        }
    }
}

/// Returns a message of exactly `length` bytes. `message` builds it from a string.
fn padded(length: usize, message: impl Fn(&str) -> Value) -> String {
    let empty = message("").to_string().len();
    message(&"x".repeat(length - empty)).to_string()
}

#[tokio::test]
async fn a_snapshot_may_be_larger_than_any_other_message() {
    const MIB: usize = 1 << 20;
    let server = Script::new();
    let (client, mut changes) = server.client();
    let named = |kind: &str, name: &str| json!({ "Shelf": { A: { kind: { "name": name } } } });
    let update =
        |name: &str| json!({ "id": null, "method": "update3", "params": ["Shop", "t2", named("modify", name)] });
    let length = || client.read(|replica| replica.get("Shelf", a())?["name"].as_str().map(str::len)).unwrap();
    for (found, kind, txn, sizes) in
        [(false, "initial", "t1", [4 * MIB, MIB, MIB + 1]), (true, "modify", "t3", [2 * MIB, MIB - 1, 2 * MIB])]
    {
        let mut connection = server.accept().await;
        connection.give_schema().await;
        let request = connection.request("monitor_cond_since").await;
        // In the second round the client requests the update that it refused.
        assert_eq!(request["params"][3], if found { json!("t2") } else { json!(Uuid::nil()) });
        let reply = |name: &str| json!({ "id": request["id"], "result": [found, txn, named(kind, name)] });
        connection.raw(padded(sizes[0], reply).as_bytes()).await;
        client.synced().await;
        assert!(length() > sizes[0] - 200);
        changes.next().await;
        connection.raw(padded(sizes[1], update).as_bytes()).await;
        changes.next().await;
        assert!(length() > sizes[1] - 200);
        // The client closes the connection in the middle of the message.
        let _ = connection.stream.write_all(padded(sizes[2], update).as_bytes()).await;
        connection.closed().await;
    }
    let mut connection = server.accept().await;
    connection.give_schema().await;
    let request = connection.request("monitor_cond_since").await;
    let reply = |name: &str| json!({ "id": request["id"], "result": [false, "t4", named("initial", name)] });
    let _ = connection.stream.write_all(padded(4 * MIB + 1, reply).as_bytes()).await;
    connection.closed().await;
    let said = format!("{}: unreadable stream: message larger than {} bytes", server.endpoint(), 4 * MIB);
    client.failure().wait_for(|failure| failure.as_deref() == Some(said.as_str())).await.unwrap();
}

#[tokio::test]
async fn bytes_that_are_no_text_end_the_session() {
    let server = Script::new();
    let (client, _changes) = server.client();
    let (mut connection, _) = server.open(snapshot(1)).await;
    client.synced().await;
    connection.raw(b"{\"\xff\":1}").await;
    connection.closed().await;
    server.open(snapshot(2)).await;
}

#[tokio::test]
async fn a_refused_monitor_is_tried_again() {
    let server = Script::new();
    let (client, _changes) = server.client();
    for error in [json!("not allowed"), json!({"error": "syntax error", "details": "x"})] {
        let mut connection = server.accept().await;
        connection.give_schema().await;
        let request = connection.request("monitor_cond_since").await;
        connection.say(&json!({"id": request["id"], "result": null, "error": error})).await;
        connection.closed().await;
        assert!(!*client.connected().borrow());
    }
    let _connection = server.open(snapshot(1)).await;
    client.synced().await;
}

#[tokio::test]
async fn what_was_not_written_is_disconnected_and_what_was_is_unknown() {
    let server = Script::new();
    let (client, _changes) = server.client();
    let (mut connection, _) = server.open(snapshot(1)).await;
    client.synced().await;
    let transact = |size: usize| {
        let client = client.clone();
        tokio::spawn(async move { client.transact(&[Op::Comment("x".repeat(size))]).await })
    };
    // The message exceeds the socket buffer: when the first bytes arrive, the writer is still writing.
    let written = transact(8 << 20);
    connection.stream.read_exact(&mut [0; 16]).await.unwrap();
    let waiting = transact(1);
    tokio::task::yield_now().await;
    let mut connected = client.connected();
    drop(connection);
    connected.wait_for(|connected| !connected).await.unwrap();
    assert_eq!(written.await.unwrap(), Err(TransactError::Unknown));
    assert_eq!(waiting.await.unwrap(), Err(TransactError::Disconnected));
}

#[tokio::test]
async fn a_request_that_was_given_up_is_not_written() {
    let server = Script::new();
    let (client, _changes) = server.client();
    let (mut connection, _) = server.open(snapshot(1)).await;
    client.synced().await;
    let send = |text: String| {
        let client = client.clone();
        tokio::spawn(async move { client.transact(&[Op::Comment(text)]).await })
    };
    let first = send("x".repeat(8 << 20));
    connection.stream.read_exact(&mut [0; 1]).await.unwrap();
    connection.framer.buffer().push(b'{');
    let given_up = send("given up".into());
    tokio::task::yield_now().await;
    given_up.abort();
    assert!(given_up.await.unwrap_err().is_cancelled());
    let third = send("third".into());

    for (request, id) in [(first, 'x'), (third, 't')] {
        let message = connection.request("transact").await;
        assert!(message["params"][1]["comment"].as_str().unwrap().starts_with(id), "{message:.100}");
        connection.say(&json!({"id": message["id"], "result": [{}]})).await;
        request.await.unwrap().unwrap();
    }
}

#[tokio::test]
async fn a_transaction_without_reply_ends_the_session() {
    let server = Script::new();
    let (client, _changes) = server.client_with(Duration::from_millis(50));
    let (connection, _) = server.open(snapshot(1)).await;
    client.synced().await;
    assert_eq!(client.transact(&[Op::Abort]).await, Err(TransactError::Unknown));
    connection.closed().await;
    assert!(!*client.connected().borrow());
}

#[tokio::test]
async fn senseless_replies_are_protocol_errors() {
    let server = Script::new();
    let (client, _changes) = server.client();
    let (mut connection, _) = server.open(snapshot(1)).await;
    client.synced().await;
    for reply in [json!(null), json!(7), json!([]), json!([null]), json!([{"count": -1}]), json!([{"rows": 1}])] {
        let client = client.clone();
        let insert = Op::Insert { table: "Shelf", uuid: None, row: Row::new() };
        let pending = tokio::spawn(async move { client.transact(&[insert]).await });
        let request = connection.request("transact").await;
        connection.say(&json!({"id": request["id"], "result": reply, "error": null})).await;
        let outcome = pending.await.unwrap();
        assert!(matches!(outcome, Err(TransactError::Protocol(_))), "{reply}: {outcome:?}");
    }
    assert!(*client.connected().borrow());
}

#[tokio::test]
async fn the_session_ends_with_the_last_handle() {
    let server = Script::new();
    let (client, _changes) = server.client();
    let (connection, _) = server.open(snapshot(1)).await;
    client.synced().await;
    let clone = client.clone();
    drop(client);
    assert_eq!(count(&clone), Some(1));
    drop(clone);
    connection.closed().await;
}

#[tokio::test]
async fn a_server_that_does_not_read_is_still_heard() {
    let server = Script::new();
    let (client, mut changes) = server.client();
    let (mut connection, _) = server.open(snapshot(1)).await;
    client.synced().await;
    changes.next().await;
    let text = "x".repeat(8 << 20);
    let pending = tokio::spawn({
        let (client, text) = (client.clone(), text.clone());
        async move { client.transact(&[Op::Comment(text)]).await }
    });
    // Like an ovsdb-server with unread output, the script reads nothing until the client has taken all of this, echo
    // requests included.
    for i in 0..=10 {
        connection.say(&json!({"id": "echo", "method": "echo", "params": []})).await;
        connection.say(&update("t", i)).await;
        changes.next().await;
        assert_eq!(count(&client), Some(i));
    }
    let message = connection.request("transact").await;
    assert_eq!(message["params"][1]["comment"].as_str().map(str::len), Some(text.len()));
    connection.say(&json!({"id": message["id"], "result": [{}]})).await;
    pending.await.unwrap().unwrap();
    for _ in 0..11 {
        assert_eq!(connection.message().await, json!({"id": "echo", "result": [], "error": null}));
    }
}

#[tokio::test]
async fn a_flood_of_echo_requests_ends_the_session() {
    let server = Script::new();
    let (client, _changes) = server.client();
    let (mut connection, _) = server.open(snapshot(1)).await;
    client.synced().await;
    let flood = r#"{"id":"echo","method":"echo","params":[]}"#.repeat(100_000);
    // The client closes the connection instead of queueing replies without bound.
    assert!(connection.stream.write_all(flood.as_bytes()).await.is_err());
    let _connection = server.open(snapshot(2)).await;
    client.synced().await;
}

#[tokio::test]
async fn every_endpoint_is_tried_in_turn() {
    let (first, second) = (Script::new(), Script::new());
    let endpoints = [&first, &second].map(Script::endpoint);
    let tables = vec![Table { name: "Shelf", columns: &["name", "count"], key: None }];
    let (client, _changes) = Client::spawn(Config::new(endpoints.to_vec(), "Shop", tables));
    for _ in 0..2 {
        // The first server closes the connection without a reply.
        drop(first.accept().await);
        let (connection, _) = second.open(snapshot(1)).await;
        client.synced().await;
        drop(connection);
    }
}

#[tokio::test]
async fn whoever_hears_of_the_first_change_can_write() {
    let server = Script::new();
    let (client, mut changes) = server.client();
    let writer = tokio::spawn({
        let client = client.clone();
        async move {
            changes.next().await;
            client.transact(&[Op::Abort]).await
        }
    });
    let (mut connection, _) = server.open(snapshot(1)).await;
    let answer = async {
        let request = connection.request("transact").await;
        connection.say(&json!({"id": request["id"], "result": [{}]})).await;
    };
    tokio::select! {
        outcome = writer => panic!("{outcome:?}, and the server was not asked"),
        () = answer => {}
    }
}

#[tokio::test]
async fn a_session_that_begins_is_told_though_no_row_has_changed() {
    let server = Script::new();
    let (client, mut changes) = server.client();
    let (connection, _) = server.open(snapshot(1)).await;
    assert_eq!(changes.next().await, told(true, true));
    let mut connected = client.connected();
    drop(connection);
    connected.wait_for(|connected| !connected).await.unwrap();
    assert_eq!(client.transact(&[Op::Abort]).await, Err(TransactError::Disconnected));

    let _connection = server.open(json!([true, "t1", {}])).await;
    assert_eq!(changes.next().await, Change { connected: true, ..Change::default() });
}

#[tokio::test]
async fn changes_coalesce_until_they_are_asked_for() {
    let server = Script::new();
    let (client, mut changes) = server.client();
    let (mut connection, _) = server.open(snapshot(0)).await;
    client.synced().await;
    for i in 1..=100 {
        connection.say(&update(&format!("t{i}"), i)).await;
    }
    // The reply to this transaction comes after all of the updates.
    let pending = tokio::spawn({
        let client = client.clone();
        async move { client.transact(&[Op::Abort]).await }
    });
    let request = connection.request("transact").await;
    connection.say(&json!({"id": request["id"], "result": [{}]})).await;
    pending.await.unwrap().unwrap();
    assert_eq!(changes.next().await, told(true, true));
    assert_eq!(changes.try_next(), None);
    assert!(tokio::time::timeout(Duration::from_millis(10), changes.next()).await.is_err());
    connection.say(&update("t101", 101)).await;
    assert_eq!(changes.next().await, told(false, false));
}
