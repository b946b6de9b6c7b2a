//! A socket by which clients in this container reach the leader of a database, wherever it is.
//!
//! northd works with the leaders only. By itself, it tries the members in turn, and pauses for up to 8 s when none of them leads:
//! an election takes one second, and nothing is translated for several. Here, it is connected as soon as the own server knows
//! the leader, and when another one leads, it is disconnected, so that it comes back.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::io;
use std::net::IpAddr;
use std::path::PathBuf;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use daemons::control;
use daemons::member::{self, Member};
use serde_json::json;
use tokio::io::{AsyncWriteExt, copy_bidirectional};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Mutex, watch};
use tokio::time::timeout;
use uuid::Uuid;

use crate::complete::{self, is_complete_at};
use crate::database::Database;
use crate::northd::{NAME, Northd};
use crate::standing::{Server, Standing};
use crate::transport::{self, Stream};

/// How often the own server is asked who leads while a client waits for that.
const SOON: Duration = Duration::from_millis(50);
/// How often it is asked whether still the same one leads: a leader that hangs closes no connection.
const ASK: Duration = Duration::from_millis(500);

/// How long the others are asked before the own server is asked again, which did not answer.
const AGAIN: Duration = Duration::from_secs(1);

/// Where the leader is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// In this container.
    Here,
    /// At this address of another member.
    There(IpAddr),
}

/// The socket.
#[derive(Debug)]
pub struct Leader {
    listener: UnixListener,
    database: Database,
    clients: Arc<Clients>,
}

/// What concerns all clients of a socket.
#[derive(Debug)]
pub struct Clients {
    /// Whether the database is complete, if that is known. Clients wait for that.
    complete: watch::Receiver<Option<bool>>,
    northd: Northd,
    /// The daemons, among them northd.
    members: watch::Receiver<Vec<Member>>,
    /// The cluster that northd knows.
    cluster: Mutex<Option<Uuid>>,
    /// The other members, as the own server knew them last.
    others: Mutex<VecDeque<IpAddr>>,
}

impl Clients {
    /// Creates the state of a socket. While `complete` is not true, clients have to wait. `members` are the daemons.
    pub fn new(
        complete: watch::Receiver<Option<bool>>,
        northd: &Northd,
        members: watch::Receiver<Vec<Member>>,
    ) -> Self {
        Self { complete, northd: northd.clone(), members, cluster: Mutex::default(), others: Mutex::default() }
    }

    /// Asks the own server for its place in the cluster. `None` if it does not answer.
    async fn standing(&self, database: &Database) -> Option<Standing> {
        let standing = database.standing().await.ok()?;
        let others = standing.servers.iter().filter(|server| !server.is_self).filter_map(Server::host);
        *self.others.lock().await = others.collect();
        Some(standing)
    }

    /// Returns another member, each in turn.
    async fn next(&self) -> Option<IpAddr> {
        let mut others = self.others.lock().await;
        let next = others.pop_front()?;
        others.push_back(next);
        Some(next)
    }

    /// Returns true if the database is complete, or nobody completes it. Otherwise waits until it is, and returns false: the leader
    /// may be another one then.
    async fn is_complete(&self, database: &Database) -> bool {
        let mut complete = self.complete.clone();
        let name = database.which().name();
        match *complete.borrow() {
            Some(true) => return true,
            Some(false) => {
                tracing::info!(database = name, "its clients wait until the controller has written everything");
            }
            // The server has only just started.
            None => {}
        }
        let is_complete = complete.wait_for(|complete| *complete == Some(true));
        let waited = timeout(complete::patience(database.which()), is_complete).await;
        if waited.is_err() {
            tracing::warn!(database = name, "it is not complete; its clients do not wait any longer");
        }
        waited.is_err()
    }

    /// Has northd accept a cluster. It refuses one whose log is shorter than that of the cluster before.
    async fn accept(&self, database: &Database, cluster: Option<Uuid>) {
        let Some(cluster) = cluster else { return };
        let mut known = self.cluster.lock().await;
        let running = member::pid(&self.members.borrow(), NAME);
        if known.is_some_and(|known| known != cluster)
            && let Some(pid) = running
        {
            let name = database.which().name();
            match self.northd.reset(pid, name).await {
                Ok(()) => tracing::info!(database = name, %cluster, "northd accepts another cluster"),
                Err(error) => {
                    tracing::warn!(database = name, %error, "northd does not accept another cluster yet");
                    return;
                }
            }
        }
        *known = Some(cluster);
    }
}

impl Leader {
    /// Binds the socket of a database. A socket that a killed process has left is replaced.
    pub fn bind(database: &Database, clients: Clients) -> io::Result<Self> {
        let socket = path(database);
        match std::fs::remove_file(&socket) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        Ok(Self { listener: UnixListener::bind(socket)?, database: database.clone(), clients: Arc::new(clients) })
    }

    /// Connects clients for as long as the future runs.
    pub async fn serve(self) -> Infallible {
        loop {
            match self.listener.accept().await {
                Ok((client, _)) => {
                    drop(tokio::spawn(connect(client, self.database.clone(), self.clients.clone())));
                }
                Err(error) => {
                    tracing::warn!(%error, "a client of the leader is not accepted");
                    tokio::time::sleep(ASK).await;
                }
            }
        }
    }
}

/// Returns the path of the socket of a database.
pub fn path(database: &Database) -> PathBuf {
    database.beside("leader.sock")
}

/// Connects a client to the leader, until one of them ends the connection or another member leads.
async fn connect(mut client: UnixStream, database: Database, clients: Arc<Clients>) {
    let mut said = Vec::new();
    let found = async {
        loop {
            let (place, cluster, server) = reach(&database, &clients).await;
            let is_complete = match place {
                // Without its own server, a member knows neither the cluster nor whether it is complete.
                Place::There(member) if cluster.is_none() => is_complete_at(member, &database).await.unwrap_or(false),
                _ => clients.is_complete(&database).await,
            };
            if is_complete {
                clients.accept(&database, cluster).await;
                return (place, server);
            }
            tokio::time::sleep(SOON).await;
        }
    };
    let (place, mut server) = tokio::select! {
        found = found => found,
        () = transport::listen(&mut client, &mut said) => return,
    };
    let pass_on = async {
        server.write_all(&said).await?;
        copy_bidirectional(&mut client, &mut server).await
    };
    let is_moved = tokio::select! {
        _ = pass_on => false,
        () = moved(&database, &clients, place) => true,
    };
    if is_moved {
        tracing::info!(database = database.which().schema(), "another member leads: its clients connect again");
        // Space between messages. northd pauses for a second before it connects again, and up to eight if the last thing that it
        // has heard is not much younger than the connection.
        let _ = client.try_write(b" ");
    }
}

/// Waits until a leader is known and takes a connection. Returns also its cluster, if the own server knows it.
async fn reach(database: &Database, clients: &Clients) -> (Place, Option<Uuid>, Box<dyn Stream>) {
    loop {
        let mut own = pin!(clients.standing(database));
        let soon = timeout(ASK, &mut own).await;
        // If it does not answer soon, it is busy, or it hangs and another one leads.
        let standing = if let Ok(standing) = soon {
            standing
        } else {
            tokio::select! {
                standing = own => standing,
                (place, server) = other_leader(database, clients) => return (place, None, server),
            }
        };
        let Some(standing) = standing else {
            tokio::select! {
                (place, server) = other_leader(database, clients) => return (place, None, server),
                // It may be there now.
                () = tokio::time::sleep(AGAIN) => continue,
            }
        };
        let server: Option<Box<dyn Stream>> = match standing.leader {
            Some(Place::Here) => UnixStream::connect(database.socket()).await.ok().map(|server| Box::new(server) as _),
            Some(Place::There(address)) => connect_to(database, address).await,
            None => None,
        };
        if let (Some(place), Some(server)) = (standing.leader, server) {
            return (place, standing.cluster, server);
        }
        tokio::time::sleep(SOON).await;
    }
}

/// Waits until another member says that it leads, and takes a connection. northd pauses longer each time that it reaches one that does
/// not.
async fn other_leader(database: &Database, clients: &Clients) -> (Place, Box<dyn Stream>) {
    loop {
        if let Some(member) = clients.next().await
            && leads(database, member).await
            && let Some(server) = connect_to(database, member).await
        {
            return (Place::There(member), server);
        }
        tokio::time::sleep(SOON).await;
    }
}

async fn connect_to(database: &Database, member: IpAddr) -> Option<Box<dyn Stream>> {
    timeout(ASK, database.connect(member)).await.ok()?.ok()
}

/// Asks the server of another member whether it leads its cluster.
async fn leads(database: &Database, member: IpAddr) -> bool {
    let schema = database.which().schema();
    let select = json!({"op": "select", "table": "Database", "where": [["name", "==", schema]], "columns": ["leader"]});
    let (at, connecting) = (member.to_string(), database.connect(member));
    let answer = control::read(&at, connecting, "_Server", &[select]).await;
    answer.is_ok_and(|answer| answer[0]["rows"][0]["leader"] == true)
}

/// Waits until another member leads, or the own server, which leads, hangs.
async fn moved(database: &Database, clients: &Clients, place: Place) {
    loop {
        tokio::time::sleep(ASK).await;
        match clients.standing(database).await {
            Some(standing) if standing.leader.is_some_and(|leader| leader != place) => return,
            None if place == Place::Here => return,
            _ => {}
        }
    }
}
