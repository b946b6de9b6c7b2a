//! The clock of the machine, and that somebody sets it (`TFD_TIMER_CANCEL_ON_SET` of `timerfd_create(2)`).

use nix::errno::Errno;
use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};
use tokio::sync::watch;

/// The end of time: the most seconds that the kernel takes.
const NEVER: i64 = i64::MAX / 1_000_000_000;

/// Tells when the clock is set. Timers of tokio go on as if it were not.
#[derive(Debug)]
pub struct Clock(watch::Receiver<()>);

impl Clock {
    /// Watches the clock from now on, in a thread that lives as long as the process. If the clock cannot be watched, nothing is
    /// told.
    pub fn watch() -> Self {
        let (sender, receiver) = watch::channel(());
        let watch = move || {
            let Err(error) = tell(&sender);
            tracing::warn!(%error, "the clock is not watched");
        };
        if let Err(error) = std::thread::Builder::new().name("clock".to_owned()).spawn(watch) {
            tracing::warn!(%error, "the clock is not watched");
        }
        Self(receiver)
    }

    /// Waits until somebody sets the clock, or the machine wakes up.
    pub async fn is_set(&mut self) {
        if self.0.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

/// Tells each time that the clock is set.
fn tell(sender: &watch::Sender<()>) -> Result<std::convert::Infallible, Errno> {
    let timer = TimerFd::new(ClockId::CLOCK_REALTIME, TimerFlags::TFD_CLOEXEC)?;
    let flags = TimerSetTimeFlags::TFD_TIMER_ABSTIME | TimerSetTimeFlags::TFD_TIMER_CANCEL_ON_SET;
    loop {
        // Both say so: the clock may have been set since the last answer.
        match timer.set(Expiration::OneShot(TimeSpec::new(NEVER, 0)), flags).and_then(|()| timer.wait()) {
            Err(Errno::ECANCELED) | Ok(()) => sender.send_replace(()),
            Err(error) => return Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn a_clock_that_nobody_sets_tells_nothing() {
        let mut clock = Clock::watch();
        assert!(tokio::time::timeout(Duration::from_millis(100), clock.is_set()).await.is_err());
        assert!(clock.0.has_changed().is_ok(), "it is watched");
    }
}
