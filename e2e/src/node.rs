//! A node: network, mount, PID, UTS, IPC and cgroup namespaces, held by our own process 1.
//!
//! Programs on a node use Debian's usual paths, because each node has its own directories there. Killing process 1
//! kills all processes of the node and removes its mounts.

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

/// The directories of the kubelet and the container runtime that are not shared with the node's Debian.
const OWN: [&str; 6] = [
    "/var/lib/kubelet",
    "/var/lib/containerd",
    "/var/lib/cni",
    "/opt/containerd",
    "/var/log/pods",
    "/var/log/containers",
];

/// Returns the node's own paths, which are mounted over the host's.
fn paths() -> impl Iterator<Item = &'static str> {
    OWN.into_iter().chain(rootfs::SHARED).filter(|p| *p != "/run")
}

/// Creates missing mount points on the host. Records them in the lab's state.
pub fn mount_points() -> Result<()> {
    let missing: Vec<_> = paths().filter(|p| !Path::new(p).exists()).collect();
    fs::write(state("mount-points"), missing.join("\n"))?;
    for path in missing {
        fs::create_dir_all(path).with_context(|| path.to_owned())?;
    }
    Ok(())
}

/// Removes the directories that [`mount_points`] created, if they are empty.
pub fn remove_mount_points() {
    for path in fs::read_to_string(state("mount-points")).unwrap_or_default().lines() {
        let _ = fs::remove_dir(path);
    }
}

/// Creates the node. On return, it exists, and no programs run on it.
pub async fn up(node: Node) -> Result<()> {
    net::plug(node).await?;
    fs::create_dir_all(node.dir())?;
    let ready = node.dir().join("ready");
    let _ = fs::remove_file(&ready); // of an earlier start
    process::run(process::command(lab(), &["node-start", &node.name()])).await?;
    process::ready(&node.name(), Duration::from_secs(10), || async {
        fs::metadata(&ready).map(drop).with_context(|| ready.display().to_string())
    })
    .await
}

/// Simulates a power failure: all processes end at once, and namespaces, links and memory are lost. The files stay, and
/// [`up`] recreates the node.
pub async fn lose(node: Node) -> Result<()> {
    process::stop(&state("pid").join(node.name()), Duration::ZERO).await?;
    for part in ["containerd", "kubelet", "kube-proxy"] {
        process::stop(&state("pid").join(format!("{part}-{}", node.name())), Duration::ZERO).await?;
    }
    net::unplug(node).await?;
    Hierarchies::here()?.remove_node(node)
}

/// `lab node-start`: creates the namespaces and the node's process 1, which keeps running.
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
    // The child shares our mounts and waits for this message before it changes them, because the record is read from
    // our /proc.
    record::write(&state("pid").join(node.name()), init.id())?;
    init.stdin.take().context("a pipe")?.write_all(b"go")?;
    Ok(())
}

/// `lab node-init`: process 1 of the node. Mounts the node's directories, then reaps orphans.
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

/// Typical sysctls of a Kubernetes node. Without reverse path filtering and router advertisements, tests are reliable.
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
    // Unmount /sys completely: hidden mounts stay in mountinfo, and the kubelet fails on cgroups that it cannot see.
    umount2("/sys", MntFlags::MNT_DETACH).context("/sys")?;
    mount(Some("sysfs"), "/sys", Some("sysfs"), MsFlags::empty(), nil).context("/sys")?;
    groups.mount()?;
    mount(Some("tmpfs"), "/run", Some("tmpfs"), MsFlags::empty(), Some("mode=755")).context("/run")?;
    for dir in ["openvswitch", "ovn", "netns", "lock"] {
        fs::create_dir_all(format!("/run/{dir}"))?;
    }
    rootfs::make(node)?;
    // The kubelet mounts volumes that must propagate to containers.
    mount(nil, "/", nil, MsFlags::MS_REC | MsFlags::MS_SHARED, nil).context("/")
}
