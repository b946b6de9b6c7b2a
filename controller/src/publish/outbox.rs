//! The owner's end of publishing: what was handed over and is not seen yet.
//!
//! Between the moment when the API server takes a write and the moment when our watch shows it, the difference that led to
//! the write is still there. The outbox keeps it from being written again.

use std::collections::HashMap;
use std::sync::Arc;

use tokio::sync::mpsc;

use super::{Action, Done, Target, Write};
use crate::cluster::Object;

/// Writes that were handed to the publisher.
#[derive(Debug)]
pub struct Outbox {
    publisher: mpsc::UnboundedSender<Write>,
    sent: HashMap<Target, Sent>,
}

/// A write on its way, or taken and not seen yet.
#[derive(Debug)]
struct Sent {
    action: Action,
    taken: bool,
}

impl Outbox {
    /// An outbox in which nothing is.
    pub fn new(publisher: mpsc::UnboundedSender<Write>) -> Self {
        Self { publisher, sent: HashMap::new() }
    }

    /// The watch has seen something new of an object. What was taken before has been seen by now, or has been overwritten.
    pub fn seen(&mut self, object: &Object) {
        for target in targets(object) {
            if self.sent.get(&target).is_some_and(|sent| sent.taken) {
                self.sent.remove(&target);
            }
        }
    }

    /// Forgets everything: nobody decides here any more.
    pub fn clear(&mut self) {
        self.sent.clear();
    }

    /// How a write ended. One that was refused is forgotten: the watch will show why, and another is made if need be.
    pub fn ended(&mut self, done: &Done) {
        if done.refused.is_some() {
            self.sent.remove(&done.target);
        } else if let Some(sent) = self.sent.get_mut(&done.target) {
            sent.taken = true;
        }
    }

    /// Hands over all writes that an object needs now, but for those that were handed over already.
    pub fn put(&mut self, object: &Object, writes: Vec<Write>) {
        for target in targets(object) {
            if writes.iter().all(|write| write.target != target) {
                self.sent.remove(&target);
            }
        }
        for write in writes {
            if self.sent.get(&write.target).is_some_and(|sent| sent.action == write.action) {
                continue;
            }
            self.sent.insert(write.target.clone(), Sent { action: write.action.clone(), taken: false });
            self.send(write);
        }
    }

    /// Hands over a write that nothing is remembered of, for what is told at a pace of its own.
    pub fn send(&mut self, write: Write) {
        // The publisher lives as long as the process; without it nothing could be published anyway.
        let _ = self.publisher.send(write);
    }
}

/// What is written when an object is told about, its status apart.
fn targets(object: &Object) -> Vec<Target> {
    match object {
        Object::Subnet(name) => vec![Target::Subnet(Arc::clone(name))],
        Object::Namespace(name) => vec![Target::Namespace(Arc::clone(name))],
        Object::Node(name) => vec![Target::Node(Arc::clone(name))],
        Object::Ip(name) => vec![Target::Ip(Arc::clone(name))],
        Object::StatefulSet(_) => Vec::new(),
        Object::Pod(port) => match port.rsplit_once('.') {
            Some((name, namespace)) => vec![Target::Pod { namespace: namespace.into(), name: name.into() }],
            None => Vec::new(),
        },
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    fn create() -> Write {
        Write { target: Target::Ip("a.ns".into()), action: Action::Create(Value::Null) }
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
        outbox.ended(&done(None));
        assert!(!offer(&mut outbox, &mut sent), "it was taken, and is about to be seen");
        outbox.seen(&object);
        assert!(offer(&mut outbox, &mut sent), "it was seen and overwritten by somebody");
        outbox.ended(&done(Some("conflict")));
        assert!(offer(&mut outbox, &mut sent), "it was refused");
        outbox.put(&object, Vec::new());
        assert!(offer(&mut outbox, &mut sent), "it was right for a while and is not any more");
    }
}
