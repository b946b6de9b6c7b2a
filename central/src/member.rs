//! The member: both databases and northd, started in the order of their dependencies.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use daemons::control::{self, ControlError};
use daemons::crew::{Crew, CrewError, Part};
use daemons::daemon::Hear;
use daemons::init::{self, InitError};
use daemons::status::{self, Question, Status, StatusError};
use daemons::version::{Version, VersionError};
use keys::Authority;
use keys::tls::Tls;
use kit::kubernetes::Seen;
use tokio::process::Command;
use tokio::sync::watch;

use crate::address;
use crate::agreed::keeper::Keeper;
use crate::agreed::{Agreement, Settings};
use crate::args::{Check, Run};
use crate::complete;
use crate::database::{Database, DatabaseError, Which};
use crate::gate::{Gate, Peers};
use crate::leader::{self, Clients, Leader};
use crate::northd::{self, Northd, NorthdError};
use crate::own_key::OwnKey;
use crate::roles::Labels;
use crate::server;
use crate::signer::Signer;
use crate::transport::Transport;

/// The pause from the restart of one member's server to that of the next one's.
const EACH: Duration = Duration::from_secs(10);

/// Why the member stopped without a stop signal.
#[derive(Debug, thiserror::Error)]
pub enum MemberError {
    /// The flags contradict each other.
    #[error("{0}")]
    Flags(String),
    /// The installed OVN is too old.
    #[error(transparent)]
    Version(#[from] VersionError),
    /// A daemon fails permanently.
    #[error(transparent)]
    Crew(#[from] CrewError),
    /// A directory, a socket or a limit cannot be set up.
    #[error(transparent)]
    Init(#[from] InitError),
    /// There is no way to the API server.
    #[error("{0:#}")]
    Kubernetes(anyhow::Error),
}

/// A daemon of the member.
#[derive(Clone, Debug)]
enum Place {
    Database(Box<Database>),
    Northd(Northd),
}

/// Why a daemon does not work.
#[derive(Debug, thiserror::Error)]
enum PlaceError {
    #[error(transparent)]
    Database(#[from] DatabaseError),
    #[error(transparent)]
    Northd(#[from] NorthdError),
    #[error(transparent)]
    Control(#[from] ControlError),
}

/// Runs the member until a stop signal.
pub async fn run(run: Run) -> Result<(), MemberError> {
    let others = run.others().map_err(MemberError::Flags)?;
    let files = init::begin()?;
    let ovn = Version::of_ovn("ovn-northd").await?;
    let stop = kit::signals::stop_requested();
    let Some(_turn) = init::take_turn(&run.directory.run_directory, &[&run.database_directory], stop).await? else {
        return Ok(());
    };
    tracing::info!(%ovn, address = %run.address, ?others, listen = ?run.listen(), files, "starting");

    let kube = kube(&run).await?;
    let (transport, authorities) = transport(&run, kube.as_ref())?;
    let own = [run.nb_raft_port, run.sb_raft_port].map(|port| SocketAddr::new(run.address, port));
    let raft = address::directory(&run.directory.run_directory);
    let (peers, queue) = Peers::new(&run.directory.run_directory, own).map_err(InitError::on(&raft.display()))?;
    let both = [Which::Northbound, Which::Southbound];
    let agreements =
        kube.as_ref().map(|(client, settings)| Agreement::watch(client, settings, both.map(Which::schema), &peers));
    let [of_northbound, of_southbound] = agreements.clone().map_or([None, None], |both| both.map(Some));
    let ways = (&transport, &peers);
    let northbound = Database::new(Which::Northbound, &run, of_northbound, &others, ways);
    let southbound = Database::new(Which::Southbound, &run, of_southbound, &others, ways);
    let doors = [&northbound, &southbound].map(|database| [Some(database.door()), database.raft_door()]);
    let doors = doors.into_iter().flatten().flatten().collect();
    let gate = Gate { transport, doors, peers: queue };
    gate.start().map_err(InitError::on(&"the thread of the gate"))?;
    let northd = Northd::new(&northbound, &southbound, &run);
    let database = |database: &Database| Place::Database(Box::new(database.clone()));
    let places = [database(&northbound), database(&southbound), Place::Northd(northd.clone())];
    let crew = Crew::new(places.clone(), run.grace());
    let socket = run.directory.status();
    let status = Status::bind(&socket, crew.members()).map_err(InitError::on(&socket.display()))?;
    let answering =
        async |question, name, pid| match (places.iter().find(|place: &&Place| place.name() == name), question) {
            (Some(place), Question::Live) => place.answers(pid).await,
            (Some(place), Question::Ready) => place.serves(pid).await,
            (None, _) => Ok(()),
        };
    for database in [&northbound, &southbound] {
        let socket = leader::path(database);
        let clients = Clients::new(complete::follow(database, crew.members()), &northd, crew.members());
        tokio::spawn(Leader::bind(database, clients).map_err(InitError::on(&socket.display()))?.serve());
    }
    let roles = [&northbound, &southbound].map(|database| server::follow(database, crew.members()));
    tokio::spawn(run.backups().run(roles[0].clone()));
    for database in [&northbound, &southbound] {
        let database = database.clone();
        tokio::spawn(async move { database.complete_file().await });
    }
    if let (Some((client, settings)), Some([of_northbound, of_southbound])) = (&kube, agreements) {
        if let Some(Authorities { signs, distrusted }) = authorities {
            let (client, namespace) = (client.clone(), settings.namespace.clone());
            tokio::spawn(Signer { client, namespace, authority: signs, southbound: southbound.clone() }.run());
            tokio::spawn(cut_off(southbound.clone(), of_southbound.clone(), distrusted));
        }
        if let Some(pod) = &run.kubernetes.pod_name {
            let labels = Labels::new(client, &settings.namespace, pod, roles.clone(), &northd, crew.members());
            tokio::spawn(labels.run());
        }
        tokio::spawn(know(peers, of_northbound.labelled.clone(), [run.nb_raft_port, run.sb_raft_port]));
        let [role_of_northbound, role_of_southbound] = roles;
        tokio::spawn(Keeper::new(of_northbound, northbound, role_of_northbound, run.election_timer).run());
        tokio::spawn(Keeper::new(of_southbound, southbound, role_of_southbound, run.election_timer).run());
    }
    Ok(crew.serve(status, kit::signals::stop_requested(), answering).await?)
}

/// Returns the client of a member that agrees with the others in Kubernetes.
async fn kube(run: &Run) -> Result<Option<(kube::Client, Settings)>, MemberError> {
    let Some(node_name) = run.kubernetes.node_name.clone() else { return Ok(None) };
    let registry = prometheus::Registry::new();
    let client = kit::kubernetes::client(run.kubernetes.kubeconfig.as_deref(), &registry);
    let client = client.await.map_err(MemberError::Kubernetes)?;
    let namespace = run.kubernetes.namespace.clone();
    Ok(Some((client, Settings { node_name, namespace, database_nodes: run.kubernetes.database_nodes.clone() })))
}

/// What tells about the authority for keys.
struct Authorities {
    /// The authority that signs now.
    signs: watch::Receiver<Option<Arc<Authority>>>,
    /// Tells that one is not trusted any more.
    distrusted: watch::Receiver<()>,
}

/// Returns how the member speaks with others. In Kubernetes, it starts the task that keeps the member's key.
fn transport(
    run: &Run,
    kube: Option<&(kube::Client, Settings)>,
) -> Result<(Transport, Option<Authorities>), MemberError> {
    if !run.tls {
        tracing::warn!("--tls=false: everybody who reaches the ports of the databases can change the whole network");
        return Ok((Transport::Plain, None));
    }
    let Some((client, settings)) = kube else {
        let keys = run.keys();
        let tls =
            Tls::follow(&keys).map_err(|error| MemberError::Flags(format!("{error}; --tls=false does without")))?;
        return Ok((Transport::Tls(tls), None));
    };
    let own = OwnKey::new(client, &settings.namespace, &settings.node_name, vec![run.address], run.keys());
    let (tls, authorities) = (own.tls(), Authorities { signs: own.authority(), distrusted: own.distrusted() });
    tokio::spawn(own.run());
    Ok((Transport::Tls(tls), Some(authorities)))
}

/// Starts the server of the chassis again when an authority is not trusted any more, one member after the other: so connections
/// end that somebody has opened with a key of it.
async fn cut_off(southbound: Database, agreement: Agreement, mut distrusted: watch::Receiver<()>) {
    // The sender lives as long as the process.
    while distrusted.changed().await.is_ok() {
        let before = agreement.labelled().unwrap_or_default().into_keys().take_while(|node| *node != agreement.node);
        tokio::time::sleep(EACH * u32::try_from(before.count()).unwrap_or_default()).await;
        tracing::info!("an authority for keys is not trusted any more: the southbound server starts again");
        while let Err(error) = southbound.restart().await {
            tracing::warn!(%error, "the southbound server does not start again yet");
            tokio::time::sleep(EACH).await;
        }
    }
}

/// Reaches the servers of all nodes with members.
async fn know(peers: Peers, mut labelled: watch::Receiver<Seen<Vec<IpAddr>>>, ports: [u16; 2]) {
    loop {
        let addresses: Vec<IpAddr> = labelled.borrow_and_update().objects.values().flatten().copied().collect();
        let each = |port| addresses.iter().map(move |address| SocketAddr::new(*address, port));
        peers.know(ports.into_iter().flat_map(each));
        // The sender lives as long as the process.
        let _ = labelled.changed().await;
    }
}

/// Queries the member in this container.
pub async fn check(check: &Check) -> Result<(), StatusError> {
    status::ask(&check.directory.status(), check.question).await
}

impl Place {
    /// Checks that the daemon serves its clients.
    async fn serves(&self, pid: u32) -> Result<(), PlaceError> {
        match self {
            Self::Database(database) => Ok(database.check().await?),
            Self::Northd(northd) => Ok(northd.check(pid).await?),
        }
    }

    /// Checks that the daemon answers.
    async fn answers(&self, pid: u32) -> Result<(), PlaceError> {
        let socket = match self {
            Self::Database(database) => database.control(),
            Self::Northd(northd) => northd.control(pid),
        };
        control::ask(&socket, "version", &[]).await?;
        Ok(())
    }
}

impl Part for Place {
    type Error = PlaceError;

    fn name(&self) -> &'static str {
        match self {
            Self::Database(database) => database.which().name(),
            Self::Northd(_) => northd::NAME,
        }
    }

    fn is_independent(&self) -> bool {
        matches!(self, Self::Database(_))
    }

    async fn prepare(&mut self) -> Result<Command, PlaceError> {
        match self {
            Self::Database(database) => Ok(database.prepare().await?),
            Self::Northd(northd) => Ok(northd.command()),
        }
    }

    /// A server that has no leader works: to start it again would not help, and the other members need it for a majority. A
    /// northd that waits for a leader works, too.
    async fn check(&self, pid: u32) -> Result<(), PlaceError> {
        match self {
            Self::Database(database) => Ok(database.standing().await.map(drop)?),
            Self::Northd(_) => self.answers(pid).await,
        }
    }

    async fn finish_start(&mut self, _: u32) -> Result<(), PlaceError> {
        match self {
            Self::Database(database) => Ok(database.finish_start().await?),
            Self::Northd(_) => Ok(()),
        }
    }

    async fn exit(&mut self, pid: u32) -> Result<(), PlaceError> {
        match self {
            Self::Database(database) => Ok(database.exit().await?),
            Self::Northd(northd) => Ok(northd.exit(pid).await?),
        }
    }

    fn hear(&self) -> Option<Hear> {
        match self {
            Self::Database(database) => Some(database.hear()),
            Self::Northd(_) => None,
        }
    }

    fn take_restart(&mut self) -> bool {
        match self {
            Self::Database(database) => database.take_restart(),
            Self::Northd(_) => false,
        }
    }

    fn patience(&self) -> Duration {
        match self {
            Self::Database(database) => database.patience(),
            Self::Northd(_) => Duration::from_mins(1),
        }
    }
}
