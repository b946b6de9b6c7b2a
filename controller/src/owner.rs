//! The owner: the one task that everything flows through, and the only one that decides.
//!
//! Events only mark; all that was marked is decided together, compared with the replica, and written in one fenced
//! transaction: at once when nothing was written a moment ago, and in a burst at a steady pace. **The commit is the
//! allocation's commit point**: only then are annotations, IP objects and counts published. Every replica keeps its view of
//! the cluster and of the database warm; only the leader has an [`Engine`].

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use kit::endpoint::Readiness;
use ovn::{LogicalSwitchPort, RowKey};
use ovsdb::client::{Change, Changes, Client};
use sync::{CommitError, Drift, Writer};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until};

use crate::chassis;
use crate::cluster::{Cluster, Event, Object};
use crate::election::Standing;
use crate::engine::{Engine, Install};
use crate::metrics::Metrics;
use crate::notices::Notices;
use crate::publish::{Done, Outbox, Write};
use crate::{schema, visible};

/// The time from one commit to the next, at least. A change that comes alone is decided at once; in a burst, those that come
/// while one transaction is written and published make up the next one.
const PACE: Duration = Duration::from_millis(50);
/// A Subnet's counts are told at most this often.
const STATUS_PACE: Duration = Duration::from_secs(1);
/// How long to wait before what the database refused is tried again; it doubles up to [`COMPARE_ALL`].
const AFTER_REFUSAL: Duration = Duration::from_secs(1);
/// Everything is compared with everything this often, whatever happened in between.
const COMPARE_ALL: Duration = Duration::from_mins(5);
/// Events taken in at once; more wait for the next time around.
const EVENTS: usize = 256;

/// What the owner listens to.
#[derive(Debug)]
pub struct Inputs {
    /// What the watches saw.
    pub events: mpsc::Receiver<Event>,
    /// Whether this replica leads.
    pub standing: watch::Receiver<Standing>,
    /// What changed in the database.
    pub changes: Changes,
    /// How writes to the API server ended.
    pub done: mpsc::UnboundedReceiver<Done>,
}

/// The owner's state.
#[derive(Debug)]
pub struct Owner {
    install: Install,
    cluster: Cluster,
    engine: Option<Engine>,
    /// Which of our rows others have changed.
    drift: Drift,
    writer: Writer,
    northbound: Client,
    outbox: Outbox,
    notices: Notices,
    metrics: Metrics,
    readiness: Readiness,
    /// Which Nodes there are, for whoever removes what is left of others.
    nodes: watch::Sender<chassis::Nodes>,
    /// They are not those that were told last.
    nodes_changed: bool,
    /// The next transaction compares everything, not only what changed.
    compare_all: bool,
    /// When to decide next, if anything is to be decided.
    decide_at: Option<Instant>,
    /// Nothing is decided before this.
    not_before: Instant,
    /// When everything is compared next.
    compare_all_at: Instant,
    /// Objects whose ports the database has refused so far: not to be shown.
    withheld: BTreeSet<Object>,
    /// Subnets and IPPools whose status may be out of date, and when to look.
    stale: BTreeSet<Object>,
    tell_status_at: Instant,
    /// When we learned that another replica has raised the fence: ours is not to be raised until a confirmation of the Lease
    /// says otherwise that was asked for later. One that was on its way while we slept says nothing.
    fenced_at: Option<Instant>,
    /// The next wait after a refusal.
    patience: Duration,
    /// Why the database cannot hold what we write, as it was said last.
    too_old: Option<String>,
}

impl Owner {
    /// An owner that has seen nothing yet.
    pub fn new(
        install: Install,
        northbound: Client,
        writes: mpsc::UnboundedSender<Write>,
        notices: Notices,
        metrics: Metrics,
        readiness: Readiness,
        nodes: watch::Sender<chassis::Nodes>,
    ) -> Self {
        Self {
            install,
            cluster: Cluster::default(),
            engine: None,
            drift: Drift::default(),
            writer: Writer::new(northbound.clone()),
            northbound,
            outbox: Outbox::new(writes),
            notices,
            metrics,
            readiness,
            nodes,
            nodes_changed: true,
            compare_all: true,
            decide_at: None,
            not_before: Instant::now(),
            compare_all_at: Instant::now() + COMPARE_ALL,
            withheld: BTreeSet::new(),
            stale: BTreeSet::new(),
            tell_status_at: Instant::now(),
            fenced_at: None,
            patience: AFTER_REFUSAL,
            too_old: None,
        }
    }

    /// Runs until the watches end.
    pub async fn run(mut self, inputs: Inputs) {
        let Inputs { mut events, mut standing, mut changes, mut done } = inputs;
        let mut connected = self.northbound.connected();
        let mut failure = self.northbound.failure();
        let mut seen = Vec::with_capacity(EVENTS);
        loop {
            let decide_at = self.decide_at;
            let (tell_status_at, compare_all_at) = (self.tell_status_at, self.compare_all_at);
            let look_again_at = self.outbox.look_again_at();
            tokio::select! {
                count = events.recv_many(&mut seen, EVENTS) => {
                    if count == 0 {
                        return;
                    }
                    self.observe(&mut seen);
                }
                change = changes.next() => self.northbound_changed(&change),
                _ = standing.changed() => self.soon(),
                _ = connected.changed() => self.soon(),
                _ = failure.changed() => self.tell_readiness(),
                Some(done) = done.recv() => self.ended(&done),
                () = sleep_until(decide_at.unwrap_or(tell_status_at)), if decide_at.is_some() => {
                    self.decide_at = None;
                    let standing = *standing.borrow_and_update();
                    self.turn(standing).await;
                }
                () = sleep_until(tell_status_at), if !self.stale.is_empty() => self.tell_status(),
                () = sleep_until(look_again_at.unwrap_or(tell_status_at)), if look_again_at.is_some() => self.look_again(),
                () = sleep_until(compare_all_at) => {
                    self.compare_all_at = Instant::now() + COMPARE_ALL;
                    self.compare_all = true;
                    self.soon();
                }
            }
        }
    }

    fn observe(&mut self, seen: &mut Vec<Event>) {
        for event in seen.drain(..) {
            if matches!(event, Event::Services(_))
                && let Some(engine) = &mut self.engine
            {
                engine.put_back([Object::Subnet(self.install.default_subnet.clone())]);
            }
            for object in self.cluster.observe(event) {
                self.outbox.seen(&object);
                self.nodes_changed |= matches!(object, Object::Node(_));
                if let Some(engine) = &mut self.engine {
                    engine.mark(object);
                }
            }
        }
        let restated = self.cluster.take_restated();
        if self.engine.is_some() {
            self.stale.extend(restated);
        }
        self.soon();
    }

    fn northbound_changed(&mut self, change: &Change) {
        let Some(engine) = &mut self.engine else { return };
        if change.reset {
            self.compare_all = true;
            self.drift = self.northbound.read(Drift::learn);
        } else {
            engine.facts().touch(self.northbound.read(|replica| self.drift.follow(replica, change)));
        }
        self.soon();
    }

    fn ended(&mut self, done: &Done) {
        self.outbox.ended(done, Instant::now());
        if let Some(why) = &done.refused {
            tracing::info!(target = ?done.target, why, "the API server refused a write; its object is looked at again");
        }
    }

    /// What users see of objects of which a write was refused some time ago.
    fn look_again(&mut self) {
        let due = self.outbox.take_due(Instant::now());
        if let Some(engine) = &mut self.engine {
            engine.put_back(due);
        }
        self.soon();
    }

    fn soon(&mut self) {
        self.decide_at.get_or_insert(self.not_before.max(Instant::now()));
    }

    /// One turn: lead or not, decide, commit, publish.
    async fn turn(&mut self, standing: Standing) {
        self.tell_readiness();
        let Standing::Leading { asked } = standing else {
            self.stop_leading();
            return;
        };
        if !self.cluster.is_synced() || !*self.northbound.connected().borrow() {
            return;
        }
        // Whoever leads hears of another schema by a new session, so that this turn comes by itself.
        if self.too_old() {
            return self.stop_leading();
        }
        if self.engine.is_none() && !self.take_over(asked).await {
            return;
        }
        if let Err(error) = self.writer.settle().await {
            return self.not_written(&error).await;
        }
        self.tell_nodes();
        let Some(engine) = &mut self.engine else { return };
        engine.decide(&self.cluster);
        let touched = engine.facts().take_touched();
        let compare_all = std::mem::replace(&mut self.compare_all, false);
        let facts = engine.facts();
        let ops = self.northbound.read(|replica| {
            if compare_all { sync::diff_all(facts, replica) } else { sync::diff(facts, &touched, replica) }
        });
        let count = ops.len();
        let began = Instant::now();
        match self.writer.commit(ops).await {
            Ok(()) => {
                if compare_all {
                    self.patience = AFTER_REFUSAL;
                    engine.put_back(std::mem::take(&mut self.withheld));
                }
                if count > 0 {
                    self.not_before = Instant::now() + PACE;
                    self.metrics.committed(count, began.elapsed());
                }
                self.publish();
            }
            Err(error) => self.not_written(&error).await,
        }
    }

    /// Not everything was written, for a reason that the next turns have to take into account.
    async fn not_written(&mut self, error: &CommitError) {
        match error {
            CommitError::Fenced if self.writer.overtaken() => {
                tracing::warn!("another replica has raised the fence: this one stops leading");
                self.fenced_at = Some(Instant::now());
                self.stop_leading();
            }
            CommitError::Fenced => {
                tracing::warn!("the northbound database was replaced: writing everything again");
                self.compare_all = true;
                if self.raise_fence().await {
                    self.soon();
                }
            }
            // Whether it was written or not, the next comparison finds out, once that is settled. It comes with the
            // connection.
            CommitError::Disconnected | CommitError::Unknown => {
                tracing::warn!(%error, "the northbound database did not answer");
                self.compare_all = true;
            }
            CommitError::Refused { .. } => {
                tracing::error!(%error, "the northbound database refused a part; all else is written");
                self.not_before = Instant::now() + PACE;
                self.compare_all_at = Instant::now() + self.patience;
                self.patience = (self.patience * 2).min(COMPARE_ALL);
                self.publish_what_holds();
            }
        }
    }

    /// Raises the fence and reads back what was decided before. False when that was not possible now.
    async fn take_over(&mut self, asked: Instant) -> bool {
        if self.fenced_at.is_some_and(|fenced_at| asked <= fenced_at) {
            return false;
        }
        let began = Instant::now();
        if !self.raise_fence().await {
            return false;
        }
        self.northbound.read(|replica| {
            self.engine = Some(Engine::recover(self.install.clone(), &self.cluster, replica));
            self.drift = Drift::learn(replica);
        });
        self.compare_all = true;
        self.metrics.leading(true);
        let epoch = self.writer.epoch();
        tracing::info!(epoch, pods = self.cluster.pods.len(), took = ?began.elapsed(), "took over");
        true
    }

    /// From now on the database refuses everybody else. False when that was not possible now; it is tried again.
    async fn raise_fence(&mut self) -> bool {
        match self.writer.raise_epoch().await {
            Ok(_) => {
                self.fenced_at = None;
                true
            }
            Err(error) => {
                tracing::warn!(%error, "the fence could not be raised; trying again");
                self.not_before = Instant::now() + AFTER_REFUSAL;
                self.soon();
                false
            }
        }
    }

    fn stop_leading(&mut self) {
        if self.engine.take().is_some() {
            self.nodes.send_replace(None);
            self.nodes_changed = true;
            self.stale.clear();
            self.withheld.clear();
            self.outbox.clear();
            self.metrics.leading(false);
        }
    }

    /// After a commit of which a part was refused: what users see of those whose ports the database has.
    fn publish_what_holds(&mut self) {
        let Some(engine) = &mut self.engine else { return };
        let mut decided = engine.take_decided();
        decided.append(&mut self.withheld);
        let (held, withheld): (BTreeSet<Object>, BTreeSet<Object>) = self.northbound.read(|replica| {
            let facts = engine.facts();
            let holds = |key: RowKey| !facts.wants(&key) || sync::holds(facts, &key, replica);
            decided.into_iter().partition(|object| port_of(object).is_none_or(holds))
        });
        engine.put_back(held);
        self.withheld = withheld;
        self.publish();
    }

    /// After the commit: what users see.
    fn publish(&mut self) {
        let Some(engine) = &mut self.engine else { return };
        for object in engine.take_decided().difference(&self.withheld) {
            self.outbox.put(object, visible::writes(engine, &self.cluster, object));
            self.notices.about(engine, &self.cluster, object);
            if matches!(object, Object::Subnet(_) | Object::IpPool(_)) {
                self.stale.insert(object.clone());
            }
        }
    }

    fn tell_status(&mut self) {
        self.tell_status_at = Instant::now() + STATUS_PACE;
        let Some(engine) = &self.engine else { return };
        let now = jiff::Timestamp::now();
        for object in std::mem::take(&mut self.stale) {
            self.outbox.put_status(&object, visible::status(engine, &self.cluster, &object, now));
            if let Object::Subnet(name) = &object {
                self.metrics.subnet(name, engine.usage(name).map(|(usage, _)| usage));
            }
        }
    }

    fn tell_nodes(&mut self) {
        if std::mem::take(&mut self.nodes_changed) {
            let names = self.cluster.nodes.keys().cloned().collect();
            self.nodes.send_if_modified(|told| {
                let differ = told.as_deref() != Some(&names);
                if differ {
                    *told = Some(Arc::new(names));
                }
                differ
            });
        }
    }

    /// Whether the database cannot hold what we write; says so in the log when that changes.
    fn too_old(&mut self) -> bool {
        let now = self.northbound.read(schema::too_old);
        if self.too_old != now {
            if let Some(why) = &now {
                tracing::error!("{why}");
            } else {
                tracing::info!("the northbound database has all that we write now");
            }
            self.too_old.clone_from(&now);
        }
        now.is_some()
    }

    fn tell_readiness(&self) {
        let northbound = "waiting for the northbound database";
        if !self.cluster.is_synced() {
            let missing = self.cluster.missing().collect::<Vec<_>>().join(", ");
            self.readiness.not_ready(format!("waiting for the API server to list {missing}"));
        } else if !*self.northbound.connected().borrow() {
            let failure = self.northbound.failure().borrow().clone();
            self.readiness.not_ready(failure.map_or(northbound.to_owned(), |why| format!("{northbound}: {why}")));
        } else if let Some(why) = self.northbound.read(schema::too_old) {
            self.readiness.not_ready(why);
        } else {
            self.readiness.ready();
        }
    }
}

/// The row without which an object has no network.
fn port_of(object: &Object) -> Option<RowKey> {
    match object {
        Object::Pod(port) | Object::Ip(port) => Some(LogicalSwitchPort::key(port)),
        Object::Node(name) => Some(LogicalSwitchPort::key(&api::node_port(name))),
        Object::Subnet(_) | Object::IpPool(_) | Object::Namespace(_) | Object::StatefulSet(_) => None,
    }
}

#[cfg(test)]
mod tests;
