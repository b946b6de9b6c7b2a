//! Traffic from pods out of the cluster: forwarding, ipsets and iptables rules of this node, for both address families.
//!
//! The agent owns the sets `ovn40*` and `ovn60*` and the chains `OVN-*`. The names are kube-ovn's, so the agent takes
//! over the rules on a node that ran kube-ovn. One `ipset restore`, and for each address family one
//! `iptables-restore --noflush`, write all changes. The agent writes only what differs and changes no other rules of the
//! node. An element that ipset refuses is left out, and a family whose rules cannot be written does not affect the other
//! one.
//!
//! Traffic from a subnet with NAT to destinations outside of all subnets is masqueraded with the node's address.
//!
//! Traffic from a pod to a Service is marked when it leaves `ovn0`, and masqueraded after the destination was
//! translated, so that the backend's reply returns through this node. So is what pods and other nodes send to a port of
//! this node that leads to a pod, by a `NodePort` or `hostPort`: the pod's reply to their own addresses would not come
//! back here, where it must be translated. A client outside of the cluster keeps its address. So does a pod that asks a
//! pod of a private subnet: the ACLs of the subnet decide by it. Other traffic between pods is never masqueraded.
//!
//! Traffic of the node itself to a Service has the node's own address when it reaches a pod, as its other traffic to
//! pods has. kube-proxy would masquerade it with the address of `ovn0`.
//!
//! The order of our rules and kube-proxy's does not matter, because marks are set and changed in mangle, whose chains come
//! before those of nat.

mod command;
mod ipset;
mod iptables;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnet::IpNet;

use crate::node_port::Sources;

pub use command::CommandError;

/// The contents of the sets, and the addresses in the rules.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// All subnets of the cluster, including the join subnet.
    pub subnets: BTreeSet<IpNet>,
    /// The subnets with NAT.
    pub nat: BTreeSet<IpNet>,
    /// The service ranges.
    pub services: BTreeSet<IpNet>,
    /// The private subnets.
    pub private: BTreeSet<IpNet>,
    /// The addresses of all nodes.
    pub nodes: BTreeSet<IpNet>,
    /// The source addresses of the node's traffic to pods. `None` leaves the rules as they are.
    pub sources: Option<Sources>,
}

/// An address family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Family {
    V4,
    V6,
}

impl Family {
    const ALL: [Self; 2] = [Self::V4, Self::V6];

    /// Returns the prefix of the set names.
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
    /// Returns the sets by name, with family and elements.
    fn sets(&self) -> BTreeMap<String, (Family, BTreeSet<IpNet>)> {
        let mut sets = BTreeMap::new();
        for family in Family::ALL {
            for (name, nets) in [
                ("subnets", &self.subnets),
                ("subnets-nat", &self.nat),
                ("services", &self.services),
                ("subnets-private", &self.private),
                ("nodes", &self.nodes),
            ] {
                let elements = nets.iter().filter(|net| family.has(net)).copied().collect();
                sets.insert(format!("{}{name}", family.prefix()), (family, elements));
            }
        }
        sets
    }
}

/// The number of lines written to the tools. Zero if nothing differed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Written {
    /// Lines for `ipset restore`.
    pub sets: usize,
    /// Lines for `iptables-restore` and `ip6tables-restore`.
    pub rules: usize,
}

/// The node's sets and rules, in the namespace of the process.
#[derive(Debug, Default)]
pub struct Masquerade {
    /// How the installed iptables prints our rules, if that differs from how the agent writes them.
    printed: BTreeMap<Family, (Vec<iptables::Chain>, iptables::Saved)>,
    /// The lines that ipset has refused, so that each is logged once.
    refused: BTreeSet<String>,
}

impl Masquerade {
    /// Applies the wanted sets and rules to the kernel. Returns the first error after it has tried everything.
    pub async fn apply(&mut self, wanted: &Wanted) -> Result<Written, CommandError> {
        let mut written = Written::default();
        let mut result = self.apply_sets(wanted).await.map(|lines| written.sets = lines);
        let Some(sources) = wanted.sources else { return result.map(|()| written) };
        for family in Family::ALL {
            let rules = self.apply_rules(family, sources).await.map(|lines| written.rules += lines);
            result = result.and(rules);
        }
        result.map(|()| written)
    }

    /// Returns the number of lines that ipset has accepted.
    async fn apply_sets(&mut self, wanted: &Wanted) -> Result<usize, CommandError> {
        let batch = ipset::batch(&wanted.sets(), &command::run("ipset", &["save"], "").await?);
        let mut refused = BTreeSet::new();
        let mut result = Ok(batch.lines().count());
        if !batch.is_empty() {
            match restore(&batch).await {
                // ipset stops at the first line that it refuses.
                Err(CommandError::Refused { .. }) => result = self.apply_lines(&batch, &mut refused).await,
                other => other?,
            }
        }
        self.refused = refused;
        result
    }

    /// Writes line by line. A refused element is logged and left out; a set that cannot be created is an error, because
    /// rules name it.
    async fn apply_lines(&self, batch: &str, refused: &mut BTreeSet<String>) -> Result<usize, CommandError> {
        let (mut written, mut result) = (0, Ok(()));
        for line in batch.lines() {
            match restore(&format!("{line}\n")).await {
                Ok(()) => written += 1,
                Err(CommandError::Refused { stderr, .. }) if !line.starts_with("create ") => {
                    if !self.refused.contains(line) {
                        tracing::warn!(line, why = stderr, "ipset refuses an element: it is left out of the set");
                    }
                    refused.insert(line.to_owned());
                }
                Err(error @ CommandError::Refused { .. }) => result = result.and(Err(error)),
                Err(error) => return Err(error),
            }
        }
        result.map(|()| written)
    }

    async fn apply_rules(&mut self, family: Family, sources: Sources) -> Result<usize, CommandError> {
        let (save, restore, source) = match family {
            Family::V4 => ("iptables-save", "iptables-restore", sources.v4.map(IpAddr::V4)),
            Family::V6 => ("ip6tables-save", "ip6tables-restore", sources.v6.map(IpAddr::V6)),
        };
        let chains = iptables::chains(family.prefix(), source);
        let saved = iptables::Saved::parse(&chains, &command::run(save, &[], "").await?);
        let batch = saved.batch(&chains);
        let right = |(of, printed): &(Vec<_>, _)| *of == chains && *printed == saved;
        if batch.is_empty() || self.printed.get(&family).is_some_and(right) {
            return Ok(0);
        }
        command::run(restore, &["--wait", "5", "--noflush"], &batch).await?;
        let after = iptables::Saved::parse(&chains, &command::run(save, &[], "").await?);
        if !after.batch(&chains).is_empty() {
            tracing::debug!(program = save, "prints our rules in its own way; what it prints now counts as right");
            self.printed.insert(family, (chains, after));
        }
        Ok(batch.lines().count())
    }
}

async fn restore(lines: &str) -> Result<(), CommandError> {
    command::run("ipset", &["restore", "-exist"], lines).await.map(drop)
}

/// Enables forwarding for both address families if it is disabled. Succeeds if the kernel has no IPv6.
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
