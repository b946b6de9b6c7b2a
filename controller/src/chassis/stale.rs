//! Chassis that belong to no host any more, and their removal.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;
use std::sync::Arc;
use std::time::Duration;

use kube::Client;
use ovn::local::chassis_of;
use ovn::southbound::Chassis;
use ovsdb::client::Client as Southbound;
use ovsdb::{Replica, Uuid};
use tokio::sync::watch;
use tokio::time::{Instant, timeout};

use super::Hosts;
use crate::election::Standing;
use crate::owner::is_external;

/// How long an answer of the API server may take. Meanwhile, nothing else is done for chassis.
const PATIENCE: Duration = Duration::from_secs(5);

/// The first and the longest pause before a chassis is removed again after its ovn-controller created it anew. An external
/// host that is cut off loses its chassis and its way to the database at about the same time, so the first one is short.
pub(super) const RETRY_AFTER: (Duration, Duration) = (Duration::from_secs(3), Duration::from_secs(30));

/// The same for a chassis of a Node that has another one, from the second time on. One of the two machines may have been
/// switched off without taking its report along, and the chassis that comes back is then the right one.
pub(super) const RETRY_REPLACED_AFTER: Duration = Duration::from_mins(10);

/// The chassis that may be those of the hosts that they name. The name of a chassis is that of its key, but which host it is on is
/// what it says: one with the name that belongs to a known host is on no other one.
pub(super) fn credible(replica: &Replica, known: Option<&Hosts>) -> Vec<Chassis> {
    let of_hosts: BTreeSet<String> = known.iter().flat_map(|known| known.keys()).map(|host| chassis_of(host)).collect();
    let is_credible =
        |chassis: &Chassis| !of_hosts.contains(&chassis.name) || chassis.name == chassis_of(&chassis.hostname);
    Chassis::all(replica).filter(is_credible).collect()
}

/// The chassis that have the tunnel address of another chassis of the same host.
pub(super) fn replaced(all: &[Chassis]) -> BTreeSet<Uuid> {
    let replacing = all.iter().filter_map(|chassis| Some((&chassis.hostname, chassis.report().taken?.1, chassis.id)));
    let pairs: Vec<_> = replacing.collect();
    let is_replaced = |chassis: &&Chassis| {
        pairs.iter().any(|(host, name, by)| **host == chassis.hostname && *name == chassis.name && *by != chassis.id)
    };
    all.iter().filter(is_replaced).map(|chassis| chassis.id).collect()
}

/// What is asked just before a chassis is removed: a watch may be behind, and a replica that was paused leads no more.
pub trait Witness: Send + Sync + 'static {
    /// Returns whether the host of this name is an external host. `None`: there is neither a Node nor an external host. The error is
    /// why that is not known.
    fn is_external(&self, host: &str) -> impl Future<Output = Result<Option<bool>, String>> + Send;

    /// Returns whether this replica leads.
    fn leads(&self) -> bool;
}

/// Asks the API server, and looks at the Lease.
#[allow(missing_debug_implementations)] // the client has none
pub struct ApiServer {
    /// The client of the API server.
    pub client: Client,
    /// Whether this replica leads.
    pub standing: watch::Receiver<Standing>,
}

impl Witness for ApiServer {
    async fn is_external(&self, host: &str) -> Result<Option<bool>, String> {
        let unknown = |why: &dyn Display| format!("the API server does not say whether there is a host {host}: {why}");
        let asked = timeout(PATIENCE, is_external(&self.client, host)).await;
        asked.map_err(|late| unknown(&late))?.map_err(|error| unknown(&error))
    }

    fn leads(&self) -> bool {
        self.standing.borrow().holds(Instant::now())
    }
}

/// Removes the stale chassis that are due. Returns the time of the next attempt, if one is needed.
pub(super) async fn remove(
    southbound: &Southbound,
    hosts: &Hosts,
    witness: &impl Witness,
    removed: &mut Removed,
    now: Instant,
) -> Option<Instant> {
    let due = southbound.read(|replica| {
        let (stale, replaced) = stale(replica, hosts);
        removed.due(stale, &replaced, now)
    });
    if !due.is_empty()
        && let Err(error) = remove_all(southbound, hosts, witness, due).await
    {
        // The next attempt follows after a pause, a reconnect or a change.
        tracing::warn!(error, "chassis of nodes that are gone could not be removed");
    }
    removed.next()
}

/// Removes those of `due` that are still stale when the API server has said again which hosts there are.
async fn remove_all(
    southbound: &Southbound,
    hosts: &Hosts,
    witness: &impl Witness,
    due: Vec<Chassis>,
) -> Result<(), String> {
    let mut hosts = hosts.clone();
    let of_names: BTreeMap<String, Arc<str>> = hosts.keys().map(|host| (chassis_of(host), Arc::clone(host))).collect();
    let names = due.iter().flat_map(|one| [Some(one.hostname.as_str().into()), of_names.get(&one.name).cloned()]);
    let mut unknown = BTreeMap::new();
    // What a chassis says of its host may be anything. No object has such a name.
    for host in names.flatten().filter(|host: &Arc<str>| is_name(host)).collect::<BTreeSet<_>>() {
        match witness.is_external(&host).await {
            Ok(Some(external)) => drop(hosts.insert(host, external)),
            Ok(None) => drop(hosts.remove(&host)),
            Err(why) => drop(unknown.insert(host, why)),
        }
    }
    let is_known = |chassis: &&Chassis| !unknown.contains_key(chassis.hostname.as_str());
    let due: BTreeSet<Uuid> = due.iter().filter(is_known).map(|chassis| chassis.id).collect();
    let (mut gone, ops) = southbound.read(|replica| {
        let mut gone = stale(replica, &hosts).0;
        gone.retain(|chassis| due.contains(&chassis.id));
        let ops: Vec<_> = gone.iter().flat_map(|chassis| chassis.removal(replica)).collect();
        (gone, ops)
    });
    if !gone.is_empty() && witness.leads() {
        southbound.transact(&ops).await.map_err(|error| error.to_string())?;
    } else {
        gone.clear();
    }
    for Chassis { name, hostname, .. } in &gone {
        tracing::info!(
            chassis = name,
            hostname,
            "removed: the cluster has no such Node or ExternalHost, or it has another chassis now"
        );
    }
    unknown.into_values().next().map_or(Ok(()), Err)
}

/// Returns whether a Node or an external host can have this name (RFC 1123, a DNS subdomain).
fn is_name(host: &str) -> bool {
    let is_usual = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'.' | b'-');
    (1..=253).contains(&host.len()) && host.bytes().all(is_usual)
}

/// The chassis with our mark that belong to none of these hosts, and those of a host that has another one.
fn stale(replica: &Replica, hosts: &Hosts) -> (Vec<Chassis>, BTreeSet<Uuid>) {
    let credible = credible(replica, Some(hosts));
    let replaced = replaced(&credible);
    let credible: BTreeSet<Uuid> = credible.into_iter().map(|chassis| chassis.id).collect();
    let is_known = |chassis: &Chassis| {
        credible.contains(&chassis.id) && hosts.get(chassis.hostname.as_str()) == Some(&chassis.report().external)
    };
    let stale = Chassis::all(replica).filter(|chassis| !is_known(chassis) || replaced.contains(&chassis.id));
    (stale.collect(), replaced)
}

/// The last removal for each chassis, by its name.
#[derive(Debug, Default)]
pub(super) struct Removed {
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
    pub(super) fn due(&mut self, mut stale: Vec<Chassis>, replaced: &BTreeSet<Uuid>, now: Instant) -> Vec<Chassis> {
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
    pub(super) fn next(&self) -> Option<Instant> {
        self.last.values().map(|last| last.again).min()
    }
}
