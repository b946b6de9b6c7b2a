//! A cgroup subtree for each node, so that a kubelet does not see the pods of another. Supports both versions of
//! cgroups.
//!
//! A node's processes are moved into the subtree before the node's cgroup namespace is created. The namespace then
//! shows this subtree as the root.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};

use crate::layout::Node;

const ROOT: &str = "/sys/fs/cgroup";
/// The lab's directory in each hierarchy.
const LAB: &str = "kube-ovn-lab";

/// The cgroup hierarchies of this machine.
pub enum Hierarchies {
    /// Version 1: the directories under `/sys/fs/cgroup`, named after their controllers.
    V1(Vec<String>),
    /// Version 2: a single hierarchy.
    V2,
}

impl Hierarchies {
    /// Reads the hierarchies from the mounts of this process.
    pub fn here() -> Result<Self> {
        let mounts = fs::read_to_string("/proc/self/mountinfo")?;
        let mut v1 = Vec::new();
        for line in mounts.lines() {
            let Some((before, after)) = line.split_once(" - ") else { continue };
            let Some(point) = before.split(' ').nth(4) else { continue };
            match after.split(' ').next() {
                Some("cgroup2") if point == ROOT => return Ok(Self::V2),
                Some("cgroup") if !after.contains("name=") => {
                    v1.extend(point.strip_prefix("/sys/fs/cgroup/").map(str::to_owned));
                }
                _ => {}
            }
        }
        ensure!(!v1.is_empty(), "no control groups are mounted under {ROOT}");
        Ok(Self::V1(v1))
    }

    /// Returns the lab's directory in each hierarchy.
    fn lab(&self) -> Vec<PathBuf> {
        match self {
            Self::V1(names) => names.iter().map(|n| Path::new(ROOT).join(n).join(LAB)).collect(),
            Self::V2 => vec![Path::new(ROOT).join(LAB)],
        }
    }

    /// Moves this process into the node's cgroup. Creates the cgroup if necessary.
    pub fn enter(&self, node: Node) -> Result<()> {
        for lab in self.lab() {
            let group = lab.join(node.name());
            match self {
                Self::V1(_) => {
                    fs::create_dir_all(&group)?;
                    for dir in [&lab, &group] {
                        prepare_v1(dir)?;
                    }
                }
                Self::V2 => {
                    fs::create_dir_all(&lab)?;
                    for dir in [Path::new(ROOT), &lab] {
                        delegate(dir)?;
                    }
                    fs::create_dir_all(&group)?;
                }
            }
            write(&group.join("cgroup.procs"), "0")?;
        }
        Ok(())
    }

    /// Mounts the node's `/sys/fs/cgroup`. Runs in the node's cgroup namespace.
    pub fn mount(&self) -> Result<()> {
        match self {
            Self::V1(names) => {
                mount(Some("tmpfs"), ROOT, Some("tmpfs"), MsFlags::empty(), Some("mode=755"))?;
                for name in names {
                    let point = Path::new(ROOT).join(name);
                    fs::create_dir_all(&point)?;
                    mount(Some("cgroup"), &point, Some("cgroup"), MsFlags::empty(), Some(name.as_str()))
                        .with_context(|| name.clone())?;
                }
            }
            Self::V2 => {
                mount(Some("cgroup2"), ROOT, Some("cgroup2"), MsFlags::empty(), None::<&str>)?;
                // A cgroup that delegates controllers cannot contain processes.
                let own = Path::new(ROOT).join("system");
                fs::create_dir_all(&own)?;
                write(&own.join("cgroup.procs"), "0")?;
                delegate(Path::new(ROOT))?;
            }
        }
        Ok(())
    }

    /// Moves this process into a separate version 2 cgroup of the node, on machines with either version, because
    /// systemd supports only version 2. The process must run on the node in its own mount namespace.
    pub fn enter_unified(&self, node: Node) -> Result<()> {
        let group = match self {
            Self::V1(_) => {
                mount(Some("cgroup2"), ROOT, Some("cgroup2"), MsFlags::empty(), None::<&str>).context("cgroup2")?;
                Path::new(ROOT).join(LAB).join(node.name())
            }
            Self::V2 => Path::new(ROOT).join("debian"),
        };
        fs::create_dir_all(&group)?;
        write(&group.join("cgroup.procs"), "0")
    }

    /// Returns all processes in the lab's cgroups, that is, all processes on its nodes.
    pub fn processes(&self) -> BTreeSet<i32> {
        let mut groups = self.lab();
        let mut found = BTreeSet::new();
        while let Some(group) = groups.pop() {
            let text = fs::read_to_string(group.join("cgroup.procs")).unwrap_or_default();
            found.extend(text.lines().filter_map(|l| l.parse::<i32>().ok()).filter(|p| *p > 0));
            let entries = fs::read_dir(group).into_iter().flatten().flatten();
            groups.extend(entries.map(|e| e.path()).filter(|p| p.is_dir()));
        }
        found
    }

    /// Removes the lab's cgroups. They must be empty. The kernel needs a moment to notice this.
    pub fn remove(&self) -> Result<()> {
        self.remove_unified(LAB.into())?;
        remove(&self.lab())
    }

    /// Removes a node's cgroups. See [`Hierarchies::remove`].
    pub fn remove_node(&self, node: Node) -> Result<()> {
        self.remove_unified(Path::new(LAB).join(node.name()))?;
        remove(&self.lab().iter().map(|lab| lab.join(node.name())).collect::<Vec<_>>())
    }

    /// Removes the cgroups of [`Hierarchies::enter_unified`] on a machine with version 1. Mounts version 2 in a
    /// separate mount namespace of a thread, because the machine may not have it mounted.
    fn remove_unified(&self, groups: PathBuf) -> Result<()> {
        if matches!(self, Self::V2) {
            return Ok(());
        }
        let work = move || -> Result<()> {
            unshare(CloneFlags::CLONE_NEWNS)?;
            mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>)?;
            mount(Some("cgroup2"), ROOT, Some("cgroup2"), MsFlags::empty(), None::<&str>).context("cgroup2")?;
            remove(&[Path::new(ROOT).join(groups)])
        };
        std::thread::spawn(work).join().map_err(|_| anyhow!("a thread panicked"))?
    }
}

/// A new version 1 cpuset has no processors and memory until they are set.
fn prepare_v1(dir: &Path) -> Result<()> {
    for file in ["cpuset.cpus", "cpuset.mems"] {
        let (own, parent) = (dir.join(file), dir.parent().unwrap_or(Path::new("/")).join(file));
        if own.exists() && fs::read_to_string(&own)?.trim().is_empty() {
            write(&own, fs::read_to_string(parent)?.trim())?;
        }
    }
    let clone = dir.join("cgroup.clone_children");
    if dir.join("cpuset.cpus").exists() { write(&clone, "1") } else { Ok(()) }
}

/// Version 2: delegates all controllers of `dir` to its children.
fn delegate(dir: &Path) -> Result<()> {
    let controllers = fs::read_to_string(dir.join("cgroup.controllers"))?;
    for controller in controllers.split_whitespace() {
        write(&dir.join("cgroup.subtree_control"), &format!("+{controller}"))?;
    }
    Ok(())
}

fn write(file: &Path, text: &str) -> Result<()> {
    fs::write(file, text).with_context(|| format!("writing {text:?} to {}", file.display()))
}

fn remove(trees: &[PathBuf]) -> Result<()> {
    let deadline = Instant::now() + Duration::from_secs(5);
    for tree in trees {
        while let Err(e) = remove_tree(tree) {
            ensure!(Instant::now() < deadline, "{}: {e}", tree.display());
            std::thread::sleep(Duration::from_millis(20));
        }
    }
    Ok(())
}

fn remove_tree(dir: &Path) -> io::Result<()> {
    let entries = match fs::read_dir(dir) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries?,
    };
    for entry in entries {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            remove_tree(&entry.path())?;
        }
    }
    fs::remove_dir(dir)
}
