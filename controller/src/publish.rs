//! Writes to the API server: what the owner decided and the database has committed becomes visible to users.
//!
//! The owner hands over one [`Write`] per object; a newer one for the same object replaces one that has not started. At
//! most one write per object is in flight, at most [`IN_FLIGHT`] in all, and those that a starting pod or node waits for go
//! first. A write that fails for a passing reason is tried again with backoff, and is in nobody's way while it waits; when the
//! API server does not answer at all, everything waits. A write that can never succeed is reported back, and the owner looks
//! at its object again. Nothing here decides: losing this queue loses nothing, since the next leader finds the same
//! differences again.

mod body;
mod outbox;
mod queue;
mod send;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use kube::Client;
use serde_json::Value;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until};

use queue::Queue;
use send::Failure;

pub use body::Body;
pub use outbox::Outbox;

/// Writes in flight at once. Enough to keep an API server busy, few enough not to be throttled by its fairness queues.
const IN_FLIGHT: usize = 48;
/// The first wait before a failed write is tried again; it doubles up to [`LONGEST_WAIT`].
const FIRST_WAIT: Duration = Duration::from_millis(100);
const LONGEST_WAIT: Duration = Duration::from_secs(3);

/// The object that a write is about; writes to one target are never reordered.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Target {
    /// A Pod's metadata.
    Pod {
        /// Its namespace.
        namespace: Arc<str>,
        /// Its name.
        name: Arc<str>,
    },
    /// A Node's metadata.
    Node(Arc<str>),
    /// A Namespace's metadata.
    Namespace(Arc<str>),
    /// A Subnet's metadata and spec.
    Subnet(Arc<str>),
    /// A Subnet's status.
    SubnetStatus(Arc<str>),
    /// An IPPool's metadata.
    IpPool(Arc<str>),
    /// An IPPool's status.
    IpPoolStatus(Arc<str>),
    /// An IP.
    Ip(Arc<str>),
}

/// What is to be done with the target.
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    /// A JSON merge patch (RFC 7386). With `metadata.uid` in it the API server refuses it for a namesake.
    Merge(Body),
    /// The whole object.
    Create(Body),
    /// Remove it.
    Delete,
}

impl Action {
    /// [`Action::Merge`] of this patch.
    pub fn merge(patch: &Value) -> Self {
        Self::Merge(Body::of(patch))
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
            Self::Merge(patch) => patch.parse().unwrap(),
            other => panic!("{other:?} is no patch"),
        }
    }
}

/// One write.
#[derive(Debug, Clone, PartialEq)]
pub struct Write {
    /// The object.
    pub target: Target,
    /// What to do with it.
    pub action: Action,
}

/// How a write ended.
#[derive(Debug)]
pub struct Done {
    /// The object.
    pub target: Target,
    /// Why it will not be tried again, when it did not succeed: the object is gone, is another one by now, or the API
    /// server refuses what was written.
    pub refused: Option<String>,
}

/// Runs until the owner is gone and everything handed over has ended.
pub async fn run(client: Client, mut writes: mpsc::UnboundedReceiver<Write>, done: mpsc::UnboundedSender<Done>) {
    let mut publisher = Publisher {
        client,
        queue: Queue::default(),
        running: JoinSet::new(),
        resting: JoinSet::new(),
        pause: Pause::default(),
    };
    let mut open = true;
    while open || !publisher.queue.is_empty() {
        let paused_until = publisher.pause.until;
        tokio::select! {
            write = writes.recv(), if open => match write {
                Some(write) => publisher.queue.put(write),
                None => open = false,
            },
            Some(tried) = publisher.running.join_next() => match tried {
                Ok((write, result)) => {
                    if let Some(ended) = publisher.tried(write, result) && done.send(ended).is_err() {
                        open = false;
                    }
                }
                Err(error) => tracing::error!(%error, "a write was lost"),
            },
            Some(rested) = publisher.resting.join_next() => match rested {
                Ok(write) => publisher.queue.again(write),
                Err(error) => tracing::error!(%error, "a write was lost"),
            },
            () = sleep_until(paused_until.unwrap_or_else(Instant::now)), if paused_until.is_some() => {
                publisher.pause.until = None;
            }
        }
        publisher.start();
    }
}

/// What waits, what is under way, and what rests after a failure.
struct Publisher {
    client: Client,
    queue: Queue,
    running: JoinSet<(Write, Result<(), Failure>)>,
    resting: JoinSet<Write>,
    pause: Pause,
}

impl Publisher {
    /// Starts what may start now.
    fn start(&mut self) {
        while self.pause.until.is_none()
            && self.running.len() < IN_FLIGHT
            && let Some(write) = self.queue.take()
        {
            let client = self.client.clone();
            self.running.spawn(async move {
                let result = send::once(&client, &write).await;
                (write, result)
            });
        }
    }

    /// A write was tried: it has ended, or rests until it is tried again.
    fn tried(&mut self, write: Write, result: Result<(), Failure>) -> Option<Done> {
        let refused = match result {
            Ok(()) => None,
            Err(Failure::Final(why)) => Some(why),
            Err(Failure::Passing(error)) => {
                tracing::warn!(target = ?write.target, error, "the API server did not take a write; trying again");
                self.rest(write);
                return None;
            }
            Err(Failure::Away(error)) => {
                if let Some(wait) = self.pause.begin() {
                    tracing::warn!(target = ?write.target, error, ?wait, "the API server takes no writes; trying again");
                }
                self.rest(write);
                return None;
            }
        };
        self.pause.end();
        self.queue.ended(&write.target);
        Some(Done { target: write.target, refused })
    }

    fn rest(&mut self, write: Write) {
        let wait = longer(self.queue.last_wait(&write.target));
        self.queue.rest(&write.target, wait);
        self.resting.spawn(async move {
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
        let wait = longer(self.last);
        (self.until, self.last) = (Some(Instant::now() + wait), Some(wait));
        Some(wait)
    }

    /// The API server has answered.
    fn end(&mut self) {
        *self = Self::default();
    }
}

fn longer(wait: Option<Duration>) -> Duration {
    wait.map_or(FIRST_WAIT, |wait| (wait * 2).min(LONGEST_WAIT))
}
