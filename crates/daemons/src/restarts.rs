//! Limits how often a daemon may exit. Pure logic without side effects.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// The first pause after repeated exits. Each later pause in the same window is twice as long.
const FIRST_PAUSE: Duration = Duration::from_millis(100);

/// The reaction to an exit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Restart the daemon after this pause.
    Again(Duration),
    /// The daemon exits too often.
    GiveUp,
}

/// The recent exits of one daemon.
#[derive(Clone, Debug)]
pub struct Restarts {
    most: usize,
    within: Duration,
    ends: VecDeque<Instant>,
}

impl Restarts {
    /// Allows `most` exits within this time.
    pub fn new(most: usize, within: Duration) -> Self {
        Self { most, within, ends: VecDeque::new() }
    }

    /// Records an exit. After the first exit in a window, the daemon restarts at once.
    pub fn ended(&mut self, now: Instant) -> Verdict {
        while self.ends.front().is_some_and(|end| now.duration_since(*end) >= self.within) {
            self.ends.pop_front();
        }
        let before = u32::try_from(self.ends.len()).unwrap_or(u32::MAX);
        self.ends.push_back(now);
        match before {
            0 => Verdict::Again(Duration::ZERO),
            _ if self.ends.len() > self.most => Verdict::GiveUp,
            _ => Verdict::Again(FIRST_PAUSE.saturating_mul(1 << (before - 1).min(10))),
        }
    }

    /// Returns the number of exits in the window.
    pub fn count(&self) -> usize {
        self.ends.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_end_is_mended_at_once_and_many_are_a_reason_to_give_up() {
        let start = Instant::now();
        let mut restarts = Restarts::new(4, Duration::from_mins(1));
        let mut ended = |second| restarts.ended(start + Duration::from_secs(second));
        let again = |ms| Verdict::Again(Duration::from_millis(ms));
        assert_eq!([0, 1, 2, 3].map(&mut ended), [again(0), again(100), again(200), again(400)]);
        assert_eq!(ended(4), Verdict::GiveUp);
        // The first four exits are outside the window by then.
        assert_eq!([63, 64].map(&mut ended), [again(100), again(100)]);
        assert_eq!(ended(200), again(0));
    }
}
