//! A real `ovsdb-server` on a temporary socket, or a cluster of them, for tests.
//!
//! A server is a child process that ends with its handle, and with the test's process however that ends.

mod cluster;

use std::ffi::OsStr;
use std::io::{self, BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use crate::{Endpoint, TlsFiles};

pub use cluster::OvsdbCluster;

/// Another address than that of the plain port: it tells the two apart in what the server says.
const TLS_HOST: &str = "127.0.0.2";

/// Starts the server, says its process id, and kills it when the input ends: with the handle, or with this process.
/// The inner shell becomes the server, so that its id is the first thing said.
const KEEP: &str = r#"
    sh -c 'echo $$; exec "$0" "$@"' "$@" 2>&1 &
    exec >/dev/null
    cat
    exec 2>&1
    kill -9 $!
    wait $!
"#;

/// A server of one database.
#[derive(Debug)]
pub struct OvsdbServer {
    dir: tempfile::TempDir,
    child: Option<Child>,
    pid: String,
    port: u16,
    /// Its files and its port for TLS.
    tls: Option<(TlsFiles, u16)>,
}

impl OvsdbServer {
    /// Starts a server of a new, standalone database with this schema (the JSON of an `.ovsschema` file).
    /// When it returns the server accepts connections.
    pub fn start(schema: &str) -> io::Result<OvsdbServer> {
        OvsdbServer::create(|db| {
            let file = db.with_extension("ovsschema");
            std::fs::write(&file, schema)?;
            Ok(vec!["create".into(), db.into(), file])
        })
    }

    /// The same with a cluster of one member. Unlike a standalone server it can resume a monitor.
    pub fn start_clustered(schema: &str) -> io::Result<OvsdbServer> {
        cluster::first(schema)
    }

    /// The same as [`OvsdbServer::start`], and with TLS on a port of its own. It asks for a certificate that the CA of
    /// these files has signed.
    pub fn start_tls(schema: &str, files: TlsFiles) -> io::Result<OvsdbServer> {
        let mut server = OvsdbServer::start(schema)?;
        server.tls = Some((files, 0));
        server.restart()?;
        Ok(server)
    }

    /// Its unix socket.
    pub fn endpoint(&self) -> Endpoint {
        Endpoint::Unix(self.path("db.sock"))
    }

    /// Its TCP port on 127.0.0.1, which stays the same over restarts. The server probes TCP clients every 5 s.
    pub fn tcp(&self) -> Endpoint {
        Endpoint::Tcp { host: "127.0.0.1".into(), port: self.port }
    }

    /// Its TLS port on 127.0.0.2, which stays the same over restarts; 0 when it was not started with TLS.
    pub fn ssl(&self) -> Endpoint {
        Endpoint::Ssl { host: TLS_HOST.into(), port: self.tls.as_ref().map_or(0, |(_, port)| *port) }
    }

    /// Ends it with SIGKILL. Does nothing when it is not running.
    pub fn kill(&mut self) -> io::Result<()> {
        let Some(mut child) = self.child.take() else { return Ok(()) };
        // The end of its input.
        drop(child.stdin.take());
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
        let stat = format!("/proc/{}/stat", self.pid);
        while !std::fs::read_to_string(&stat)?.contains(") T ") {
            std::thread::yield_now();
        }
        Ok(())
    }

    /// Lets it go on with SIGCONT.
    pub fn resume(&self) -> io::Result<()> {
        self.signal("CONT")
    }

    /// Converts its database to another schema while it runs, as an upgrade of OVN does.
    pub fn convert(&self, schema: &str) -> io::Result<()> {
        let file = self.path("db.ovsschema");
        std::fs::write(&file, schema)?;
        let socket = self.endpoint().to_string();
        tool("ovsdb-client", [OsStr::new("convert"), socket.as_ref(), file.as_ref()]).map(drop)
    }

    /// What it has logged.
    pub fn log(&self) -> io::Result<String> {
        std::fs::read_to_string(self.path("log"))
    }

    /// Makes the file of a database by `ovsdb-tool` with the arguments for its path, and starts a server of it.
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
            // It names its version once it serves.
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
        // A test that ends has no use for the error.
        let _ = self.kill();
    }
}

/// Runs one of OVS's tools to its end; gives what it has said.
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

/// `ovsdb-server` is in sbin, which not every user has on the path.
fn search_path() -> String {
    format!("{}:/usr/sbin:/usr/local/sbin", std::env::var("PATH").unwrap_or_default())
}

fn not_installed(program: &str, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{program}: {error}; install it with: apt-get install openvswitch-common"))
}
