//! The order of writes: what waits, newest per target, in order of first arrival; and which targets are not to be written now.

use std::collections::{HashMap, HashSet, VecDeque};
use std::time::Duration;

use super::{Action, Target, Write};

/// Writes that have not ended.
#[derive(Debug, Default)]
pub(super) struct Queue {
    urgent: VecDeque<Target>,
    others: VecDeque<Target>,
    waiting: HashMap<Target, Action>,
    /// A write to these is under way, or is resting after a failure.
    held: HashSet<Target>,
    /// How long the last rest of a write was that has failed so far.
    waits: HashMap<Target, Duration>,
}

impl Queue {
    /// Whether everything has ended.
    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty() && self.held.is_empty()
    }

    pub(super) fn put(&mut self, write: Write) {
        if self.waiting.insert(write.target.clone(), write.action).is_none() && !self.held.contains(&write.target) {
            self.line_up(write.target);
        }
    }

    /// The next write to start; its target is held until it has ended, or has rested.
    pub(super) fn take(&mut self) -> Option<Write> {
        let target = self.urgent.pop_front().or_else(|| self.others.pop_front())?;
        let action = self.waiting.remove(&target)?;
        self.held.insert(target.clone());
        Some(Write { target, action })
    }

    pub(super) fn ended(&mut self, target: &Target) {
        self.waits.remove(target);
        self.let_go(target);
    }

    /// How long the write rested after its last failure, if it has failed before.
    pub(super) fn last_wait(&self, target: &Target) -> Option<Duration> {
        self.waits.get(target).copied()
    }

    /// A write has failed and rests: its target stays held.
    pub(super) fn rest(&mut self, target: &Target, wait: Duration) {
        self.waits.insert(target.clone(), wait);
    }

    /// A write has rested, and lines up again unless a newer one has come for its target.
    pub(super) fn again(&mut self, Write { target, action }: Write) {
        self.waiting.entry(target.clone()).or_insert(action);
        self.let_go(&target);
    }

    fn let_go(&mut self, target: &Target) {
        self.held.remove(target);
        if self.waiting.contains_key(target) {
            self.line_up(target.clone());
        }
    }

    fn line_up(&mut self, target: Target) {
        match target {
            Target::Pod { .. } | Target::Node(_) | Target::Subnet(_) => self.urgent.push_back(target),
            Target::Ip(_)
            | Target::Namespace(_)
            | Target::SubnetStatus(_)
            | Target::IpPool(_)
            | Target::IpPoolStatus(_) => self.others.push_back(target),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    fn ip(name: &str, action: Action) -> Write {
        Write { target: Target::Ip(name.into()), action }
    }

    #[test]
    fn a_newer_write_replaces_one_that_waits_and_follows_one_that_runs() {
        let mut queue = Queue::default();
        queue.put(ip("a", Action::create(&Value::Null)));
        queue.put(ip("b", Action::Delete));
        queue.put(ip("a", Action::Delete));
        assert_eq!(queue.take(), Some(ip("a", Action::Delete)), "the older one for `a` never starts");
        queue.put(ip("a", Action::create(&Value::Null)));
        assert_eq!(queue.take(), Some(ip("b", Action::Delete)));
        assert_eq!(queue.take(), None, "`a` runs, so its next write waits");
        queue.ended(&Target::Ip("a".into()));
        assert_eq!(queue.take(), Some(ip("a", Action::create(&Value::Null))));
    }

    #[test]
    fn what_a_pod_waits_for_goes_before_records() {
        let mut queue = Queue::default();
        let pod = Target::Pod { namespace: "ns".into(), name: "a".into() };
        queue.put(ip("a", Action::Delete));
        queue.put(Write { target: pod.clone(), action: Action::merge(&Value::Null) });
        assert_eq!(queue.take().map(|write| write.target), Some(pod));
    }

    #[test]
    fn a_write_that_rests_gives_way_to_a_newer_one_which_waits_for_as_long() {
        let mut queue = Queue::default();
        let target = Target::Ip("a".into());
        queue.put(ip("a", Action::create(&Value::Null)));
        let write = queue.take().unwrap();
        queue.rest(&target, Duration::from_secs(1));
        queue.put(ip("a", Action::Delete));
        assert_eq!((queue.take(), queue.is_empty()), (None, false), "the API server has just failed it");
        queue.again(write);
        assert_eq!(queue.take(), Some(ip("a", Action::Delete)));
        assert_eq!(queue.last_wait(&target), Some(Duration::from_secs(1)), "the next rest is a longer one");
        queue.ended(&target);
        assert_eq!((queue.last_wait(&target), queue.is_empty()), (None, true));
    }
}
