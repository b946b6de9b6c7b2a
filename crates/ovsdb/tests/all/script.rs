//! A scripted server: the test chooses every message.

use std::time::Duration;

use ovsdb::client::Framer;
use ovsdb::{Changes, Client, Config, Endpoint, Table};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};

use crate::SCHEMA;

/// The server. It listens on a unix socket.
pub struct Script {
    dir: tempfile::TempDir,
    listener: UnixListener,
}

/// A connection to the server.
pub struct Connection {
    pub stream: UnixStream,
    pub framer: Framer,
}

impl Script {
    pub fn new() -> Script {
        let dir = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(dir.path().join("db.sock")).unwrap();
        Script { dir, listener }
    }

    pub fn endpoint(&self) -> Endpoint {
        Endpoint::Unix(self.dir.path().join("db.sock"))
    }

    pub fn client(&self) -> (Client, Changes) {
        self.client_with(Duration::from_mins(1))
    }

    pub fn client_with(&self, request_timeout: Duration) -> (Client, Changes) {
        Client::spawn(Config { request_timeout, ..self.config() })
    }

    /// Returns a configuration with small limits: 1 MiB for a message, 4 MiB for a snapshot.
    pub fn config(&self) -> Config {
        let tables = vec![Table { name: "Shelf", columns: &["name", "count"], key: None }];
        Config { max_message: 1 << 20, max_snapshot: 4 << 20, ..Config::new(vec![self.endpoint()], "Shop", tables) }
    }

    pub async fn accept(&self) -> Connection {
        let (stream, _) = self.listener.accept().await.unwrap();
        Connection { stream, framer: Framer::new(1 << 26) }
    }

    /// Accepts a connection and sends the schema and the reply to the monitor request. Returns the request.
    pub async fn open(&self, reply: Value) -> (Connection, Value) {
        let mut connection = self.accept().await;
        connection.give_schema().await;
        let request = connection.request("monitor_cond_since").await;
        connection.say(&json!({"id": request["id"], "result": reply, "error": null})).await;
        (connection, request)
    }
}

impl Connection {
    pub async fn message(&mut self) -> Value {
        loop {
            if let Some(message) = self.framer.next_message().unwrap() {
                return serde_json::from_slice(&message).unwrap();
            }
            assert_ne!(self.stream.read_buf(self.framer.buffer()).await.unwrap(), 0, "closed too early");
        }
    }

    /// Reads the next request and checks its method.
    pub async fn request(&mut self, method: &str) -> Value {
        let message = self.message().await;
        assert_eq!(message["method"], method);
        assert!(message.get("jsonrpc").is_none());
        message
    }

    pub async fn give_schema(&mut self) {
        let request = self.request("get_schema").await;
        let schema: Value = serde_json::from_str(SCHEMA).unwrap();
        self.say(&json!({"id": request["id"], "result": schema})).await;
    }

    pub async fn say(&mut self, message: &Value) {
        self.raw(message.to_string().as_bytes()).await;
    }

    pub async fn raw(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).await.unwrap();
    }

    /// Waits until the client has closed the connection.
    pub async fn closed(mut self) {
        // A connection reset also counts as closed.
        while self.stream.read_buf(&mut Vec::new()).await.is_ok_and(|read| read > 0) {}
    }
}
