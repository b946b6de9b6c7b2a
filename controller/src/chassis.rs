//! Chassis in the southbound database: those of nodes that are gone are removed, and what the agents of the others report of
//! their nodes is passed on. ovn-controller makes its chassis, and leaves it when its machine is switched off: all other
//! nodes then keep a tunnel to nowhere. What bears our mark and is no Node of the cluster is removed; others' are left alone.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use ovn::southbound::{Chassis, NodeReport};
use ovsdb::client::{Changes, Client};
use ovsdb::{Replica, Uuid};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until};

use crate::cluster::Event;

/// The cluster's Nodes by name, while this replica leads and knows them all.
pub type Nodes = Option<Arc<BTreeSet<Arc<str>>>>;

/// How long a chassis that has come back is left alone before it is removed again. Its ovn-controller still runs.
const RETRY_AFTER: Duration = Duration::from_secs(30);

/// What the southbound database says of a node.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NodeChassis {
    /// The name of its chassis, which is the node's `system-id`.
    pub id: Arc<str>,
    /// What its agent reports.
    pub report: NodeReport,
}

/// Runs for as long as somebody tells of nodes.
pub async fn run(
    southbound: Client,
    mut changes: Changes,
    mut nodes: watch::Receiver<Nodes>,
    owner: mpsc::Sender<Event>,
) {
    let mut connected = southbound.connected();
    let mut removed = Removed::default();
    let mut reported = BTreeMap::new();
    loop {
        let now = Instant::now();
        if *connected.borrow() {
            let reports = southbound.read(reports);
            if reports != reported {
                reported.clone_from(&reports);
                if owner.send(Event::Reports(reports)).await.is_err() {
                    return;
                }
            }
        }
        let known = nodes.borrow_and_update().clone();
        let wake = match known {
            Some(known) if *connected.borrow_and_update() => remove(&southbound, &known, &mut removed, now).await,
            _ => None,
        };
        tokio::select! {
            changed = nodes.changed() => if changed.is_err() { return },
            _ = changes.next() => {}
            _ = connected.changed() => {}
            () = sleep_until(wake.unwrap_or(now)), if wake.is_some() => {}
        }
    }
}

/// The chassis of the nodes, by node.
fn reports(replica: &Replica) -> BTreeMap<Arc<str>, NodeChassis> {
    let chassis = Chassis::all(replica);
    let each = chassis.map(|chassis| {
        let report = chassis.report();
        (chassis.hostname.as_str().into(), NodeChassis { id: chassis.name.into(), report })
    });
    each.collect()
}

/// Removes what there is to remove now; when to look again, if anything is left.
async fn remove(
    southbound: &Client,
    nodes: &BTreeSet<Arc<str>>,
    removed: &mut Removed,
    now: Instant,
) -> Option<Instant> {
    let (due, ops) = southbound.read(|replica| {
        let stale = Chassis::all(replica).filter(|chassis| !nodes.contains(chassis.hostname.as_str()));
        let due = removed.due(stale.collect(), now);
        let ops: Vec<_> = due.iter().flat_map(|chassis| chassis.removal(replica)).collect();
        (due, ops)
    });
    if !due.is_empty() {
        match southbound.transact(&ops).await {
            Ok(_) => {
                for Chassis { name, hostname, .. } in &due {
                    tracing::info!(chassis = name, hostname, "removed: the cluster has no such Node");
                }
            }
            // The connection comes back, or the next change finds it; until then it is not asked again and again.
            Err(error) => tracing::warn!(%error, "chassis of nodes that are gone could not be removed"),
        }
    }
    removed.next()
}

/// Which chassis of which host was to be removed last, and when.
#[derive(Debug, Default)]
struct Removed {
    at: BTreeMap<String, (Uuid, Instant)>,
}

impl Removed {
    /// Those of `stale`, all that there are, that are to be removed now.
    fn due(&mut self, mut stale: Vec<Chassis>, now: Instant) -> Vec<Chassis> {
        let hosts: BTreeSet<&str> = stale.iter().map(|chassis| chassis.hostname.as_str()).collect();
        self.at.retain(|host, (_, at)| now < *at + RETRY_AFTER || hosts.contains(host.as_str()));
        stale.retain(|chassis| self.at.get(&chassis.hostname).is_none_or(|(_, at)| now >= *at + RETRY_AFTER));
        for Chassis { id, name, hostname, .. } in &stale {
            let before = self.at.insert(hostname.clone(), (*id, now));
            // The same row is there still because its removal failed.
            if before.is_some_and(|(row, _)| row != *id) {
                tracing::warn!(
                    chassis = name,
                    hostname,
                    "the chassis came back: an ovn-controller runs on a machine that is no Node of the cluster; stop it there"
                );
            }
        }
        stale
    }

    /// When one may be due again that has come back, or whose removal failed.
    fn next(&self) -> Option<Instant> {
        self.at.values().map(|(_, at)| *at + RETRY_AFTER).min()
    }
}

#[cfg(test)]
mod tests;
