//! How pods leave the cluster: forwarding, ipsets and iptables rules of this node, both families.
//!
//! Owns the sets `ovn40*` and `ovn60*` and the chains `OVN-*`, kube-ovn's names, so that a node that ran kube-ovn is
//! taken over in place. Everything goes to the kernel by one `ipset restore` and one `iptables-restore --noflush` per
//! family. Promise: what is right already is not written, and no other rule of the node is touched.
//!
//! Traffic of a subnet with NAT to anywhere outside of all subnets leaves under this node's address. Traffic of a pod to
//! a service's address is marked when it comes out of `ovn0` and masqueraded after the service's address was replaced,
//! so that the backend's answer returns through this node. Whether kube-proxy or we put our rules first makes no difference:
//! the mark is set in a table that comes before the one where addresses are replaced. Pod to pod is never masqueraded.

mod command;
mod ipset;
mod iptables;

use std::collections::{BTreeMap, BTreeSet};

use ipnet::IpNet;

pub use command::CommandError;

/// What the sets hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// Every subnet of the cluster, the join network too.
    pub subnets: BTreeSet<IpNet>,
    /// Those that leave under the node's address.
    pub nat: BTreeSet<IpNet>,
    /// The service ranges.
    pub services: BTreeSet<IpNet>,
}

/// An address family as the kernel's tools name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Family {
    V4,
    V6,
}

impl Family {
    const ALL: [Self; 2] = [Self::V4, Self::V6];

    /// The first part of a set's name.
    fn prefix(self) -> &'static str {
        match self {
            Self::V4 => "ovn40",
            Self::V6 => "ovn60",
        }
    }

    fn has(self, net: &IpNet) -> bool {
        matches!((self, net), (Self::V4, IpNet::V4(_)) | (Self::V6, IpNet::V6(_)))
    }
}

impl Wanted {
    /// Set name to family and elements.
    fn sets(&self) -> BTreeMap<String, (Family, BTreeSet<IpNet>)> {
        let mut sets = BTreeMap::new();
        for family in Family::ALL {
            for (name, nets) in [("subnets", &self.subnets), ("subnets-nat", &self.nat), ("services", &self.services)] {
                let elements = nets.iter().filter(|net| family.has(net)).copied().collect();
                sets.insert(format!("{}{name}", family.prefix()), (family, elements));
            }
        }
        sets
    }
}

/// How many lines went to the kernel's tools; all zero when everything was right.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Written {
    /// To `ipset restore`.
    pub sets: usize,
    /// To `iptables-restore` and `ip6tables-restore`.
    pub rules: usize,
}

/// The node's sets and rules in the namespace of the process.
#[derive(Debug, Default)]
pub struct Masquerade {
    /// How the installed iptables prints our rules where it differs from how we write them.
    printed: BTreeMap<Family, iptables::Saved>,
}

impl Masquerade {
    /// Makes the kernel's sets and rules what is wanted.
    pub async fn apply(&mut self, wanted: &Wanted) -> Result<Written, CommandError> {
        let mut written = Written::default();
        let batch = ipset::batch(&wanted.sets(), &command::run("ipset", &["save"], "").await?);
        if !batch.is_empty() {
            command::run("ipset", &["restore", "-exist"], &batch).await?;
            written.sets = batch.lines().count();
        }
        for family in Family::ALL {
            written.rules += self.apply_rules(family).await?;
        }
        Ok(written)
    }

    async fn apply_rules(&mut self, family: Family) -> Result<usize, CommandError> {
        let (save, restore) = match family {
            Family::V4 => ("iptables-save", "iptables-restore"),
            Family::V6 => ("ip6tables-save", "ip6tables-restore"),
        };
        let chains = iptables::chains(family.prefix());
        let saved = iptables::Saved::parse(&chains, &command::run(save, &[], "").await?);
        let batch = saved.batch(&chains);
        if batch.is_empty() || self.printed.get(&family) == Some(&saved) {
            return Ok(0);
        }
        command::run(restore, &["--wait", "5", "--noflush"], &batch).await?;
        let after = iptables::Saved::parse(&chains, &command::run(save, &[], "").await?);
        if !after.batch(&chains).is_empty() {
            tracing::debug!(program = save, "prints our rules in its own way; what it prints now counts as right");
            self.printed.insert(family, after);
        }
        Ok(batch.lines().count())
    }
}

/// Turns forwarding on for both families where it is off. IPv6 absent from the kernel is fine.
pub fn forward() -> std::io::Result<()> {
    for path in ["/proc/sys/net/ipv4/ip_forward", "/proc/sys/net/ipv6/conf/all/forwarding"] {
        match std::fs::read_to_string(path) {
            Ok(now) if now.trim() == "1" => {}
            Ok(_) => std::fs::write(path, "1")?,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
