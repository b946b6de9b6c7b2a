//! The pause between rounds of connection attempts. It doubles up to a limit, and jitter keeps clients out of step.

use std::time::Duration;

use uuid::Uuid;

#[derive(Debug)]
pub(super) struct Backoff {
    shortest: Duration,
    longest: Duration,
    next: Duration,
}

impl Backoff {
    pub(super) fn new((shortest, longest): (Duration, Duration)) -> Backoff {
        Backoff { shortest, longest, next: shortest }
    }

    /// Resets the next pause to the shortest one, after a successful session.
    pub(super) fn reset(&mut self) {
        self.next = self.shortest;
    }

    /// Returns the next pause: a random time between half of the current limit and the whole of it. The limit then
    /// doubles.
    pub(super) fn pause(&mut self) -> Duration {
        let whole = self.next.min(self.longest);
        self.next = whole.saturating_mul(2);
        jitter(whole)
    }

    /// Returns a pause like the first one. The limit stays.
    pub(super) fn shortest(&self) -> Duration {
        jitter(self.shortest)
    }
}

fn jitter(whole: Duration) -> Duration {
    let random = Uuid::new_v4().as_bytes()[0];
    whole / 2 + (whole / 2) * u32::from(random) / 255
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_longest_and_start_again_after_a_success() {
        let ms = Duration::from_millis;
        let mut backoff = Backoff::new((ms(50), ms(300)));
        for whole in [50, 100, 200, 300, 300] {
            let pause = backoff.pause();
            assert!(pause >= ms(whole / 2) && pause <= ms(whole), "{pause:?} of {whole} ms");
        }
        backoff.reset();
        assert!(backoff.pause() <= ms(50));
    }
}
