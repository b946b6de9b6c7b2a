//! Which endpoint is tried next, and when.
//!
//! A round tries each endpoint once, at once one after the other, and begins behind the one that had the last good
//! session: where a server has gone, the others are asked first. Only a round without a good session is followed by a
//! pause. A server that takes sessions and drops them is thus not called more often than one that takes none.

use std::time::Duration;

use super::backoff::Backoff;

/// The order of endpoints, by number.
#[derive(Debug)]
pub(super) struct Turns {
    endpoints: usize,
    next: usize,
    /// How many are left in this round.
    left: usize,
    backoff: Backoff,
    /// A session that lasted so long was a good one.
    good: Duration,
}

impl Turns {
    /// So many endpoints, and the shortest and the longest pause.
    pub(super) fn new(endpoints: usize, pauses: (Duration, Duration)) -> Turns {
        // Whoever connects only as often as the longest pause allows needs no other.
        Turns { endpoints, next: 0, left: endpoints, backoff: Backoff::new(pauses), good: pauses.1 }
    }

    /// The endpoint to try now.
    pub(super) fn endpoint(&self) -> usize {
        self.next
    }

    /// Goes on to the next endpoint after one whose session lasted so long, if there was any. Says how long to pause.
    pub(super) fn ended(&mut self, lasted: Option<Duration>) -> Option<Duration> {
        self.next = (self.next + 1).checked_rem(self.endpoints).unwrap_or(0);
        if lasted.is_some_and(|lasted| lasted >= self.good) {
            self.left = self.endpoints;
            self.backoff.reset();
            return None;
        }
        self.left = self.left.saturating_sub(1);
        if self.left > 0 {
            return None;
        }
        self.left = self.endpoints;
        Some(self.backoff.pause())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: Option<Duration> = Some(Duration::from_secs(2));
    const SHORT: Option<Duration> = Some(Duration::from_millis(1999));

    /// Has each session end in turn, and says where the next one is tried, with a mark where there is a pause before.
    fn order(endpoints: usize, ends: &[Option<Duration>]) -> String {
        let mut turns = Turns::new(endpoints, (Duration::from_millis(50), Duration::from_secs(2)));
        let mut said = vec![turns.endpoint().to_string()];
        for lasted in ends {
            let paused = turns.ended(*lasted).is_some();
            said.extend(paused.then(|| "pause".to_owned()));
            said.push(turns.endpoint().to_string());
        }
        said.join(" ")
    }

    #[test]
    fn a_pause_comes_after_a_whole_round_without_a_good_session() {
        assert_eq!(order(3, &[None; 7]), "0 1 2 pause 0 1 2 pause 0 1");
        assert_eq!(order(1, &[None; 2]), "0 pause 0 pause 0");
    }

    #[test]
    fn after_a_good_session_the_others_come_first() {
        assert_eq!(order(3, &[None, GOOD, None, None, None]), "0 1 2 0 1 pause 2");
        assert_eq!(order(1, &[GOOD, GOOD, None]), "0 0 0 pause 0");
    }

    #[test]
    fn a_short_session_is_as_bad_as_none() {
        assert_eq!(order(2, &[SHORT, SHORT, SHORT, None]), "0 1 pause 0 1 pause 0");
    }

    #[test]
    fn pauses_grow_until_a_session_is_good() {
        let mut turns = Turns::new(1, (Duration::from_millis(50), Duration::from_secs(2)));
        for lasted in [None, SHORT, SHORT, None, SHORT, None] {
            assert!(turns.ended(lasted).is_some());
        }
        assert!(turns.ended(None).is_some_and(|pause| pause >= Duration::from_secs(1)));
        assert_eq!(turns.ended(GOOD), None);
        assert!(turns.ended(None).is_some_and(|pause| pause <= Duration::from_millis(50)));
    }
}
