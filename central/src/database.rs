//! The northbound or the southbound database: its file, its server, its place in the cluster, and the check that clients are
//! served.

mod config;
mod space;
mod start;
mod which;

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use daemons::control::{self, ControlError};
use daemons::tool::ToolError;
use keys::{Keys, Role};
use serde_json::json;
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

use self::config::reachable;
pub use self::which::Which;

/// The pause before something that the cluster has not done yet is looked at again.
const RETRY: Duration = Duration::from_secs(1);

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
        self.prepare_file_in_space().await?;
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
}
