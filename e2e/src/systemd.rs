//! systemd on a node: process 1 of the node's Debian in a lab made by hand. It runs as in a container
//! (<https://systemd.io/CONTAINER_INTERFACE>): in its own PID and cgroup namespaces below the node's, with its own
//! `/dev`, and without the units that set up a machine.
//!
//! containerd and the kubelet run outside of it, because the node has a separate cgroup subtree for them, in the
//! machine's version of cgroups.

use std::convert::Infallible;
use std::fs::{self, File};
use std::net::Ipv4Addr;
use std::os::unix::fs::symlink;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};
use nix::unistd::pivot_root;

use crate::cgroup::Hierarchies;
use crate::layout::{Node, lab};
use crate::{process, rootfs};

const PROGRAM: &str = "/usr/lib/systemd/systemd";
/// The file with the machine ID. It is written at the first boot, because systemd enables all units on a machine
/// without it.
const MACHINE_ID: &str = "/etc/machine-id";
/// The time limit for the start of all units.
const PATIENCE: Duration = Duration::from_secs(30);

/// The devices in its `/dev` that it does not create itself.
const DEVICES: [&str; 7] = ["null", "zero", "full", "random", "urandom", "tty", "net/tun"];
/// The symbolic links in every `/dev`.
const LINKS: [(&str, &str); 5] =
    [("fd", "/proc/self/fd"), ("stdin", "fd/0"), ("stdout", "fd/1"), ("stderr", "fd/2"), ("ptmx", "pts/ptmx")];

/// Units that set up a machine or are not needed here.
const MASKED: [&str; 11] = [
    "getty.target",
    "ldconfig.service",
    "proc-sys-fs-binfmt_misc.automount",
    "procps.service",
    "systemd-binfmt.service",
    "systemd-journal-catalog-update.service",
    "systemd-logind.service",
    "systemd-modules-load.service",
    "systemd-random-seed.service",
    "systemd-sysctl.service",
    "timers.target",
];

/// Boots a node's Debian. On return, all enabled units are started.
pub async fn boot(node: Node) -> Result<()> {
    process::run(process::on(node, lab(), &["boot", &node.name()])?).await?;
    let up = process::until(PATIENCE, || systemctl(node, &["is-system-running"])).await;
    up.map(drop).with_context(|| format!("systemd of {}; see {}", node.name(), process::log(&name(node)).display()))
}

/// Runs `systemctl` on a node. Returns its output.
pub async fn systemctl(node: Node, words: &[&str]) -> Result<String> {
    ensure!(rootfs::systemd(node).is_some(), "no systemd runs on {}", node.name());
    process::run(rootfs::on(node, "systemctl", words)?).await
}

/// Waits until `check` succeeds. An error contains the end of the unit's log.
pub async fn ready<T, F: Future<Output = Result<T>>>(
    node: Node,
    unit: &str,
    patience: Duration,
    check: impl FnMut() -> F,
) -> Result<T> {
    let error = match process::until(patience, check).await {
        Ok(value) => return Ok(value),
        Err(error) => error,
    };
    let unit = format!("--unit={unit}");
    let said = process::run(rootfs::on(node, "journalctl", &[&unit, "--lines=8", "--output=cat"])?).await;
    Err(error.context(said.unwrap_or_else(|e| format!("{e:#}"))))
}

fn name(node: Node) -> String {
    format!("systemd-{}", node.name())
}

/// `lab boot`, on the node: creates the namespaces and starts systemd in them, which keeps running.
pub fn start(node: Node) -> Result<()> {
    unshare(CloneFlags::CLONE_NEWNS)?;
    mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_SLAVE, None::<&str>)?;
    Hierarchies::here()?.enter_unified(node)?;
    unshare(CloneFlags::CLONE_NEWPID | CloneFlags::CLONE_NEWCGROUP)?;
    let log = File::create(process::log(&name(node)))?;
    let mut command = Command::new(lab());
    command.args(["boot-init", &node.name()]).stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
    command.process_group(0).spawn().map(drop).context("boot-init")
}

/// `lab boot-init`: executes systemd as process 1 of the node's Debian. Returns only on failure.
pub fn init(node: Node) -> Result<Infallible> {
    let root = rootfs::root(node);
    file_systems(&root).with_context(|| root.display().to_string())?;
    let is_first = !Path::new(MACHINE_ID).exists();
    let address: Ipv4Addr = node.ip4().parse()?;
    fs::write(MACHINE_ID, format!("{:032x}\n", u32::from(address)))?;
    fs::create_dir_all("/etc/systemd/system")?;
    for unit in MASKED {
        let link = Path::new("/etc/systemd/system").join(unit);
        let _ = fs::remove_file(&link); // of an earlier boot
        symlink("/dev/null", &link).with_context(|| link.display().to_string())?;
    }
    let mut systemd = Command::new(PROGRAM);
    systemd.env_clear().env("container", "lab").args(["--log-target=journal", "--show-status=no"]);
    if is_first {
        // At the first boot no unit may start: the operator has not installed the packages yet.
        systemd.arg("--unit=basic.target");
    }
    Err(systemd.exec()).context(PROGRAM)
}

/// Mounts the file systems that systemd expects, and changes the root to the node's Debian.
fn file_systems(root: &Path) -> Result<()> {
    let nil = None::<&str>;
    let place = |path: &str| root.join(path);
    rootfs::share(root)?;
    mount(Some("proc"), &place("proc"), Some("proc"), MsFlags::empty(), nil).context("/proc")?;
    let sys = place("sys");
    mount(Some("/sys"), &sys, nil, MsFlags::MS_BIND, nil).context("/sys")?;
    mount(nil, &sys, nil, MsFlags::MS_BIND | MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY, nil).context("/sys")?;
    mount(Some("cgroup2"), &place("sys/fs/cgroup"), Some("cgroup2"), MsFlags::empty(), nil).context("cgroup2")?;
    mount(Some("tmpfs"), &place("dev"), Some("tmpfs"), MsFlags::empty(), Some("mode=755")).context("/dev")?;
    for device in DEVICES {
        let (from, to) = (Path::new("/dev").join(device), place("dev").join(device));
        fs::create_dir_all(to.parent().unwrap_or(root))?;
        File::create(&to)?;
        mount(Some(&from), &to, nil, MsFlags::MS_BIND, nil).with_context(|| from.display().to_string())?;
    }
    for (link, to) in LINKS {
        symlink(to, place("dev").join(link))?;
    }
    std::env::set_current_dir(root)?;
    pivot_root(".", ".")?;
    umount2(".", MntFlags::MNT_DETACH).context("what was the root")?;
    std::env::set_current_dir("/")?;
    // systemd passes credentials to its units through a mount that it creates elsewhere.
    mount(nil, "/", nil, MsFlags::MS_REC | MsFlags::MS_SHARED, nil).context("/")
}
