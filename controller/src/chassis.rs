//! Chassis in the southbound database. This task removes the chassis of deleted nodes and forwards the reports of node
//! agents to the owner, and which chassis is active for each centralized subnet.
//!
//! ovn-controller creates its chassis, but does not delete it when its machine is switched off. All other nodes would
//! keep a tunnel to it. Only chassis with our mark whose host is neither a Node nor an external host are removed, and those
//! that have the tunnel address of a new chassis of the same host, which cannot have it before. Other chassis are left
//! alone.
//!
//! After all members have lost their files, the task writes back what was in the database before
//! ([`ovn::southbound::unfilled`]): that of the leader, or, if that has only just started, of another replica.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use ovn::local::chassis_of;
use ovn::southbound::{self, Chassis, NodeReport, unfilled};
use ovsdb::client::{Changes, Client};
use ovsdb::{Op, Replica, RowId, Uuid};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until};

use crate::cluster::Event;

/// The names of all Nodes and external hosts, and which are the latter.
pub type Hosts = BTreeMap<Arc<str>, bool>;

/// All of them while this replica leads and has listed them, else `None`.
pub type Nodes = Option<Arc<Hosts>>;

/// The first and the longest pause before a chassis is removed again after its ovn-controller created it anew. An external
/// host that is cut off loses its chassis and its way to the database at about the same time, so the first one is short.
const RETRY_AFTER: (Duration, Duration) = (Duration::from_secs(3), Duration::from_secs(30));

/// The same for a chassis of a Node that has another one, from the second time on. One of the two machines may have been
/// switched off without taking its report along, and the chassis that comes back is then the right one.
const RETRY_REPLACED_AFTER: Duration = Duration::from_mins(10);

/// How long a chassis must be active before that counts. When the first sessions of BFD begin, each chassis takes itself for
/// the active one for a moment.
const SETTLED: Duration = Duration::from_secs(2);

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
                soonest(remove(&southbound, &known, &mut removed, now).await);
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

/// The active chassis of each centralized subnet.
#[derive(Debug, Default)]
struct Exits {
    /// Those that have been active for [`SETTLED`].
    settled: BTreeMap<Arc<str>, Arc<str>>,
    /// Others, and since when.
    fresh: BTreeMap<Arc<str>, (Arc<str>, Instant)>,
}

impl Exits {
    /// Takes what the database says at `now`. Returns whether another chassis has settled, or a subnet is gone.
    fn update(&mut self, active: BTreeMap<Arc<str>, Arc<str>>, now: Instant) -> bool {
        let mut settled = BTreeMap::new();
        let mut fresh = BTreeMap::new();
        for (subnet, chassis) in active {
            let before = self.settled.get(&subnet);
            if before == Some(&chassis) {
                settled.insert(subnet, chassis);
                continue;
            }
            let since = self.fresh.get(&subnet).filter(|(same, _)| *same == chassis).map_or(now, |(_, since)| *since);
            if now >= since + SETTLED {
                settled.insert(subnet, chassis);
            } else {
                settled.extend(before.map(|before| (Arc::clone(&subnet), Arc::clone(before))));
                fresh.insert(subnet, (chassis, since));
            }
        }
        self.fresh = fresh;
        let changed = settled != self.settled;
        self.settled = settled;
        changed
    }

    /// When the next one settles.
    fn next(&self) -> Option<Instant> {
        self.fresh.values().map(|(_, since)| *since + SETTLED).min()
    }
}

/// The active chassis of each centralized subnet whose pods leave by one node, as the database has it.
fn active(replica: &Replica) -> BTreeMap<Arc<str>, Arc<str>> {
    let all = southbound::active(replica).filter_map(|(port, chassis)| match plan::exit_of(port)? {
        (subnet, None) => Some((subnet.into(), chassis.into())),
        _ => None,
    });
    all.collect()
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

/// The chassis that may be those of the hosts that they name. The name of a chassis is that of its key, but which host it is on is
/// what it says: one with the name that belongs to a known host is on no other one.
fn credible(replica: &Replica, known: Option<&Hosts>) -> Vec<Chassis> {
    let of_hosts: BTreeSet<String> = known.iter().flat_map(|known| known.keys()).map(|host| chassis_of(host)).collect();
    let is_credible =
        |chassis: &Chassis| !of_hosts.contains(&chassis.name) || chassis.name == chassis_of(&chassis.hostname);
    Chassis::all(replica).filter(is_credible).collect()
}

/// The chassis that have the tunnel address of another chassis of the same host.
fn replaced(all: &[Chassis]) -> BTreeSet<Uuid> {
    let replacing = all.iter().filter_map(|chassis| Some((&chassis.hostname, chassis.report().taken?.1, chassis.id)));
    let pairs: Vec<_> = replacing.collect();
    let is_replaced = |chassis: &&Chassis| {
        pairs.iter().any(|(host, name, by)| **host == chassis.hostname && *name == chassis.name && *by != chassis.id)
    };
    all.iter().filter(is_replaced).map(|chassis| chassis.id).collect()
}

/// Removes the stale chassis that are due. Returns the time of the next attempt, if one is needed.
async fn remove(southbound: &Client, nodes: &Hosts, removed: &mut Removed, now: Instant) -> Option<Instant> {
    let (due, ops) = southbound.read(|replica| {
        let credible = credible(replica, Some(nodes));
        let replaced = replaced(&credible);
        let credible: BTreeSet<Uuid> = credible.into_iter().map(|chassis| chassis.id).collect();
        let is_known = |chassis: &Chassis| {
            credible.contains(&chassis.id) && nodes.get(chassis.hostname.as_str()) == Some(&chassis.report().external)
        };
        let stale = Chassis::all(replica).filter(|chassis| !is_known(chassis) || replaced.contains(&chassis.id));
        let due = removed.due(stale.collect(), &replaced, now);
        let ops: Vec<_> = due.iter().flat_map(|chassis| chassis.removal(replica)).collect();
        (due, ops)
    });
    if !due.is_empty() {
        match southbound.transact(&ops).await {
            Ok(_) => {
                for Chassis { name, hostname, .. } in &due {
                    tracing::info!(
                        chassis = name,
                        hostname,
                        "removed: the cluster has no such Node or ExternalHost, or it has another chassis now"
                    );
                }
            }
            // The next attempt follows after a pause, a reconnect or a change.
            Err(error) => tracing::warn!(%error, "chassis of nodes that are gone could not be removed"),
        }
    }
    removed.next()
}

/// The last removal for each chassis, by its name.
#[derive(Debug, Default)]
struct Removed {
    last: BTreeMap<String, Removal>,
}

/// The last removal of a chassis.
#[derive(Debug)]
struct Removal {
    /// Its row.
    row: Uuid,
    /// The pause until the chassis may be removed again, if nothing longer is said.
    pause: Duration,
    /// When it may be removed again.
    again: Instant,
}

impl Removed {
    /// The chassis in `stale` that are due for removal. `stale` must contain all stale chassis, `replaced` are those of Nodes
    /// that have another one.
    fn due(&mut self, mut stale: Vec<Chassis>, replaced: &BTreeSet<Uuid>, now: Instant) -> Vec<Chassis> {
        let names: BTreeSet<&str> = stale.iter().map(|chassis| chassis.name.as_str()).collect();
        self.last.retain(|name, last| now < last.again || names.contains(name.as_str()));
        stale.retain(|chassis| self.last.get(&chassis.name).is_none_or(|last| now >= last.again));
        for Chassis { id, name, hostname, .. } in &stale {
            // If the row is the same, its removal has failed.
            let last = self.last.get(name);
            let came_back = last.is_some_and(|last| last.row != *id);
            let pause = last.map_or(RETRY_AFTER.0, |last| (last.pause * 2).min(RETRY_AFTER.1));
            let again = now + if came_back && replaced.contains(id) { RETRY_REPLACED_AFTER } else { pause };
            self.last.insert(name.clone(), Removal { row: *id, pause, again });
            if came_back {
                tracing::warn!(
                    chassis = name,
                    hostname,
                    "the chassis came back: an ovn-controller runs on a machine that is neither a Node nor an ExternalHost, or \
                     on two machines with the name of one Node; stop it there, or on one of them"
                );
            }
        }
        stale
    }

    /// When the next chassis is due that came back or whose removal failed.
    fn next(&self) -> Option<Instant> {
        self.last.values().map(|last| last.again).min()
    }
}

#[cfg(test)]
mod tests;
