//! A node: network, mount, pid, host name, IPC and control group namespaces, held by a process 1 of our own.
//!
//! Everything on it runs at Debian's usual paths, since each node has its own directories there. Killing its process 1 ends
//! all that runs on it and lets go of its mounts.

use std::convert::Infallible;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::sethostname;

use crate::cgroup::Hierarchies;
use crate::layout::{Node, lab, state};
use crate::{net, process, record, rootfs};

/// What a kubelet and a container runtime write to, besides what they share with the node's Debian.
const OWN: [&str; 6] = [
    "/var/lib/kubelet",
    "/var/lib/containerd",
    "/var/lib/cni",
    "/opt/containerd",
    "/var/log/pods",
    "/var/log/containers",
];

/// The node's own paths: what is mounted over the host's.
fn paths() -> impl Iterator<Item = &'static str> {
    OWN.into_iter().chain(rootfs::SHARED).filter(|p| *p != "/run")
}

/// Makes the directories that nodes mount theirs over, where the host has none. What is made is noted in the lab's state.
pub fn mount_points() -> Result<()> {
    let missing: Vec<_> = paths().filter(|p| !Path::new(p).exists()).collect();
    fs::write(state("mount-points"), missing.join("\n"))?;
    for path in missing {
        fs::create_dir_all(path).with_context(|| path.to_owned())?;
    }
    Ok(())
}

/// Removes the directories that [`mount_points`] made, if they are as empty as then.
pub fn remove_mount_points() {
    for path in fs::read_to_string(state("mount-points")).unwrap_or_default().lines() {
        let _ = fs::remove_dir(path);
    }
}

/// Makes the node; it is there, with nothing running on it, when this returns.
pub async fn up(node: Node) -> Result<()> {
    net::plug(node).await?;
    fs::create_dir_all(node.dir())?;
    let ready = node.dir().join("ready");
    let _ = fs::remove_file(&ready); // of a life before
    process::run(process::command(lab(), &["node-start", &node.name()])).await?;
    process::ready(&node.name(), Duration::from_secs(10), || async {
        fs::metadata(&ready).map(drop).with_context(|| ready.display().to_string())
    })
    .await
}

/// The machine loses its power: all that runs on it ends at once, with its namespaces, its links and what it had in memory. Its
/// files stay, and [`up`] makes it again.
pub async fn lose(node: Node) -> Result<()> {
    process::stop(&state("pid").join(node.name()), Duration::ZERO).await?;
    for part in ["containerd", "kubelet", "kube-proxy"] {
        process::stop(&state("pid").join(format!("{part}-{}", node.name())), Duration::ZERO).await?;
    }
    net::unplug(node).await?;
    Hierarchies::here()?.remove_node(node)
}

/// `lab node-start`: makes the namespaces, and in them the node's process 1, which stays when this is done.
pub fn start(node: Node) -> Result<()> {
    setns(File::open(Path::new("/run/netns").join(node.netns()))?, CloneFlags::CLONE_NEWNET)?;
    unshare(CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWPID | CloneFlags::CLONE_NEWUTS | CloneFlags::CLONE_NEWIPC)?;
    mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>)?;
    let log = File::create(process::log(&node.name()))?;
    let mut init = Command::new(lab())
        .args(["node-init", &node.name()])
        .stdin(Stdio::piped())
        .stdout(log.try_clone()?)
        .stderr(log)
        .process_group(0)
        .spawn()?;
    // It shares our mounts, and waits for this word before it changes them: what is recorded here is read from our /proc.
    record::write(&state("pid").join(node.name()), init.id())?;
    init.stdin.take().context("a pipe")?.write_all(b"go")?;
    Ok(())
}

/// `lab node-init`: process 1 of the node. Gives it its directories, then reaps orphans for as long as the node lives.
pub fn init(node: Node) -> Result<Infallible> {
    let mut word = [0; 2];
    std::io::stdin().read_exact(&mut word).context("not recorded")?;
    let mut children = SigSet::empty();
    children.add(Signal::SIGCHLD);
    children.thread_block()?;
    let groups = Hierarchies::here()?;
    groups.enter(node)?;
    unshare(CloneFlags::CLONE_NEWCGROUP)?;
    sethostname(node.name())?;
    file_systems(node, &groups)?;
    for (name, value) in SYSCTLS {
        fs::write(format!("/proc/sys/{name}"), value).with_context(|| name.to_owned())?;
    }
    fs::write(node.dir().join("ready"), "")?;
    loop {
        while !matches!(waitpid(None, Some(WaitPidFlag::WNOHANG)), Ok(WaitStatus::StillAlive) | Err(_)) {}
        children.wait()?;
    }
}

/// What an administrator sets on a Kubernetes node. Loose source checks and no address detection keep tests honest and quick.
const SYSCTLS: [(&str, &str); 6] = [
    ("net/ipv4/ip_forward", "1"),
    ("net/ipv6/conf/all/forwarding", "1"),
    ("net/ipv4/conf/all/rp_filter", "0"),
    ("net/ipv4/conf/default/rp_filter", "0"),
    ("net/ipv6/conf/all/accept_ra", "0"),
    ("net/ipv6/conf/default/accept_ra", "0"),
];

fn file_systems(node: Node, groups: &Hierarchies) -> Result<()> {
    let nil = None::<&str>;
    let own = node.dir().join("root");
    for path in paths() {
        let source = own.join(path.trim_start_matches('/'));
        fs::create_dir_all(&source)?;
        mount(Some(&source), path, nil, MsFlags::MS_BIND, nil).with_context(|| path.to_owned())?;
    }
    mount(Some("proc"), "/proc", Some("proc"), MsFlags::empty(), nil).context("/proc")?;
    // All of it must go: hidden mounts stay in mountinfo, and kubelet trips over control groups that it cannot see.
    umount2("/sys", MntFlags::MNT_DETACH).context("/sys")?;
    mount(Some("sysfs"), "/sys", Some("sysfs"), MsFlags::empty(), nil).context("/sys")?;
    groups.mount()?;
    mount(Some("tmpfs"), "/run", Some("tmpfs"), MsFlags::empty(), Some("mode=755")).context("/run")?;
    for dir in ["openvswitch", "ovn", "netns", "lock"] {
        fs::create_dir_all(format!("/run/{dir}"))?;
    }
    rootfs::make(node)?;
    // kubelet hands the volumes that it mounts to containers.
    mount(nil, "/", nil, MsFlags::MS_REC | MsFlags::MS_SHARED, nil).context("/")
}
