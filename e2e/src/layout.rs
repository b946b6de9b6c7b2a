//! Where everything is: paths of the lab's state and of the cache that `e2e/setup` fills, names and addresses.
//!
//! ```text
//!                lab0: 172.30.0.0/24, fd00:30::/64 (kernel bridge)            lab1 (kernel bridge, tunnels only)
//!  control plane .254, fd00:30::fe in the root network namespace
//!  lab-out        .250, fd00:30::fa   a host outside of the cluster
//!  n1..n3         .k, fd00:30::k on eth0                                       172.31.0.k on br-phy, over eth1
//! ```

use std::path::{Path, PathBuf};
use std::{env, io};

use crate::record;

/// All state of a running lab; `lab down` removes it. Not under `/run`, since each node mounts its own there.
pub const STATE: &str = "/var/lib/kube-ovn-lab";
/// The most nodes a lab can have.
pub const MAX_NODES: u8 = 3;

/// The bridge of the node network, in the root network namespace.
pub const BRIDGE: &str = "lab0";
/// The bridge of the tunnel network; the host has no address on it.
pub const TUNNEL_BRIDGE: &str = "lab1";
/// Where the API server and etcd are.
pub const CONTROL_PLANE: &str = "172.30.0.254";
/// The same over IPv6.
pub const CONTROL_PLANE_6: &str = "fd00:30::fe";
/// The address of `lab-out`, a host that is no part of the cluster.
pub const OUTSIDE: &str = "172.30.0.250";
/// The same over IPv6.
pub const OUTSIDE_6: &str = "fd00:30::fa";
/// The network namespace of that host.
pub const OUTSIDE_NETNS: &str = "lab-out";

/// `--service-cluster-ip-range` of the API server, both families.
pub const SERVICES: &str = "10.96.0.0/12,fd00:10:96::/112";
/// The only image there is: shell tools, CoreDNS, and `lab-peer`, which is also what holds a pod's sandbox.
pub const IMAGE: &str = "localhost/lab:1";

/// A path under [`STATE`].
pub fn state(relative: impl AsRef<Path>) -> PathBuf {
    Path::new(STATE).join(relative)
}

/// A path in the cache that `e2e/setup` fills.
pub fn cache(relative: impl AsRef<Path>) -> PathBuf {
    Path::new(&env::var_os("KUBE_OVN_CACHE").unwrap_or_else(|| "/var/cache/kube-ovn-rs".into())).join(relative)
}

/// The `lab` binary that brought the lab up; it has subcommands of its own that others, tests too, start commands with.
pub fn lab() -> PathBuf {
    state("bin/lab")
}

/// The root file system that every node's Debian begins with.
pub fn rootfs() -> PathBuf {
    cache("rootfs")
}

/// A binary built beside this one, in the same profile.
pub fn sibling(name: &str) -> io::Result<PathBuf> {
    let exe = env::current_exe()?;
    // Tests live one directory further down, in `deps`.
    let folder = exe.ancestors().skip(1).find(|d| !d.ends_with("deps")).unwrap_or(Path::new("/"));
    Ok(folder.join(name))
}

/// The admin's kubeconfig.
pub fn kubeconfig() -> PathBuf {
    state("pki/admin.conf")
}

/// One node of the lab, by its number from 1.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Node(u8);

impl Node {
    /// `n1`, which every lab has.
    pub const ONE: Self = Self(1);

    /// `n2`, which every lab with a network has that was made by hand.
    pub const TWO: Self = Self(2);

    /// The first `count` nodes.
    pub fn first(count: u8) -> impl Iterator<Item = Self> {
        (1..=count).map(Self)
    }

    /// The node called `name` (`n1`..`n3`), whether it runs or not.
    pub fn named(name: &str) -> Option<Self> {
        Self::first(MAX_NODES).find(|n| n.name() == name)
    }

    /// The nodes of the lab that is up.
    pub fn running() -> Vec<Self> {
        Self::first(MAX_NODES).filter(|n| n.pid().is_some()).collect()
    }

    /// Its name in Kubernetes, and its host name.
    pub fn name(self) -> String {
        format!("n{}", self.0)
    }

    /// The name of its network namespace.
    pub fn netns(self) -> String {
        format!("lab-n{}", self.0)
    }

    /// Its IPv4 address on `eth0`.
    pub fn ip4(self) -> String {
        format!("172.30.0.{}", self.0)
    }

    /// Its IPv6 address on `eth0`.
    pub fn ip6(self) -> String {
        format!("fd00:30::{:x}", self.0)
    }

    /// The local end of its tunnels, on `br-phy`.
    pub fn tunnel_ip(self) -> String {
        format!("172.31.0.{}", self.0)
    }

    /// Its directory: what it sees as `/var/lib/kubelet` and the like is under `root` there.
    pub fn dir(self) -> PathBuf {
        state("nodes").join(self.name())
    }

    /// The host's number for its process 1, if the node runs.
    pub fn pid(self) -> Option<u32> {
        record::recorded(&state("pid").join(self.name()))
    }
}
