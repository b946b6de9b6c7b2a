//! What a running server says of its role, in its own database `_Server` (ovsdb-server(7), "_Server Database").

use daemons::member::Member;
use ovsdb::client::{Client, Config, Endpoint};
use ovsdb::{Datum, Table};
use tokio::sync::watch;

use crate::database::Database;

/// The table with a row for each database of the server.
const DATABASES: Table = Table {
    name: "Database",
    columns: &["name", "connected", "leader"],
    key: Some(|row| row.get("name")?.as_str().map(str::to_owned)),
};

/// The role of a server. A server that does not run has none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Role {
    /// Whether the server is connected to its cluster.
    pub connected: bool,
    /// Whether the server leads its cluster.
    pub leads: bool,
}

/// Follows the role of the server of a database for as long as somebody reads it. `members` are the daemons.
pub fn follow(database: &Database, mut members: watch::Receiver<Vec<Member>>) -> watch::Receiver<Role> {
    let which = database.which();
    let config = Config::new(vec![Endpoint::Unix(database.socket())], "_Server", vec![DATABASES]);
    let (sender, receiver) = watch::channel(Role::default());
    tokio::spawn(async move {
        let is_up = |members: &Vec<Member>| members.iter().any(|member| member.name == which.name() && member.is_up);
        // The sender lives as long as the process.
        let _ = members.wait_for(is_up).await;
        let (client, mut changes) = Client::spawn(config);
        let mut connected = client.connected();
        loop {
            let role = if *connected.borrow_and_update() { read(&client, which.schema()) } else { Role::default() };
            sender.send_if_modified(|before| std::mem::replace(before, role) != role);
            tokio::select! {
                _ = changes.next() => {}
                _ = connected.changed() => {}
                () = sender.closed() => return,
            }
        }
    });
    receiver
}

fn read(server: &Client, database: &str) -> Role {
    server.read(|replica| {
        let row = replica.find(DATABASES.name, database).next().and_then(|row| replica.get(DATABASES.name, row));
        let is = |column| row.is_some_and(|row| row.get(column).and_then(Datum::as_bool) == Some(true));
        Role { connected: is("connected"), leads: is("leader") }
    })
}
