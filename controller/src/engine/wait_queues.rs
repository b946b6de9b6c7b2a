//! The queues of pods and nodes that have no address, and the order in which they are decided again.
//!
//! Objects that want the same from the same subnet wait in one queue. If the first of them is refused, all others would be
//! refused as well. So a free address wakes only the first object of each queue. If that object leaves the queue, the engine
//! wakes the next one. A free address therefore costs time by the number of queues, not by the number of waiting objects.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use api::Addresses;
use ipam::{Refusal, Want, WantIps};

use crate::cluster::Object;

/// Identifies a queue, or one queue for each object in `until`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct QueueKey {
    /// The objects that block the address: a change of any of them can unblock it.
    pub until: Vec<Object>,
    /// The request to the allocator.
    pub want: Want,
}

impl QueueKey {
    /// The queue to wait in after the allocator refused a request.
    pub(super) fn for_refusal(refusal: &Refusal, subnet: Arc<str>, want: Want) -> Self {
        let until = match refusal {
            // The holder's address can be in another subnet.
            Refusal::MacTaken { holder, .. } | Refusal::AlreadyHolds { holder, .. } => Object::Ip(Arc::clone(holder)),
            _ => Object::Subnet(subnet),
        };
        Self { until: vec![until], want }
    }
}

/// All queues. An object waits under at most one [`QueueKey`].
#[derive(Debug, Default)]
pub(super) struct WaitQueues {
    queues: HashMap<Object, BTreeMap<Want, BTreeMap<Ticket, Object>>>,
    positions: HashMap<Object, (QueueKey, Ticket)>,
    /// Objects that were woken and have not been decided since.
    woken: HashSet<Object>,
    /// The tickets of objects that have no address. An object keeps its ticket while it is decided again.
    tickets: HashMap<Object, Ticket>,
    last: u64,
}

/// The position in a queue: the creation time of the object in seconds, then the order of the first refusals. The creation
/// time is the same for every leader.
type Ticket = (i64, u64);

impl WaitQueues {
    /// Adds an object that has no address. `made`: its creation time in seconds.
    pub(super) fn insert(&mut self, object: Object, made: i64, key: QueueKey) {
        self.remove(&object);
        self.last += 1;
        let ticket = *self.tickets.entry(object.clone()).or_insert((made, self.last));
        for until in &key.until {
            let queues = self.queues.entry(until.clone()).or_default();
            queues.entry(key.want.clone()).or_default().insert(ticket, object.clone());
        }
        self.positions.insert(object, (key, ticket));
    }

    /// Drops the ticket of an object that got its address or no longer wants one.
    pub(super) fn forget(&mut self, object: &Object) {
        self.tickets.remove(object);
    }

    /// Removes an object that is about to be decided. Returns its queue if it was woken; call [`Self::wake_next`] with that
    /// queue after the decision.
    pub(super) fn remove(&mut self, object: &Object) -> Option<QueueKey> {
        let (key, ticket) = self.positions.remove(object)?;
        for until in &key.until {
            if let Some(queues) = self.queues.get_mut(until)
                && let Some(queue) = queues.get_mut(&key.want)
            {
                queue.remove(&ticket);
                if queue.is_empty() {
                    queues.remove(&key.want);
                }
                if queues.is_empty() {
                    self.queues.remove(until);
                }
            }
        }
        self.woken.remove(object).then_some(key)
    }

    /// Wakes the next object of a queue after a woken object was decided. Wakes none if that object is in the queue again.
    pub(super) fn wake_next(&mut self, decided: &Object, key: &QueueKey) -> Option<Object> {
        if self.positions.get(decided).is_some_and(|(current, _)| current == key) {
            return None;
        }
        let first = |until| self.queues.get(until)?.get(&key.want)?.first_key_value();
        let next = key.until.iter().find_map(first)?.1.clone();
        self.woken.insert(next.clone());
        Some(next)
    }

    /// Wakes the first object of each queue for `until` whose request one of these addresses can satisfy, or any if it is not
    /// known which are free now.
    pub(super) fn wake_first(&mut self, until: &Object, freed: Option<&Addresses>) -> Vec<Object> {
        let queues = self.queues.get(until).into_iter().flatten();
        let queues = queues.filter(|(want, _)| freed.is_none_or(|freed| can_use(want, freed))).map(|(_, queue)| queue);
        let first: Vec<Object> =
            queues.filter_map(BTreeMap::first_key_value).map(|(_, object)| object.clone()).collect();
        self.woken.extend(first.iter().cloned());
        first
    }

    /// Removes and returns all objects that wait for `until`, which has changed.
    pub(super) fn wake_all(&mut self, until: &Object) -> Vec<Object> {
        let queues = self.queues.remove(until).into_iter().flat_map(BTreeMap::into_values);
        let all: Vec<Object> = queues.flat_map(BTreeMap::into_values).collect();
        for object in &all {
            self.remove(object);
        }
        all
    }
}

/// Whether one of these addresses can satisfy a part of a request. A request that names an address of the family waits for
/// no other.
fn can_use(want: &Want, freed: &Addresses) -> bool {
    let named = |ips: &Addresses| freed.each().any(|(family, ip)| ips.get(family).is_none_or(|wanted| wanted == ip));
    match &want.ips {
        WantIps::Any | WantIps::Pools(_) => true,
        WantIps::Exact(ips) => named(ips),
        WantIps::FirstFree(list) => list.iter().any(named),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(name: &str) -> Object {
        Object::Pod(name.into())
    }

    fn key(want: Want) -> QueueKey {
        QueueKey { until: vec![Object::Subnet("net".into())], want }
    }

    /// `a`, `b` and `c`, in this order, want any address; `d` wants an address of a pool.
    fn four() -> WaitQueues {
        let mut queues = WaitQueues::default();
        for (name, made) in [("c", 2), ("a", 1), ("b", 1)] {
            queues.insert(pod(name), made, key(Want::any()));
        }
        queues.insert(pod("d"), 1, key(Want::pool("pool")));
        queues
    }

    #[test]
    fn a_pod_keeps_its_position_until_it_gets_an_address() {
        let mut queues = four();
        queues.remove(&pod("a"));
        queues.insert(pod("a"), 1, key(Want::any()));
        assert_eq!(queues.wake_first(&key(Want::any()).until[0], None), [pod("a"), pod("d")]);
        queues.remove(&pod("a"));
        queues.forget(&pod("a"));
        queues.insert(pod("a"), 1, key(Want::any()));
        assert_eq!(
            queues.wake_first(&key(Want::any()).until[0], None),
            [pod("b"), pod("d")],
            "it had been served meanwhile"
        );
    }

    #[test]
    fn the_first_of_each_queue_is_woken_and_then_the_next_until_one_is_refused() {
        let mut queues = four();
        assert_eq!(queues.wake_first(&key(Want::any()).until[0], None), [pod("a"), pod("d")]);
        let woken = queues.remove(&pod("a")).unwrap();
        assert_eq!(queues.wake_next(&pod("a"), &woken), Some(pod("b")), "a was served");
        let woken = queues.remove(&pod("b")).unwrap();
        queues.insert(pod("b"), 1, woken.clone());
        assert_eq!(queues.wake_next(&pod("b"), &woken), None, "b was refused");
        let woken = queues.remove(&pod("d")).unwrap();
        queues.insert(pod("d"), 1, key(Want::any()));
        assert_eq!(queues.wake_next(&pod("d"), &woken), None, "no other pod waits for the pool");
        assert_eq!(queues.wake_first(&woken.until[0], None), [pod("b")], "d wants something else now");
    }

    #[test]
    fn removing_a_pod_that_was_not_woken_wakes_no_other_and_leaves_nothing_behind() {
        let mut queues = four();
        for name in ["a", "b", "c", "d", "a"] {
            assert_eq!(queues.remove(&pod(name)), None);
        }
        assert!(queues.queues.is_empty() && queues.positions.is_empty() && queues.woken.is_empty(), "{queues:?}");
        let mut queues = four();
        queues.wake_first(&key(Want::any()).until[0], None);
        assert_eq!(queues.wake_all(&key(Want::any()).until[0]).len(), 4);
        assert!(queues.queues.is_empty() && queues.positions.is_empty() && queues.woken.is_empty(), "{queues:?}");
    }
}
