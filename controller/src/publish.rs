//! Writes to the API server: what the owner decided and the database has committed becomes visible to users.
//!
//! The owner hands over one [`Write`] per object; a newer one for the same object replaces one that has not started. At
//! most one write per object is in flight, at most [`IN_FLIGHT`] in all, and those that a starting pod or node waits for go
//! first. A write that fails for a passing reason is tried
//! again with backoff; one that can never succeed is reported back, and the owner decides anew from what its watch says.
//! Nothing here decides: losing this queue loses nothing, since the next leader finds the same differences again.

mod outbox;
mod send;

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use kube::Client;
use serde_json::Value;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

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
    /// An IP.
    Ip(Arc<str>),
}

/// What is to be done with the target.
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    /// A JSON merge patch (RFC 7386). With `metadata.uid` in it the API server refuses it for a namesake.
    Merge(Value),
    /// The whole object.
    Create(Value),
    /// Remove it.
    Delete,
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
    let mut queue = Queue::default();
    let mut running = JoinSet::new();
    let mut open = true;
    while open || !running.is_empty() {
        tokio::select! {
            write = writes.recv(), if open => match write {
                Some(write) => queue.put(write),
                None => open = false,
            },
            Some(ended) = running.join_next() => match ended {
                Ok(done_write) => {
                    let done_write: Done = done_write;
                    queue.ended(&done_write.target);
                    if done.send(done_write).is_err() { open = false }
                }
                Err(error) => tracing::error!(%error, "a write was lost"),
            },
        }
        while running.len() < IN_FLIGHT
            && let Some(write) = queue.take()
        {
            running.spawn(until_settled(client.clone(), write));
        }
    }
}

/// Tries one write until it succeeds or cannot.
async fn until_settled(client: Client, write: Write) -> Done {
    let mut wait = FIRST_WAIT;
    loop {
        match send::once(&client, &write).await {
            Ok(()) => return Done { target: write.target, refused: None },
            Err(error) if send::is_final(&error) => {
                return Done { target: write.target, refused: Some(error.to_string()) };
            }
            Err(error) => {
                tracing::warn!(target = ?write.target, %error, "the API server did not take a write; trying again");
                tokio::time::sleep(wait).await;
                wait = (wait * 2).min(LONGEST_WAIT);
            }
        }
    }
}

/// What waits, newest per target, in order of first arrival; and what runs.
#[derive(Debug, Default)]
struct Queue {
    urgent: VecDeque<Target>,
    others: VecDeque<Target>,
    waiting: HashMap<Target, Action>,
    running: HashSet<Target>,
}

impl Queue {
    fn put(&mut self, write: Write) {
        if self.waiting.insert(write.target.clone(), write.action).is_none() && !self.running.contains(&write.target) {
            self.line_up(write.target);
        }
    }

    fn take(&mut self) -> Option<Write> {
        let target = self.urgent.pop_front().or_else(|| self.others.pop_front())?;
        let action = self.waiting.remove(&target)?;
        self.running.insert(target.clone());
        Some(Write { target, action })
    }

    fn ended(&mut self, target: &Target) {
        self.running.remove(target);
        if self.waiting.contains_key(target) {
            self.line_up(target.clone());
        }
    }

    fn line_up(&mut self, target: Target) {
        match target {
            Target::Pod { .. } | Target::Node(_) | Target::Subnet(_) => self.urgent.push_back(target),
            Target::Ip(_) | Target::Namespace(_) | Target::SubnetStatus(_) => self.others.push_back(target),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(name: &str, action: Action) -> Write {
        Write { target: Target::Ip(name.into()), action }
    }

    #[test]
    fn a_newer_write_replaces_one_that_waits_and_follows_one_that_runs() {
        let mut queue = Queue::default();
        queue.put(ip("a", Action::Create(Value::Null)));
        queue.put(ip("b", Action::Delete));
        queue.put(ip("a", Action::Delete));
        assert_eq!(queue.take(), Some(ip("a", Action::Delete)), "the older one for `a` never starts");
        queue.put(ip("a", Action::Create(Value::Null)));
        assert_eq!(queue.take(), Some(ip("b", Action::Delete)));
        assert_eq!(queue.take(), None, "`a` runs, so its next write waits");
        queue.ended(&Target::Ip("a".into()));
        assert_eq!(queue.take(), Some(ip("a", Action::Create(Value::Null))));
    }

    #[test]
    fn what_a_pod_waits_for_goes_before_records() {
        let mut queue = Queue::default();
        let pod = Target::Pod { namespace: "ns".into(), name: "a".into() };
        queue.put(ip("a", Action::Delete));
        queue.put(Write { target: pod.clone(), action: Action::Merge(Value::Null) });
        assert_eq!(queue.take().map(|write| write.target), Some(pod));
    }
}
