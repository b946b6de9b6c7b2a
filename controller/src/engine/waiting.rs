//! Who waits for what, and whose turn it is when an address is free.
//!
//! Those who want the same of one subnet stand in line. When one of them is refused, so would be all that stand behind. So
//! a free address calls only the first of each line, and who was called and is not back afterwards has the next one called.
//! Nobody stands who could be served, and a free address costs by the number of lines, not of those who stand in them.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use ipam::{Refusal, Want};

use crate::cluster::Object;

/// A line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Line {
    /// What has to change, any of it: the subnet, or whatever else stands against it.
    pub until: Vec<Object>,
    /// What is wanted of it.
    pub want: Want,
}

impl Line {
    /// Where to wait after the subnet has refused what is wanted of it.
    pub(super) fn after(refusal: &Refusal, subnet: Arc<str>, want: Want) -> Self {
        let until = match refusal {
            // Whatever subnet that one is in.
            Refusal::MacTaken { holder, .. } | Refusal::AlreadyHolds { holder, .. } => Object::Ip(Arc::clone(holder)),
            _ => Object::Subnet(subnet),
        };
        Self { until: vec![until], want }
    }
}

/// Pods and nodes in their lines, each in one at the most.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    lines: HashMap<Object, BTreeMap<Want, BTreeMap<Ticket, Object>>>,
    places: HashMap<Object, (Line, Ticket)>,
    called: HashSet<Object>,
    /// The tickets of those that have been refused and not served since, so that they keep their place when they are decided
    /// about again.
    tickets: HashMap<Object, Ticket>,
    last: u64,
}

/// A place in the order of waiting: when the object was made, in seconds, and the order of the first refusals. The first part
/// outlives a change of leaders.
type Ticket = (i64, u64);

impl Waiting {
    /// An object that was made at that time has been refused.
    pub(super) fn join(&mut self, who: Object, made: i64, line: Line) {
        self.leave(&who);
        self.last += 1;
        let ticket = *self.tickets.entry(who.clone()).or_insert((made, self.last));
        for until in &line.until {
            let lines = self.lines.entry(until.clone()).or_default();
            lines.entry(line.want.clone()).or_default().insert(ticket, who.clone());
        }
        self.places.insert(who, (line, ticket));
    }

    /// An object has been served, or wants nothing any more.
    pub(super) fn done(&mut self, who: &Object) {
        self.tickets.remove(who);
    }

    /// Takes somebody out who is decided about now. Who had been called is to be followed by [`Self::next`]; then this is
    /// the line.
    pub(super) fn leave(&mut self, who: &Object) -> Option<Line> {
        let (line, ticket) = self.places.remove(who)?;
        for until in &line.until {
            if let Some(lines) = self.lines.get_mut(until)
                && let Some(standing) = lines.get_mut(&line.want)
            {
                standing.remove(&ticket);
                if standing.is_empty() {
                    lines.remove(&line.want);
                }
                if lines.is_empty() {
                    self.lines.remove(until);
                }
            }
        }
        self.called.remove(who).then_some(line)
    }

    /// Somebody was called and has been decided about: calls the next one, unless the first is back in line.
    pub(super) fn next(&mut self, who: &Object, line: &Line) -> Option<Object> {
        if self.places.get(who).is_some_and(|(place, _)| place == line) {
            return None;
        }
        let first = |until| self.lines.get(until)?.get(&line.want)?.first_key_value();
        let next = line.until.iter().find_map(first)?.1.clone();
        self.called.insert(next.clone());
        Some(next)
    }

    /// Something is free there: calls the first of each line.
    pub(super) fn call(&mut self, until: &Object) -> Vec<Object> {
        let lines = self.lines.get(until).into_iter().flat_map(BTreeMap::values);
        let first: Vec<Object> = lines.filter_map(BTreeMap::first_key_value).map(|(_, who)| who.clone()).collect();
        self.called.extend(first.iter().cloned());
        first
    }

    /// It is not what it was: everybody leaves its lines, to be decided about anew.
    pub(super) fn dissolve(&mut self, until: &Object) -> Vec<Object> {
        let lines = self.lines.remove(until).into_iter().flat_map(BTreeMap::into_values);
        let all: Vec<Object> = lines.flat_map(BTreeMap::into_values).collect();
        for who in &all {
            self.leave(who);
        }
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn who(name: &str) -> Object {
        Object::Pod(name.into())
    }

    fn line(want: Want) -> Line {
        Line { until: vec![Object::Subnet("net".into())], want }
    }

    /// `a`, `b` and `c` want anything and came in that order, `d` wants an address of a pool.
    fn four() -> Waiting {
        let mut waiting = Waiting::default();
        for (name, made) in [("c", 2), ("a", 1), ("b", 1)] {
            waiting.join(who(name), made, line(Want::any()));
        }
        waiting.join(who("d"), 1, line(Want::pool("pool")));
        waiting
    }

    #[test]
    fn whoever_waits_keeps_the_place_when_decided_about_again() {
        let mut waiting = four();
        waiting.leave(&who("a"));
        waiting.join(who("a"), 1, line(Want::any()));
        assert_eq!(waiting.call(&line(Want::any()).until[0]), [who("a"), who("d")]);
        waiting.leave(&who("a"));
        waiting.done(&who("a"));
        waiting.join(who("a"), 1, line(Want::any()));
        assert_eq!(waiting.call(&line(Want::any()).until[0]), [who("b"), who("d")], "it had been served meanwhile");
    }

    #[test]
    fn the_first_of_each_line_is_called_and_then_the_next_until_one_is_back() {
        let mut waiting = four();
        assert_eq!(waiting.call(&line(Want::any()).until[0]), [who("a"), who("d")]);
        let turn = waiting.leave(&who("a")).unwrap();
        assert_eq!(waiting.next(&who("a"), &turn), Some(who("b")), "a was served");
        let turn = waiting.leave(&who("b")).unwrap();
        waiting.join(who("b"), 1, turn.clone());
        assert_eq!(waiting.next(&who("b"), &turn), None, "b was refused");
        let turn = waiting.leave(&who("d")).unwrap();
        waiting.join(who("d"), 1, line(Want::any()));
        assert_eq!(waiting.next(&who("d"), &turn), None, "nobody stands behind d");
        assert_eq!(waiting.call(&turn.until[0]), [who("b")], "d wants something else now");
    }

    #[test]
    fn who_was_not_called_is_followed_by_nobody_and_nothing_is_kept_of_who_left() {
        let mut waiting = four();
        for name in ["a", "b", "c", "d", "a"] {
            assert_eq!(waiting.leave(&who(name)), None);
        }
        assert!(waiting.lines.is_empty() && waiting.places.is_empty() && waiting.called.is_empty(), "{waiting:?}");
        let mut waiting = four();
        waiting.call(&line(Want::any()).until[0]);
        assert_eq!(waiting.dissolve(&line(Want::any()).until[0]).len(), 4);
        assert!(waiting.lines.is_empty() && waiting.places.is_empty() && waiting.called.is_empty(), "{waiting:?}");
    }
}
