//! The owner: the one task that decides. Every replica keeps its view of the cluster and of the database current; the one that
//! leads has a [`Term`] besides, which holds everything that a leader knows and ends as a whole.
//!
//! A turn is the same each time: lead or not, decide about what has changed, write the difference to the database in one
//! fenced transaction, and then show it to users. **The commit is the allocation's commit point**: only then are IP objects,
//! annotations and statuses written. Turns come at once when nothing was written a moment ago, and at a steady pace in a burst.

mod refused;
mod term;
mod witness;

use std::sync::Arc;

use kit::endpoint::Readiness;
use ovn::Group;
use ovsdb::client::{Change, Changes, Client};
use sync::{CommitError, Writer};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until};

use crate::cluster::{Cluster, Event, Object};
use crate::election::Standing;
use crate::engine::Install;
use crate::metrics::Metrics;
use crate::notices::Notices;
use crate::publish::{Done, Publisher};
use crate::{chassis, schema};

use refused::AFTER_REFUSAL;
use term::{PACE, Term};
pub use witness::{Witness, is_external};

/// The most refused groups that one line of the log names.
const LOGGED: usize = 20;
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
}

/// What the owner works with.
pub struct Outputs {
    /// The northbound database.
    pub northbound: Client,
    /// Starts the publisher of a term of leadership.
    pub publisher: Box<dyn Fn() -> Publisher + Send + Sync>,
    /// Asks the API server itself, past the watches.
    pub witness: Witness,
    /// Events for users.
    pub notices: Notices,
    /// Metrics.
    pub metrics: Metrics,
    /// Whether the replica is ready.
    pub readiness: Readiness,
    /// The Nodes of the cluster while this replica leads, for the task that removes what is left of others.
    pub nodes: watch::Sender<chassis::Nodes>,
}

/// The owner's state.
pub struct Owner {
    install: Install,
    cluster: Cluster,
    out: Outputs,
    writer: Writer,
    /// What a leader knows, while this replica leads.
    term: Option<Term>,
    /// When to take the next turn, if one is due.
    turn_at: Option<Instant>,
    /// No turn comes before this.
    not_before: Instant,
    /// When this replica learned that another one has raised the fence. It raises its own again only by a confirmation of the
    /// Lease that it asked for later; one that was on its way while the process slept says nothing.
    fenced_at: Option<Instant>,
    /// The last logged reason why the database cannot hold what the controller writes.
    too_old: Option<String>,
}

impl Owner {
    /// An owner that has seen nothing yet.
    pub fn new(install: Install, out: Outputs) -> Self {
        Self {
            install,
            cluster: Cluster::default(),
            writer: Writer::new(out.northbound.clone()),
            out,
            term: None,
            turn_at: None,
            not_before: Instant::now(),
            fenced_at: None,
            too_old: None,
        }
    }

    /// Runs until the watches end.
    pub async fn run(mut self, inputs: Inputs) {
        let Inputs { mut events, mut standing, mut changes } = inputs;
        let mut connected = self.out.northbound.connected();
        let mut failure = self.out.northbound.failure();
        let mut seen = Vec::with_capacity(EVENTS);
        loop {
            let turn_at = self.turn_at;
            let timer = self.term.as_ref().and_then(Term::next_timer);
            let idle = Instant::now();
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
                _ = failure.changed() => self.show_readiness(),
                done = next_done(&mut self.term) => self.written(done),
                () = sleep_until(turn_at.unwrap_or(idle)), if turn_at.is_some() => {
                    self.turn_at = None;
                    let standing = *standing.borrow_and_update();
                    self.turn(standing).await;
                }
                () = sleep_until(timer.unwrap_or(idle)), if timer.is_some() => self.timer(),
            }
        }
    }

    fn observe(&mut self, seen: &mut Vec<Event>) {
        for event in seen.drain(..) {
            if let (Event::Services(_), Some(term)) = (&event, &mut self.term) {
                term.look_at(Object::Subnet(self.install.default_subnet.clone()));
            }
            for observed in self.cluster.observe(event) {
                if let Some(term) = &mut self.term {
                    term.observed(observed);
                }
            }
        }
        self.soon();
    }

    fn northbound_changed(&mut self, change: &Change) {
        let Some(term) = &mut self.term else { return };
        self.out.northbound.read(|replica| term.northbound_changed(change, replica));
        self.soon();
    }

    /// A write to the API server has ended.
    fn written(&mut self, done: Done) {
        if let Some(term) = &mut self.term
            && term.written(done)
        {
            self.soon();
        }
    }

    /// A timer of the term has run out.
    fn timer(&mut self) {
        if let Some(term) = &mut self.term
            && term.timer(&self.cluster, &self.out.northbound, &self.out.metrics)
        {
            self.soon();
        }
    }

    fn soon(&mut self) {
        self.turn_at.get_or_insert(self.not_before.max(Instant::now()));
    }

    /// One turn: lead or not, decide, commit, publish.
    async fn turn(&mut self, standing: Standing) {
        self.show_readiness();
        let Standing::Leading { asked, .. } = standing else { return self.stop_leading() };
        if !self.cluster.is_synced() || !*self.out.northbound.connected().borrow() {
            return;
        }
        // A conversion to another schema arrives as a new session, which starts a turn.
        if self.too_old() {
            return self.stop_leading();
        }
        if self.term.is_none() && !self.take_over(asked).await {
            return;
        }
        match self.writer.settle().await {
            Ok(()) => {}
            // Nothing was compared, and what is not certain stays so.
            Err(CommitError::Refused(refusals)) => {
                tracing::error!(
                    ?refusals,
                    "the northbound database refuses the write that shows whether earlier ones count"
                );
                return self.later();
            }
            Err(error) => return self.not_written(&error).await,
        }
        self.show_nodes();
        let Some(term) = &mut self.term else { return };
        let compares_all = term.compares_all();
        let changes = term.decide(&self.cluster, &self.out.northbound);
        term.show_conflicts(&self.out.metrics);
        let count = changes.len();
        let began = Instant::now();
        let mut written = self.writer.commit(changes).await;
        if written.is_ok() || (compares_all && matches!(written, Err(CommitError::Refused(_)))) {
            written = self.writer.complete().await.and(written);
        }
        match written {
            Ok(()) => {
                self.out.northbound.read(|replica| term.committed(replica));
                if count > 0 {
                    self.not_before = Instant::now() + PACE;
                    self.out.metrics.committed(count, began.elapsed());
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
                self.compare_all();
                if self.raise_fence().await {
                    self.soon();
                }
            }
            // Whether it was written or not, the next comparison finds out, once that is settled. It comes with the
            // connection.
            CommitError::Disconnected | CommitError::Unknown => {
                tracing::warn!(%error, "the northbound database did not answer");
                self.compare_all();
            }
            CommitError::Refused(refusals) => {
                let groups: Vec<&Group> = refusals.iter().flat_map(|refusal| &refusal.groups).take(LOGGED).collect();
                tracing::error!(%error, ?groups, "the northbound database refused a part; all else is written");
                self.not_before = Instant::now() + PACE;
                if let Some(term) = &mut self.term {
                    self.out.northbound.read(|replica| term.refused(refusals, replica));
                }
                self.publish();
            }
        }
    }

    fn compare_all(&mut self) {
        if let Some(term) = &mut self.term {
            term.compare_all();
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
        let missing = self.out.northbound.read(|replica| witness::holders_without_object(&self.cluster, replica));
        if let Err(why) = self.out.witness.confirm_gone(&missing).await {
            tracing::warn!(why, "this replica does not lead yet");
            self.later();
            return false;
        }
        let publisher = (self.out.publisher)();
        let term =
            self.out.northbound.read(|replica| Term::begin(self.install.clone(), &self.cluster, replica, publisher));
        self.term = Some(term);
        self.out.notices.begin();
        self.out.metrics.leading(true);
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
                self.later();
                false
            }
        }
    }

    fn later(&mut self) {
        self.not_before = Instant::now() + AFTER_REFUSAL;
        self.soon();
    }

    fn stop_leading(&mut self) {
        if self.term.take().is_some() {
            self.out.nodes.send_replace(None);
            self.out.metrics.leading(false);
            self.out.metrics.conflicts(0);
        }
    }

    /// After the commit: what users see.
    fn publish(&mut self) {
        let Some(term) = &mut self.term else { return };
        term.publish(&self.cluster, &mut self.out.notices);
    }

    fn show_nodes(&mut self) {
        let machines = || self.cluster.machines().map(|machine| (machine.name, machine.external));
        self.out.nodes.send_if_modified(|shown| {
            let same = shown.as_deref().is_some_and(|shown| {
                machines().count() == shown.len()
                    && machines().all(|(name, external)| shown.get(name) == Some(&external))
            });
            if !same {
                *shown = Some(Arc::new(machines().map(|(name, external)| (Arc::clone(name), external)).collect()));
            }
            !same
        });
    }

    /// Whether the database cannot hold what the controller writes; logged when that changes.
    fn too_old(&mut self) -> bool {
        let now = self.out.northbound.read(schema::too_old);
        if self.too_old != now {
            if let Some(why) = &now {
                tracing::error!("{why}");
            } else {
                tracing::info!("the northbound database has all that the controller writes now");
            }
            self.too_old.clone_from(&now);
        }
        now.is_some()
    }

    fn show_readiness(&self) {
        let Outputs { northbound, readiness, .. } = &self.out;
        let waiting = "waiting for the northbound database";
        if !self.cluster.is_synced() {
            let missing = self.cluster.missing().collect::<Vec<_>>().join(", ");
            readiness.not_ready(format!("waiting for the API server to list {missing}"));
        } else if !*northbound.connected().borrow() {
            let failure = northbound.failure().borrow().clone();
            readiness.not_ready(failure.map_or(waiting.to_owned(), |why| format!("{waiting}: {why}")));
        } else if let Some(why) = northbound.read(schema::too_old) {
            readiness.not_ready(why);
        } else {
            readiness.ready();
        }
    }
}

/// The next write that ends, while there is a term. The publisher lives as long as the term.
async fn next_done(term: &mut Option<Term>) -> Done {
    match term {
        Some(term) => match term.publisher.done.recv().await {
            Some(done) => done,
            None => std::future::pending().await,
        },
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests;
