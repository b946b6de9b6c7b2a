//! The rights of the processes in our containers: what the kernel says of them, not what the manifest asks for.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use e2e::Cluster;
use e2e::layout::Node;

/// Bits of capabilities (linux/capability.h).
/// `DAC_OVERRIDE`, `SETGID` and `SETUID`.
const FILES: u64 = 1 << 1 | 1 << 6 | 1 << 7;
const NET_ADMIN: u64 = 1 << 12;
const NET_RAW: u64 = 1 << 13;
const IPC_LOCK: u64 = 1 << 14;
const SYS_ADMIN: u64 = 1 << 21;
const SYS_NICE: u64 = 1 << 23;
const MKNOD: u64 = 1 << 27;

/// Returns the user, and the capabilities that are named, of a process of ours by its command line. `None` for others.
fn expected(line: &str) -> Option<(u32, u64)> {
    let program = line.split('\0').next()?.rsplit('/').next()?;
    let of_central = line.contains("ovnnb_db") || line.contains("ovnsb_db");
    match program {
        "ovn-central" | "ovn-northd" => Some((65532, 0)),
        "ovsdb-server" if of_central => Some((65532, 0)),
        "kube-ovn-controller" => Some((65534, 0)),
        "kube-ovn-cni" => Some((0, FILES | NET_ADMIN | NET_RAW | SYS_ADMIN)),
        "ovs-ovn" | "ovsdb-server" | "ovs-vswitchd" | "ovn-controller" => {
            Some((0, FILES | NET_ADMIN | NET_RAW | IPC_LOCK | SYS_NICE | MKNOD))
        }
        _ => None,
    }
}

/// Returns the directories in `/proc` of the processes in the network namespaces of a node.
fn processes(node: Node) -> Result<Vec<PathBuf>> {
    let namespace = fs::metadata(Path::new("/run/netns").join(node.netns()))?.ino();
    let all = fs::read_dir("/proc")?.flatten().map(|entry| entry.path());
    Ok(all.filter(|path| fs::metadata(path.join("ns/net")).is_ok_and(|own| own.ino() == namespace)).collect())
}

fn field<'a>(status: &'a str, name: &str) -> Result<&'a str> {
    let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(":\t"));
    line.with_context(|| format!("no {name} in {status}"))
}

/// Returns whether the root file system of a process is read-only.
fn has_read_only_root(process: &Path) -> Result<bool> {
    let mounts = fs::read_to_string(process.join("mounts"))?;
    let options = mounts.lines().find_map(|line| line.split_once(" / ")?.1.split(' ').nth(1));
    Ok(options.context("no root")?.split(',').any(|option| option == "ro"))
}

#[tokio::test]
async fn sec_processes_have_only_the_rights_that_are_named() -> Result<()> {
    let cluster = Cluster::running().await?;
    let mut seen: Vec<String> = Vec::new();
    for node in cluster.nodes() {
        for process in processes(node)? {
            // A probe may have ended.
            let Ok(line) = fs::read_to_string(process.join("cmdline")) else { continue };
            let (Some((user, capabilities)), Ok(status)) =
                (expected(&line), fs::read_to_string(process.join("status")))
            else {
                continue;
            };
            // So does one that is only just starting.
            if line.split('\0').nth(1) == Some("check") {
                continue;
            }
            let what = format!("{} on {}", line.replace('\0', " "), node.name());
            let users = field(&status, "Uid")?.split('\t').collect::<Vec<_>>();
            ensure!(users.iter().all(|one| *one == user.to_string()), "{what}: users {users:?}");
            for set in ["CapEff", "CapPrm"] {
                let has = u64::from_str_radix(field(&status, set)?, 16)?;
                ensure!(has & !capabilities == 0, "{what}: {set} {has:x}, more than {capabilities:x}");
            }
            ensure!(field(&status, "NoNewPrivs")? == "1", "{what}: it can get new privileges");
            ensure!(field(&status, "Seccomp")? == "2", "{what}: no seccomp");
            ensure!(has_read_only_root(&process)?, "{what}: its root file system is writable");
            seen.push(line.split('\0').next().unwrap_or_default().rsplit('/').next().unwrap_or_default().to_owned());
        }
    }
    for program in [
        "ovn-central",
        "ovn-northd",
        "kube-ovn-controller",
        "kube-ovn-cni",
        "ovs-ovn",
        "ovs-vswitchd",
        "ovn-controller",
    ] {
        ensure!(seen.iter().any(|one| one == program), "{program} was not found among {seen:?}");
    }
    Ok(())
}
