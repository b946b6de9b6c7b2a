//! The layout of the lab: paths of its state and of the cache that `e2e/setup` fills, names and addresses.
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

/// The state of a running lab. `lab down` removes it. It is not under `/run`, because each node mounts its own `/run`.
pub const STATE: &str = "/var/lib/kube-ovn-lab";
/// The maximum number of nodes.
pub const MAX_NODES: u8 = 3;

/// The bridge of the node network, in the root network namespace.
pub const BRIDGE: &str = "lab0";
/// The bridge of the tunnel network. The host has no address on it.
pub const TUNNEL_BRIDGE: &str = "lab1";
/// The address of the API server and etcd.
pub const CONTROL_PLANE: &str = "172.30.0.254";
/// The IPv6 address of the control plane.
pub const CONTROL_PLANE_6: &str = "fd00:30::fe";
/// The address of `lab-out`, a host outside of the cluster.
pub const OUTSIDE: &str = "172.30.0.250";
/// The IPv6 address of `lab-out`.
pub const OUTSIDE_6: &str = "fd00:30::fa";
/// The network namespace of that host.
pub const OUTSIDE_NETNS: &str = "lab-out";

/// `--service-cluster-ip-range` of the API server, for both address families.
pub const SERVICES: &str = "10.96.0.0/12,fd00:10:96::/112";
/// The only image. It contains shell tools, CoreDNS and `lab-peer`, which also runs as the pause container.
pub const IMAGE: &str = "localhost/lab:1";

/// Returns a path under [`STATE`].
pub fn state(relative: impl AsRef<Path>) -> PathBuf {
    Path::new(STATE).join(relative)
}

/// Returns a path in the cache that `e2e/setup` fills.
pub fn cache(relative: impl AsRef<Path>) -> PathBuf {
    Path::new(&env::var_os("KUBE_OVN_CACHE").unwrap_or_else(|| "/var/cache/kube-ovn-rs".into())).join(relative)
}

/// The `lab` binary of the running lab. Other code, tests included, starts commands with its subcommands.
pub fn lab() -> PathBuf {
    state("bin/lab")
}

/// The base root file system of every node's Debian.
pub fn rootfs() -> PathBuf {
    cache("rootfs")
}

/// Returns a binary that was built next to this one, in the same profile.
pub fn sibling(name: &str) -> io::Result<PathBuf> {
    let exe = env::current_exe()?;
    // Tests are one directory deeper, in `deps`.
    let folder = exe.ancestors().skip(1).find(|d| !d.ends_with("deps")).unwrap_or(Path::new("/"));
    Ok(folder.join(name))
}

/// Returns the path of the admin's kubeconfig.
pub fn kubeconfig() -> PathBuf {
    pki().join("admin.conf")
}

/// Returns the directory of the control plane if that does not run on the lab's machine, see [`crate::control`].
pub fn control() -> Option<PathBuf> {
    env::var_os("LAB_CONTROL").map(PathBuf::from)
}

/// Returns the directory of the certificates.
pub fn pki() -> PathBuf {
    control().unwrap_or_else(|| STATE.into()).join("pki")
}

/// Returns the port of the API server at [`CONTROL_PLANE`].
pub fn api_port() -> u16 {
    if control().is_some() { crate::control::API } else { 6443 }
}

/// A node of the lab. Numbers start at 1.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Node(u8);

impl Node {
    /// `n1`, which exists in every lab.
    pub const ONE: Self = Self(1);

    /// `n2`, which exists in every lab whose network was made by hand.
    pub const TWO: Self = Self(2);

    /// `n3`.
    pub const THREE: Self = Self(3);

    /// Returns the first `count` nodes.
    pub fn first(count: u8) -> impl Iterator<Item = Self> {
        (1..=count).map(Self)
    }

    /// Returns the node `name` (`n1`..`n3`), whether or not it is running.
    pub fn named(name: &str) -> Option<Self> {
        Self::first(MAX_NODES).find(|n| n.name() == name)
    }

    /// Returns the running nodes.
    pub fn running() -> Vec<Self> {
        Self::first(MAX_NODES).filter(|n| n.pid().is_some()).collect()
    }

    /// Returns the name in Kubernetes, which is also the host name.
    pub fn name(self) -> String {
        format!("n{}", self.0)
    }

    /// Returns the name of the network namespace.
    pub fn netns(self) -> String {
        format!("lab-n{}", self.0)
    }

    /// Returns the IPv4 address of `eth0`.
    pub fn ip4(self) -> String {
        format!("172.30.0.{}", self.0)
    }

    /// Returns the IPv6 address of `eth0`.
    pub fn ip6(self) -> String {
        format!("fd00:30::{:x}", self.0)
    }

    /// Returns the tunnel endpoint address, on `br-phy`.
    pub fn tunnel_ip(self) -> String {
        format!("172.31.0.{}", self.0)
    }

    /// Returns the node's directory. Its subdirectory `root` contains the node's `/var/lib/kubelet` and the like.
    pub fn dir(self) -> PathBuf {
        state("nodes").join(self.name())
    }

    /// Returns the host's process ID of the node's process 1, if the node is running.
    pub fn pid(self) -> Option<u32> {
        record::recorded(&state("pid").join(self.name()))
    }
}
