//! Selects the next endpoint and the pause before it.
//!
//! A round tries each endpoint once, without a pause in between. It starts after the endpoint of the last good session,
//! so the other servers are tried first when one goes away. The client pauses only after a round without a good
//! session. A server that accepts sessions and drops them is therefore not called more often than a server that refuses
//! them.
//!
//! The pauses grow, but not during an election, which takes a second or two: while a member answers that is not fit yet, the first
//! ones are all short.

use std::time::Duration;

use super::backoff::Backoff;

/// The number of rounds with a short pause while a member answers that is not fit: a few seconds.
const ELECTION: u32 = 60;

/// The order of endpoints, by number.
#[derive(Debug)]
pub(super) struct Turns {
    endpoints: usize,
    next: usize,
    /// The number of endpoints left in this round.
    left: usize,
    /// Whether a server of this round answered without being fit.
    is_election: bool,
    /// The number of rounds that an election may still take.
    election: u32,
    backoff: Backoff,
    /// The minimum duration of a good session.
    good: Duration,
}

impl Turns {
    /// Creates the order for `endpoints` endpoints, with the shortest and the longest pause.
    pub(super) fn new(endpoints: usize, pauses: (Duration, Duration)) -> Turns {
        // A session as long as the longest pause limits the rate as well as the pause does.
        let (backoff, good) = (Backoff::new(pauses), pauses.1);
        Turns { endpoints, next: 0, left: endpoints, is_election: false, election: ELECTION, backoff, good }
    }

    /// Returns the endpoint to try now.
    pub(super) fn endpoint(&self) -> usize {
        self.next
    }

    /// Selects the next endpoint after a session that lasted `lasted`, if there was one. `unfit`: the server answers, and is not one
    /// that the client accepts. Returns the pause before it.
    pub(super) fn ended(&mut self, lasted: Option<Duration>, unfit: bool) -> Option<Duration> {
        self.next = (self.next + 1).checked_rem(self.endpoints).unwrap_or(0);
        if lasted.is_some_and(|lasted| lasted >= self.good) {
            self.left = self.endpoints;
            (self.is_election, self.election) = (false, ELECTION);
            self.backoff.reset();
            return None;
        }
        self.is_election |= unfit;
        self.left = self.left.saturating_sub(1);
        if self.left > 0 {
            return None;
        }
        self.left = self.endpoints;
        if std::mem::take(&mut self.is_election) && self.election > 0 {
            self.election -= 1;
            return Some(self.backoff.shortest());
        }
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
            let paused = turns.ended(*lasted, false).is_some();
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
            assert!(turns.ended(lasted, false).is_some());
        }
        assert!(turns.ended(None, false).is_some_and(|pause| pause >= Duration::from_secs(1)));
        assert_eq!(turns.ended(GOOD, false), None);
        assert!(turns.ended(None, false).is_some_and(|pause| pause <= Duration::from_millis(50)));
    }

    #[test]
    fn pauses_stay_short_while_members_elect_a_leader() {
        let mut turns = Turns::new(3, (Duration::from_millis(50), Duration::from_secs(2)));
        let mut round = |unfit: [bool; 3]| unfit.map(|unfit| turns.ended(None, unfit))[2].expect("a pause");
        for _ in 0..ELECTION {
            assert!(round([false, true, false]) <= Duration::from_millis(50));
        }
        let longest = (0..10).map(|_| round([true; 3])).max();
        assert!(longest > Some(Duration::from_secs(1)), "it takes longer than an election");
        let mut alone = Turns::new(1, (Duration::from_millis(50), Duration::from_secs(2)));
        let longest = (0..10).filter_map(|_| alone.ended(None, false)).max();
        assert!(longest > Some(Duration::from_secs(1)), "nobody answers");
    }
}
