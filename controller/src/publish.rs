//! Writes to the API server: they show to users what the owner has decided and the database has committed.
//!
//! Each object has one writer: the owner computes one [`Write`] for an object, or one for its status, from everything that is
//! wanted of it at that moment. A newer write for the same [`Target`] replaces one that has not started. After a conflict the
//! owner computes the write again from the newer object.
//!
//! At most one write per target is in flight, at most [`IN_FLIGHT`] in all; writes that a starting pod or node waits for go
//! first. A write that fails for a passing reason is retried with backoff and delays no other. While the API server does not
//! answer, all writes wait. A write that cannot succeed is reported to the owner.
//!
//! A publisher lives as long as one term of leadership. [`Publisher`] aborts it when it is dropped, and it starts no write
//! after the Lease has run out, so that a leader that was paused writes nothing when it wakes up. Nothing is lost with the
//! queue, because the next leader finds the same differences.

mod body;
mod outbox;
pub mod queue;
mod send;
#[cfg(test)]
mod tests;

use std::time::Duration;

use kube::Client;
use serde_json::Value;
use tokio::sync::{mpsc, watch};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{Instant, sleep, sleep_until};

use crate::cluster::Object;
use crate::election::Standing;
use queue::Queue;
use send::Failure;

pub use body::Body;
pub use outbox::Outbox;

/// The name under which the API server records which fields the controller has set.
pub const FIELD_MANAGER: &str = "kube-ovn-controller";
/// Writes in flight at once. Enough to keep an API server busy, few enough not to be throttled by its fairness queues.
const IN_FLIGHT: usize = 48;
/// The first wait before a failed write is tried again; it doubles up to [`LONGEST_BACKOFF`].
const FIRST_BACKOFF: Duration = Duration::from_millis(100);
const LONGEST_BACKOFF: Duration = Duration::from_secs(3);

/// What one request writes. Writes to one target are never reordered.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Target {
    /// The object.
    pub object: Object,
    /// Which part of it.
    pub part: Part,
}

/// A part of an object with an endpoint of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Part {
    /// Metadata and spec.
    Main,
    /// The status.
    Status,
}

impl Target {
    /// An object's metadata and spec.
    pub fn main(object: Object) -> Self {
        Self { object, part: Part::Main }
    }

    /// An object's status.
    pub fn status(object: Object) -> Self {
        Self { object, part: Part::Status }
    }
}

/// How the target is written.
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    /// A JSON merge patch (RFC 7386). With `metadata.uid` the API server refuses it for another object of the same name, with
    /// `metadata.resourceVersion` for another state of the object.
    Merge(Body),
    /// A server-side apply. It does not take over fields of others.
    Apply(Body),
    /// The whole object.
    Create(Body),
    /// A deletion of the object in this state.
    Delete(Precondition),
}

/// The state of an object that a deletion was decided on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Precondition {
    /// Its uid.
    pub uid: std::sync::Arc<str>,
    /// Its resource version.
    pub version: std::sync::Arc<str>,
}

impl Action {
    /// [`Action::Merge`] of this patch.
    pub fn merge(patch: &Value) -> Self {
        Self::Merge(Body::of(patch))
    }

    /// [`Action::Apply`] of this configuration.
    pub fn apply(object: &Value) -> Self {
        Self::Apply(Body::of(object))
    }

    /// [`Action::Create`] of this object.
    pub fn create(object: &Value) -> Self {
        Self::Create(Body::of(object))
    }
}

#[cfg(test)]
impl Action {
    /// The patch that it is.
    pub fn patch(&self) -> Value {
        match self {
            Self::Merge(patch) | Self::Apply(patch) => patch.parse().unwrap(),
            other => panic!("{other:?} is no patch"),
        }
    }
}

/// One write.
#[derive(Debug, Clone, PartialEq)]
pub struct Write {
    /// Which of the outbox's writes it is.
    pub id: u64,
    /// What it is about.
    pub target: Target,
    /// What it does; `None` takes back a write that has not started.
    pub action: Option<Action>,
}

/// A write that has started.
#[derive(Debug, Clone, PartialEq)]
pub struct Started {
    /// Which of the outbox's writes it is.
    pub id: u64,
    /// What it is about.
    pub target: Target,
    /// What it does.
    pub action: Action,
}

/// How a write ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Done {
    /// Which write it was.
    pub id: u64,
    /// What it was about.
    pub target: Target,
    /// How it ended.
    pub outcome: Outcome,
}

/// How a write ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The API server has it.
    Taken,
    /// The object is in another state than the write was computed from, or is gone.
    Conflict,
    /// The API server refuses what was written; this is why.
    Refused(String),
}

/// The publisher of one term of leadership, with the way to it and back. Dropping it ends the publisher: nothing that waits is
/// written, and requests in flight are abandoned.
#[derive(Debug)]
pub struct Publisher {
    /// Takes writes.
    pub writes: mpsc::UnboundedSender<Write>,
    /// Reports how they ended.
    pub done: mpsc::UnboundedReceiver<Done>,
    task: JoinHandle<()>,
}

impl Publisher {
    /// Starts a publisher that writes while `standing` says that this replica leads.
    pub fn spawn(client: Client, standing: watch::Receiver<Standing>) -> Self {
        let (writes, queue) = mpsc::unbounded_channel();
        let (done_in, done) = mpsc::unbounded_channel();
        let task = tokio::spawn(run(client, standing, queue, done_in));
        Self { writes, done, task }
    }

    /// A publisher that hands its writes to a test, and the receiving end.
    #[cfg(test)]
    pub fn for_test() -> (Self, mpsc::UnboundedReceiver<Write>) {
        let (writes, queue) = mpsc::unbounded_channel();
        let (_, done) = mpsc::unbounded_channel();
        (Self { writes, done, task: tokio::spawn(async {}) }, queue)
    }
}

impl Drop for Publisher {
    fn drop(&mut self) {
        // The requests in flight are tasks of the publisher's own `JoinSet`, which ends them.
        self.task.abort();
    }
}

/// Runs until the owner is gone.
async fn run(
    client: Client,
    mut standing: watch::Receiver<Standing>,
    mut writes: mpsc::UnboundedReceiver<Write>,
    done: mpsc::UnboundedSender<Done>,
) {
    let mut worker = Worker {
        client,
        queue: Queue::default(),
        running: JoinSet::new(),
        backing_off: JoinSet::new(),
        pause: Pause::default(),
    };
    loop {
        if standing.borrow_and_update().holds(Instant::now()) {
            worker.start();
        }
        let paused_until = worker.pause.until;
        tokio::select! {
            write = writes.recv() => match write {
                Some(write) => {
                    worker.queue.put(write);
                    while let Ok(write) = writes.try_recv() {
                        worker.queue.put(write);
                    }
                }
                None => return,
            },
            Some(attempt) = worker.running.join_next() => match attempt {
                Ok((write, result)) => {
                    if let Some(ended) = worker.attempt_ended(write, result) && done.send(ended).is_err() {
                        return;
                    }
                }
                Err(error) => tracing::error!(%error, "a write was lost"),
            },
            Some(write) = worker.backing_off.join_next() => match write {
                Ok(write) => worker.queue.retry(write),
                Err(error) => tracing::error!(%error, "a write was lost"),
            },
            Ok(()) = standing.changed() => {}
            () = sleep_until(paused_until.unwrap_or_else(Instant::now)), if paused_until.is_some() => {
                worker.pause.until = None;
            }
        }
    }
}

/// What waits, what is in flight, and what rests after a failure.
struct Worker {
    client: Client,
    queue: Queue,
    running: JoinSet<(Started, Result<(), Failure>)>,
    backing_off: JoinSet<Started>,
    pause: Pause,
}

impl Worker {
    /// Starts what may start now.
    fn start(&mut self) {
        while self.pause.until.is_none()
            && self.running.len() < IN_FLIGHT
            && let Some(write) = self.queue.take()
        {
            let client = self.client.clone();
            self.running.spawn(async move {
                let result = send::once(&client, &write.target, &write.action).await;
                (write, result)
            });
        }
    }

    /// A write was tried: it has ended, or rests until it is tried again.
    fn attempt_ended(&mut self, write: Started, result: Result<(), Failure>) -> Option<Done> {
        let target = &write.target;
        let outcome = match result {
            Ok(()) => Outcome::Taken,
            Err(Failure::Conflict) => Outcome::Conflict,
            Err(Failure::Refused(why)) => Outcome::Refused(why),
            Err(Failure::Passing(error)) => {
                tracing::warn!(?target, error, "the API server did not take a write; it is tried again");
                self.back_off(write);
                return None;
            }
            Err(Failure::Away(error)) => {
                if let Some(wait) = self.pause.begin() {
                    tracing::warn!(?target, error, ?wait, "the API server takes no writes; they are tried again");
                }
                self.back_off(write);
                return None;
            }
        };
        self.pause.end();
        self.queue.ended(target);
        Some(Done { id: write.id, target: write.target, outcome })
    }

    fn back_off(&mut self, write: Started) {
        let wait = next_backoff(self.queue.last_backoff(&write.target));
        self.queue.back_off(&write.target, wait);
        self.backing_off.spawn(async move {
            sleep(wait).await;
            write
        });
    }
}

/// How long nothing is sent because the API server does not answer.
#[derive(Debug, Default)]
struct Pause {
    until: Option<Instant>,
    last: Option<Duration>,
}

impl Pause {
    /// Begins, for longer than the last time; of writes that fail together the first one counts.
    fn begin(&mut self) -> Option<Duration> {
        if self.until.is_some() {
            return None;
        }
        let wait = next_backoff(self.last);
        (self.until, self.last) = (Some(Instant::now() + wait), Some(wait));
        Some(wait)
    }

    /// The API server has answered.
    fn end(&mut self) {
        *self = Self::default();
    }
}

fn next_backoff(wait: Option<Duration>) -> Duration {
    wait.map_or(FIRST_BACKOFF, |wait| (wait * 2).min(LONGEST_BACKOFF))
}
