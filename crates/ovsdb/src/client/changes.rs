//! Which rows have changed since the owner last asked: a set that coalesces, so it neither drops nor blocks.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::Notify;

use crate::RowId;

/// The changes of the replica, for one owner.
#[derive(Debug)]
pub struct Changes {
    dirty: Arc<Dirty>,
}

/// The rows that have changed since the last [`Changes::next`]. The replica has them as they are now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Change {
    /// Rows that came, changed or went.
    pub rows: BTreeSet<RowId>,
    /// A full snapshot has replaced the replica. `rows` are those that differ from before, so nothing is missed,
    /// but what happened in between is not known.
    pub reset: bool,
}

/// The side that marks.
#[derive(Debug, Default)]
pub(super) struct Dirty {
    change: Mutex<Change>,
    deaf: AtomicBool,
    notify: Notify,
}

impl Changes {
    pub(super) fn new(dirty: Arc<Dirty>) -> Changes {
        Changes { dirty }
    }

    /// Waits for a change. Safe to cancel: what is not returned is returned the next time.
    pub async fn next(&mut self) -> Change {
        loop {
            // A mark in between leaves its permit for the wait below.
            if let Some(change) = self.try_next() {
                return change;
            }
            self.dirty.notify.notified().await;
        }
    }

    /// What has changed up to now, if anything.
    pub fn try_next(&mut self) -> Option<Change> {
        let change = std::mem::take(&mut *self.dirty.change.lock().unwrap_or_else(PoisonError::into_inner));
        (change != Change::default()).then_some(change)
    }
}

impl Drop for Changes {
    fn drop(&mut self) {
        self.dirty.deaf.store(true, Ordering::Relaxed);
    }
}

impl Dirty {
    /// Marks rows. The replica must already have them.
    pub(super) fn mark(&self, rows: BTreeSet<RowId>, reset: bool) {
        if self.deaf.load(Ordering::Relaxed) || (rows.is_empty() && !reset) {
            return;
        }
        {
            let mut change = self.change.lock().unwrap_or_else(PoisonError::into_inner);
            change.reset |= reset;
            if change.rows.is_empty() {
                change.rows = rows;
            } else {
                change.rows.extend(rows);
            }
        }
        self.notify.notify_one();
    }
}
