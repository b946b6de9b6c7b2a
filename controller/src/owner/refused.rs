//! What the database has refused: it is compared again later, and users do not see the objects without their rows.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use ovn::Group;
use sync::{Refusal, Touched};
use tokio::time::Instant;

use super::term::COMPARE_ALL;
use crate::cluster::Object;

/// The wait before the first repetition. It doubles up to [`COMPARE_ALL`].
pub(super) const AFTER_REFUSAL: Duration = Duration::from_secs(1);

/// What the database has refused and is not written yet.
#[derive(Debug)]
pub(super) struct Refused {
    /// What the next attempt compares.
    touched: Touched,
    /// The objects whose rows are not written, each with the reason for users.
    withheld: BTreeMap<Object, String>,
    /// When the next attempt is due.
    due: Option<Instant>,
    /// The wait before the next attempt.
    patience: Duration,
    /// All of it is part of this turn.
    trying: bool,
}

impl Default for Refused {
    fn default() -> Self {
        let (touched, withheld) = (Touched::default(), BTreeMap::new());
        Self { touched, withheld, due: None, patience: AFTER_REFUSAL, trying: false }
    }
}

impl Refused {
    /// When the next attempt is due.
    pub(super) fn due(&self) -> Option<Instant> {
        self.due
    }

    /// Begins an attempt. Returns what has to be compared.
    pub(super) fn attempt(&mut self) -> Touched {
        self.due = None;
        self.trying = true;
        std::mem::take(&mut self.touched)
    }

    /// Everything of this turn is written. Returns the objects that users may see now.
    pub(super) fn written(&mut self) -> BTreeSet<Object> {
        if !std::mem::take(&mut self.trying) {
            return BTreeSet::new();
        }
        self.patience = AFTER_REFUSAL;
        std::mem::take(&mut self.withheld).into_keys().collect()
    }

    /// A part of this turn was refused. `turn` is what was compared; it tells the groups of what is removed. Returns the
    /// objects that were withheld so far, each with the reason.
    pub(super) fn refuse(&mut self, refusals: &[Refusal], mut turn: Touched) -> BTreeMap<Object, String> {
        let attempted = std::mem::take(&mut self.trying);
        let groups: BTreeSet<Group> = refusals.iter().flat_map(|refusal| &refusal.groups).cloned().collect();
        turn.keep(&groups);
        self.touched.merge(turn);
        for refusal in refusals {
            self.touched.merge(refusal.touched.clone());
        }
        // Refusals of other changes do not put the next attempt off.
        if attempted {
            self.patience = (self.patience * 2).min(COMPARE_ALL);
        }
        let next = Instant::now() + self.patience;
        self.due = Some(self.due.map_or(next, |due| due.min(next)));
        std::mem::take(&mut self.withheld)
    }

    /// Hides objects from users until their rows are written. `before` are the former reasons. `group` returns the group of an
    /// object's changes.
    pub(super) fn withhold(
        &mut self,
        objects: BTreeSet<Object>,
        mut before: BTreeMap<Object, String>,
        refusals: &[Refusal],
        group: impl Fn(&Object) -> Option<Group>,
    ) {
        for object in objects {
            let its_own = group(&object);
            let own =
                refusals.iter().find(|refusal| refusal.groups.iter().any(|group| Some(group) == its_own.as_ref()));
            let why = match (own, before.remove(&object), refusals.first()) {
                (Some(own), ..) => format!("the northbound database refuses it: {own}"),
                (None, Some(before), _) => before,
                (None, None, Some(first)) => format!("it waits for what the northbound database refuses: {first}"),
                (None, None, None) => continue,
            };
            self.withheld.insert(object, why);
        }
    }

    /// Shows an object whose rows are written.
    pub(super) fn show(&mut self, object: &Object) {
        self.withheld.remove(object);
    }

    /// Why users do not see an object yet, if they do not.
    pub(super) fn withholds(&self, object: &Object) -> Option<&str> {
        self.withheld.get(object).map(String::as_str)
    }
}
