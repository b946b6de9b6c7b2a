//! The rules of this node's firewall for the traffic of pods, for both address families.
//!
//! They are in a table `kube-ovn` of nftables for each family ([`nft`]), which the agent replaces in one transaction. The
//! host's own firewall, if it is made with iptables, lets traffic of `ovn0` pass by two chains of ours ([`iptables`]).
//! Where the kernel or the host has no nftables, all rules are in chains `OVN-*` of iptables, with sets `ovn40*` and
//! `ovn60*`, as in kube-ovn. Otherwise the agent removes these chains and sets, so it takes over a node that ran kube-ovn.
//! It writes only what differs, and changes no other rules of the node.
//!
//! Traffic from a subnet with NAT to destinations outside of all subnets is masqueraded with the node's address, but not
//! the replies to connections that came in through another node. A subnet can have rules of its own for it, and another
//! address than the node's ([`Leaving`]).
//!
//! Traffic from a pod to a Service is masqueraded after the destination was translated, so that the backend's reply returns
//! through this node. So is what pods and other nodes send to a port of this node that leads to a pod, by a `NodePort` or
//! `hostPort`: the pod's reply to their own addresses would not come back here, where it must be translated. A client
//! outside of the cluster keeps its address. So does a pod that asks a pod of a private subnet: the ACLs of the subnet
//! decide by it. Other traffic between pods is never masqueraded.
//!
//! Traffic of the node itself to a Service has the node's own address when it reaches a pod, as its other traffic to pods
//! has. kube-proxy would masquerade it with the address of `ovn0`.
//!
//! Packets between pods that fit no known connection are dropped. The ports of the OVN databases take connections from
//! nodes only. What a node masquerades to these ports, to whatever address, has a source port below 1024, which no client of
//! a database has: so a node with databases tells what comes from a node from what comes through it.
//!
//! Copies that a mirror sends to its device are dropped before anything looks at them ([`crate::mirror`]).
//!
//! No rule touches the packets of tunnels, apart from the removal of kube-proxy's mark from them.

mod backend;
mod command;
mod events;
mod forwarding;
mod ipset;
mod iptables;
mod keep;
pub mod leaving;
mod nft;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::Path;

use ipnet::IpNet;

use crate::node_port::Sources;
use backend::Iptables;

pub use backend::Firewall;
pub use command::CommandError;
pub use keep::{Inputs, keep};
pub use leaving::{How, Leaving};

/// Exists if the kernel has IPv6.
const IPV6: &str = "/proc/net/if_inet6";

/// What the rules depend on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// All subnets of the cluster, including the join subnet.
    pub subnets: BTreeSet<IpNet>,
    /// The subnets with NAT.
    pub nat: BTreeSet<IpNet>,
    /// What leaves these subnets in another way: the first that matches decides.
    pub leaving: Vec<Leaving>,
    /// The service ranges.
    pub services: BTreeSet<IpNet>,
    /// The private subnets.
    pub private: BTreeSet<IpNet>,
    /// The addresses of all nodes, as far as pods may answer them.
    pub nodes: BTreeSet<IpNet>,
    /// The addresses of the nodes with OVN databases.
    pub databases: BTreeSet<IpNet>,
    /// The addresses that may use the databases of this node: those of all nodes. `None` if it has no databases.
    pub members: Option<BTreeSet<IpNet>>,
    /// The device of the mirror. What comes from it is dropped: it is a copy.
    pub mirror: String,
    /// The source addresses of the node's traffic to pods. `None` leaves existing rules as they are.
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

    /// Returns the prefix of the names of ipsets.
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

impl Sources {
    /// Returns the source address of a family.
    fn of(&self, family: Family) -> Option<IpAddr> {
        match family {
            Family::V4 => self.v4.map(IpAddr::V4),
            Family::V6 => self.v6.map(IpAddr::V6),
        }
    }
}

impl Wanted {
    /// Returns the families of pods. The kernel of a node may have no IPv6, and without a subnet of it needs none.
    fn families_of_pods(&self) -> impl Iterator<Item = Family> {
        Family::ALL.into_iter().filter(|family| *family == Family::V4 || self.subnets.iter().any(|net| family.has(net)))
    }

    /// Returns the families of the rules: those of pods, and on a node with databases all that the kernel has, because the
    /// databases listen on any address.
    fn families(&self) -> impl Iterator<Item = Family> {
        let guarded = self.members.is_some() && Path::new(IPV6).exists();
        let pods: Vec<Family> = self.families_of_pods().collect();
        Family::ALL.into_iter().filter(move |family| guarded || pods.contains(family))
    }

    /// Returns the sets by name.
    fn sets(&self) -> impl Iterator<Item = (&'static str, &BTreeSet<IpNet>)> {
        let sets = [
            ("subnets", &self.subnets),
            ("subnets-nat", &self.nat),
            ("subnets-private", &self.private),
            ("services", &self.services),
            ("nodes", &self.nodes),
            ("databases", &self.databases),
        ];
        // What an earlier agent knew of them is right until they are known.
        sets.into_iter().chain(self.members.as_ref().map(|members| ("members", members)))
    }

    /// Returns the sets of the families by the name of their ipset, with family and elements.
    fn ipsets(&self) -> BTreeMap<String, (Family, BTreeSet<IpNet>)> {
        let of = |family: Family| {
            self.sets().map(move |(name, nets)| {
                let elements = nets.iter().filter(|net| family.has(net)).copied().collect();
                (format!("{}{name}", family.prefix()), (family, elements))
            })
        };
        self.families().flat_map(of).collect()
    }
}

/// The number of lines written to the tools. Zero if nothing differed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Written {
    /// Lines for `ipset restore`.
    pub sets: usize,
    /// Lines for nft, `iptables-restore` and `ip6tables-restore`.
    pub rules: usize,
}

/// The node's rules, in the namespace of the process.
#[derive(Debug, Default)]
pub struct Rules {
    firewall: Firewall,
    /// Whether nftables is used, once that is known.
    nftables: Option<bool>,
    /// The tables as written, and as nft prints them.
    tables: BTreeMap<Family, (String, Option<String>)>,
    /// The families for which leftovers were removed: of the other way to write the rules, and of other families.
    cleaned: Option<Vec<Family>>,
    /// How the installed iptables prints our rules, if that differs from how the agent writes them.
    printed: BTreeMap<Family, (Vec<iptables::Chain>, iptables::Saved)>,
    /// The lines that ipset has refused, so that each is logged once.
    refused: BTreeSet<String>,
}

impl Rules {
    /// The rules are written in this way.
    pub fn with(firewall: Firewall) -> Self {
        Self { firewall, ..Self::default() }
    }

    /// Writes what differs in the kernel. Returns the first error after it has tried everything.
    pub async fn apply(&mut self, wanted: &Wanted) -> Result<Written, CommandError> {
        let nftables = match self.nftables {
            Some(known) => known,
            None => *self.nftables.insert(self.firewall.is_nftables().await?),
        };
        let mut written = Written::default();
        let result = if nftables {
            self.apply_tables(wanted, &mut written).await
        } else {
            self.apply_chains(wanted, &mut written).await
        };
        let families: Option<Vec<Family>> = Some(wanted.families().collect());
        if result.is_ok() && self.cleaned != families && wanted.sources.is_some() {
            self.clean(wanted, nftables).await;
            self.tables.retain(|family, _| families.iter().flatten().any(|used| used == family));
            self.cleaned = families;
        }
        result.map(|()| written)
    }

    /// Returns the packets that our rules have dropped since they were written: those that fit no connection, and those to
    /// the ports of databases. `None` if they are not known.
    pub async fn dropped(&self) -> Option<Dropped> {
        let mut dropped = Dropped::default();
        if self.nftables != Some(true) {
            return None;
        }
        for family in self.tables.keys() {
            dropped.invalid += nft::counted(*family, nft::INVALID).await.ok()?;
            dropped.databases += nft::counted(*family, nft::DATABASES).await.ok()?;
        }
        Some(dropped)
    }

    /// Returns whether the kernel announces all changes of the rules, as far as this is known.
    async fn are_announced(&self) -> bool {
        match Iptables::of_host().await {
            Ok(iptables) => iptables.is_announced(),
            // There are no rules of iptables.
            Err(_) => self.nftables == Some(true),
        }
    }

    async fn apply_tables(&mut self, wanted: &Wanted, written: &mut Written) -> Result<(), CommandError> {
        let mut result = Ok(());
        for family in wanted.families() {
            result = result.and(self.apply_table(family, wanted, written).await);
        }
        // A host without iptables has no firewall made with it.
        match Iptables::of_host().await {
            Ok(iptables) => {
                for family in wanted.families_of_pods() {
                    let accepting = self.apply_rules(family, iptables, &["-t", "filter"], iptables::accepting()).await;
                    result = result.and(accepting.map(|lines| written.rules += lines));
                }
            }
            Err(CommandError::Run { .. }) => {}
            Err(error) => result = result.and(Err(error)),
        }
        result
    }

    async fn apply_table(
        &mut self,
        family: Family,
        wanted: &Wanted,
        written: &mut Written,
    ) -> Result<(), CommandError> {
        let text = nft::table(wanted, family);
        let there = nft::read(family).await?;
        let is_right = match self.tables.get(&family) {
            Some((of, printed)) => *of == text && *printed == there,
            // An earlier agent has written a table with the sources of the node, which are not known yet.
            None => wanted.sources.is_none() && there.is_some(),
        };
        if !is_right {
            nft::write(family, &text).await?;
            written.rules += text.lines().count();
            self.tables.insert(family, (text, nft::read(family).await?));
        }
        Ok(())
    }

    async fn apply_chains(&mut self, wanted: &Wanted, written: &mut Written) -> Result<(), CommandError> {
        let mut result = self.apply_sets(wanted).await.map(|lines| written.sets = lines);
        let Some(sources) = wanted.sources else { return result };
        let iptables = Iptables::of_host().await?;
        for family in wanted.families() {
            let chains = iptables::chains(family, wanted, sources.of(family));
            let rules = self.apply_rules(family, iptables, &[], chains).await;
            result = result.and(rules.map(|lines| written.rules += lines));
        }
        result
    }

    /// Returns the number of lines that ipset has accepted.
    async fn apply_sets(&mut self, wanted: &Wanted) -> Result<usize, CommandError> {
        let batch = ipset::batch(&wanted.ipsets(), &command::run("ipset", &["save"], "").await?);
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

    /// `tables` are the arguments of `iptables-save` that select the tables of the chains.
    async fn apply_rules(
        &mut self,
        family: Family,
        iptables: Iptables,
        tables: &[&str],
        chains: Vec<iptables::Chain>,
    ) -> Result<usize, CommandError> {
        let (save, restore) = iptables.programs(family);
        let saved = iptables::Saved::parse(&chains, &command::run(save, tables, "").await?);
        let batch = saved.batch(&chains);
        let right = |(of, printed): &(Vec<_>, _)| *of == chains && *printed == saved;
        if batch.is_empty() || self.printed.get(&family).is_some_and(right) {
            return Ok(0);
        }
        command::run(restore, &["--wait", "5", "--noflush"], &batch).await?;
        let after = iptables::Saved::parse(&chains, &command::run(save, tables, "").await?);
        if !after.batch(&chains).is_empty() {
            tracing::debug!(program = save, "prints our rules in its own way; what it prints now counts as right");
            self.printed.insert(family, (chains, after));
        }
        Ok(batch.lines().count())
    }

    /// Removes what an earlier agent, or kube-ovn, has left: chains and sets beside nftables, or tables beside iptables, and
    /// those of a family that the cluster does not have any more. Failures are logged: they do no harm.
    async fn clean(&self, wanted: &Wanted, nftables: bool) {
        let used: Vec<Family> = wanted.families().collect();
        let accepted: Vec<Family> = wanted.families_of_pods().collect();
        let mut results = Vec::new();
        for family in Family::ALL {
            let has_table = nft::read(family).await.is_ok_and(|table| table.is_some());
            if has_table && !(nftables && used.contains(&family)) {
                results.push(nft::delete(family).await);
            }
        }
        if nftables {
            let of_host = Iptables::of_host().await.ok();
            for iptables in [Iptables::Nft, Iptables::Legacy, Iptables::Only].into_iter().filter(|one| one.is_in_use())
            {
                for family in Family::ALL {
                    let is_used = of_host == Some(iptables) && accepted.contains(&family);
                    let wanted = if is_used { iptables::accepting() } else { Vec::new() };
                    results.push(remove_chains(iptables, family, &wanted).await);
                }
            }
            results.push(remove_sets().await);
        }
        for error in results.into_iter().filter_map(Result::err) {
            tracing::debug!(%error, "leftovers of rules are not removed");
        }
    }
}

/// Returns how the rules are written, or why they are not there.
pub async fn are_there() -> Result<String, String> {
    match nft::read(Family::V4).await {
        Ok(Some(_)) => return Ok(format!("in the table {} of nftables", nft::TABLE)),
        Ok(None) | Err(CommandError::Run { .. }) => {}
        Err(error) => return Err(error.to_string()),
    }
    let iptables = Iptables::of_host().await.map_err(|error| error.to_string())?;
    let saved = command::run(iptables.programs(Family::V4).0, &["-t", "nat"], "").await;
    if saved.map_err(|error| error.to_string())?.contains(":OVN-POSTROUTING") {
        return Ok("in chains of iptables".to_owned());
    }
    Err(format!("there is neither a table {} of nftables nor a chain OVN-POSTROUTING of iptables", nft::TABLE))
}

/// The number of packets that were dropped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Dropped {
    /// Packets between pods that fit no known connection.
    pub invalid: u64,
    /// Packets to the ports of OVN databases that do not come from nodes.
    pub databases: u64,
}

async fn restore(lines: &str) -> Result<(), CommandError> {
    command::run("ipset", &["restore", "-exist"], lines).await.map(drop)
}

async fn remove_chains(iptables: Iptables, family: Family, wanted: &[iptables::Chain]) -> Result<(), CommandError> {
    let (save, restore) = iptables.programs(family);
    let batch = iptables::removal(wanted, &command::run(save, &[], "").await?);
    if batch.is_empty() {
        return Ok(());
    }
    tracing::info!(program = restore, "rules of an earlier agent are removed");
    command::run(restore, &["--wait", "5", "--noflush"], &batch).await.map(drop)
}

async fn remove_sets() -> Result<(), CommandError> {
    let names = command::run("ipset", &["list", "-name"], "").await?;
    let ours = names.lines().filter(|name| Family::ALL.iter().any(|family| name.starts_with(family.prefix())));
    let mut result = Ok(());
    for name in ours {
        // A set that rules of others name stays.
        result = result.and(command::run("ipset", &["destroy", name], "").await.map(drop));
    }
    result
}
