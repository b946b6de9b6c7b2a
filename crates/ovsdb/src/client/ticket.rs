//! Whether a request has been written, known for certain.
//!
//! Every request carries a ticket. Whoever takes it first decides: the writer, and the request goes out;
//! or the caller who gives up, and it never will.

use std::collections::HashSet;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The tickets of the requests of one session that have not been written.
#[derive(Debug, Default)]
pub(super) struct Tickets(Mutex<Book>);

#[derive(Debug, Default)]
struct Book {
    last: u64,
    waiting: HashSet<u64>,
}

/// The caller's half. Dropping it takes the request back if it has not been written.
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

    /// The writer's half: true when the request is to be written now.
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

    /// Gives up. True when the request has not been written and never will be.
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
