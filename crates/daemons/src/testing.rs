//! A container for a program under test: its own namespaces, the root file system of the images (`e2e/setup rootfs`),
//! and a directory as `/run` that outlives the container.
//!
//! The program is process 1 of the container. It ends when its handle is dropped or the thread of the test ends.

use std::fs::{self, File};
use std::io;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, geteuid};

/// Mounts the directory as `/run`, runs the test's own preparations, and executes the program.
const START: &str = r#"
    set -e
    mount --make-rprivate /
    touch "$DIR/program"
    mount --bind "$PROGRAM" "$DIR/program"
    mount --rbind "$DIR" "$ROOT/run"
    mount --rbind /dev "$ROOT/dev"
    mount -t proc proc "$ROOT/proc"
    mount -t sysfs sysfs "$ROOT/sys"
    ip link set lo up
    eval "$PREPARE"
    exec chroot "$ROOT" /run/program run "$@"
"#;

/// The time limit for every step.
const PATIENCE: Duration = Duration::from_secs(30);

/// The part that outlives a container: the directory and the log.
#[derive(Debug)]
pub struct Room {
    dir: tempfile::TempDir,
    program: &'static str,
}

/// A running container.
#[derive(Debug)]
pub struct Container<'a> {
    room: &'a Room,
    child: Child,
}

impl Room {
    /// Creates the directory for a program at this path. The test must run as root.
    pub fn new(program: &'static str) -> io::Result<Self> {
        let northd = root().join("usr/bin/ovn-northd");
        if !northd.exists() {
            return Err(io::Error::other(format!("{} is not there: e2e/setup rootfs makes it", northd.display())));
        }
        if !geteuid().is_root() {
            return Err(io::Error::other("namespaces are made as root"));
        }
        Ok(Self { dir: tempfile::tempdir()?, program })
    }

    /// Returns a path in the directory, which is `/run` in the container.
    pub fn path(&self, relative: &str) -> PathBuf {
        self.dir.path().join(relative)
    }

    /// Writes an executable script that takes precedence over the installed program of the same name.
    pub fn shadow(&self, program: &str, script: &str) -> io::Result<()> {
        let path = self.path("bin").join(program);
        fs::create_dir_all(self.path("bin"))?;
        fs::write(&path, script)?;
        fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o755))
    }

    /// Returns the log.
    pub fn log(&self) -> String {
        fs::read_to_string(self.path("log")).unwrap_or_default()
    }

    /// Starts `run` of the program with these arguments, after the shell commands `prepare` in the new namespaces.
    pub fn start(&self, prepare: &str, arguments: &[&str]) -> io::Result<Container<'_>> {
        self.start_with(&["unshare", "--net"], prepare, arguments)
    }

    /// Starts the program like [`Room::start`], in the network of a container that runs.
    pub fn start_beside(&self, other: &mut Container<'_>, arguments: &[&str]) -> io::Result<Container<'_>> {
        let network = format!("--net=/proc/{}/ns/net", other.init()?);
        self.start_with(&["nsenter", &network, "unshare"], "", arguments)
    }

    fn start_with(&self, unshare: &[&str], prepare: &str, arguments: &[&str]) -> io::Result<Container<'_>> {
        let log = File::options().create(true).append(true).open(self.path("log"))?;
        let child = Command::new("setpriv")
            .args(["--pdeathsig", "KILL"])
            .args(unshare)
            .args(["--mount", "--pid", "--ipc", "--uts", "--fork", "--kill-child", "--"])
            .args(["sh", "-c", START, "sh"])
            .args(arguments)
            .env_clear()
            .env("PATH", "/run/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
            .env("DIR", self.dir.path())
            .env("PROGRAM", self.program)
            .env("ROOT", root())
            .env("PREPARE", prepare)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .process_group(0)
            .spawn()?;
        Ok(Container { room: self, child })
    }
}

impl Container<'_> {
    /// Runs a command in the container.
    pub fn exec(&mut self, command: &[&str]) -> io::Result<Output> {
        let target = self.init()?.to_string();
        let enter = ["--mount", "--uts", "--ipc", "--net", "--pid", "--root", "--wd", "--target", &target, "--"];
        Command::new("nsenter").args(enter).args(command).output()
    }

    /// Runs a command that must succeed. Returns its output.
    pub fn run(&mut self, command: &[&str]) -> io::Result<String> {
        let output = self.exec(command)?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            return Err(self.failed(&format!("{command:?}: {}: {said}", output.status)));
        }
        Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    }

    /// Runs a probe. The error contains its output.
    pub fn probe(&mut self, question: &str) -> Result<(), String> {
        let output = self.exec(&["/run/program", "check", question]).map_err(|error| error.to_string())?;
        if output.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&output.stderr).into_owned()) }
    }

    /// Repeats a probe until it succeeds.
    pub fn until(&mut self, question: &str) -> io::Result<()> {
        let deadline = Instant::now() + PATIENCE;
        while let Err(why) = self.probe(question) {
            if let Some(status) = self.child.try_wait()? {
                return Err(self.failed(&format!("ended: {status}")));
            }
            if Instant::now() > deadline {
                return Err(self.failed(&format!("never {question}: {why}")));
            }
            std::thread::sleep(Duration::from_millis(25));
        }
        Ok(())
    }

    /// Sends a signal to process 1 and waits for its exit.
    pub fn end(mut self, signal: Signal) -> io::Result<ExitStatus> {
        kill(Pid::from_raw(self.init()?.cast_signed()), signal)?;
        self.ended()
    }

    /// Waits for the exit.
    pub fn ended(&mut self) -> io::Result<ExitStatus> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status);
            }
            if Instant::now() > deadline {
                return Err(self.failed("does not end"));
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Returns the host's process ID of process 1, once it has executed the program.
    fn init(&mut self) -> io::Result<u32> {
        let children = format!("/proc/{0}/task/{0}/children", self.child.id());
        let deadline = Instant::now() + PATIENCE;
        loop {
            let pid = fs::read_to_string(&children).unwrap_or_default().trim().parse::<u32>();
            if let Ok(pid) = pid
                && fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name.trim() == "program")
            {
                return Ok(pid);
            }
            if self.child.try_wait()?.is_some() || Instant::now() > deadline {
                return Err(self.failed("no process 1"));
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn failed(&self, why: &str) -> io::Error {
        io::Error::other(format!("{why}\n{}", self.room.log()))
    }
}

impl Drop for Container<'_> {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Returns the root file system with OVN and OVS.
fn root() -> PathBuf {
    Path::new(&std::env::var_os("KUBE_OVN_CACHE").unwrap_or_else(|| "/var/cache/kube-ovn-rs".into())).join("rootfs")
}
