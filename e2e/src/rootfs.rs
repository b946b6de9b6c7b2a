//! A node's Debian: the root file system that `e2e/setup` creates from `images/packages`, with a writable layer for
//! each node. OVN, Open vSwitch and our programs run in it with chroot. The directories in [`SHARED`] are shared with
//! the rest of the node.
//!
//! The layer is mounted in the node's mount namespace. Each process in the chroot has its own mount namespace below
//! that. The host sees none of these mounts, and they disappear with the node. Later mounts of the node are visible to
//! all.

use std::convert::Infallible;
use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};

use crate::layout::{Node, cache, lab, rootfs};
use crate::process;

/// The directories that are shared with the rest of the node.
pub const SHARED: [&str; 4] = ["/run", "/etc/cni", "/etc/origin", "/opt/cni"];

/// Returns the path of the chroot on the node.
pub fn root(node: Node) -> PathBuf {
    node.dir().join("debian")
}

/// Mounts the chroot. Runs in the node's process 1, in its mount namespace.
pub fn make(node: Node) -> Result<()> {
    let (root, layer, work) = (root(node), node.dir().join("layer"), node.dir().join("work"));
    for dir in [&root, &layer, &work] {
        fs::create_dir_all(dir)?;
    }
    let lower = [cache("systemd"), rootfs()].map(|path| path.display().to_string()).join(":");
    let options = format!("lowerdir={lower},upperdir={},workdir={}", layer.display(), work.display());
    mount(Some("overlay"), &root, Some("overlay"), MsFlags::empty(), Some(options.as_str()))
        .with_context(|| format!("overlay on {}: {options}", root.display()))?;
    for path in SHARED {
        fs::create_dir_all(root.join(path.trim_start_matches('/')))?;
    }
    Ok(())
}

/// Returns a command that runs in the node's Debian, in the namespaces of its systemd if there is one.
pub fn on(node: Node, program: &str, arguments: &[&str]) -> Result<Command> {
    let mut command = if let Some(pid) = systemd(node) {
        process::command("nsenter", &[&format!("--target={pid}"), "--all", "--wdns=/"])
    } else {
        process::on(node, lab(), &["chroot", &format!("--root={}", root(node).display())])?
    };
    command.arg("--").arg(program).args(arguments);
    Ok(command)
}

/// Returns the host's process ID of the systemd in the node's Debian, if it is running.
pub fn systemd(node: Node) -> Option<u32> {
    // The process that started it has exited, so it is a child of the node's process 1.
    process::children(node.pid()?).into_iter().find(|pid| process::program(*pid).as_deref() == Some("systemd"))
}

/// Returns the host's path of a file in the node's Debian. The node must be running.
pub fn file(node: Node, path: &str) -> Result<PathBuf> {
    let pid = node.pid().with_context(|| format!("{} does not run", node.name()))?;
    let machine = Path::new("/proc").join(pid.to_string()).join("root");
    let relative = path.trim_start_matches('/');
    if SHARED.iter().any(|shared| Path::new(path).starts_with(shared)) {
        return Ok(machine.join(relative));
    }
    let root = root(node);
    Ok(machine.join(root.strip_prefix("/").unwrap_or(&root)).join(relative))
}

/// Executes `program` in the chroot. Returns only on failure.
pub fn enter(root: &Path, program: &str, arguments: &[String]) -> Result<Infallible> {
    unshare(CloneFlags::CLONE_NEWNS)?;
    // Mounts propagate from the node into the chroot, but not back.
    mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_SLAVE, None::<&str>)?;
    bind(root, &["/dev", "/proc", "/sys"])?;
    share(root)?;
    nix::unistd::chroot(root)?;
    std::env::set_current_dir("/")?;
    Err(Command::new(program).args(arguments).exec()).context(program.to_owned())
}

/// Binds the shared directories into a chroot.
pub fn share(root: &Path) -> Result<()> {
    bind(root, &SHARED)
}

fn bind(root: &Path, paths: &[&str]) -> Result<()> {
    for path in paths {
        let target = root.join(path.trim_start_matches('/'));
        mount(Some(*path), &target, None::<&str>, MsFlags::MS_BIND | MsFlags::MS_REC, None::<&str>)
            .with_context(|| format!("binding {path} to {}", target.display()))?;
    }
    Ok(())
}
