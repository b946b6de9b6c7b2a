//! Which rows have changed since the owner last asked: a set that coalesces, so it neither drops nor blocks.
//!
//! What a new session brings is told when the session carries transactions, and that it does is told even when no row
//! has changed: an owner that does its work whenever it hears of a change never has to ask whether it may.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

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
    /// A session has begun: what was refused as [`TransactError::Disconnected`](super::TransactError::Disconnected), or
    /// whose outcome was unknown, can be looked at again.
    pub connected: bool,
}

/// The side that marks.
#[derive(Debug, Default)]
pub(super) struct Dirty {
    marked: Mutex<Marked>,
    deaf: AtomicBool,
    notify: Notify,
}

#[derive(Debug, Default)]
struct Marked {
    change: Change,
    /// What a session that has not begun has brought is not told yet.
    held: bool,
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
    /// Marks rows. The replica must already have them.
    pub(super) fn mark(&self, rows: BTreeSet<RowId>) {
        if !rows.is_empty() {
            self.tell(|marked| marked.add(rows));
        }
    }

    /// Marks what a session that is about to begin has brought; it is told when that session, or another, begins.
    pub(super) fn hold(&self, rows: BTreeSet<RowId>, reset: bool) {
        self.tell(|marked| {
            marked.held = true;
            marked.change.reset |= reset;
            marked.add(rows);
        });
    }

    /// A session has begun.
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
