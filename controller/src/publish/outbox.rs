//! The owner's end of publishing: what was handed over and is not seen yet, and what was refused.
//!
//! Between the moment when the API server takes a write and the moment when our watch shows it, the difference that led to
//! the write is still there. The outbox keeps it from being written again. A write that was refused it keeps from being
//! written again at once, and asks for its object to be looked at later: what refused it (a rule of the cluster's, a version
//! that was passed by) may change without the object doing so.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::Instant;

use super::{Action, Done, Target, Write};
use crate::cluster::Object;

/// How long after a refusal its object is looked at again; it doubles up to [`LOOK_AGAIN_AT_LEAST`].
const LOOK_AGAIN: Duration = Duration::from_secs(1);
const LOOK_AGAIN_AT_LEAST: Duration = Duration::from_mins(5);

/// Writes that were handed to the publisher.
#[derive(Debug)]
pub struct Outbox {
    publisher: mpsc::UnboundedSender<Write>,
    sent: HashMap<Target, Sent>,
    refused: HashMap<Target, Refused>,
}

/// A write on its way, or taken and not seen yet.
#[derive(Debug)]
struct Sent {
    /// What was told about by it.
    object: Object,
    action: Action,
    taken: bool,
}

/// A write that the API server has refused.
#[derive(Debug)]
struct Refused {
    object: Object,
    action: Action,
    wait: Duration,
    /// When its object is to be looked at; none once that has been asked for.
    again: Option<Instant>,
}

impl Outbox {
    /// An outbox in which nothing is.
    pub fn new(publisher: mpsc::UnboundedSender<Write>) -> Self {
        Self { publisher, sent: HashMap::new(), refused: HashMap::new() }
    }

    /// The watch has seen something new of an object. What was taken before has been seen by now, or has been overwritten,
    /// and what was refused may be taken.
    pub fn seen(&mut self, object: &Object) {
        for target in targets(object) {
            if self.sent.get(&target).is_some_and(|sent| sent.taken) {
                self.sent.remove(&target);
            }
            self.refused.remove(&target);
        }
    }

    /// Forgets everything: nobody decides here any more.
    pub fn clear(&mut self) {
        self.sent.clear();
        self.refused.clear();
    }

    /// How a write ended.
    pub fn ended(&mut self, done: &Done, now: Instant) {
        if done.refused.is_none() {
            self.refused.remove(&done.target);
            match self.sent.get_mut(&done.target) {
                // Nothing is handed over twice of what is told at a pace of its own.
                Some(_) if matches!(done.target, Target::SubnetStatus(_) | Target::IpPoolStatus(_)) => {
                    self.sent.remove(&done.target);
                }
                Some(sent) => sent.taken = true,
                None => {}
            }
        } else if let Some(Sent { object, action, .. }) = self.sent.remove(&done.target) {
            let before = self.refused.get(&done.target).map(|refused| refused.wait);
            let wait = before.map_or(LOOK_AGAIN, |wait| (wait * 2).min(LOOK_AGAIN_AT_LEAST));
            self.refused.insert(done.target.clone(), Refused { object, action, wait, again: Some(now + wait) });
        }
    }

    /// When an object is to be looked at again.
    pub fn look_again_at(&self) -> Option<Instant> {
        self.refused.values().filter_map(|refused| refused.again).min()
    }

    /// The objects that are to be looked at again by now.
    pub fn take_due(&mut self, now: Instant) -> Vec<Object> {
        let due = self.refused.values_mut().filter(|refused| refused.again.is_some_and(|again| again <= now));
        due.map(|refused| {
            refused.again = None;
            refused.object.clone()
        })
        .collect()
    }

    /// Hands over all writes that an object needs now, but for those that were handed over already, and those that were
    /// refused a moment ago.
    pub fn put(&mut self, object: &Object, writes: Vec<Write>) {
        for target in targets(object) {
            if writes.iter().all(|write| write.target != target) {
                self.sent.remove(&target);
                self.refused.remove(&target);
            }
        }
        for write in writes {
            let sent = self.sent.get(&write.target).is_some_and(|sent| sent.action == write.action);
            let same = |refused: &Refused| refused.again.is_some() && refused.action == write.action;
            if !sent && !self.refused.get(&write.target).is_some_and(same) {
                self.send(object.clone(), write);
            }
        }
    }

    /// Hands over the status of a Subnet or an `IPPool`, or none if it is right as it is. It is told at a pace of its own and
    /// each time anew, since the time is part of it.
    pub fn put_status(&mut self, object: &Object, write: Option<Write>) {
        let target = match object {
            Object::Subnet(name) => Target::SubnetStatus(Arc::clone(name)),
            Object::IpPool(name) => Target::IpPoolStatus(Arc::clone(name)),
            _ => return,
        };
        match write {
            None => drop(self.refused.remove(&target)),
            Some(_) if self.refused.get(&target).is_some_and(|refused| refused.again.is_some()) => {}
            Some(write) => self.send(object.clone(), write),
        }
    }

    fn send(&mut self, object: Object, write: Write) {
        self.sent.insert(write.target.clone(), Sent { object, action: write.action.clone(), taken: false });
        // The publisher lives as long as the process; without it nothing could be published anyway.
        let _ = self.publisher.send(write);
    }
}

/// What is written when an object is told about, its status apart.
fn targets(object: &Object) -> Vec<Target> {
    match object {
        Object::Subnet(name) => vec![Target::Subnet(Arc::clone(name))],
        Object::IpPool(name) => vec![Target::IpPool(Arc::clone(name))],
        Object::Namespace(name) => vec![Target::Namespace(Arc::clone(name))],
        Object::Node(name) => vec![Target::Node(Arc::clone(name))],
        Object::Ip(name) => vec![Target::Ip(Arc::clone(name))],
        Object::StatefulSet(_) => Vec::new(),
        Object::Pod(port) => match api::pod_of_port(port) {
            Some((name, namespace)) => vec![Target::Pod { namespace: namespace.into(), name: name.into() }],
            None => Vec::new(),
        },
    }
}

#[cfg(test)]
mod tests {
    use std::slice;

    use serde_json::Value;

    use super::*;

    fn create() -> Write {
        Write { target: Target::Ip("a.ns".into()), action: Action::create(&Value::Null) }
    }

    fn done(refused: Option<&str>) -> Done {
        Done { target: Target::Ip("a.ns".into()), refused: refused.map(ToOwned::to_owned) }
    }

    /// Offers the same write again; answers whether it was sent.
    fn offer(outbox: &mut Outbox, sent: &mut mpsc::UnboundedReceiver<Write>) -> bool {
        outbox.put(&Object::Ip("a.ns".into()), vec![create()]);
        sent.try_recv().is_ok()
    }

    #[test]
    fn a_write_is_sent_once_until_the_watch_has_moved_on() {
        let (publisher, mut sent) = mpsc::unbounded_channel();
        let mut outbox = Outbox::new(publisher);
        let object = Object::Ip("a.ns".into());
        assert!(offer(&mut outbox, &mut sent));
        outbox.seen(&object);
        assert!(!offer(&mut outbox, &mut sent), "it is still on its way");
        outbox.ended(&done(None), Instant::now());
        assert!(!offer(&mut outbox, &mut sent), "it was taken, and is about to be seen");
        outbox.seen(&object);
        assert!(offer(&mut outbox, &mut sent), "it was seen and overwritten by somebody");
        outbox.put(&object, Vec::new());
        assert!(offer(&mut outbox, &mut sent), "it was right for a while and is not any more");
    }

    #[test]
    fn what_was_refused_is_looked_at_again_later_and_later() {
        let (publisher, mut sent) = mpsc::unbounded_channel();
        let mut outbox = Outbox::new(publisher);
        let (object, start) = (Object::Ip("a.ns".into()), Instant::now());
        assert!(offer(&mut outbox, &mut sent));
        outbox.ended(&done(Some("forbidden")), start);
        assert!(!offer(&mut outbox, &mut sent), "that would be the same again");
        assert_eq!((outbox.look_again_at(), outbox.take_due(start)), (Some(start + LOOK_AGAIN), vec![]));
        assert_eq!(outbox.take_due(start + LOOK_AGAIN), slice::from_ref(&object));
        assert_eq!((outbox.look_again_at(), outbox.take_due(start + LOOK_AGAIN)), (None, vec![]));
        assert!(offer(&mut outbox, &mut sent));
        outbox.ended(&done(Some("forbidden")), start);
        assert_eq!(outbox.look_again_at(), Some(start + LOOK_AGAIN * 2));
        outbox.seen(&object);
        assert!(offer(&mut outbox, &mut sent), "something about it has changed");
        outbox.ended(&done(Some("forbidden")), start);
        assert_eq!(outbox.look_again_at(), Some(start + LOOK_AGAIN));
        outbox.put(&object, Vec::new());
        assert_eq!(outbox.look_again_at(), None, "it is not wanted any more");
    }

    #[test]
    fn a_namespace_is_looked_at_when_its_subnet_was_refused() {
        let (publisher, _sent) = mpsc::unbounded_channel();
        let mut outbox = Outbox::new(publisher);
        let (namespace, target) = (Object::Namespace("shop".into()), Target::Subnet("shop-net".into()));
        outbox.put(&namespace, vec![Write { target: target.clone(), action: Action::create(&Value::Null) }]);
        let now = Instant::now();
        outbox.ended(&Done { target, refused: Some("invalid".to_owned()) }, now);
        assert_eq!(outbox.take_due(now + LOOK_AGAIN), [namespace]);
    }
}
