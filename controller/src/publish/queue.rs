//! The order of writes: what waits, the newest for each target, in order of first arrival; and which targets may not be
//! written now.

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
    /// A write to these is in flight, or rests after a failure.
    blocked: HashSet<Target>,
    /// Those of them whose write is not to be tried again.
    cancelled: HashSet<Target>,
    /// For each target whose writes have failed so far: the last rest.
    backoffs: HashMap<Target, Duration>,
}

impl Queue {
    /// Adds a write in place of one for the same target that waits, or takes back one that waits.
    pub fn put(&mut self, Write { id, target, action }: Write) {
        let Some(action) = action else {
            // Its place in the order stays and is skipped.
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

    /// The next write to start; its target is held until [`Queue::ended`] or [`Queue::retry`].
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

    /// How long the write rested after its last failure, if it has failed before.
    pub(super) fn last_backoff(&self, target: &Target) -> Option<Duration> {
        self.backoffs.get(target).copied()
    }

    /// A write has failed and rests: its target stays held.
    pub(super) fn back_off(&mut self, target: &Target, wait: Duration) {
        self.backoffs.insert(target.clone(), wait);
    }

    /// A write has rested, and is next again unless a newer one has come for its target, or it was taken back.
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

    /// Node agents wait for IP objects and for what a Subnet's status says is in force.
    fn push_back(&mut self, target: Target) {
        let urgent = match (&target.object, target.part) {
            (Object::Ip(_) | Object::Node(_) | Object::Subnet(_), _) => true,
            (Object::Pod(_) | Object::Namespace(_) | Object::IpPool(_) | Object::StatefulSet(_), _) => false,
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

    fn taken(write: Write) -> Option<Started> {
        Some(Started { id: write.id, target: write.target, action: write.action.unwrap() })
    }

    fn nothing(target: &Target) -> Write {
        Write { id: 3, target: target.clone(), action: None }
    }

    #[test]
    fn a_newer_write_replaces_one_that_waits_and_follows_one_that_runs() {
        let mut queue = Queue::default();
        let (a, b) = (ip("a"), ip("b"));
        queue.put(create(&a));
        queue.put(patch(&b));
        queue.put(patch(&a));
        assert_eq!(queue.take(), taken(patch(&a)), "the older one for `a` never starts");
        queue.put(create(&a));
        assert_eq!(queue.take(), taken(patch(&b)));
        assert_eq!(queue.take(), None, "`a` runs, so its next write backoffs");
        queue.ended(&a);
        assert_eq!(queue.take(), taken(create(&a)));
    }

    #[test]
    fn a_write_that_is_taken_back_never_starts_and_its_target_can_be_written_again() {
        let mut queue = Queue::default();
        let (a, b) = (ip("a"), ip("b"));
        for write in [create(&a), create(&b), nothing(&a)] {
            queue.put(write);
        }
        assert_eq!(queue.take(), taken(create(&b)));
        assert_eq!(queue.take(), None);
        queue.put(patch(&a));
        queue.put(nothing(&a));
        queue.put(create(&a));
        assert_eq!((queue.take(), queue.take()), (taken(create(&a)), None), "once, though it waited twice");
        queue.put(nothing(&a));
        queue.retry(taken(create(&a)).unwrap());
        assert_eq!(queue.take(), None, "it was taken back while it rested");
    }

    #[test]
    fn a_starting_pod_is_served_before_users_read_of_it() {
        let mut queue = Queue::default();
        let pod = Target::main(Object::Pod("a.ns".into()));
        queue.put(patch(&pod));
        queue.put(create(&ip("a.ns")));
        assert_eq!(queue.take(), taken(create(&ip("a.ns"))));
        assert_eq!(queue.take(), taken(patch(&pod)));
    }

    #[test]
    fn a_write_that_rests_gives_way_to_a_newer_one_which_rests_longer() {
        let mut queue = Queue::default();
        let a = ip("a");
        queue.put(create(&a));
        let write = queue.take().unwrap();
        queue.back_off(&a, Duration::from_secs(1));
        queue.put(patch(&a));
        assert_eq!(queue.take(), None, "the API server has just failed it");
        queue.retry(write);
        assert_eq!(queue.take(), taken(patch(&a)));
        assert_eq!(queue.last_backoff(&a), Some(Duration::from_secs(1)), "the next rest is a longer one");
        queue.ended(&a);
        assert_eq!(queue.last_backoff(&a), None);
    }
}
