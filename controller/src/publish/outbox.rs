//! The owner's record of writes: the last write of each target, until a watch shows its effect.
//!
//! Between the response of the API server and the watch event, the difference that caused the write still exists. The
//! outbox prevents a second identical write. After a conflict it asks for the object as soon as the watch shows a newer
//! version, or after a pause if there is no event. After a refusal it asks for the object after growing pauses: the
//! cause (an admission rule, a missing permission) can disappear without a change of the object.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::Instant;

use super::{Action, Done, Outcome, Part, Target, Write};
use crate::cluster::{Change, Object, Observed};

/// The pause before the object is published again after a refusal or a conflict. It doubles with each further refusal
/// up to [`LONGEST_BACKOFF`].
const FIRST_BACKOFF: Duration = Duration::from_secs(1);
const LONGEST_BACKOFF: Duration = Duration::from_mins(5);
/// The longest pause after a failure that says nothing about the object.
const LONGEST_AFTER_FAILURE: Duration = Duration::from_secs(15);

/// The writes that were sent to the publisher.
#[derive(Debug, Default)]
pub struct Outbox {
    states: HashMap<Target, State>,
    /// The targets whose object must be published again, by the time when: [`State::again`] of each.
    due: BTreeSet<(Instant, Target)>,
    /// The id of the last write.
    last: u64,
}

/// The state of the last write of a target.
#[derive(Debug)]
enum State {
    /// It was sent. `overtaken`: the watch has shown a newer version of the object since then. `before`: the last pause of the
    /// same write, and why it was refused.
    Sent { id: u64, action: Action, overtaken: bool, before: Option<(Duration, String)> },
    /// The API server has accepted it, and the watch has not shown the object since then.
    Taken { action: Action },
    /// It was computed from another version of the object.
    Conflict { again: Instant },
    /// The API server refuses it. `again`: when the object is published again; `None` after that.
    Refused { action: Action, backoff: Duration, again: Option<Instant>, why: String },
}

impl Outbox {
    fn set(&mut self, target: Target, state: State) {
        self.unset(&target);
        self.due.extend(state.again().map(|again| (again, target.clone())));
        self.states.insert(target, state);
    }

    fn unset(&mut self, target: &Target) -> Option<State> {
        let state = self.states.remove(target)?;
        if let Some(again) = state.again() {
            self.due.remove(&(again, target.clone()));
        }
        Some(state)
    }

    /// Handles a watch event. Returns the object if its write must be computed again.
    pub fn observed(&mut self, observed: &Observed) -> Option<Object> {
        let mut again = false;
        for part in [Part::Main, Part::Status] {
            let target = Target { object: observed.object.clone(), part };
            match self.states.get_mut(&target) {
                Some(State::Sent { overtaken, .. }) => *overtaken = true,
                Some(State::Taken { .. }) => drop(self.unset(&target)),
                Some(State::Conflict { .. }) => {
                    self.unset(&target);
                    again = true;
                }
                Some(State::Refused { .. }) if observed.change == Change::Decides => {
                    self.unset(&target);
                    again = true;
                }
                Some(State::Refused { .. }) | None => {}
            }
        }
        again.then(|| observed.object.clone())
    }

    /// Handles the result of a write. Returns the object if its write must be computed again now.
    ///
    /// The result of a write that was replaced or cancelled is ignored.
    pub fn ended(&mut self, Done { id, target, outcome }: Done, now: Instant) -> Option<Object> {
        let current = matches!(self.states.get(&target), Some(State::Sent { id: current, .. }) if *current == id);
        let state = if current { self.unset(&target) } else { None };
        let Some(State::Sent { action, overtaken, before, .. }) = state else { return None };
        let state = match outcome {
            // A newer event includes the write or overwrites it. If the event is older, the next comparison finds the
            // same difference and repeats the write, which changes nothing.
            Outcome::Taken if overtaken || target.part == Part::Status => return None,
            Outcome::Taken => State::Taken { action },
            Outcome::Conflict if overtaken => return Some(target.object),
            Outcome::Conflict => State::Conflict { again: now + FIRST_BACKOFF },
            Outcome::Refused(why) => State::refused(action, before, why, LONGEST_BACKOFF, now),
            Outcome::Failing(why) => State::refused(action, before, why, LONGEST_AFTER_FAILURE, now),
        };
        self.set(target, state);
        None
    }

    /// When the next object must be published again.
    pub fn next_due(&self) -> Option<Instant> {
        self.due.first().map(|(again, _)| *again)
    }

    /// The objects that are due to be published again.
    pub fn take_due(&mut self, now: Instant) -> Vec<Object> {
        let mut objects = Vec::new();
        while let Some((_, target)) = self.due.first().filter(|(again, _)| *again <= now).cloned() {
            objects.push(target.object.clone());
            if let Some(State::Refused { action, backoff, why, .. }) = self.unset(&target) {
                self.set(target, State::Refused { action, backoff, again: None, why });
            }
        }
        objects
    }

    /// Why the API server refuses a write to a part of an object, if it does.
    pub fn refusal(&self, object: &Object) -> Option<&str> {
        let parts = [Target::main(object.clone()), Target::status(object.clone())];
        parts.iter().find_map(|target| match self.states.get(target) {
            Some(State::Refused { why, .. } | State::Sent { before: Some((_, why)), .. }) => Some(why.as_str()),
            _ => None,
        })
    }

    /// Sets the write that a target needs now. Sends it unless it was already sent or was just refused. Cancels an
    /// earlier write that is no longer needed.
    pub fn put(&mut self, target: Target, action: Option<Action>, publisher: &mpsc::UnboundedSender<Write>) {
        let before = match (self.states.get(&target), &action) {
            (None, None) => return,
            (Some(State::Sent { .. }), None) => {
                self.unset(&target);
                // The publisher lives as long as the term, which owns this outbox.
                let _ = publisher.send(Write { id: self.last, target, action });
                return;
            }
            (Some(_), None) => {
                self.unset(&target);
                return;
            }
            (Some(State::Sent { action: before, .. } | State::Taken { action: before }), Some(now))
                if before == now =>
            {
                return;
            }
            (Some(State::Refused { action: before, again: Some(_), .. }), Some(now)) if before == now => return,
            (Some(State::Refused { action: before, backoff, why, .. }), Some(now)) if before == now => {
                Some((*backoff, why.clone()))
            }
            _ => None,
        };
        if let Some(action) = action {
            self.last += 1;
            let state = State::Sent { id: self.last, action: action.clone(), overtaken: false, before };
            self.set(target.clone(), state);
            let _ = publisher.send(Write { id: self.last, target, action: Some(action) });
        }
    }

    /// Whether a status was just refused. A status contains timestamps, so equal contents cannot be recognized.
    pub fn is_backing_off(&self, target: &Target) -> bool {
        matches!(self.states.get(target), Some(State::Refused { again: Some(_), .. }))
    }
}

impl State {
    fn refused(
        action: Action,
        before: Option<(Duration, String)>,
        why: String,
        longest: Duration,
        now: Instant,
    ) -> Self {
        let backoff = before.map_or(FIRST_BACKOFF, |(backoff, _)| (backoff * 2).min(longest));
        Self::Refused { action, backoff, again: Some(now + backoff), why }
    }

    fn again(&self) -> Option<Instant> {
        match self {
            Self::Conflict { again } => Some(*again),
            Self::Refused { again, .. } => *again,
            Self::Sent { .. } | Self::Taken { .. } => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::slice;

    use serde_json::{Value, json};

    use super::*;

    /// An outbox and the writes that it has sent.
    struct Scene {
        outbox: Outbox,
        publisher: mpsc::UnboundedSender<Write>,
        sent: mpsc::UnboundedReceiver<Write>,
        start: Instant,
    }

    fn object() -> Object {
        Object::Ip("a.ns".into())
    }

    impl Scene {
        fn new() -> Self {
            let (publisher, sent) = mpsc::unbounded_channel();
            Self { outbox: Outbox::default(), publisher, sent, start: Instant::now() }
        }

        /// Puts a write; returns whether it was sent.
        fn offer(&mut self, body: &Value) -> bool {
            self.outbox.put(Target::main(object()), Some(Action::create(body)), &self.publisher);
            self.sent.try_recv().is_ok()
        }

        fn ended(&mut self, outcome: Outcome) -> Option<Object> {
            let id = self.outbox.last;
            self.outbox.ended(Done { id, target: Target::main(object()), outcome }, self.start)
        }

        fn refused(&mut self) -> Option<Object> {
            self.ended(Outcome::Refused("forbidden".to_owned()))
        }

        fn observed(&mut self, change: Change) -> Option<Object> {
            self.outbox.observed(&Observed { object: object(), change })
        }
    }

    #[test]
    fn a_write_is_sent_once_until_the_watch_shows_the_object() {
        let mut scene = Scene::new();
        assert!(scene.offer(&Value::Null));
        assert!(!scene.offer(&Value::Null), "it is still in flight");
        assert_eq!(scene.ended(Outcome::Taken), None);
        assert!(!scene.offer(&Value::Null), "the watch has not shown it yet");
        assert_eq!(scene.observed(Change::Decides), None);
        assert!(scene.offer(&Value::Null), "another writer has overwritten it");
        assert!(scene.offer(&json!(1)), "something else is wanted by now");
        scene.outbox.put(Target::main(object()), None, &scene.publisher);
        assert_eq!(scene.sent.try_recv().unwrap().action, None, "and now nothing");
        assert!(scene.offer(&Value::Null));
    }

    #[test]
    fn after_a_conflict_the_object_is_published_again_once_a_newer_version_is_seen() {
        let mut scene = Scene::new();
        assert!(scene.offer(&Value::Null));
        assert_eq!(scene.ended(Outcome::Conflict), None, "nothing newer is known yet");
        assert_eq!(scene.observed(Change::Nothing), Some(object()), "a newer version is enough");
        assert!(scene.offer(&Value::Null));
        assert_eq!(scene.observed(Change::Status), None, "its write is in flight");
        assert_eq!(scene.ended(Outcome::Conflict), Some(object()), "the newer version is already known");
        assert!(scene.offer(&Value::Null));
        assert_eq!(scene.ended(Outcome::Conflict), None);
        let start = scene.start;
        assert_eq!((scene.outbox.next_due(), scene.outbox.take_due(start)), (Some(start + FIRST_BACKOFF), vec![]));
        assert_eq!(scene.outbox.take_due(start + FIRST_BACKOFF), [object()], "no event came");
        assert!(scene.offer(&Value::Null));
    }

    #[test]
    fn the_result_of_a_replaced_write_is_ignored() {
        let mut scene = Scene::new();
        assert!(scene.offer(&json!(1)) && scene.offer(&json!(2)));
        let done = |id, outcome| Done { id, target: Target::main(object()), outcome };
        assert_eq!(scene.outbox.ended(done(1, Outcome::Taken), scene.start), None);
        assert_eq!(scene.observed(Change::Decides), None);
        assert_eq!(scene.outbox.ended(done(2, Outcome::Conflict), scene.start), Some(object()));
    }

    #[test]
    fn a_refused_write_is_retried_with_growing_pauses() {
        let mut scene = Scene::new();
        let start = scene.start;
        assert!(scene.offer(&Value::Null));
        assert_eq!((scene.refused(), scene.outbox.refusal(&object())), (None, Some("forbidden")));
        assert_eq!(scene.outbox.refusal(&Object::Namespace("other".into())), None);
        assert!(!scene.offer(&Value::Null), "that would be the same again");
        assert_eq!(scene.outbox.take_due(start + FIRST_BACKOFF), slice::from_ref(&object()));
        assert_eq!((scene.outbox.next_due(), scene.outbox.take_due(start + FIRST_BACKOFF)), (None, vec![]));
        assert!(scene.offer(&Value::Null));
        scene.refused();
        assert_eq!(scene.outbox.next_due(), Some(start + FIRST_BACKOFF * 2));
        assert_eq!(scene.observed(Change::Status), None, "its status is no reason to try again");
        assert_eq!(scene.observed(Change::Decides), Some(object()), "something about it has changed");
        assert!(scene.offer(&Value::Null));
        scene.refused();
        assert_eq!(scene.outbox.next_due(), Some(start + FIRST_BACKOFF));
        scene.outbox.put(Target::main(object()), None, &scene.publisher);
        assert_eq!(scene.outbox.next_due(), None, "it is not wanted any more");
    }

    #[test]
    fn a_failing_write_is_retried_soon_and_its_failure_stays_known_meanwhile() {
        let mut scene = Scene::new();
        let mut at = scene.start;
        for _ in 0..10 {
            assert!(scene.offer(&Value::Null));
            let known = scene.outbox.refusal(&object()).map(str::to_owned);
            assert_eq!(known.as_deref(), (at > scene.start).then_some("no webhook"));
            let done = Done {
                id: scene.outbox.last,
                target: Target::main(object()),
                outcome: Outcome::Failing("no webhook".to_owned()),
            };
            scene.outbox.ended(done, at);
            let next = scene.outbox.next_due().unwrap();
            assert!(next - at <= LONGEST_AFTER_FAILURE);
            at = next;
            scene.outbox.take_due(at);
        }
        assert_eq!(scene.outbox.states.len(), 1);
    }

    #[test]
    fn refusals_of_two_objects_are_kept_apart() {
        let mut scene = Scene::new();
        let other = Target::main(Object::Namespace("shop".into()));
        assert!(scene.offer(&Value::Null));
        scene.outbox.put(other.clone(), Some(Action::merge(&Value::Null)), &scene.publisher);
        let outcome = Outcome::Refused("forbidden".to_owned());
        scene.outbox.ended(Done { id: 1, target: Target::main(object()), outcome }, scene.start);
        let outcome = Outcome::Refused("no".to_owned());
        scene.outbox.ended(Done { id: 2, target: other, outcome }, scene.start);
        let mut due = scene.outbox.take_due(scene.start + FIRST_BACKOFF);
        due.sort();
        assert_eq!(due, [Object::Namespace("shop".into()), object()]);
    }
}
