//! One term of leadership: everything that a leader knows and a follower must not. It begins when the replica takes over and
//! is dropped as a whole when it stops leading; its publisher ends with it.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use ovn::{AddressSet, Group, LogicalSwitch, LogicalSwitchPort, RowKey};
use ovsdb::Replica;
use ovsdb::client::{Change, Client};
use plan::Key;
use sync::{Changes, Drift, Facts, Refusal, SLICE, Sweep, Touched};
use tokio::time::Instant;

use crate::cluster::{self, Cluster, Object, Observed};
use crate::engine::{Engine, Install, Verdict};
use crate::metrics::Metrics;
use crate::notices::Notices;
use crate::publish::{Done, Outbox, Outcome, Publisher, Target};
use crate::visible;

use super::refused::Refused;

/// The least time from one commit to the next. A change that comes alone is decided at once; in a burst, changes that come
/// while one transaction is written and published make up the next one.
pub(super) const PACE: Duration = Duration::from_millis(50);
/// Everything is compared this often, whatever happened in between.
pub(super) const COMPARE_ALL: Duration = Duration::from_mins(5);
/// The time between two slices of that comparison. It leaves the owner to others for at least nine tenths of the time.
const SLICE_PACE: Duration = Duration::from_millis(250);
/// The counts of a small Subnet are written at most this often. Those of a large one, whose status is larger and costs more to
/// make, are written less often.
const STATUS_PACE: Duration = Duration::from_secs(1);
const SLOWEST_STATUS_PACE: Duration = Duration::from_secs(30);
/// One more second between two statuses for each of these many addresses in use.
const ADDRESSES_PER_SECOND: u128 = 1000;
/// The most rows that one line of the log names.
const CONFLICTS: usize = 20;

/// What a leader knows.
#[derive(Debug)]
pub(super) struct Term {
    pub(super) engine: Engine,
    pub(super) publisher: Publisher,
    outbox: Outbox,
    /// Which of our rows others have changed.
    drift: Drift,
    /// The next transaction compares everything, not only what changed.
    compare_all: bool,
    /// The comparison of everything in slices, while there is one.
    sweep: Option<Sweep>,
    /// When its next slice is due.
    slice_at: Instant,
    /// When the next comparison begins, unless this one takes longer.
    sweep_at: Instant,
    /// What is compared in this turn, or was and may not be written yet. It tells the groups of what is removed.
    unwritten: Touched,
    refused: Refused,
    /// How many rows two objects wanted with different contents at the last look.
    conflicts: usize,
    /// Objects whose status may be out of date, and when to compare it.
    stale: BTreeMap<Object, Instant>,
    /// When the status of each may be written again.
    rested: HashMap<Object, Instant>,
}

impl Term {
    /// Reads back what earlier leaders have decided.
    pub(super) fn begin(install: Install, cluster: &Cluster, replica: &Replica, publisher: Publisher) -> Self {
        Self {
            engine: Engine::recover(install, cluster, replica),
            publisher,
            outbox: Outbox::default(),
            drift: Drift::learn(replica),
            compare_all: true,
            sweep: None,
            slice_at: Instant::now() + COMPARE_ALL,
            sweep_at: Instant::now() + COMPARE_ALL,
            unwritten: Touched::default(),
            refused: Refused::default(),
            conflicts: 0,
            stale: BTreeMap::new(),
            rested: HashMap::new(),
        }
    }

    /// A watch event was about this object.
    pub(super) fn observed(&mut self, observed: Observed) {
        if let Some(object) = self.outbox.observed(&observed) {
            self.look_at(object);
        }
        match observed.change {
            cluster::Change::Decides => self.engine.mark(observed.object),
            // Somebody else wrote it, or the finalizer waits for what it shows.
            cluster::Change::Status => {
                self.stale(&observed.object);
                if matches!(&observed.object, Object::Subnet(name) if self.engine.verdict(name) != Some(&Verdict::Valid))
                {
                    self.look_at(observed.object);
                }
            }
            cluster::Change::Nothing => {}
        }
    }

    /// What users see of an object is compared again.
    pub(super) fn look_at(&mut self, object: Object) {
        self.engine.mark_unpublished([object]);
    }

    pub(super) fn northbound_changed(&mut self, change: &Change, replica: &Replica) {
        if change.reset {
            self.compare_all = true;
            self.drift = Drift::learn(replica);
        } else {
            let touched = self.drift.follow(replica, change);
            self.engine.facts().touch(touched);
        }
    }

    /// A write has ended; returns whether a turn is due.
    pub(super) fn written(&mut self, done: Done) -> bool {
        let refused = match &done.outcome {
            Outcome::Refused(why) | Outcome::Failing(why) => {
                tracing::warn!(target = ?done.target, why, "the API server does not take a write; it is tried again later");
                self.look_at(done.target.object.clone());
                true
            }
            Outcome::Conflict | Outcome::Taken => false,
        };
        let again = self.outbox.ended(done, Instant::now());
        let due = again.is_some() || refused;
        if let Some(object) = again {
            self.stale(&object);
            self.look_at(object);
        }
        due
    }

    /// When [`Term::timer`] is due.
    pub(super) fn next_timer(&self) -> Option<Instant> {
        let status = self.stale.values().min().copied();
        [status, self.outbox.next_due(), self.refused.due(), Some(self.slice_at)].into_iter().flatten().min()
    }

    /// Does what is due by now; returns whether a turn is due.
    pub(super) fn timer(&mut self, cluster: &Cluster, northbound: &Client, metrics: &Metrics) -> bool {
        let now = Instant::now();
        self.write_statuses(cluster, metrics);
        let due = self.outbox.take_due(now);
        let mut turn = !due.is_empty();
        for object in due {
            self.stale(&object);
            self.look_at(object);
        }
        if self.refused.due().is_some_and(|due| due <= now) {
            let touched = self.refused.attempt();
            self.engine.facts().touch(touched);
            turn = true;
        }
        if self.slice_at <= now {
            self.compare_slice(northbound, now);
            turn = true;
        }
        turn
    }

    /// The next transaction compares one more slice of everything.
    fn compare_slice(&mut self, northbound: &Client, now: Instant) {
        let sweep = self.sweep.get_or_insert_with(|| {
            self.sweep_at = now + COMPARE_ALL;
            Sweep::new()
        });
        let facts = self.engine.facts();
        let slice = northbound.read(|replica| sweep.slice(facts, replica, SLICE));
        facts.touch(slice);
        self.slice_at = now + SLICE_PACE;
        if sweep.is_done() {
            self.sweep = None;
            self.slice_at = self.slice_at.max(self.sweep_at);
        }
    }

    /// Whether the next decision compares everything.
    pub(super) fn compares_all(&self) -> bool {
        self.compare_all
    }

    /// Decides about everything that has changed; returns what the database lacks.
    pub(super) fn decide(&mut self, cluster: &Cluster, northbound: &Client) -> Changes {
        self.engine.decide(cluster);
        let facts = self.engine.facts();
        let touched = facts.take_touched();
        if self.compare_all {
            self.unwritten.merge(self.refused.attempt());
            self.unwritten.merge(touched);
            return northbound.read(|replica| sync::diff_all(facts, &self.unwritten, replica));
        }
        let changes = northbound.read(|replica| sync::diff(facts, &touched, replica));
        self.unwritten.merge(touched);
        changes
    }

    /// Shows how many rows two objects want with different contents. One of them is written.
    pub(super) fn show_conflicts(&mut self, metrics: &Metrics) {
        let conflicts = self.engine.facts().conflicts();
        let count = conflicts.len();
        if count > self.conflicts {
            let rows: Vec<String> = conflicts.take(CONFLICTS).map(ToString::to_string).collect();
            tracing::warn!(count, ?rows, "two objects want the same northbound row with different contents");
        }
        self.conflicts = count;
        metrics.conflicts(count);
    }

    pub(super) fn compare_all(&mut self) {
        self.compare_all = true;
    }

    /// Everything of this turn is written.
    pub(super) fn committed(&mut self, replica: &Replica) {
        self.compared();
        self.unwritten = Touched::default();
        self.engine.mark_unpublished(self.refused.written());
        // What was refused before has been changed since, or is not wanted any more.
        let withheld = self.engine.unpublished().filter(|object| self.refused.withholds(object).is_some());
        let withheld: Vec<Object> = withheld.cloned().collect();
        for object in withheld.iter().filter(|object| is_written(object, self.engine.facts(), replica)) {
            self.refused.show(object);
        }
    }

    /// A part was refused: users see only the objects whose rows the database has, and an event about each other one.
    pub(super) fn refused(&mut self, refusals: &[Refusal], replica: &Replica) {
        self.compared();
        let mut decided = self.engine.take_unpublished();
        let before = self.refused.refuse(refusals, std::mem::take(&mut self.unwritten));
        decided.extend(before.keys().cloned());
        let facts = self.engine.facts();
        let (held, withheld): (BTreeSet<Object>, BTreeSet<Object>) =
            decided.into_iter().partition(|object| is_written(object, facts, replica));
        self.engine.mark_unpublished(held);
        self.engine.mark_unpublished(withheld.clone());
        self.refused.withhold(withheld, before, refusals, group_of);
    }

    /// The database has answered to all changes of this turn.
    fn compared(&mut self) {
        if std::mem::take(&mut self.compare_all) {
            self.sweep = None;
            self.sweep_at = Instant::now() + COMPARE_ALL;
            self.slice_at = self.sweep_at;
        }
    }

    /// After the commit: hands over what users see.
    pub(super) fn publish(&mut self, cluster: &Cluster, notices: &mut Notices) {
        for object in &self.engine.take_unpublished() {
            if let Some(why) = self.refused.withholds(object) {
                // The event about a pod or node says it for its IP object as well.
                if !matches!(object, Object::Ip(_)) {
                    notices.about(&self.engine, cluster, object, Some(why.to_owned()));
                }
                continue;
            }
            let write = visible::write(&self.engine, cluster, object);
            self.outbox.put(Target::main(object.clone()), write, &self.publisher.writes);
            let refusal = self.outbox.refusal(object);
            let refusal = refusal.map(|why| format!("the API server does not take a write: {why}"));
            notices.about(&self.engine, cluster, object, refusal);
            if visible::in_force_differs(&self.engine, cluster, object) {
                self.rested.remove(object);
                self.write_status(cluster, object);
            }
            self.stale(object);
        }
    }

    /// Notes that an object's status may be out of date.
    fn stale(&mut self, object: &Object) {
        if visible::has_status(object) {
            let at = self.rested.get(object).copied().unwrap_or_else(Instant::now);
            self.stale.entry(object.clone()).or_insert(at);
        }
    }

    /// Writes the statuses that are due.
    pub(super) fn write_statuses(&mut self, cluster: &Cluster, metrics: &Metrics) {
        let now = Instant::now();
        let due: Vec<Object> =
            self.stale.iter().filter(|(_, at)| **at <= now).map(|(object, _)| object.clone()).collect();
        for object in due {
            self.stale.remove(&object);
            self.write_status(cluster, &object);
            if let Object::Subnet(name) = &object {
                metrics.subnet(name, self.engine.counts(name));
            }
        }
    }

    fn write_status(&mut self, cluster: &Cluster, object: &Object) {
        let target = Target::status(object.clone());
        if self.outbox.is_backing_off(&target) || self.refused.withholds(object).is_some() {
            return;
        }
        let write = visible::status(&self.engine, cluster, object, jiff::Timestamp::now());
        if write.is_some() {
            self.rested.insert(object.clone(), Instant::now() + self.status_pace(object));
        }
        self.outbox.put(target, write, &self.publisher.writes);
    }

    fn status_pace(&self, object: &Object) -> Duration {
        let Object::Subnet(name) = object else { return STATUS_PACE };
        let used = self.engine.counts(name).map_or(0, |usage| usage.v4.used.max(usage.v6.used));
        let more = u32::try_from(used / ADDRESSES_PER_SECOND).unwrap_or(u32::MAX);
        STATUS_PACE.saturating_mul(more.saturating_add(1)).min(SLOWEST_STATUS_PACE)
    }
}

/// The row without which an object has no network.
fn row_of(object: &Object) -> Option<RowKey> {
    match object {
        Object::Pod(port) | Object::Ip(port) => Some(LogicalSwitchPort::key(port)),
        Object::Node(name) | Object::ExternalHost(name) => Some(LogicalSwitchPort::key(&api::node_port(name))),
        Object::Subnet(name) => Some(LogicalSwitch::key(name)),
        Object::IpPool(name) => Some(AddressSet::key(&plan::address_set_of_pool(name))),
        Object::Namespace(_) | Object::StatefulSet(_) => None,
    }
}

/// Whether the database has the row without which an object has no network, if it is wanted.
fn is_written(object: &Object, facts: &Facts, replica: &Replica) -> bool {
    row_of(object).is_none_or(|key| !facts.wants(&key) || sync::holds(facts, &key, replica))
}

/// The group of an object's changes.
fn group_of(object: &Object) -> Option<Group> {
    let key = match object {
        Object::Pod(port) => Key::Port(Arc::clone(port)),
        Object::Ip(port) => match api::node_of_port(port) {
            Some(node) => Key::Node(node.into()),
            None => Key::Port(Arc::clone(port)),
        },
        Object::Node(name) | Object::ExternalHost(name) => Key::Node(Arc::clone(name)),
        Object::Subnet(name) => Key::Subnet(Arc::clone(name)),
        Object::IpPool(name) => Key::Pool(Arc::clone(name)),
        Object::Namespace(_) | Object::StatefulSet(_) => return None,
    };
    Some(key.group())
}
