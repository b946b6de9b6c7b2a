//! Tests which servers the client accepts with [`Accept`], depending on what the servers report about themselves.

use std::time::Duration;

use ovsdb::{Accept, Client, Config, Endpoint, Table};
use serde_json::{Value, json};

use crate::script::{Connection, Script};

const ROW: &str = "bbbbbbbb-0000-4000-8000-000000000000";
const CLUSTER: &str = "cccccccc-0000-4000-8000-000000000000";
const LEADER: &str = "the server is not the leader of its cluster";

/// Returns a client of these servers whose pause is an hour.
fn client(servers: &[&Script]) -> Client {
    client_of(Accept::Leader, servers)
}

fn client_of(accept: Accept, servers: &[&Script]) -> Client {
    let tables = vec![Table { name: "Shelf", columns: &["name", "count"], key: None }];
    let hour = Duration::from_hours(1);
    let endpoints = servers.iter().map(|server| server.endpoint()).collect();
    let config = Config { accept, backoff: (hour, hour), ..Config::new(endpoints, "Shop", tables) };
    Client::spawn(config).0
}

/// Returns the row of a leader with this log index. `given` overrides some columns.
fn database(index: i64, given: &Value) -> Value {
    let mut row = json!({
        "name": "Shop",
        "model": "clustered",
        "leader": true,
        "connected": true,
        "cid": ["uuid", CLUSTER],
        "index": index,
    });
    row.as_object_mut().unwrap().extend(given.as_object().unwrap().clone());
    row
}

impl Connection {
    /// Answers the schema and monitor requests for `_Server`.
    async fn introduce(&mut self, row: &Value) {
        let request = self.request("get_schema").await;
        assert_eq!(request["params"], json!(["_Server"]));
        let optional = |key: &str| json!({ "type": { "key": key, "min": 0, "max": 1 } });
        let columns = json!({
            "name": { "type": "string" },
            "model": { "type": "string" },
            "leader": { "type": "boolean" },
            "connected": { "type": "boolean" },
            "cid": optional("uuid"),
            "index": optional("integer"),
        });
        let schema = json!({ "name": "_Server", "tables": { "Database": { "columns": columns } } });
        self.say(&json!({ "id": request["id"], "result": schema })).await;
        let request = self.request("monitor_cond_since").await;
        assert_eq!(request["params"][0], "_Server");
        assert_eq!(request["params"][2]["Database"][0]["where"], json!([["name", "==", "Shop"]]));
        let rows = json!({ "Database": { ROW: { "initial": row } } });
        self.say(&json!({ "id": request["id"], "result": [false, "t", rows] })).await;
    }

    /// Sends an update of the server's row.
    async fn change(&mut self, columns: Value) {
        let rows = json!({ "Database": { ROW: { "modify": columns } } });
        self.say(&json!({ "id": null, "method": "update3", "params": ["role", "t", rows] })).await;
    }

    /// Sends the schema and a snapshot.
    async fn serve(&mut self) {
        self.give_schema().await;
        let request = self.request("monitor_cond_since").await;
        self.say(&json!({ "id": request["id"], "result": [false, "t1", {}] })).await;
    }
}

/// Accepts a connection and answers the requests for `_Server`.
async fn asked(server: &Script, row: &Value) -> Connection {
    let mut connection = server.accept().await;
    connection.introduce(row).await;
    connection
}

fn failure(endpoint: &Endpoint, why: &str) -> String {
    format!("{endpoint}: {why}")
}

async fn expect_failure(client: &Client, server: &Script, why: &str) {
    let expected = failure(&server.endpoint(), why);
    client.failure().wait_for(|said| said.as_deref() == Some(expected.as_str())).await.unwrap();
}

#[tokio::test]
async fn a_server_that_does_not_lead_is_left_at_once() {
    for (row, why) in [
        (database(7, &json!({ "leader": false })), LEADER),
        (database(7, &json!({ "connected": false })), "the server is not connected to its cluster"),
        (
            database(7, &json!({ "model": "relay", "leader": false })),
            "the server is a relay, not the leader of a cluster",
        ),
        (database(7, &json!({ "name": "Bazaar" })), "the server has no database Shop"),
    ] {
        let (first, second) = (Script::new(), Script::new());
        let client = client(&[&first, &second]);
        let connection = asked(&first, &row).await;
        connection.closed().await;
        let mut connection = second.accept().await;
        assert_eq!(client.failure().borrow().as_deref(), Some(failure(&first.endpoint(), why).as_str()));
        connection.introduce(&database(7, &json!({}))).await;
        connection.serve().await;
        client.synced().await;
    }
}

#[tokio::test]
async fn a_follower_is_good_enough_as_long_as_it_is_connected() {
    let (first, second) = (Script::new(), Script::new());
    let client = client_of(Accept::Connected, &[&first, &second]);
    asked(&first, &database(7, &json!({ "connected": false }))).await.closed().await;
    let mut connection = asked(&second, &database(7, &json!({ "leader": false }))).await;
    connection.serve().await;
    client.synced().await;
    connection.change(json!({ "connected": false })).await;
    connection.closed().await;
    expect_failure(&client, &second, "the server is not connected to its cluster").await;
}

#[tokio::test]
async fn a_standalone_server_needs_neither_cluster_nor_index() {
    let server = Script::new();
    let client = client(&[&server]);
    let mut connection = asked(&server, &json!({ "name": "Shop", "model": "standalone", "connected": true })).await;
    connection.serve().await;
    client.synced().await;
}

#[tokio::test]
async fn a_leader_that_stops_leading_is_left_and_the_next_one_asked() {
    for (change, why) in [
        (json!({ "leader": false }), LEADER),
        (json!({ "connected": false }), "the server is not connected to its cluster"),
    ] {
        let servers = [Script::new(), Script::new(), Script::new()];
        let client = client(&[&servers[0], &servers[1], &servers[2]]);
        asked(&servers[0], &database(7, &json!({ "leader": false }))).await.closed().await;
        let mut connection = asked(&servers[1], &database(7, &json!({}))).await;
        connection.serve().await;
        client.synced().await;
        connection.change(json!({ "index": 8 })).await;
        connection.change(change).await;
        connection.closed().await;
        let _next = asked(&servers[2], &database(8, &json!({}))).await;
        assert_eq!(client.failure().borrow().as_deref(), Some(failure(&servers[1].endpoint(), why).as_str()));
    }
}

#[tokio::test]
async fn nobody_is_listened_to_who_is_behind_what_was_seen() {
    let (first, second) = (Script::new(), Script::new());
    let client = client(&[&first, &second]);
    let mut connection = asked(&first, &database(7, &json!({}))).await;
    connection.serve().await;
    client.synced().await;
    connection.change(json!({ "index": 9 })).await;
    connection.change(json!({ "leader": false })).await;
    connection.closed().await;

    // The server is the leader but does not know yet what the last leader committed.
    let connection = asked(&second, &database(8, &json!({}))).await;
    connection.closed().await;
    expect_failure(&client, &second, "the server is behind its cluster: its log is at 8, and 9 was seen before").await;
}

#[tokio::test]
async fn another_cluster_counts_from_its_own_beginning() {
    let (first, second) = (Script::new(), Script::new());
    let client = client(&[&first, &second]);
    let mut connection = asked(&first, &database(7, &json!({}))).await;
    connection.serve().await;
    client.synced().await;
    drop(connection);
    let mut connection = asked(&second, &database(1, &json!({ "cid": ["uuid", ROW] }))).await;
    connection.serve().await;
    client.synced().await;
}

#[tokio::test]
async fn a_server_that_drops_its_sessions_is_not_called_in_a_hurry() {
    let (first, second) = (Script::new(), Script::new());
    let client = client(&[&first, &second]);
    for server in [&first, &second] {
        let mut connection = asked(server, &database(7, &json!({}))).await;
        connection.serve().await;
        client.synced().await;
        let mut connected = client.connected();
        drop(connection);
        connected.wait_for(|connected| !connected).await.unwrap();
    }
    // The round is over, and the pause is an hour.
    let called = tokio::time::timeout(Duration::from_millis(200), first.accept()).await;
    assert!(called.is_err(), "called again at once");
}

#[tokio::test]
async fn what_the_server_says_of_itself_may_be_nonsense() {
    for (row, updates) in [
        (json!({ "name": "Shop", "model": 7 }), json!([])),
        (
            database(7, &json!({ "index": ["set", []], "cid": ["set", []] })),
            json!({ "Database": { ROW: { "delete": null } } }),
        ),
        (database(7, &json!({})), json!({ "Database": { CLUSTER: { "modify": { "index": 1 } } } })),
    ] {
        let (first, second) = (Script::new(), Script::new());
        let client = client(&[&first, &second]);
        let mut connection = asked(&first, &row).await;
        connection.serve().await;
        client.synced().await;
        connection.say(&json!({ "id": null, "method": "update3", "params": ["role", "t", updates] })).await;
        connection.closed().await;
        second.accept().await;
    }
}
