//! Chassis in the southbound database. This task removes the chassis of deleted nodes and forwards the reports of node
//! agents to the owner, and which chassis is active for each centralized subnet.
//!
//! ovn-controller creates its chassis, but does not delete it when its machine is switched off. All other nodes would
//! keep a tunnel to it. Only chassis with our mark whose host is neither a Node nor an external host are removed, and those
//! that have the tunnel address of a new chassis of the same host, which cannot have it before. The API server is asked once more
//! before. Other chassis are left alone.
//!
//! After all members have lost their files, the task writes back what was in the database before
//! ([`ovn::southbound::unfilled`]): that of the leader, or, if that has only just started, of another replica.

mod exits;
mod stale;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use ovn::southbound::{self, NodeReport, unfilled};
use ovsdb::client::{Changes, Client};
use ovsdb::{Op, Replica, RowId, Uuid};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until};

use crate::cluster::Event;
use exits::{Exits, active};
pub use stale::ApiServer;
use stale::{Removed, Witness, credible, remove, replaced};

/// The names of all Nodes and external hosts, and which are the latter.
pub type Hosts = BTreeMap<Arc<str>, bool>;

/// All of them while this replica leads and has listed them, else `None`.
pub type Nodes = Option<Arc<Hosts>>;

/// The pause before a database that was founded empty is filled again, when that has failed.
const FILL_AGAIN: Duration = Duration::from_secs(1);

/// A node's data in the southbound database.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NodeChassis {
    /// The name of its chassis, which is the node's `system-id`.
    pub id: Arc<str>,
    /// The report of its node agent.
    pub report: NodeReport,
    /// The tunnel address that another node has as well, and that node.
    pub shares: Option<(IpAddr, Arc<str>)>,
}

/// Runs until the sender of `nodes` is dropped.
pub async fn run(
    southbound: Client,
    mut changes: Changes,
    mut nodes: watch::Receiver<Nodes>,
    witness: impl Witness,
    owner: mpsc::Sender<Event>,
) {
    let mut connected = southbound.connected();
    let mut removed = Removed::default();
    let (mut last_reports, mut exits) = (BTreeMap::new(), Exits::default());
    let mut unfilled_since = None;
    let mut redirects = BTreeSet::new();
    loop {
        let now = Instant::now();
        let is_connected = *connected.borrow_and_update();
        let leads = nodes.borrow_and_update().clone();
        let mut next = None;
        let mut soonest = |at: Option<Instant>| next = next.into_iter().chain(at).min();
        if is_connected && southbound.read(unfilled::is_unfilled) {
            let since = *unfilled_since.get_or_insert(now);
            if let Some(patience) = patience(leads.is_some(), southbound.before().is_some()) {
                let is_filled = now >= since + patience && fill(&southbound).await;
                soonest((!is_filled).then(|| (since + patience).max(now + FILL_AGAIN)));
            }
        } else if is_connected {
            unfilled_since = None;
            let reports = southbound.read(|replica| reports(replica, leads.as_deref()));
            if reports != last_reports {
                last_reports.clone_from(&reports);
                if owner.send(Event::Reports(reports)).await.is_err() {
                    return;
                }
            }
            let moved = exits.update(southbound.read(active), now);
            if moved && owner.send(Event::Exits(exits.settled.clone())).await.is_err() {
                return;
            }
            redirects = southbound.read(|replica| southbound::redirects(replica).collect());
            soonest(exits.next());
            if let Some(known) = leads {
                soonest(remove(&southbound, &known, &witness, &mut removed, now).await);
                if southbound.read(unfilled::is_late) {
                    // The next change follows if that fails.
                    let _ = southbound.transact(&[ovn::complete(southbound::SB_GLOBAL)]).await;
                }
            }
        }
        tokio::select! {
            result = nodes.changed() => if result.is_err() { return },
            () = concerning_chassis(&mut changes, &southbound, &redirects) => {}
            _ = connected.changed() => {}
            () = sleep_until(next.unwrap_or(now)), if next.is_some() => {}
        }
    }
}

/// Waits for a change of more than ports of pods. `redirects` are the other ports, as far as they were known.
async fn concerning_chassis(changes: &mut Changes, southbound: &Client, redirects: &BTreeSet<Uuid>) {
    loop {
        let change = changes.next().await;
        let is_other_port = |(table, id): &RowId| {
            *table != southbound::PORT_BINDING
                || redirects.contains(id)
                || southbound.read(|replica| southbound::is_redirect(replica, *id))
        };
        if change.reset || change.connected || change.rows.iter().any(is_other_port) {
            return;
        }
    }
}

/// How long this replica leaves a database unfilled, because another one may lead, or have the rows from before. `None`: it is not
/// the one that does without them.
fn patience(leads: bool, has_rows: bool) -> Option<Duration> {
    match (leads, has_rows) {
        (true, true) => Some(Duration::ZERO),
        (false, true) => Some(Duration::from_secs(1)),
        (true, false) => Some(Duration::from_secs(3)),
        (false, false) => None,
    }
}

/// Writes what was in the database before to one that was founded empty, and lets northd begin. Returns false if that has failed.
async fn fill(southbound: &Client) -> bool {
    let before = southbound.before();
    let transactions = southbound.read(|now| unfilled::fill(before.as_deref(), now));
    let rows = transactions.iter().flatten().filter(|op| matches!(op, Op::Insert { .. })).count();
    for transaction in transactions {
        if let Err(error) = southbound.transact(&transaction).await {
            tracing::warn!(%error, "the southbound database, which was founded empty, is not filled yet");
            return false;
        }
    }
    if rows > 0 {
        tracing::info!(
            rows,
            "the southbound database, which was founded empty, has its ports, chassis and keys from before again"
        );
    } else {
        tracing::info!("the southbound database was founded empty, and there is nothing from before");
    }
    true
}

/// The chassis and the report of each node, by node name.
fn reports(replica: &Replica, known: Option<&Hosts>) -> BTreeMap<Arc<str>, NodeChassis> {
    let credible = credible(replica, known);
    let replaced = replaced(&credible);
    let chassis = credible.into_iter().filter(|chassis| !replaced.contains(&chassis.id));
    let mut all: Vec<_> = chassis.map(|chassis| (chassis.report(), chassis)).collect();
    // The chassis of a Node counts before that of an external host with its name.
    all.sort_by_key(|(report, _)| !report.external);
    let each = all.into_iter().map(|(report, chassis)| {
        (Arc::from(chassis.hostname), NodeChassis { id: chassis.name.into(), report, shares: None })
    });
    let mut each: BTreeMap<Arc<str>, NodeChassis> = each.collect();
    for (one, address, other) in shared(&each) {
        for (node, with) in [(&one, &other), (&other, &one)] {
            if let Some(chassis) = each.get_mut(node) {
                chassis.shares = Some((address, Arc::clone(with)));
            }
        }
    }
    each
}

/// The pairs of nodes that have the same tunnel address. Another chassis than that of a node goes by its own name.
fn shared(nodes: &BTreeMap<Arc<str>, NodeChassis>) -> Vec<(Arc<str>, IpAddr, Arc<str>)> {
    let taken = nodes.iter().filter_map(|(node, chassis)| Some((node, chassis.report.taken.as_ref()?)));
    let taken: Vec<_> = taken.collect();
    if taken.is_empty() {
        return Vec::new();
    }
    let hosts: BTreeMap<&str, &Arc<str>> = nodes.iter().map(|(node, chassis)| (&*chassis.id, node)).collect();
    let pairs = taken.into_iter().map(|(node, (address, by))| {
        let other = hosts.get(by.as_str()).map_or_else(|| by.as_str().into(), |other| Arc::clone(other));
        (Arc::clone(node), *address, other)
    });
    pairs.collect()
}

#[cfg(test)]
mod tests;
