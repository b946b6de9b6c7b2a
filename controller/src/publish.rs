//! Writes to the API server. They show users what the owner has decided and the database has committed.
//!
//! Only the owner computes writes: one [`Write`] for the metadata and spec of an object and one for its status, from
//! the current decisions. A newer write for the same [`Target`] replaces one that has not started. After a conflict the
//! owner computes the write again from the newer object.
//!
//! At most one write per target and at most [`IN_FLIGHT`] writes in all are in flight. Writes that a starting pod or
//! node needs go first. A write that fails temporarily is retried with backoff and delays no other write. While the API
//! server does not answer, all writes pause. A write that cannot succeed is reported to the owner.
//!
//! A publisher lives as long as one term of leadership. Dropping [`Publisher`] aborts it, and it starts no write after
//! the Lease has expired, so a leader that was suspended writes nothing when it resumes. Writes that are lost with the
//! queue are computed again by the next leader.

mod body;
mod outbox;
pub mod queue;
mod send;
#[cfg(test)]
mod tests;
mod write;

use std::time::Duration;

use kube::Client;
use tokio::sync::{mpsc, watch};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{Instant, sleep, sleep_until};

use crate::election::Standing;
use queue::Queue;
use send::Failure;

pub use body::Body;
pub use outbox::Outbox;
pub use write::{Action, Done, Outcome, Part, Precondition, Started, Target, Write};

/// The field manager of the controller's writes.
pub const FIELD_MANAGER: &str = "kube-ovn-controller";
/// The maximum number of writes in flight: enough to keep an API server busy, few enough not to be throttled by API
/// priority and fairness.
const IN_FLIGHT: usize = 48;
/// The backoff after the first failure of a write. It doubles up to [`LONGEST_BACKOFF`].
const FIRST_BACKOFF: Duration = Duration::from_millis(100);
const LONGEST_BACKOFF: Duration = Duration::from_secs(3);

/// The publisher of one term of leadership. Dropping it ends the publisher: queued writes are discarded and requests in
/// flight are abandoned.
#[derive(Debug)]
pub struct Publisher {
    /// Sends writes to the publisher.
    pub writes: mpsc::UnboundedSender<Write>,
    /// Receives their results.
    pub done: mpsc::UnboundedReceiver<Done>,
    task: JoinHandle<()>,
}

impl Publisher {
    /// Starts a publisher that writes while `standing` is leading.
    pub fn spawn(client: Client, standing: watch::Receiver<Standing>) -> Self {
        let (writes, queue) = mpsc::unbounded_channel();
        let (done_in, done) = mpsc::unbounded_channel();
        let task = tokio::spawn(run(client, standing, queue, done_in));
        Self { writes, done, task }
    }

    /// A publisher for tests that does not write. The receiver yields its writes.
    #[cfg(test)]
    pub fn for_test() -> (Self, mpsc::UnboundedReceiver<Write>) {
        let (writes, queue) = mpsc::unbounded_channel();
        let (_, done) = mpsc::unbounded_channel();
        (Self { writes, done, task: tokio::spawn(async {}) }, queue)
    }
}

impl Drop for Publisher {
    fn drop(&mut self) {
        // This also drops the `JoinSet` of the requests in flight, which aborts them.
        self.task.abort();
    }
}

/// Runs until the owner drops its channels.
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

/// The queued writes, the requests in flight, and the writes that wait for a retry.
struct Worker {
    client: Client,
    queue: Queue,
    running: JoinSet<(Started, Result<(), Failure>)>,
    backing_off: JoinSet<Started>,
    pause: Pause,
}

impl Worker {
    /// Starts as many writes as allowed.
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

    /// Handles the result of an attempt: the write ends or waits for a retry.
    fn attempt_ended(&mut self, write: Started, result: Result<(), Failure>) -> Option<Done> {
        let target = &write.target;
        let outcome = match result {
            Ok(()) => Outcome::Taken,
            Err(Failure::Conflict) => Outcome::Conflict,
            Err(Failure::Refused(why)) => Outcome::Refused(why),
            // Users hear of it. The next attempt is made from the object as it is then.
            Err(Failure::Passing(error)) if self.queue.last_backoff(target) == Some(LONGEST_BACKOFF) => {
                Outcome::Failing(error)
            }
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

/// The pause of all writes while the API server does not answer.
#[derive(Debug, Default)]
struct Pause {
    until: Option<Instant>,
    last: Option<Duration>,
}

impl Pause {
    /// Begins a pause that is longer than the last one. Returns `None` if a pause is in progress, as when several
    /// writes fail together.
    fn begin(&mut self) -> Option<Duration> {
        if self.until.is_some() {
            return None;
        }
        let wait = next_backoff(self.last);
        (self.until, self.last) = (Some(Instant::now() + wait), Some(wait));
        Some(wait)
    }

    /// Ends the backoff: the API server has answered.
    fn end(&mut self) {
        *self = Self::default();
    }
}

fn next_backoff(wait: Option<Duration>) -> Duration {
    wait.map_or(FIRST_BACKOFF, |wait| (wait * 2).min(LONGEST_BACKOFF))
}
