//! Which request is next. Pure.
//!
//! An account that makes thousands of requests, as with the token of an agent that was stolen, waits for itself: others are answered
//! between two of its own, and what their answers cost is bounded.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tokio::time::Instant;

use super::open::Open;
use super::verdict::Asker;

/// The pause before a request that was not answered is looked at again: a node or an external host may be there by then.
const AGAIN: Duration = Duration::from_secs(30);

/// The time from one request of an asker to the next, beyond the first [`AT_ONCE`].
const PACE: Duration = Duration::from_secs(2);

/// How many requests of an asker are looked at without a pause. One is looked at twice: it is approved, and then signed.
const AT_ONCE: u32 = 8;

/// How many requests are looked at before new ones are seen.
const ROUND: usize = 32;

/// What was looked at, and when.
#[derive(Debug, Default)]
pub struct Turns {
    /// The version of each open request that was looked at, and when.
    looked: BTreeMap<String, (Option<String>, Instant)>,
    /// When the pace of each asker would allow another one. It may be ahead by [`AT_ONCE`].
    paces: BTreeMap<Asker, Instant>,
}

impl Turns {
    /// Returns the requests to look at now, the controllers' first, and when to ask again. Of each asker there is one: one that was
    /// not looked at before others, and then the oldest.
    pub fn take<'a>(&mut self, open: &[&'a Open], now: Instant) -> (Vec<&'a Open>, Option<Instant>) {
        let names: BTreeSet<&str> = open.iter().map(|request| request.name.as_str()).collect();
        self.looked.retain(|name, _| names.contains(name.as_str()));
        self.paces.retain(|_, pace| *pace > now);

        // One that an administrator has approved is before one that was not looked at, and that before all others.
        let mut next: BTreeMap<&Asker, ((bool, Option<Instant>), &Open)> = BTreeMap::new();
        for request in open {
            let looked = self.looked.get(&request.name).filter(|(version, _)| *version == request.version);
            let due = (looked.is_some() || !request.is_approved(), looked.map(|(_, at)| *at + AGAIN));
            let slot = next.entry(&request.asker).or_insert((due, request));
            if due < slot.0 || (due == slot.0 && request.by_age(slot.1).is_lt()) {
                *slot = (due, request);
            }
        }
        let mut turns = Vec::new();
        let mut again = None;
        for (asker, (due, request)) in next {
            let pace = self.paces.get(asker).copied().unwrap_or(now);
            let due = due.1.unwrap_or(now).max(pace.checked_sub(PACE * AT_ONCE).unwrap_or(now));
            if due <= now {
                turns.push(request);
            } else {
                again = again.into_iter().chain([due]).min();
            }
        }
        turns.sort_by(|one, other| {
            other.asker.is_controller().cmp(&one.asker.is_controller()).then_with(|| one.by_age(other))
        });
        // There may be more of the same askers.
        if !turns.is_empty() {
            again = Some(now);
        }
        turns.truncate(ROUND);
        for request in &turns {
            self.looked.insert(request.name.clone(), (request.version.clone(), now));
            *self.paces.entry(request.asker.clone()).or_insert(now) += PACE;
        }
        (turns, again)
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::certificates::v1::CertificateSigningRequestCondition as Condition;

    use super::*;

    fn open(name: &str, user: &str) -> Open {
        Open {
            name: name.to_owned(),
            version: Some("1".to_owned()),
            created: None,
            asker: Asker { user: user.to_owned(), node: None },
            request: None,
            holder: None,
            former: None,
            conditions: Vec::new(),
        }
    }

    fn names(turns: &[&Open]) -> Vec<String> {
        turns.iter().map(|request| request.name.clone()).collect()
    }

    #[test]
    fn a_flood_of_one_asker_holds_up_itself_only() {
        let flood: Vec<Open> = (0..1000).map(|n| open(&format!("a{n:04}"), "thief")).collect();
        let (other, own) = (open("b", "agent"), open("c", "system:serviceaccount:kube-system:kube-ovn-controller"));
        let all: Vec<&Open> = flood.iter().chain([&other, &own]).collect();
        let (mut turns, start) = (Turns::default(), Instant::now());
        assert_eq!(names(&turns.take(&all, start).0), ["c", "a0000", "b"]);
        // Those that stay open are not looked at again soon.
        let mut looked = 1;
        while let (now, Some(again)) = turns.take(&all, start) {
            assert!(now.iter().all(|request| request.asker.user == "thief"));
            looked += now.len();
            if again > start {
                assert_eq!(again, start + PACE);
                break;
            }
        }
        assert_eq!(looked, 9, "{AT_ONCE} ahead, and one that is due");
        assert_eq!(names(&turns.take(&all, start + PACE).0), ["a0009"]);
        // What is new of others does not wait.
        let new = open("d", "agent");
        let all: Vec<&Open> = all.into_iter().chain([&new]).collect();
        assert_eq!(names(&turns.take(&all, start + PACE).0), ["d"]);
    }

    /// Nobody approves them, and they are looked at again and again, at the pace of their account.
    #[test]
    fn requests_that_stay_open_do_not_hold_up_a_new_one_of_their_account() {
        let old: Vec<Open> = (0..100).map(|n| open(&format!("old{n:03}"), "host")).collect();
        let mut all: Vec<&Open> = old.iter().collect();
        let mut turns = Turns::default();
        let mut now = Instant::now();
        for _ in 0..1000 {
            let (_, again) = turns.take(&all, now);
            now = again.unwrap().max(now);
        }
        let new = open("new", "host");
        all.push(&new);
        let mut approved = open("x-approved", "host");
        approved.conditions.push(Condition { type_: "Approved".to_owned(), ..Condition::default() });
        all.push(&approved);
        let later = now + PACE * 2;
        assert_eq!(names(&turns.take(&all, later).0), ["x-approved"]);
        let later = later + PACE * 2;
        assert_eq!(names(&turns.take(&all, later).0), ["new"]);
        assert!(turns.take(&all, later + PACE * 2).0[0].name.starts_with("old"));
    }

    #[test]
    fn a_request_that_stays_open_is_looked_at_again() {
        let (mut turns, start) = (Turns::default(), Instant::now());
        let mut one = open("one", "agent");
        assert_eq!(names(&turns.take(&[&one], start).0), ["one"]);
        let (now, again) = turns.take(&[&one], start);
        assert_eq!((names(&now), again), (vec![], Some(start + AGAIN)));
        // The approval is a new version.
        one.version = Some("2".to_owned());
        assert_eq!(names(&turns.take(&[&one], start).0), ["one"]);
        assert_eq!(names(&turns.take(&[&one], start + AGAIN).0), ["one"]);
        assert_eq!(turns.take(&[], start + AGAIN), (vec![], None));
        assert!(turns.looked.is_empty());
    }
}
