//! Starts a real `ovsdb-server`, or a cluster of them, on a temporary socket for tests.
//!
//! A server is a child process. It ends when its handle is dropped, and also when the test process ends for any reason.

mod cluster;

use std::ffi::OsStr;
use std::io::{self, BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use crate::{Endpoint, TlsFiles};

pub use cluster::OvsdbCluster;

/// Differs from the address of the TCP port, so that the server's messages distinguish the two.
const TLS_HOST: &str = "127.0.0.2";

/// Starts the server, prints its process ID, and kills it when standard input closes: when the handle is dropped or
/// this process ends. The inner shell becomes the server, so the process ID is the first line of output.
const KEEP: &str = r#"
    sh -c 'echo $$; exec "$0" "$@"' "$@" 2>&1 &
    exec >/dev/null
    cat
    exec 2>&1
    kill -9 $!
    wait $!
"#;

/// A server with one database.
#[derive(Debug)]
pub struct OvsdbServer {
    dir: tempfile::TempDir,
    child: Option<Child>,
    pid: String,
    port: u16,
    /// The certificate files and the TLS port.
    tls: Option<(TlsFiles, u16)>,
}

impl OvsdbServer {
    /// Starts a server with a new, standalone database of this schema (the JSON of an `.ovsschema` file). On return,
    /// the server accepts connections.
    pub fn start(schema: &str) -> io::Result<OvsdbServer> {
        OvsdbServer::create(|db| {
            let file = db.with_extension("ovsschema");
            std::fs::write(&file, schema)?;
            Ok(vec!["create".into(), db.into(), file])
        })
    }

    /// Like [`OvsdbServer::start`], but with a cluster of one member. Unlike a standalone server, it can resume a
    /// monitor.
    pub fn start_clustered(schema: &str) -> io::Result<OvsdbServer> {
        cluster::first(schema)
    }

    /// Like [`OvsdbServer::start`], but with an additional TLS port. The server requires a client certificate signed by
    /// the CA in these files.
    pub fn start_tls(schema: &str, files: TlsFiles) -> io::Result<OvsdbServer> {
        let mut server = OvsdbServer::start(schema)?;
        server.tls = Some((files, 0));
        server.restart()?;
        Ok(server)
    }

    /// Returns the unix socket.
    pub fn endpoint(&self) -> Endpoint {
        Endpoint::Unix(self.path("db.sock"))
    }

    /// Returns the TCP port on 127.0.0.1. Restarts keep the port. The server probes TCP clients every 5 s.
    pub fn tcp(&self) -> Endpoint {
        Endpoint::Tcp { host: "127.0.0.1".into(), port: self.port }
    }

    /// Returns the TLS port on 127.0.0.2. Restarts keep the port. The port is 0 if the server was started without TLS.
    pub fn ssl(&self) -> Endpoint {
        Endpoint::Ssl { host: TLS_HOST.into(), port: self.tls.as_ref().map_or(0, |(_, port)| *port) }
    }

    /// Kills the server with SIGKILL. Does nothing if it is not running.
    pub fn kill(&mut self) -> io::Result<()> {
        let Some(mut child) = self.child.take() else { return Ok(()) };
        // Closing standard input ends the server.
        drop(child.stdin.take());
        child.wait().map(drop)
    }

    /// Restarts the server with the same file and sockets. Kills it first if it is running.
    pub fn restart(&mut self) -> io::Result<()> {
        self.kill()?;
        self.run()
    }

    /// Pauses the server with SIGSTOP. Connections stay open, but the server does not answer.
    pub fn pause(&self) -> io::Result<()> {
        self.signal("STOP")?;
        let stat = format!("/proc/{}/stat", self.pid);
        while !std::fs::read_to_string(&stat)?.contains(") T ") {
            std::thread::yield_now();
        }
        Ok(())
    }

    /// Resumes the server with SIGCONT.
    pub fn resume(&self) -> io::Result<()> {
        self.signal("CONT")
    }

    /// Converts the running database to another schema, as an OVN upgrade does.
    pub fn convert(&self, schema: &str) -> io::Result<()> {
        let file = self.path("db.ovsschema");
        std::fs::write(&file, schema)?;
        let socket = self.endpoint().to_string();
        tool("ovsdb-client", [OsStr::new("convert"), socket.as_ref(), file.as_ref()]).map(drop)
    }

    /// Returns the server's log.
    pub fn log(&self) -> io::Result<String> {
        std::fs::read_to_string(self.path("log"))
    }

    /// Creates a database file with `ovsdb-tool` and starts a server. `args` returns the arguments for the path of the
    /// file.
    fn create(args: impl FnOnce(&Path) -> io::Result<Vec<PathBuf>>) -> io::Result<OvsdbServer> {
        let dir = tempfile::tempdir()?;
        let mut server = OvsdbServer { dir, child: None, pid: String::new(), port: 0, tls: None };
        let args = args(&server.path("db"))?;
        tool("ovsdb-tool", args)?;
        server.run()?;
        Ok(server)
    }

    fn run(&mut self) -> io::Result<()> {
        let mut command = Command::new("sh");
        command
            .args(["-c", KEEP, "sh"])
            .arg("ovsdb-server")
            .arg(self.path("db"))
            .arg(format!("--remote=punix:{}", self.path("db.sock").display()))
            .arg(format!("--remote=ptcp:{}:127.0.0.1", self.port))
            .arg(format!("--unixctl={}", self.path("ctl").display()))
            .arg(format!("--log-file={}", self.path("log").display()))
            .env("PATH", search_path())
            .env("OVS_RUNDIR", self.dir.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        if let Some((files, port)) = &self.tls {
            command.arg(format!("--remote=pssl:{port}:{TLS_HOST}"));
            command.arg("--private-key").arg(&files.private_key);
            command.arg("--certificate").arg(&files.certificate);
            command.arg("--ca-cert").arg(&files.ca_cert);
        }
        let mut child = command.spawn()?;
        let mut said = String::new();
        let mut lines = BufReader::new(child.stdout.take().ok_or_else(|| io::Error::other("no output"))?).lines();
        self.pid = lines.next().transpose()?.unwrap_or_default();
        loop {
            let Some(line) = lines.next().transpose()? else {
                child.wait()?;
                return Err(not_installed("ovsdb-server", &io::Error::other(said)));
            };
            if let Some((at, port)) = line.rsplit_once(": listening on port ") {
                let port = port.parse().map_err(io::Error::other)?;
                match &mut self.tls {
                    Some((_, tls)) if at.ends_with(TLS_HOST) => *tls = port,
                    _ => self.port = port,
                }
            }
            // The server logs its version when it starts to serve.
            if line.contains("(Open vSwitch)") {
                break;
            }
            said = said + &line + "\n";
        }
        self.child = Some(child);
        Ok(())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn signal(&self, name: &str) -> io::Result<()> {
        let sent = Command::new("sh").arg("-c").arg(format!("kill -{name} {}", self.pid)).status()?;
        if sent.success() { Ok(()) } else { Err(io::Error::other(format!("kill -{name}: {sent}"))) }
    }
}

impl Drop for OvsdbServer {
    fn drop(&mut self) {
        // A test that ends cannot handle the error.
        let _ = self.kill();
    }
}

/// Runs one of OVS's tools and returns its output.
fn tool<A: AsRef<OsStr>>(program: &str, args: impl IntoIterator<Item = A>) -> io::Result<String> {
    let mut command = Command::new(program);
    let done =
        command.env("PATH", search_path()).args(args).output().map_err(|error| not_installed(program, &error))?;
    if done.status.success() {
        Ok(String::from_utf8_lossy(&done.stdout).into_owned())
    } else {
        Err(io::Error::other(format!("{program}: {}", String::from_utf8_lossy(&done.stderr))))
    }
}

/// `ovsdb-server` is in sbin, which is not in every user's PATH.
fn search_path() -> String {
    format!("{}:/usr/sbin:/usr/local/sbin", std::env::var("PATH").unwrap_or_default())
}

fn not_installed(program: &str, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{program}: {error}; install it with: apt-get install openvswitch-common"))
}
