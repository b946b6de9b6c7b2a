//! What a running server says of its role, in its own database `_Server` (ovsdb-server(7), "_Server Database").

use std::time::Duration;

use daemons::member::{self, Member};
use ovsdb::client::{Client, Config, Endpoint};
use ovsdb::{Datum, Replica, Table};
use tokio::sync::watch;

use crate::database::Database;

/// The table with a row for each database of the server.
const DATABASES: Table = Table {
    name: "Database",
    columns: &["name", "connected", "leader"],
    key: Some(|row| row.get("name")?.as_str().map(str::to_owned)),
};

/// The database in which a server reports about itself.
const SERVER: &str = "_Server";

/// How long a server may be silent before it is asked for an answer, and how long it has for it.
const SILENCE: Duration = Duration::from_secs(2);

/// The shortest and the longest pause between attempts to connect.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(50), Duration::from_millis(250));

/// The role of a server. A server that does not run has none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Role {
    /// Whether the server is connected to its cluster.
    pub connected: bool,
    /// Whether the server leads its cluster.
    pub leads: bool,
}

/// Follows the role of the server of a database for as long as somebody reads it. `members` are the daemons.
pub fn follow(database: &Database, members: watch::Receiver<Vec<Member>>) -> watch::Receiver<Role> {
    let schema = database.which().schema();
    // One that hangs has lost its role to another one.
    let config = Config { inactivity: SILENCE, ..session(database, SERVER, DATABASES) };
    let door = database.clone();
    observe(database, config, members, move |replica| {
        door.answers(replica.is_some());
        replica.map(|replica| read(replica, schema)).unwrap_or_default()
    })
}

/// Returns the configuration of a session with the server, on this machine. `contents` is the database with the table: that of the
/// server, or its `_Server`.
pub fn session(database: &Database, contents: &'static str, table: Table) -> Config {
    let config = Config::new(vec![Endpoint::Unix(database.socket())], contents, vec![table]);
    Config { backoff: BACKOFF, ..config }
}

/// Follows what `read` finds in a session with the server, or without one (`None`), for as long as somebody reads it.
pub fn observe<T: Default + PartialEq + Send + Sync + 'static>(
    database: &Database,
    config: Config,
    mut members: watch::Receiver<Vec<Member>>,
    read: impl Fn(Option<&Replica>) -> T + Send + 'static,
) -> watch::Receiver<T> {
    let name = database.which().name();
    let (sender, receiver) = watch::channel(T::default());
    tokio::spawn(async move {
        // The sender lives as long as the process.
        let _ = members.wait_for(|members| member::is_up(members, name)).await;
        let (client, mut changes) = Client::spawn(config);
        let mut connected = client.connected();
        loop {
            let is_connected = *connected.borrow_and_update();
            let now = if is_connected { client.read(|replica| read(Some(replica))) } else { read(None) };
            sender.send_if_modified(|before| {
                let differs = *before != now;
                *before = now;
                differs
            });
            tokio::select! {
                _ = changes.next() => {}
                _ = connected.changed() => {}
                () = sender.closed() => return,
            }
        }
    });
    receiver
}

fn read(replica: &Replica, database: &str) -> Role {
    let row = replica.find(DATABASES.name, database).next().and_then(|row| replica.get(DATABASES.name, row));
    let is = |column| row.is_some_and(|row| row.get(column).and_then(Datum::as_bool) == Some(true));
    Role { connected: is("connected"), leads: is("leader") }
}
