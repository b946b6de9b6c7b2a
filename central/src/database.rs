//! The northbound or the southbound database: its file, its server, its place in the cluster, and the check that clients are
//! served.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use daemons::control::{self, ControlError};
use daemons::tool::{self, ToolError};
use daemons::version::Version;
use serde_json::{Map, Value, json};
use tokio::process::Command;
use tokio::task::AbortHandle;

use crate::args::Run;
use crate::file::{File, FileError};
use crate::standing::Standing;

/// The pause before something that the cluster has not done yet is looked at again.
const RETRY: Duration = Duration::from_secs(1);

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
    listen: Vec<SocketAddr>,
    /// Where clients reach the other members.
    others: Vec<SocketAddr>,
    probe_interval: u32,
    /// Finishes the start of the running server.
    settling: Option<AbortHandle>,
}

/// Why a database is not available.
#[derive(Debug, thiserror::Error)]
pub enum DatabaseError {
    /// The database file is unusable.
    #[error(transparent)]
    File(#[from] FileError),
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
    #[error("it is not connected to the leader of its cluster: {}", .0.why())]
    Apart(Standing),
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
    fn global(self) -> &'static str {
        match self {
            Self::Northbound => "NB_Global",
            Self::Southbound => "SB_Global",
        }
    }
}

impl Database {
    /// Creates the description of a database from the flags and the addresses of the other members.
    pub fn new(which: Which, run: &Run, others: &[IpAddr]) -> Self {
        let (port, raft_port) = match which {
            Which::Northbound => (run.nb_port, run.nb_raft_port),
            Which::Southbound => (run.sb_port, run.sb_raft_port),
        };
        let raft = |address: &IpAddr| format!("tcp:{}", SocketAddr::new(*address, raft_port));
        Self {
            which,
            file: File {
                path: run.database_directory.join(format!("ovn{}_db.db", which.name())),
                schema: run.schema_directory.join(format!("ovn-{}.ovsschema", which.name())),
                database: which.schema(),
                address: raft(&run.address),
                others: others.iter().map(raft).collect(),
            },
            run_directory: run.directory.run_directory.clone(),
            listen: run.listen().into_iter().map(|address| SocketAddr::new(address, port)).collect(),
            others: others.iter().map(|address| SocketAddr::new(*address, port)).collect(),
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
        self.file.prepare().await?;
        let config = self.beside("json");
        let text = config_file(&self.socket(), &self.listen, self.probe_interval, &self.file.path).to_string();
        std::fs::write(&config, text).map_err(|source| DatabaseError::Io { path: config.clone(), source })?;
        let mut command = daemons::daemon::command("ovsdb-server");
        command.args([
            format!("--config-file={}", config.display()),
            format!("--unixctl={}", self.control().display()),
            format!("--pidfile={}", self.beside("pid").display()),
        ]);
        Ok(command)
    }

    /// Returns the servers to which a client in this container connects, this member first.
    pub fn servers(&self) -> String {
        let others = self.others.iter().map(|address| format!("tcp:{address}"));
        [self.server()].into_iter().chain(others).collect::<Vec<_>>().join(",")
    }

    /// Returns the place of the server in its cluster. The server works if it knows that, also without a leader.
    pub async fn standing(&self) -> Result<Standing, DatabaseError> {
        Ok(Standing::parse(&control::ask(&self.control(), "cluster/status", &[self.which.schema()]).await?))
    }

    /// Checks that the server has the data of its cluster and answers at every address. It need not be the leader: it passes
    /// writes on.
    pub async fn check(&self) -> Result<(), DatabaseError> {
        let standing = self.standing().await?;
        if !standing.connected {
            return Err(DatabaseError::Apart(standing));
        }
        let select = json!({"op": "select", "table": self.which.global(), "where": [], "columns": ["_uuid"]});
        for address in &self.listen {
            control::read(reachable(*address), self.which.schema(), std::slice::from_ref(&select)).await?;
        }
        Ok(())
    }

    /// Finishes the start of a server that works. Beside other members, that may take as long as the cluster has no leader,
    /// and the other daemons do not wait for it.
    pub async fn finish_start(&mut self) -> Result<(), DatabaseError> {
        self.stop_settling();
        let servers = self.standing().await?.servers.len();
        if self.others.is_empty() && servers <= 1 {
            self.connected().await?;
            return self.convert().await;
        }
        if self.others.is_empty() {
            let database = self.which.schema();
            tracing::warn!(
                database,
                servers,
                "--members names only this member of the cluster: if its file is lost, it founds another cluster"
            );
        }
        let database = self.clone();
        self.settling = Some(tokio::spawn(async move { database.settle().await }).abort_handle());
        Ok(())
    }

    /// Does what needs a leader, as soon as the server is connected to its cluster.
    async fn settle(&self) {
        let database = self.which.schema();
        let mut said = String::new();
        while let Err(error) = self.try_to_settle().await {
            let error = error.to_string();
            if error != said {
                tracing::warn!(database, error, "the start is not finished; trying again");
            }
            said = error;
            tokio::time::sleep(RETRY).await;
        }
    }

    async fn try_to_settle(&self) -> Result<(), DatabaseError> {
        self.connected().await?;
        let removed = self.remove_predecessors().await;
        self.convert().await?;
        removed
    }

    /// Removes former servers with the address of this one from the cluster. Their files are gone, so they never come back.
    async fn remove_predecessors(&self) -> Result<(), DatabaseError> {
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

    fn beside(&self, extension: &str) -> PathBuf {
        self.run_directory.join(format!("ovn{}_db.{extension}", self.which.name()))
    }
}

/// Returns the configuration file of the server (ovsdb-server(1), "Configuration File"). Only this file can set the
/// inactivity probe for this server alone.
fn config_file(socket: &Path, listen: &[SocketAddr], probe_interval: u32, file: &Path) -> Value {
    let mut remotes = Map::new();
    remotes.insert(format!("punix:{}", socket.display()), json!({}));
    for address in listen {
        let ip = match address.ip() {
            IpAddr::V4(ip) => ip.to_string(),
            IpAddr::V6(ip) => format!("[{ip}]"),
        };
        remotes.insert(format!("ptcp:{}:{ip}", address.port()), json!({"inactivity-probe": probe_interval}));
    }
    json!({"remotes": remotes, "databases": {file.display().to_string(): {}}})
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
        let message = |status: &str| DatabaseError::Apart(Standing::parse(&format!("Status: {status}\n"))).to_string();
        assert_eq!(
            message("disconnected from the cluster (election timeout)"),
            "it is not connected to the leader of its cluster: disconnected from the cluster (election timeout)"
        );
        assert_eq!(message("joining cluster"), "it is not connected to the leader of its cluster: joining cluster");
    }

    #[test]
    fn each_address_is_served_in_the_words_of_ovs() {
        let listen = ["10.0.0.1:6641", "[::]:6641"].map(|text| text.parse().unwrap());
        let config = config_file(Path::new("/run/ovn/ovnnb_db.sock"), &listen, 5000, Path::new("/etc/ovn/ovnnb_db.db"));
        let expected = json!({
            "remotes": {
                "punix:/run/ovn/ovnnb_db.sock": {},
                "ptcp:6641:10.0.0.1": {"inactivity-probe": 5000},
                "ptcp:6641:[::]": {"inactivity-probe": 5000},
            },
            "databases": {"/etc/ovn/ovnnb_db.db": {}},
        });
        assert_eq!(config, expected);
        assert_eq!(listen.map(reachable).map(|address| address.to_string()), ["10.0.0.1:6641", "[::1]:6641"]);
    }
}
