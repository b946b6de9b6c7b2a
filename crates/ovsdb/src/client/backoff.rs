//! The pause between rounds of attempts to connect: doubling, bounded, with jitter so that clients do not come in step.

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

    /// After a good session the next pause is the shortest again.
    pub(super) fn reset(&mut self) {
        self.next = self.shortest;
    }

    /// The next pause: between half and the whole of a time that doubles.
    pub(super) fn pause(&mut self) -> Duration {
        let whole = self.next.min(self.longest);
        self.next = whole.saturating_mul(2);
        let random = Uuid::new_v4().as_bytes()[0];
        whole / 2 + (whole / 2) * u32::from(random) / 255
    }
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
