//! The objects of one kind, as reported by a watch.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Deref;
use std::sync::Arc;

use super::Object;
use crate::watch::WatchEvent;

/// How an event changes an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// No field that the controller reads has changed.
    Nothing,
    /// Only the status has changed. The controller writes it, and no decision depends on it.
    Status,
    /// A field that decisions depend on has changed.
    Decides,
}

/// An object that an event is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Observed {
    /// The object.
    pub object: Object,
    /// How it differs from before.
    pub change: Change,
}

/// The stored form of a kind of object.
pub trait Watched {
    /// The plural name of the kind in the API.
    const PLURAL: &'static str;

    /// The key of the object within its kind.
    fn key(&self) -> Arc<str>;

    /// How the object differs from its earlier state.
    fn change(&self, before: &Self) -> Change;
}

/// The objects of one kind by key.
#[derive(Debug)]
pub struct Store<T> {
    objects: BTreeMap<Arc<str>, T>,
    /// During a list: known objects that have not been listed yet.
    unlisted: Option<BTreeSet<Arc<str>>>,
    listed: bool,
}

// Not derived: that would require `T: Default`.
impl<T> Default for Store<T> {
    fn default() -> Self {
        Self { objects: BTreeMap::new(), unlisted: None, listed: false }
    }
}

impl<T> Deref for Store<T> {
    type Target = BTreeMap<Arc<str>, T>;

    fn deref(&self) -> &Self::Target {
        &self.objects
    }
}

impl<T: Watched> Store<T> {
    /// Whether the kind has been listed once.
    pub fn is_listed(&self) -> bool {
        self.listed
    }

    /// Applies an event. Returns the objects that it is about.
    pub(super) fn apply(&mut self, event: WatchEvent<T>, object: impl Fn(Arc<str>) -> Object) -> Vec<Observed> {
        let gone = |key| Observed { object: object(key), change: Change::Decides };
        match event {
            WatchEvent::Listing => {
                self.unlisted = Some(self.objects.keys().cloned().collect());
                Vec::new()
            }
            WatchEvent::Apply(new) => {
                let key = new.key();
                let change = self.objects.get(&key).map_or(Change::Decides, |before| new.change(before));
                self.objects.insert(Arc::clone(&key), new);
                if let Some(unlisted) = &mut self.unlisted {
                    unlisted.remove(&key);
                }
                vec![Observed { object: object(key), change }]
            }
            WatchEvent::Delete(old) => {
                self.objects.remove_entry(&old.key()).map(|(key, _)| gone(key)).into_iter().collect()
            }
            WatchEvent::Listed => {
                self.listed = true;
                let unlisted = self.unlisted.take().unwrap_or_default();
                let gone = unlisted.into_iter().filter(|key| self.objects.remove(key).is_some()).map(gone);
                gone.collect()
            }
        }
    }
}
