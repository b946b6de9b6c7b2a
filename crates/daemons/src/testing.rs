//! A container for a program of ours, for tests: namespaces of its own, the root file system that images are made of
//! (`e2e/setup rootfs`), and a directory in the place of `/run`, which stays when the container ends.
//!
//! The program is process 1 there. It ends with its handle, and with the test's thread however that ends.

use std::fs::{self, File};
use std::io;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, geteuid};

/// Puts the directory where containers have `/run`, runs the test's own preparations, and becomes the program.
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

/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// What stays: the directory, and all that was logged.
#[derive(Debug)]
pub struct Room {
    dir: tempfile::TempDir,
    program: &'static str,
}

/// A container that runs, or is about to.
#[derive(Debug)]
pub struct Container<'a> {
    room: &'a Room,
    child: Child,
}

impl Room {
    /// For a program, by its path. The test must be root's.
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

    /// A path in the directory, which the container sees as `/run`.
    pub fn path(&self, relative: &str) -> PathBuf {
        self.dir.path().join(relative)
    }

    /// Writes an executable script, which goes before the programs of its name that are installed.
    pub fn shadow(&self, program: &str, script: &str) -> io::Result<()> {
        let path = self.path("bin").join(program);
        fs::create_dir_all(self.path("bin"))?;
        fs::write(&path, script)?;
        fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o755))
    }

    /// Everything that was logged.
    pub fn log(&self) -> String {
        fs::read_to_string(self.path("log")).unwrap_or_default()
    }

    /// Starts `run` of the program with these arguments, after some lines of shell in the new namespaces.
    pub fn start(&self, prepare: &str, arguments: &[&str]) -> io::Result<Container<'_>> {
        let log = File::options().create(true).append(true).open(self.path("log"))?;
        let child = Command::new("setpriv")
            .args(["--pdeathsig", "KILL", "unshare"])
            .args(["--mount", "--pid", "--net", "--ipc", "--uts", "--fork", "--kill-child", "--"])
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

    /// The same for a command that must succeed; what it has printed.
    pub fn run(&mut self, command: &[&str]) -> io::Result<String> {
        let output = self.exec(command)?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            return Err(self.failed(&format!("{command:?}: {}: {said}", output.status)));
        }
        Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    }

    /// Asks a probe. An error has its words.
    pub fn probe(&mut self, question: &str) -> Result<(), String> {
        let output = self.exec(&["/run/program", "check", question]).map_err(|error| error.to_string())?;
        if output.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&output.stderr).into_owned()) }
    }

    /// Asks a probe until it says yes.
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

    /// Signals process 1, and waits for its end.
    pub fn end(mut self, signal: Signal) -> io::Result<ExitStatus> {
        kill(Pid::from_raw(self.init()?.cast_signed()), signal)?;
        self.ended()
    }

    /// Waits for its end.
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

    /// The number of process 1, as the host sees it, once it is the program.
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

/// The root file system that OVN and OVS run from.
fn root() -> PathBuf {
    Path::new(&std::env::var_os("KUBE_OVN_CACHE").unwrap_or_else(|| "/var/cache/kube-ovn-rs".into())).join("rootfs")
}
