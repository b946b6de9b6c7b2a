//! systemd on a node: process 1 of its Debian, as on any machine, where a lab is made by hand. It runs as containers have it
//! (<https://systemd.io/CONTAINER_INTERFACE>): in a pid and a control group namespace of its own below the node's, with a `/dev` of its
//! own, and without the units that would set up the machine.
//!
//! Containerd and kubelet stay outside of it: a node has a control group tree of its own for them, in the version that the machine has.

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
/// Who the machine is, written at its first boot: a machine without it would have all its units enabled.
const MACHINE_ID: &str = "/etc/machine-id";
/// How long it may take to start all units that it has then.
const PATIENCE: Duration = Duration::from_secs(30);

/// What it has in its `/dev` besides what it makes itself.
const DEVICES: [&str; 7] = ["null", "zero", "full", "random", "urandom", "tty", "net/tun"];
/// What every `/dev` has besides devices.
const LINKS: [(&str, &str); 5] =
    [("fd", "/proc/self/fd"), ("stdin", "fd/0"), ("stdout", "fd/1"), ("stderr", "fd/2"), ("ptmx", "pts/ptmx")];

/// Units that are the machine's business, or nobody's here.
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

/// Boots a node's Debian; all that is enabled there has been started when this returns.
pub async fn boot(node: Node) -> Result<()> {
    process::run(process::on(node, lab(), &["boot", &node.name()])?).await?;
    let up = process::until(PATIENCE, || systemctl(node, &["is-system-running"])).await;
    up.map(drop).with_context(|| format!("systemd of {}; see {}", node.name(), process::log(&name(node)).display()))
}

/// `systemctl` with `words` on a node; what it printed.
pub async fn systemctl(node: Node, words: &[&str]) -> Result<String> {
    ensure!(rootfs::systemd(node).is_some(), "no systemd runs on {}", node.name());
    process::run(rootfs::on(node, "systemctl", words)?).await
}

/// Waits until `check` of a unit gives a value. An error has the end of what the unit said as well.
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

/// `lab boot`, on the node: makes the namespaces, and in them systemd, which stays when this is done.
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

/// `lab boot-init`: becomes process 1 of the node's Debian. Returns only when it fails.
pub fn init(node: Node) -> Result<Infallible> {
    let root = rootfs::root(node);
    file_systems(&root).with_context(|| root.display().to_string())?;
    let is_first = !Path::new(MACHINE_ID).exists();
    let address: Ipv4Addr = node.ip4().parse()?;
    fs::write(MACHINE_ID, format!("{:032x}\n", u32::from(address)))?;
    fs::create_dir_all("/etc/systemd/system")?;
    for unit in MASKED {
        let link = Path::new("/etc/systemd/system").join(unit);
        let _ = fs::remove_file(&link); // of a boot before
        symlink("/dev/null", &link).with_context(|| link.display().to_string())?;
    }
    let mut systemd = Command::new(PROGRAM);
    systemd.env_clear().env("container", "lab").args(["--log-target=journal", "--show-status=no"]);
    if is_first {
        // Packages are there that nobody has installed yet: none of their units may start.
        systemd.arg("--unit=basic.target");
    }
    Err(systemd.exec()).context(PROGRAM)
}

/// What it finds mounted; the root of all is then the node's Debian.
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
    // systemd shows secrets to its units by a mount that it makes elsewhere.
    mount(nil, "/", nil, MsFlags::MS_REC | MsFlags::MS_SHARED, nil).context("/")
}
