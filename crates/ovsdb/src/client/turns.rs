//! Selects the next endpoint and the pause before it.
//!
//! A round tries each endpoint once, without a pause in between. It starts after the endpoint of the last good session,
//! so the other servers are tried first when one goes away. The client pauses only after a round without a good
//! session. A server that accepts sessions and drops them is therefore not called more often than a server that refuses
//! them.

use std::time::Duration;

use super::backoff::Backoff;

/// The order of endpoints, by number.
#[derive(Debug)]
pub(super) struct Turns {
    endpoints: usize,
    next: usize,
    /// The number of endpoints left in this round.
    left: usize,
    backoff: Backoff,
    /// The minimum duration of a good session.
    good: Duration,
}

impl Turns {
    /// Creates the order for `endpoints` endpoints, with the shortest and the longest pause.
    pub(super) fn new(endpoints: usize, pauses: (Duration, Duration)) -> Turns {
        // A session as long as the longest pause limits the rate as well as the pause does.
        Turns { endpoints, next: 0, left: endpoints, backoff: Backoff::new(pauses), good: pauses.1 }
    }

    /// Returns the endpoint to try now.
    pub(super) fn endpoint(&self) -> usize {
        self.next
    }

    /// Selects the next endpoint after a session that lasted `lasted`, if there was one. Returns the pause before it.
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

    /// Ends each session in turn and lists the endpoints that follow. `pause` marks a pause.
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
