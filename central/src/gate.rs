//! The gate: what of this member is open to other machines, and to whom.
//!
//! The servers themselves listen only on sockets in the container, but for the southbound database, whose rights for each
//! chassis only its server can check. Everything else comes through doors: TCP ports, each of which leads to one socket
//! ([`Door`]). In the other direction, the gate has a socket for each other server of a cluster ([`Peers`]).
//!
//! Raft and clients have a thread each, so that Raft does not wait for anything else, above all not for the handshakes of clients.
//! A port takes a number of handshakes at a time, and fewer of one address.

mod peers;

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use keys::{Identity, Role};
use tokio::io::{AsyncWriteExt, copy_bidirectional_with_sizes};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};

pub use peers::Peers;

use crate::transport::{self, Stream, Transport};

/// The pause before a port that is in use, or a connection that is not accepted, is tried again.
const RETRY: Duration = Duration::from_secs(1);

/// How long the same complaint about a client is not repeated.
const QUIET: Duration = Duration::from_mins(10);

/// The size of the buffer of one direction of a connection, in bytes.
const BUFFER: usize = 64 << 10;

/// The number of handshakes with one door that are in progress at a time, and of those with one address.
const MOST: usize = 512;
const MOST_OF_ONE: usize = 32;

/// The pauses between attempts to reach a server that is not there yet: the first one and the longest one.
const ATTEMPTS: (Duration, Duration) = (Duration::from_millis(20), Duration::from_millis(250));

/// A port that leads to a socket.
#[derive(Clone, Debug)]
pub struct Door {
    /// What is behind it.
    pub what: &'static str,
    /// The addresses.
    pub addresses: Vec<IpAddr>,
    /// The TCP port.
    pub port: u16,
    /// The socket behind it.
    pub target: PathBuf,
    /// The roles of those who may pass. With plain TCP, all may.
    pub roles: &'static [Role],
    /// While this is not set, the server hangs: it would take connections, and not answer.
    pub answers: Option<Arc<AtomicBool>>,
    /// Whether clients wait for a server that does not run. Others try the next member.
    pub waits: bool,
}

/// The doors and the sockets of the other servers.
#[derive(Debug)]
pub struct Gate {
    /// How connections are made.
    pub transport: Transport,
    /// The doors.
    pub doors: Vec<Door>,
    /// The other servers.
    pub peers: peers::Queue,
}

impl Gate {
    /// Starts the threads. They run as long as the process.
    pub fn start(self) -> io::Result<()> {
        let Self { transport, doors, mut peers } = self;
        let (raft, clients): (Vec<_>, Vec<_>) = doors.into_iter().partition(|door| door.waits);
        let (of_raft, of_clients) = (transport.clone(), transport);
        thread("raft", async move {
            open(raft, &of_raft);
            while let Some((listener, peer)) = peers.recv().await {
                match UnixListener::from_std(listener) {
                    Ok(listener) => drop(tokio::spawn(lead(listener, peer, of_raft.clone()))),
                    Err(error) => tracing::warn!(%peer, %error, "another server is not reached"),
                }
            }
        })?;
        thread("clients", async move {
            open(clients, &of_clients);
            std::future::pending::<()>().await;
        })
    }
}

/// Starts a thread that runs a future and what it spawns.
fn thread(name: &str, run: impl Future<Output = ()> + Send + 'static) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    std::thread::Builder::new().name(name.to_owned()).spawn(move || runtime.block_on(run)).map(drop)
}

/// Opens doors. Needs a tokio runtime.
fn open(doors: Vec<Door>, transport: &Transport) {
    let said = Arc::<Said>::default();
    for door in doors {
        for address in &door.addresses {
            let address = SocketAddr::new(*address, door.port);
            tokio::spawn(guard(door.clone(), address, transport.clone(), said.clone()));
        }
    }
}

/// Lets clients pass a door.
async fn guard(door: Door, address: SocketAddr, transport: Transport, said: Arc<Said>) {
    transport.ready().await;
    let mut complained = false;
    let listener = loop {
        match TcpListener::bind(address).await {
            Ok(listener) => break listener,
            Err(error) => {
                if !complained {
                    tracing::warn!(what = door.what, %address, %error, "the port cannot be opened; trying again");
                }
                complained = true;
                tokio::time::sleep(RETRY).await;
            }
        }
    };
    let crowd = Arc::<Crowd>::default();
    loop {
        match listener.accept().await {
            Ok((stream, client)) => {
                // Whoever has too many is closed.
                let Some(turn) = crowd.enter(client.ip()) else { continue };
                let (door, transport, said) = (door.clone(), transport.clone(), said.clone());
                tokio::spawn(async move {
                    if let Err(why) = pass(&door, stream, &transport, turn).await {
                        said.say(door.what, client.ip(), &why);
                    }
                });
            }
            Err(error) => {
                tracing::warn!(what = door.what, %error, "a client is not accepted");
                tokio::time::sleep(RETRY).await;
            }
        }
    }
}

/// Connects a client with the socket behind a door. Returns why it may not pass.
async fn pass(door: &Door, stream: TcpStream, transport: &Transport, turn: Turn) -> Result<(), String> {
    let (client, certified) = transport.accept(stream).await.map_err(|error| error.to_string())?;
    door.admits(transport, certified.as_ref().map(|client| &client.identity))?;
    drop(turn);
    let behind = Behind::Own(door.target.clone());
    let joined = async {
        if door.waits {
            join_with(client, &behind).await;
        } else if door.answers.as_ref().is_none_or(|answers| answers.load(Ordering::Relaxed))
            && let Ok(server) = behind.connect().await
        {
            join(client, server, &[]).await;
        }
        Ok(())
    };
    tokio::select! {
        joined = joined => joined,
        () = transport.distrusts(certified.as_ref()) => Err("its certificate is not trusted any more".to_owned()),
    }
}

/// Where a connection leads to.
enum Behind {
    /// The own server at this socket.
    Own(PathBuf),
    /// That of another member at this address.
    Other(SocketAddr, Transport),
}

impl Behind {
    async fn connect(&self) -> io::Result<Box<dyn Stream>> {
        match self {
            Self::Own(socket) => Ok(Box::new(UnixStream::connect(socket).await?)),
            Self::Other(address, transport) => transport.connect(*address).await,
        }
    }
}

impl Door {
    fn admits(&self, transport: &Transport, identity: Option<&Identity>) -> Result<(), String> {
        match identity {
            Some(identity) if self.roles.contains(&identity.role) => Ok(()),
            Some(identity) => Err(format!("{:?} is no {:?}", identity, self.roles)),
            None if transport.is_tls() => Err("it has no certificate".to_owned()),
            None => Ok(()),
        }
    }
}

/// Leads what the own server says to another one.
async fn lead(listener: UnixListener, peer: SocketAddr, transport: Transport) {
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            tokio::time::sleep(RETRY).await;
            continue;
        };
        let behind = Behind::Other(peer, transport.clone());
        tokio::spawn(async move { join_with(stream, &behind).await });
    }
}

/// Connects a client with a server as soon as that is there, unless the client has left. By itself, a server of Raft would pause
/// for up to 8 s before it tries again.
async fn join_with(mut client: impl Stream, behind: &Behind) {
    let mut said = Vec::new();
    let reach = async {
        let (mut pause, longest) = ATTEMPTS;
        loop {
            if let Ok(server) = behind.connect().await {
                return server;
            }
            tokio::time::sleep(pause).await;
            pause = longest.min(pause * 2);
        }
    };
    let server = tokio::select! {
        server = reach => server,
        () = transport::listen(&mut client, &mut said) => return,
    };
    join(client, server, &said).await;
}

/// Passes on what both say, and first what the client has `said` before.
async fn join(mut client: impl Stream, mut server: impl Stream, said: &[u8]) {
    if server.write_all(said).await.is_ok() {
        // Each end says itself why it has ended.
        let _ = copy_bidirectional_with_sizes(&mut client, &mut server, BUFFER, BUFFER).await;
    }
}

/// What was said about clients that did not pass.
#[derive(Debug, Default)]
struct Said(Mutex<BTreeMap<(&'static str, IpAddr), Instant>>);

impl Said {
    fn say(&self, what: &'static str, client: IpAddr, why: &str) {
        let mut said = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        said.retain(|_, when| when.elapsed() < QUIET);
        if said.insert((what, client), Instant::now()).is_none() {
            tracing::warn!(what, %client, why, "a client is refused");
        }
    }
}

/// Those whose handshakes with a door are in progress.
#[derive(Debug, Default)]
struct Crowd(Mutex<BTreeMap<IpAddr, usize>>);

/// One of the crowd.
#[derive(Debug)]
struct Turn {
    crowd: Arc<Crowd>,
    client: IpAddr,
}

impl Crowd {
    /// Lets a client begin, unless there are too many.
    fn enter(self: &Arc<Self>, client: IpAddr) -> Option<Turn> {
        let mut crowd = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if crowd.values().sum::<usize>() >= MOST || crowd.get(&client).is_some_and(|own| *own >= MOST_OF_ONE) {
            return None;
        }
        *crowd.entry(client).or_default() += 1;
        Some(Turn { crowd: self.clone(), client })
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut crowd = self.crowd.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(own) = crowd.get_mut(&self.client) {
            *own -= 1;
            if *own == 0 {
                crowd.remove(&self.client);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_client_does_not_keep_the_others_out() {
        let crowd = Arc::<Crowd>::default();
        let address = |number: usize| IpAddr::from([10, 0, 0, u8::try_from(number).unwrap()]);
        let of_one: Vec<_> = (0..MOST).map_while(|_| crowd.enter(address(1))).collect();
        assert_eq!(of_one.len(), MOST_OF_ONE);
        let others: Vec<_> = (0..MOST).filter_map(|number| crowd.enter(address(2 + number % 200))).collect();
        assert_eq!(others.len(), MOST - MOST_OF_ONE);
        drop(of_one);
        assert!(crowd.enter(address(1)).is_some());
    }
}
