//! The northbound or the southbound database: its file, its server, its place in the cluster, and the check that clients are
//! served.

use std::convert::Infallible;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use daemons::control::{self, ControlError};
use daemons::daemon::Hear;
use daemons::damage;
use daemons::tool::{self, ToolError};
use daemons::version::Version;
use keys::{Keys, Role};
use kit::once::Once;
use serde_json::{Map, Value, json};
use tokio::process::Command;
use tokio::sync::Notify;
use tokio::task::AbortHandle;

use crate::address;
use crate::agreed::Agreement;
use crate::args::Run;
use crate::backup::Backups;
use crate::complete;
use crate::file::{File, FileError};
use crate::gate::{Door, Peers};
use crate::listed::{self, ListedError};
use crate::standing::Standing;
use crate::transport::{Stream, Transport};

/// The pause before something that the cluster has not done yet is looked at again.
const RETRY: Duration = Duration::from_secs(1);

/// The pause before a full disk is looked at again.
const SPACE: Duration = Duration::from_secs(5);

/// The two databases.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Which {
    /// The northbound database, which the controller writes.
    Northbound,
    /// The southbound database, which the chassis read.
    Southbound,
}

/// A database and its server.
#[derive(Clone, Debug)]
pub struct Database {
    which: Which,
    file: File,
    run_directory: PathBuf,
    /// The addresses for clients.
    listen: Vec<IpAddr>,
    /// The port for clients: of the northbound database a door, of the southbound one that of its server.
    port: u16,
    /// The port of the door for members and controllers.
    door: u16,
    transport: Transport,
    peers: Peers,
    keys: Keys,
    others: Others,
    /// Whether the server was told to exit so that its file is prepared anew.
    restart: Arc<AtomicBool>,
    /// Of the northbound database.
    backups: Option<Backups>,
    /// Whether the last server ended before it worked.
    failed: bool,
    /// Whether the server serves clients of other machines.
    open: Arc<AtomicBool>,
    /// Whether the server answers.
    answers: Arc<AtomicBool>,
    /// Tells that the server could not write a record to its file.
    unwritten: Arc<Notify>,
    probe_interval: u32,
    /// Finishes the start of the running server.
    settling: Option<AbortHandle>,
}

/// How a member knows the other members.
#[derive(Clone, Debug)]
pub enum Others {
    /// From a list of their addresses and ports for Raft.
    Listed(Vec<SocketAddr>),
    /// From Kubernetes.
    Agreed(Box<Agreement>),
}

/// Why a database is not available.
#[derive(Debug, thiserror::Error)]
pub enum DatabaseError {
    /// The database file is unusable.
    #[error(transparent)]
    File(#[from] FileError),
    /// The database file cannot be used beside the members of the list.
    #[error(transparent)]
    Listed(#[from] ListedError),
    /// A tool such as `ovsdb-tool` failed.
    #[error(transparent)]
    Tool(#[from] ToolError),
    /// The server does not answer.
    #[error(transparent)]
    Control(#[from] ControlError),
    /// The configuration file of the server cannot be written.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file that cannot be written.
        path: PathBuf,
        /// The error.
        source: std::io::Error,
    },
    /// The server is not connected to the leader of its cluster, so it refuses writes, and its data may be old.
    #[error("it is not connected to the leader of its cluster: {0}")]
    Apart(String),
    /// The member cannot serve other machines.
    #[error("the member has no key yet: its log says why")]
    NoKey,
    /// The schema version cannot be parsed.
    #[error("the schema's version makes no sense: {0}")]
    Schema(String),
}

impl Which {
    /// Returns the name of the server in the log.
    pub fn name(self) -> &'static str {
        match self {
            Self::Northbound => "nb",
            Self::Southbound => "sb",
        }
    }

    /// Returns the name of the database in its schema.
    pub fn schema(self) -> &'static str {
        match self {
            Self::Northbound => "OVN_Northbound",
            Self::Southbound => "OVN_Southbound",
        }
    }

    /// Returns the table with the only row of settings.
    pub fn global(self) -> &'static str {
        match self {
            Self::Northbound => "NB_Global",
            Self::Southbound => "SB_Global",
        }
    }
}

impl Database {
    /// Creates the description of a database from the flags. `agreement` is that of members that agree in Kubernetes, and
    /// `listed` are the addresses of the other members without it.
    pub fn new(
        which: Which,
        run: &Run,
        agreement: Option<Agreement>,
        listed: &[IpAddr],
        ways: (&Transport, &Peers),
    ) -> Self {
        let (port, door, raft_port) = match which {
            Which::Northbound => (run.nb_port, run.nb_port, run.nb_raft_port),
            Which::Southbound => (run.sb_port, run.sb_admin_port, run.sb_raft_port),
        };
        let listed = || listed.iter().map(|address| SocketAddr::new(*address, raft_port)).collect();
        Self {
            which,
            file: File {
                path: run.database_directory.join(format!("ovn{}_db.db", which.name())),
                schema: run.schema_directory.join(format!("ovn-{}.ovsschema", which.name())),
                database: which.schema(),
                address: address::of(SocketAddr::new(run.address, raft_port)),
                // Without TLS, no controller reaches the southbound database before northd has written to it.
                first: (which == Which::Northbound || run.tls).then(|| complete::first(which)),
            },
            backups: (which == Which::Northbound).then(|| run.backups()),
            run_directory: run.directory.run_directory.clone(),
            listen: run.listen(),
            port,
            door,
            transport: ways.0.clone(),
            peers: ways.1.clone(),
            keys: run.keys(),
            others: agreement.map_or_else(|| Others::Listed(listed()), |one| Others::Agreed(Box::new(one))),
            restart: Arc::default(),
            open: Arc::default(),
            answers: Arc::new(AtomicBool::new(true)),
            unwritten: Arc::default(),
            failed: false,
            probe_interval: run.probe_interval,
            settling: None,
        }
    }

    /// Returns which database this is.
    pub fn which(&self) -> Which {
        self.which
    }

    /// Returns the socket for clients in this container, the default of `ovn-nbctl` and `ovn-sbctl`.
    pub fn socket(&self) -> PathBuf {
        self.beside("sock")
    }

    /// Returns the server of this container as a client names it.
    fn server(&self) -> String {
        format!("unix:{}", self.socket().display())
    }

    /// Returns the control socket of the server.
    pub fn control(&self) -> PathBuf {
        self.beside("ctl")
    }

    /// Prepares the database file. Returns the command that starts the server.
    pub async fn prepare(&mut self) -> Result<Command, DatabaseError> {
        self.stop_settling();
        let mut said = false;
        while let Err(error) = self.prepare_file().await {
            let why = error.to_string();
            if !damage::lacks_space(&why) {
                return Err(error);
            }
            if !said {
                tracing::error!(database = self.which.schema(), %error, "the file cannot be prepared before there is space");
            }
            said = true;
            tokio::time::sleep(SPACE).await;
        }
        // Without the API server, the file is all that says who the others are.
        if let Ok(configuration) = self.file.last_configuration().await {
            self.peers.know(address::mentioned(&configuration));
        }
        self.failed = true;
        let open = self.which == Which::Northbound;
        self.open.store(open, Ordering::Relaxed);
        let config = self.configure(open)?;
        let mut command = daemons::daemon::command("ovsdb-server");
        command.env("OVS_RUNDIR", &self.run_directory).args([
            format!("--config-file={}", config.display()),
            format!("--unixctl={}", self.control().display()),
            format!("--pidfile={}", self.beside("pid").display()),
        ]);
        if self.serves_chassis() && self.transport.is_tls() {
            let (own, trusted) = (self.keys.own(), self.keys.trusted());
            command.args([
                format!("--private-key={}", own.display()),
                format!("--certificate={}", own.display()),
                format!("--ca-cert={}", trusted.display()),
            ]);
        }
        Ok(command)
    }

    /// Returns what listens to the server's log.
    pub fn hear(&self) -> Hear {
        let unwritten = self.unwritten.clone();
        Arc::new(move |message| {
            if message.contains("write failed") {
                unwritten.notify_one();
            }
        })
    }

    /// Whenever the server could not write records, because the disk was full, has it write its file anew when there is space. Until
    /// then, it goes on in memory, and it neither acknowledges nor writes the missing records by itself.
    pub async fn complete_file(&self) -> Infallible {
        loop {
            self.unwritten.notified().await;
            let database = self.which.schema();
            tracing::error!(database, "records are not in the file: the server goes on in memory until there is space");
            loop {
                tokio::time::sleep(RETRY).await;
                match control::ask(&self.control(), "ovsdb-server/compact", &[database]).await {
                    Ok(_) => {
                        tracing::info!(database, "the file is complete again");
                        break;
                    }
                    Err(ControlError::Refused { said, .. }) if damage::lacks_space(&said) => {}
                    // It has ended, or starts anew. Then the file is looked at closely.
                    Err(error) => {
                        tracing::warn!(database, %error, "the file is not written anew");
                        break;
                    }
                }
            }
        }
    }

    async fn prepare_file(&self) -> Result<(), DatabaseError> {
        match &self.others {
            Others::Listed(others) => {
                self.peers.know(others.iter().copied());
                let others: Vec<_> = others.iter().copied().map(address::of).collect();
                Ok(listed::prepare(&self.file, &others, self.failed).await?)
            }
            Others::Agreed(agreement) => Ok(agreement.prepare(&self.file, self.failed).await?),
        }
    }

    /// Returns whether chassis connect to the server itself, because it knows the rights of each of them.
    fn serves_chassis(&self) -> bool {
        self.which == Which::Southbound
    }

    /// Writes the configuration file of the server. Returns its path.
    fn configure(&self, open: bool) -> Result<PathBuf, DatabaseError> {
        let config = self.beside("json");
        let listen = if open && self.serves_chassis() { &self.listen[..] } else { &[] };
        let listen: Vec<_> = listen.iter().map(|address| SocketAddr::new(*address, self.port)).collect();
        let settings = remote_settings(self.transport.is_tls(), self.probe_interval);
        let text = config_file(&self.socket(), &listen, &settings, &self.file.path).to_string();
        std::fs::write(&config, text).map_err(|source| DatabaseError::Io { path: config.clone(), source })?;
        Ok(config)
    }

    /// Serves clients of other machines as soon as northd has written to the southbound database. An ovn-controller that sees an
    /// empty one takes all flows away.
    async fn open(&self) -> Result<(), DatabaseError> {
        if self.is_open() {
            return Ok(());
        }
        complete::written(&self.socket()).await;
        self.transport.ready().await;
        self.configure(true)?;
        control::ask(&self.control(), "ovsdb-server/reload", &[]).await?;
        self.open.store(true, Ordering::Relaxed);
        Ok(())
    }

    /// Returns whether the server serves clients of other machines.
    pub fn is_open(&self) -> bool {
        self.open.load(Ordering::Relaxed)
    }

    /// Returns the door to the server for members and controllers.
    pub fn door(&self) -> Door {
        let what = match self.which {
            Which::Northbound => "northbound database",
            Which::Southbound => "southbound database",
        };
        let (addresses, roles) = (self.listen.clone(), &[Role::Member, Role::Controller][..]);
        Door {
            what,
            addresses,
            port: self.door,
            target: self.socket(),
            roles,
            answers: Some(self.answers.clone()),
            waits: false,
        }
    }

    /// Says whether the server answers. Until this is called, it is said to do so.
    pub fn answers(&self, now: bool) {
        self.answers.store(now, Ordering::Relaxed);
    }

    /// Returns the door for the other servers of the cluster.
    pub fn raft_door(&self) -> Option<Door> {
        let what = match self.which {
            Which::Northbound => "cluster of the northbound database",
            Which::Southbound => "cluster of the southbound database",
        };
        let gate = address::gate(&self.file.address)?;
        let target = address::socket(&self.run_directory, gate);
        let (addresses, port) = (vec![gate.ip()], gate.port());
        Some(Door { what, addresses, port, target, roles: &[Role::Member], answers: None, waits: true })
    }

    /// Connects to the server of another member at this address.
    pub async fn connect(&self, member: IpAddr) -> std::io::Result<Box<dyn Stream>> {
        self.transport.connect(SocketAddr::new(member, self.door)).await
    }

    /// Returns the address of this member in the cluster.
    pub fn address(&self) -> &str {
        &self.file.address
    }

    /// Has the server exit, so that its file is prepared anew and it is started again.
    pub async fn restart(&self) -> Result<(), ControlError> {
        self.restart.store(true, Ordering::Relaxed);
        let told = control::ask(&self.control(), "exit", &[]).await;
        if told.is_err() {
            self.restart.store(false, Ordering::Relaxed);
        }
        told.map(drop)
    }

    /// Returns true once after the server was told to exit to be started again.
    pub fn take_restart(&self) -> bool {
        self.restart.swap(false, Ordering::Relaxed)
    }

    /// Returns the place of the server in its cluster. The server works if it knows that, also without a leader.
    pub async fn standing(&self) -> Result<Standing, DatabaseError> {
        let standing = Standing::parse(&control::ask(&self.control(), "cluster/status", &[self.which.schema()]).await?);
        self.peers.know(standing.gates());
        Ok(standing)
    }

    /// Checks that the server has the data of its cluster and answers at every address. It need not be the leader: it passes
    /// writes on.
    pub async fn check(&self) -> Result<(), DatabaseError> {
        let standing = self.standing().await?;
        if !standing.connected {
            return Err(DatabaseError::Apart(standing.why().to_owned()));
        }
        if !self.is_open() {
            return Ok(());
        }
        let select = json!({"op": "select", "table": self.which.global(), "where": [], "columns": ["_uuid"]});
        if !self.transport.has_key() {
            return Err(DatabaseError::NoKey);
        }
        for address in &self.listen {
            let address = reachable(SocketAddr::new(*address, self.port));
            let (at, connecting) = (address.to_string(), self.transport.connect(address));
            control::read(&at, connecting, self.which.schema(), std::slice::from_ref(&select)).await?;
        }
        Ok(())
    }

    /// Finishes the start of a server that works. Beside other members, that may take as long as the cluster has no leader,
    /// and the other daemons do not wait for it.
    pub async fn finish_start(&mut self) -> Result<(), DatabaseError> {
        self.failed = false;
        self.stop_settling();
        // What a compaction frees goes back to the system.
        control::ask(&self.control(), "ovsdb-server/memory-trim-on-compaction", &["on"]).await?;
        let standing = self.standing().await?;
        if !standing.joining && standing.address != self.file.address {
            // It could not be moved because its last write was incomplete. The server has repaired that.
            tracing::warn!(was = standing.address, is = self.file.address, "the database is moved");
            return Ok(self.restart().await?);
        }
        let servers = standing.servers.len();
        let is_alone = matches!(&self.others, Others::Listed(others) if others.is_empty());
        if is_alone && servers <= 1 {
            self.connected().await?;
            self.convert().await?;
            let database = self.clone();
            self.settling = Some(tokio::spawn(async move { database.settle(false).await }).abort_handle());
            return Ok(());
        }
        if is_alone {
            let database = self.which.schema();
            tracing::warn!(
                database,
                servers,
                "--members names only this member of the cluster: if its file is lost, it founds another cluster"
            );
        }
        let database = self.clone();
        self.settling = Some(tokio::spawn(async move { database.settle(true).await }).abort_handle());
        Ok(())
    }

    /// Opens the database, and does what needs a leader, as soon as the server is connected to its cluster.
    async fn settle(&self, connects: bool) {
        let database = self.which.schema();
        let mut said = Once::default();
        while let Err(error) = self.try_to_settle(connects).await {
            let error = error.to_string();
            if said.is_new(&error) {
                tracing::warn!(database, error, "the start is not finished; trying again");
            }
            tokio::time::sleep(RETRY).await;
        }
    }

    async fn try_to_settle(&self, connects: bool) -> Result<(), DatabaseError> {
        if !connects {
            return self.open().await;
        }
        self.connected().await?;
        let removed = self.remove_predecessors().await;
        self.convert().await?;
        self.open().await?;
        removed
    }

    /// Removes former servers with the address of this one from the cluster. Their files are gone, so they never come back.
    /// Members that agree in Kubernetes know more, and the leader removes those ([`crate::agreed::keeper`]).
    async fn remove_predecessors(&self) -> Result<(), DatabaseError> {
        if matches!(self.others, Others::Agreed(_)) {
            return Ok(());
        }
        let database = self.which.schema();
        loop {
            let standing = self.standing().await?;
            let mut before = standing.predecessors(&self.file.address).peekable();
            if before.peek().is_none() {
                return Ok(());
            }
            for server in before {
                tracing::warn!(database, server, "a former server with the address of this one is removed");
                control::ask(&self.control(), "cluster/kick", &[database, server]).await?;
            }
            // A follower passes the request on, and no event tells when the cluster has done it.
            tokio::time::sleep(RETRY).await;
        }
    }

    fn stop_settling(&mut self) {
        if let Some(settling) = self.settling.take() {
            settling.abort();
        }
    }

    /// Waits until the server is connected to its cluster. Fails if the server ends.
    async fn connected(&self) -> Result<(), DatabaseError> {
        let (database, server) = (self.which.schema(), self.server());
        loop {
            match tool::run("ovsdb-client", ["wait", &server, database, "connected"]).await {
                Err(ToolError::Slow { .. }) => {
                    let standing = self.standing().await?;
                    tracing::warn!(database, status = standing.why(), "waiting for a leader of the cluster");
                }
                other => return Ok(other.map(drop)?),
            }
        }
    }

    /// Converts the database to the installed schema if that is newer. Keeps a newer database schema: members are
    /// upgraded one by one, and an old member must not undo the conversion.
    async fn convert(&self) -> Result<(), DatabaseError> {
        let server = self.server();
        let schema = self.file.schema.display().to_string();
        let name = self.which.schema();
        let found = version(&tool::run("ovsdb-client", ["get-schema-version", &server, name]).await?)?;
        let installed = version(&tool::run("ovsdb-tool", ["schema-version", &schema]).await?)?;
        if installed > found {
            if let Some(backups) = &self.backups
                && let Err(error) = backups.make().await
            {
                tracing::warn!(%error, "there is no backup from before the conversion");
            }
            tracing::info!(database = name, %found, %installed, "the schema is converted");
            tool::run("ovsdb-client", ["--timeout=120", "convert", &server, &schema]).await?;
        }
        Ok(())
    }

    /// Asks the server to exit.
    pub async fn exit(&mut self) -> Result<(), DatabaseError> {
        self.stop_settling();
        control::ask(&self.control(), "exit", &[]).await?;
        Ok(())
    }

    /// The time limit for the start of the server, which reads the whole file.
    pub fn patience(&self) -> Duration {
        Duration::from_mins(5)
    }

    /// Returns the path of a file of the server: `ovnnb_db.<extension>` or `ovnsb_db.<extension>`.
    pub fn beside(&self, extension: &str) -> PathBuf {
        self.run_directory.join(format!("ovn{}_db.{extension}", self.which.name()))
    }
}

/// Returns the configuration file of the server (ovsdb-server(1), "Configuration File"). Only this file can set the
/// inactivity probe for this server alone.
fn config_file(socket: &Path, listen: &[SocketAddr], (method, settings): &(&str, Value), file: &Path) -> Value {
    let mut remotes = Map::new();
    remotes.insert(format!("punix:{}", socket.display()), json!({}));
    for address in listen {
        let ip = match address.ip() {
            IpAddr::V4(ip) => ip.to_string(),
            IpAddr::V6(ip) => format!("[{ip}]"),
        };
        remotes.insert(format!("{method}:{}:{ip}", address.port()), settings.clone());
    }
    json!({"remotes": remotes, "databases": {file.display().to_string(): {}}})
}

/// Returns the method by which chassis connect, and its settings. With TLS, a chassis can change only what the role allows to the
/// one that its certificate names (ovn-sb(5), `RBAC_Role`).
fn remote_settings(tls: bool, probe_interval: u32) -> (&'static str, Value) {
    if tls {
        ("pssl", json!({"inactivity-probe": probe_interval, "role": "ovn-controller"}))
    } else {
        ("ptcp", json!({"inactivity-probe": probe_interval}))
    }
}

/// Returns the address at which a client on this machine reaches this listener.
fn reachable(mut address: SocketAddr) -> SocketAddr {
    if address.ip().is_unspecified() {
        let v6 = address.is_ipv6();
        address.set_ip(if v6 { Ipv6Addr::LOCALHOST.into() } else { Ipv4Addr::LOCALHOST.into() });
    }
    address
}

fn version(said: &str) -> Result<Version, DatabaseError> {
    said.trim().parse().map_err(|_| DatabaseError::Schema(said.trim().to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_without_a_majority_says_so() {
        let message = |status: &str| {
            DatabaseError::Apart(Standing::parse(&format!("Status: {status}\n")).why().to_owned()).to_string()
        };
        assert_eq!(
            message("disconnected from the cluster (election timeout)"),
            "it is not connected to the leader of its cluster: disconnected from the cluster (election timeout)"
        );
        assert_eq!(message("joining cluster"), "it is not connected to the leader of its cluster: joining cluster");
    }

    #[test]
    fn each_address_is_served_in_the_words_of_ovs() {
        let listen = ["10.0.0.1:6641", "[::]:6641"].map(|text| text.parse().unwrap());
        let config = |tls| {
            let settings = remote_settings(tls, 5000);
            config_file(Path::new("/run/ovn/ovnnb_db.sock"), &listen, &settings, Path::new("/etc/ovn/ovnnb_db.db"))
        };
        let expected = json!({
            "remotes": {
                "punix:/run/ovn/ovnnb_db.sock": {},
                "ptcp:6641:10.0.0.1": {"inactivity-probe": 5000},
                "ptcp:6641:[::]": {"inactivity-probe": 5000},
            },
            "databases": {"/etc/ovn/ovnnb_db.db": {}},
        });
        assert_eq!(config(false), expected);
        let chassis = json!({"inactivity-probe": 5000, "role": "ovn-controller"});
        assert_eq!(config(true)["remotes"]["pssl:6641:[::]"], chassis);
        assert_eq!(listen.map(reachable).map(|address| address.to_string()), ["10.0.0.1:6641", "[::1]:6641"]);
    }
}
