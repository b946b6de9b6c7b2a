//! Decides whether a request is written.
//!
//! Every request carries a ticket. The first side to take the ticket decides: the writer sends the request, or the
//! caller gives up and the request is never sent.

use std::collections::HashSet;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The tickets of the requests of one session that are not yet written.
#[derive(Debug, Default)]
pub(super) struct Tickets(Mutex<Book>);

#[derive(Debug, Default)]
struct Book {
    last: u64,
    waiting: HashSet<u64>,
}

/// The caller's half. Dropping it cancels the request if it is not yet written.
#[derive(Debug)]
pub(super) struct Ticket<'a> {
    book: &'a Tickets,
    number: u64,
}

impl Tickets {
    pub(super) fn issue(&self) -> Ticket<'_> {
        let mut book = self.lock();
        book.last += 1;
        let number = book.last;
        book.waiting.insert(number);
        Ticket { book: self, number }
    }

    /// The writer's half. Returns true if the writer must send the request now.
    pub(super) fn claim(&self, number: u64) -> bool {
        self.lock().waiting.remove(&number)
    }

    fn lock(&self) -> MutexGuard<'_, Book> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Ticket<'_> {
    pub(super) fn number(&self) -> u64 {
        self.number
    }

    /// Gives up. Returns true if the request was not written and never will be.
    pub(super) fn void(&self) -> bool {
        self.book.claim(self.number)
    }
}

impl Drop for Ticket<'_> {
    fn drop(&mut self) {
        self.void();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_comes_first_decides() {
        let book = Tickets::default();
        let (written, given_up, dropped) = (book.issue(), book.issue(), book.issue());
        assert!(book.claim(written.number()));
        assert!(!written.void());
        assert!(given_up.void());
        assert!(!book.claim(given_up.number()));
        let number = dropped.number();
        drop(dropped);
        assert!(!book.claim(number));
        assert!(!book.claim(99));
    }
}
