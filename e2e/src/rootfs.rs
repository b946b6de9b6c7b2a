//! OVN and OVS of another Debian release: their commands run changed into a root file system made by debootstrap, with the
//! directories they share with the rest of the node (or of the control plane) bound into it.
//!
//! Each such process has a mount namespace of its own, so no bind mount is ever seen by the host or outlives it.

use std::convert::Infallible;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};

use crate::layout::{Node, lab, rootfs};
use crate::process;

/// What OVN and OVS read and write besides their programs.
pub const SHARED: [&str; 6] =
    ["/run", "/etc/openvswitch", "/var/lib/openvswitch", "/var/log/openvswitch", "/var/lib/ovn", "/var/log/ovn"];

/// A command of OVN or OVS on a node.
pub fn on(node: Node, program: &str, arguments: &[&str]) -> Result<Command> {
    let mut command = process::on(node, lab(), &["chroot", "--from", "/"])?;
    command.arg("--").arg(program).args(arguments);
    Ok(command)
}

/// A command of OVN on the control plane, with its directories under `from`.
pub fn central(from: &Path, program: &str, arguments: &[&str]) -> Result<Command> {
    let mut command = process::command(lab(), &["chroot", "--from"]);
    command.arg(from).arg("--").arg(program).args(arguments);
    Ok(command)
}

/// Becomes `program` inside of the root file system, with [`SHARED`] as they are under `from`. Returns only when it fails.
pub fn enter(from: &Path, program: &str, arguments: &[String]) -> Result<Infallible> {
    let root = rootfs();
    unshare(CloneFlags::CLONE_NEWNS)?;
    mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>)?;
    for (source, path) in
        ["/dev", "/proc", "/sys"].map(|p| (Path::new("/"), p)).into_iter().chain(SHARED.map(|p| (from, p)))
    {
        let relative = path.trim_start_matches('/');
        let (source, target) = (source.join(relative), root.join(relative));
        mount(Some(&source), &target, None::<&str>, MsFlags::MS_BIND | MsFlags::MS_REC, None::<&str>)
            .with_context(|| format!("binding {} to {}", source.display(), target.display()))?;
    }
    nix::unistd::chroot(&root)?;
    std::env::set_current_dir("/")?;
    Err(Command::new(program).args(arguments).exec()).context(program.to_owned())
}
