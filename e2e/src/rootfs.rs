//! A node's Debian: the root file system that `e2e/setup` has made of `images/packages`, with a layer of the node's own above it, so
//! that what is installed and written there is that node's alone. OVN, Open vSwitch and our programs run changed into it, with
//! the directories that they share with the rest of the node ([`SHARED`]) bound into it.
//!
//! The layer is mounted in the node's mount namespace, and each process that is changed into it has one of its own below that:
//! no mount is ever seen by the host or outlives its node, and what the node mounts later is seen by all.

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

/// What is in it as the rest of the node has it.
pub const SHARED: [&str; 4] = ["/run", "/etc/cni", "/etc/origin", "/opt/cni"];

/// Where it is, on the node.
pub fn root(node: Node) -> PathBuf {
    node.dir().join("debian")
}

/// Mounts the node's own; for its process 1, in its mount namespace.
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

/// A command in the node's Debian, beside its systemd where there is one.
pub fn on(node: Node, program: &str, arguments: &[&str]) -> Result<Command> {
    let mut command = if let Some(pid) = systemd(node) {
        process::command("nsenter", &[&format!("--target={pid}"), "--all", "--wdns=/"])
    } else {
        process::on(node, lab(), &["chroot", &format!("--root={}", root(node).display())])?
    };
    command.arg("--").arg(program).args(arguments);
    Ok(command)
}

/// The host's number for the systemd of the node's Debian, where one runs.
pub fn systemd(node: Node) -> Option<u32> {
    // Who started it has ended, so that it is a child of the node's process 1.
    process::children(node.pid()?).into_iter().find(|pid| process::program(*pid).as_deref() == Some("systemd"))
}

/// A file of the node's Debian, as the host reaches it while the node runs.
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

/// Becomes `program` inside of such a root. Returns only when it fails.
pub fn enter(root: &Path, program: &str, arguments: &[String]) -> Result<Infallible> {
    unshare(CloneFlags::CLONE_NEWNS)?;
    // From the node, but not back to it.
    mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_SLAVE, None::<&str>)?;
    bind(root, &["/dev", "/proc", "/sys"])?;
    share(root)?;
    nix::unistd::chroot(root)?;
    std::env::set_current_dir("/")?;
    Err(Command::new(program).args(arguments).exec()).context(program.to_owned())
}

/// Binds what such a root has as the rest of the node has it.
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
