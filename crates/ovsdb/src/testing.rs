//! A real `ovsdb-server` on a temporary socket, for tests.
//!
//! It is a child process that ends with its handle, and with the test's process however that ends.

use std::io::{self, BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use crate::Endpoint;

/// A server of one database.
#[derive(Debug)]
pub struct OvsdbServer {
    dir: tempfile::TempDir,
    child: Option<Child>,
    port: u16,
}

impl OvsdbServer {
    /// Starts a server of a new, standalone database with this schema (the JSON of an `.ovsschema` file).
    /// When it returns the server accepts connections.
    pub fn start(schema: &str) -> io::Result<OvsdbServer> {
        OvsdbServer::create(schema, |db, schema| vec!["create".into(), db.into(), schema.into()])
    }

    /// The same with a cluster of one member. Unlike a standalone server it can resume a monitor.
    pub fn start_clustered(schema: &str) -> io::Result<OvsdbServer> {
        OvsdbServer::create(schema, |db, schema| {
            let raft = format!("unix:{}", db.with_file_name("raft.sock").display());
            vec!["create-cluster".into(), db.into(), schema.into(), raft.into()]
        })
    }

    /// Its unix socket.
    pub fn endpoint(&self) -> Endpoint {
        Endpoint::Unix(self.path("db.sock"))
    }

    /// Its TCP port on 127.0.0.1, which stays the same over restarts. The server probes TCP clients every 5 s.
    pub fn tcp(&self) -> Endpoint {
        Endpoint::Tcp { host: "127.0.0.1".into(), port: self.port }
    }

    /// Ends it with SIGKILL. Does nothing when it is not running.
    pub fn kill(&mut self) -> io::Result<()> {
        let Some(mut child) = self.child.take() else { return Ok(()) };
        child.kill()?;
        child.wait().map(drop)
    }

    /// Starts it again on the same file and sockets, after killing it if need be.
    pub fn restart(&mut self) -> io::Result<()> {
        self.kill()?;
        self.run()
    }

    /// Stops it with SIGSTOP: connections stay, nothing is answered.
    pub fn pause(&self) -> io::Result<()> {
        self.signal("STOP")?;
        let stat = format!("/proc/{}/stat", self.pid()?);
        while !std::fs::read_to_string(&stat)?.contains(") T ") {
            std::thread::yield_now();
        }
        Ok(())
    }

    /// Lets it go on with SIGCONT.
    pub fn resume(&self) -> io::Result<()> {
        self.signal("CONT")
    }

    /// What it has logged.
    pub fn log(&self) -> io::Result<String> {
        std::fs::read_to_string(self.path("log"))
    }

    fn create(schema: &str, args: impl Fn(&Path, &Path) -> Vec<PathBuf>) -> io::Result<OvsdbServer> {
        let dir = tempfile::tempdir()?;
        let mut server = OvsdbServer { dir, child: None, port: 0 };
        let file = server.path("db.ovsschema");
        std::fs::write(&file, schema)?;
        let made = Command::new("ovsdb-tool")
            .env("PATH", search_path())
            .args(args(&server.path("db"), &file))
            .output()
            .map_err(|error| not_installed("ovsdb-tool", &error))?;
        if !made.status.success() {
            return Err(io::Error::other(format!("ovsdb-tool: {}", String::from_utf8_lossy(&made.stderr))));
        }
        server.run()?;
        Ok(server)
    }

    /// `--run` starts its command once the server listens, and ends the server with it:
    /// the first line says that it is ready, and the end of our end of its input that it shall go.
    fn run(&mut self) -> io::Result<()> {
        let mut child = Command::new("ovsdb-server")
            .env("PATH", search_path())
            .arg(self.path("db"))
            .arg(format!("--remote=punix:{}", self.path("db.sock").display()))
            .arg(format!("--remote=ptcp:{}:127.0.0.1", self.port))
            .arg(format!("--unixctl={}", self.path("ctl").display()))
            .arg(format!("--log-file={}", self.path("log").display()))
            .args(["-vconsole:off", "-vfile:info", "--run=echo ready; exec cat"])
            .env("OVS_RUNDIR", self.dir.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|error| not_installed("ovsdb-server", &error))?;
        let mut ready = String::new();
        if let Some(stdout) = child.stdout.take() {
            BufReader::new(stdout).read_line(&mut ready)?;
        }
        if ready != "ready\n" {
            let said = child.wait_with_output()?.stderr;
            return Err(io::Error::other(format!("ovsdb-server: {}", String::from_utf8_lossy(&said))));
        }
        self.child = Some(child);
        if self.port == 0 {
            let log = self.log()?;
            let port = log.lines().find_map(|line| line.rsplit_once("listening on port ")?.1.trim().parse().ok());
            self.port = port.ok_or_else(|| io::Error::other(format!("ovsdb-server names no port: {log}")))?;
        }
        Ok(())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn pid(&self) -> io::Result<u32> {
        self.child.as_ref().map(Child::id).ok_or_else(|| io::Error::other("ovsdb-server is not running"))
    }

    fn signal(&self, name: &str) -> io::Result<()> {
        let sent = Command::new("sh").arg("-c").arg(format!("kill -{name} {}", self.pid()?)).status()?;
        if sent.success() { Ok(()) } else { Err(io::Error::other(format!("kill -{name}: {sent}"))) }
    }
}

impl Drop for OvsdbServer {
    fn drop(&mut self) {
        // A test that ends has no use for the error.
        let _ = self.kill();
    }
}

/// `ovsdb-server` is in sbin, which not every user has on the path.
fn search_path() -> String {
    format!("{}:/usr/sbin:/usr/local/sbin", std::env::var("PATH").unwrap_or_default())
}

fn not_installed(program: &str, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{program}: {error}; install it with: apt-get install openvswitch-common"))
}
