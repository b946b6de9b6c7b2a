//! The rows that changed since the owner last asked. Changes are coalesced in a set, so marking a row never blocks and
//! never drops a change.
//!
//! Changes that arrive with a new session are reported when the session accepts transactions. The start of a session is
//! reported even if no row changed. An owner that works whenever a change is reported therefore needs no other trigger.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use crate::RowId;

/// Receives the changes of the replica.
#[derive(Debug)]
pub struct Changes {
    dirty: Arc<Dirty>,
}

/// The rows that changed since the last [`Changes::next`]. Read their current values from the replica.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Change {
    /// Rows that were inserted, modified or deleted.
    pub rows: BTreeSet<RowId>,
    /// A full snapshot replaced the replica. `rows` contains every row that differs from before. The changes in between
    /// are unknown.
    pub reset: bool,
    /// A session started. The owner can retry what failed with
    /// [`TransactError::Disconnected`](super::TransactError::Disconnected) or had an unknown outcome.
    pub connected: bool,
}

/// The sending side: marks changed rows.
#[derive(Debug, Default)]
pub(super) struct Dirty {
    marked: Mutex<Marked>,
    deaf: AtomicBool,
    notify: Notify,
}

#[derive(Debug, Default)]
struct Marked {
    change: Change,
    /// True while the changes of a session that has not started yet are held back.
    held: bool,
}

impl Changes {
    pub(super) fn new(dirty: Arc<Dirty>) -> Changes {
        Changes { dirty }
    }

    /// Waits for a change. Cancel safe: a change that is not returned is returned by the next call.
    pub async fn next(&mut self) -> Change {
        loop {
            // A mark made in between leaves a permit, so the wait below returns at once.
            if let Some(change) = self.try_next() {
                return change;
            }
            self.dirty.notify.notified().await;
        }
    }

    /// Returns the changes so far, if any.
    pub fn try_next(&mut self) -> Option<Change> {
        let mut marked = self.dirty.lock();
        if marked.held || marked.change == Change::default() {
            return None;
        }
        Some(std::mem::take(&mut marked.change))
    }
}

impl Drop for Changes {
    fn drop(&mut self) {
        self.dirty.deaf.store(true, Ordering::Relaxed);
    }
}

impl Dirty {
    /// Marks rows. The caller must update the replica first.
    pub(super) fn mark(&self, rows: BTreeSet<RowId>) {
        if !rows.is_empty() {
            self.tell(|marked| marked.add(rows));
        }
    }

    /// Marks the rows of a session that is about to start. They are reported when this session or a later one starts.
    pub(super) fn hold(&self, rows: BTreeSet<RowId>, reset: bool) {
        self.tell(|marked| {
            marked.held = true;
            marked.change.reset |= reset;
            marked.add(rows);
        });
    }

    /// Reports that a session started.
    pub(super) fn begin(&self) {
        self.tell(|marked| {
            marked.held = false;
            marked.change.connected = true;
        });
    }

    fn tell(&self, what: impl FnOnce(&mut Marked)) {
        if self.deaf.load(Ordering::Relaxed) {
            return;
        }
        what(&mut self.lock());
        self.notify.notify_one();
    }

    fn lock(&self) -> MutexGuard<'_, Marked> {
        self.marked.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Marked {
    fn add(&mut self, rows: BTreeSet<RowId>) {
        if self.change.rows.is_empty() {
            self.change.rows = rows;
        } else {
            self.change.rows.extend(rows);
        }
    }
}
