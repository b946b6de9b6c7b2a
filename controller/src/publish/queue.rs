//! The queue of writes. It holds the newest write for each target, in the order of first arrival, and the targets that
//! are blocked.

use std::collections::{HashMap, HashSet, VecDeque};
use std::time::Duration;

use super::{Action, Started, Target, Write};
use crate::cluster::Object;

/// Writes that have not ended.
#[derive(Debug, Default)]
pub struct Queue {
    urgent: VecDeque<Target>,
    others: VecDeque<Target>,
    waiting: HashMap<Target, (u64, Action)>,
    /// Targets with a write in flight or in backoff.
    blocked: HashSet<Target>,
    /// Blocked targets whose write must not be retried.
    cancelled: HashSet<Target>,
    /// The last backoff of each target whose last attempt failed.
    backoffs: HashMap<Target, Duration>,
}

impl Queue {
    /// Adds a write, in place of a waiting one for the same target; or cancels a waiting one.
    pub fn put(&mut self, Write { id, target, action }: Write) {
        let Some(action) = action else {
            // The target stays in the queue and is skipped.
            self.waiting.remove(&target);
            if self.blocked.contains(&target) {
                self.cancelled.insert(target);
            }
            return;
        };
        self.cancelled.remove(&target);
        if self.waiting.insert(target.clone(), (id, action)).is_none() && !self.blocked.contains(&target) {
            self.push_back(target);
        }
    }

    /// The next write to start. It blocks its target until [`Queue::ended`] or [`Queue::retry`].
    pub fn take(&mut self) -> Option<Started> {
        loop {
            let target = self.urgent.pop_front().or_else(|| self.others.pop_front())?;
            if self.blocked.contains(&target) {
                continue;
            }
            if let Some((id, action)) = self.waiting.remove(&target) {
                self.blocked.insert(target.clone());
                return Some(Started { id, target, action });
            }
        }
    }

    /// A write has ended.
    pub fn ended(&mut self, target: &Target) {
        self.backoffs.remove(target);
        self.unblock(target);
    }

    /// The last backoff of a target, if its last attempt failed.
    pub(super) fn last_backoff(&self, target: &Target) -> Option<Duration> {
        self.backoffs.get(target).copied()
    }

    /// A write has failed. Its target stays blocked during the backoff.
    pub(super) fn back_off(&mut self, target: &Target, wait: Duration) {
        self.backoffs.insert(target.clone(), wait);
    }

    /// The backoff of a write has ended. It is queued again unless it was replaced or cancelled.
    pub fn retry(&mut self, Started { id, target, action }: Started) {
        if !self.cancelled.contains(&target) {
            self.waiting.entry(target.clone()).or_insert((id, action));
        }
        self.unblock(&target);
    }

    fn unblock(&mut self, target: &Target) {
        self.blocked.remove(target);
        self.cancelled.remove(target);
        if self.waiting.contains_key(target) {
            self.push_back(target.clone());
        }
    }

    /// Node agents wait for IP objects and for the status of Subnets. These and the few writes to Nodes go first.
    fn push_back(&mut self, target: Target) {
        let urgent = match (&target.object, target.part) {
            (Object::Ip(_) | Object::Node(_) | Object::Subnet(_), _) => true,
            (
                Object::Pod(_)
                | Object::Namespace(_)
                | Object::IpPool(_)
                | Object::ExternalHost(_)
                | Object::StatefulSet(_),
                _,
            ) => false,
        };
        if urgent {
            self.urgent.push_back(target);
        } else {
            self.others.push_back(target);
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    fn ip(name: &str) -> Target {
        Target::main(Object::Ip(name.into()))
    }

    fn create(target: &Target) -> Write {
        Write { id: 1, target: target.clone(), action: Some(Action::create(&Value::Null)) }
    }

    fn patch(target: &Target) -> Write {
        Write { id: 2, target: target.clone(), action: Some(Action::merge(&Value::Null)) }
    }

    fn started(write: Write) -> Started {
        Started { id: write.id, target: write.target, action: write.action.unwrap() }
    }

    fn nothing(target: &Target) -> Write {
        Write { id: 3, target: target.clone(), action: None }
    }

    #[test]
    fn a_newer_write_replaces_a_waiting_one_and_follows_a_running_one() {
        let mut queue = Queue::default();
        let (a, b) = (ip("a"), ip("b"));
        queue.put(create(&a));
        queue.put(patch(&b));
        queue.put(patch(&a));
        assert_eq!(queue.take(), Some(started(patch(&a))), "the older one for `a` never starts");
        queue.put(create(&a));
        assert_eq!(queue.take(), Some(started(patch(&b))));
        assert_eq!(queue.take(), None, "`a` runs, so its next write backoffs");
        queue.ended(&a);
        assert_eq!(queue.take(), Some(started(create(&a))));
    }

    #[test]
    fn a_cancelled_write_never_starts_and_its_target_can_be_written_again() {
        let mut queue = Queue::default();
        let (a, b) = (ip("a"), ip("b"));
        for write in [create(&a), create(&b), nothing(&a)] {
            queue.put(write);
        }
        assert_eq!(queue.take(), Some(started(create(&b))));
        assert_eq!(queue.take(), None);
        queue.put(patch(&a));
        queue.put(nothing(&a));
        queue.put(create(&a));
        assert_eq!((queue.take(), queue.take()), (Some(started(create(&a))), None), "once, though it waited twice");
        queue.put(nothing(&a));
        queue.retry(started(create(&a)));
        assert_eq!(queue.take(), None, "it was taken back while it rested");
    }

    #[test]
    fn writes_that_a_starting_pod_needs_go_first() {
        let mut queue = Queue::default();
        let pod = Target::main(Object::Pod("a.ns".into()));
        queue.put(patch(&pod));
        queue.put(create(&ip("a.ns")));
        assert_eq!(queue.take(), Some(started(create(&ip("a.ns")))));
        assert_eq!(queue.take(), Some(started(patch(&pod))));
    }

    #[test]
    fn a_newer_write_replaces_one_in_backoff_and_keeps_the_backoff() {
        let mut queue = Queue::default();
        let a = ip("a");
        queue.put(create(&a));
        let write = queue.take().unwrap();
        queue.back_off(&a, Duration::from_secs(1));
        queue.put(patch(&a));
        assert_eq!(queue.take(), None, "the API server has just failed it");
        queue.retry(write);
        assert_eq!(queue.take(), Some(started(patch(&a))));
        assert_eq!(queue.last_backoff(&a), Some(Duration::from_secs(1)), "the next rest is a longer one");
        queue.ended(&a);
        assert_eq!(queue.last_backoff(&a), None);
    }
}
