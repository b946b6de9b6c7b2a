//! Daemons that belong together: started in order, kept, stopped in reverse order.
//!
//! Its owner describes each as a [`Part`]. One task runs it all; others read [`Crew::members`].

use std::fmt::Display;
use std::process::ExitStatus;
use std::time::{Duration, Instant};

use futures::future::select_all;
use tokio::process::Command;
use tokio::sync::watch;

use crate::daemon::Daemon;
use crate::member::Member;
use crate::restarts::{Restarts, Verdict};
use crate::status::{Question, Status};

/// How long to wait before a starting daemon is asked again whether it does its work: none of them tells anybody.
const PAUSE: Duration = Duration::from_millis(20);

/// A daemon may end this often by itself within [`WINDOW`].
const MOST_ENDS: usize = 5;
/// See [`MOST_ENDS`].
const WINDOW: Duration = Duration::from_mins(1);

/// A daemon as its owner knows it.
pub trait Part {
    /// Why it is not as it should be.
    type Error: Display;

    /// What it is called in the log.
    fn name(&self) -> &'static str;

    /// Makes ready for it what it finds when it starts, which may be the first time or not; the command to start it by.
    fn prepare(&mut self) -> impl Future<Output = Result<Command, Self::Error>>;

    /// Whether the process with this number does its work by now.
    fn check(&self, pid: u32) -> impl Future<Output = Result<(), Self::Error>>;

    /// It does its work, for the first time since it was started: what is left to do before those after it may start.
    fn settle(&mut self, pid: u32) -> impl Future<Output = Result<(), Self::Error>>;

    /// Asks it to end; it may take a while to.
    fn exit(&mut self, pid: u32) -> impl Future<Output = Result<(), Self::Error>>;

    /// How long it may take until it does its work.
    fn patience(&self) -> Duration {
        Duration::from_secs(30)
    }
}

/// Why the whole has come to an end by itself.
#[derive(Debug, thiserror::Error)]
pub enum CrewError {
    /// What a daemon needs is not there or not right.
    #[error("{name}: {why}")]
    Part {
        /// The daemon.
        name: &'static str,
        /// The owner's words.
        why: String,
    },
    /// It runs and does not do its work.
    #[error("{name} does not work {patience:?} after it was started: {why}")]
    NotReady {
        /// The daemon.
        name: &'static str,
        /// What it had.
        patience: Duration,
        /// The owner's words.
        why: String,
    },
    /// It was started again and again, to no avail.
    #[error("{name} has ended {times} times within {WINDOW:?}, the last time by {status}")]
    Ending {
        /// The daemon.
        name: &'static str,
        /// How often.
        times: usize,
        /// Its last end.
        status: ExitStatus,
    },
    /// The system does not let us start it or wait for it.
    #[error("{name}: {source}")]
    System {
        /// The daemon.
        name: &'static str,
        /// Why.
        source: std::io::Error,
    },
}

/// Daemons in the order in which they start.
#[derive(Debug)]
pub struct Crew<P> {
    places: Vec<Place<P>>,
    members: watch::Sender<Vec<Member>>,
    /// How long each has to end when it is asked to.
    grace: Duration,
}

#[derive(Debug)]
struct Place<P> {
    part: P,
    daemon: Option<Daemon>,
    /// When it has to do its work, from its start until it does.
    deadline: Option<Instant>,
    settled: bool,
    restarts: Restarts,
    /// What to wait before it is started.
    pause: Duration,
}

impl<P: Part> Crew<P> {
    /// Nothing is started yet.
    pub fn new(parts: impl IntoIterator<Item = P>, grace: Duration) -> Self {
        let place = |part| Place {
            part,
            daemon: None,
            deadline: None,
            settled: false,
            restarts: Restarts::new(MOST_ENDS, WINDOW),
            pause: Duration::ZERO,
        };
        let crew = Self { places: parts.into_iter().map(place).collect(), members: watch::Sender::default(), grace };
        crew.tell();
        crew
    }

    /// Which of them run.
    pub fn members(&self) -> watch::Receiver<Vec<Member>> {
        self.members.subscribe()
    }

    /// Runs them until `stop` is done, or until one of them is beyond help. None runs any more when this returns.
    pub async fn run(mut self, stop: impl Future<Output = ()>) -> Result<(), CrewError> {
        let outcome = tokio::select! {
            failed = self.keep() => failed,
            () = stop => Ok(()),
        };
        let stopped = self.stop().await;
        outcome.and(stopped)
    }

    /// [`Crew::run`] until the process is asked to stop; meanwhile probes are answered. Being unable to hear of `stop` is a
    /// reason to stop.
    pub async fn serve<E: std::fmt::Display>(
        self,
        status: Status,
        stop: impl Future<Output = std::io::Result<()>>,
        check: impl AsyncFn(Question, &'static str, u32) -> Result<(), E>,
    ) -> Result<(), CrewError> {
        let stop = async {
            if let Err(error) = stop.await {
                tracing::error!(%error, "signals cannot be listened to");
            }
        };
        tokio::select! {
            ended = self.run(stop) => ended,
            never = status.serve(check) => never,
        }
    }

    /// Starts the first that does not work yet, or waits for the end of one. What it has done so far is in `self`, so that
    /// it may be dropped at any time.
    async fn keep(&mut self) -> Result<(), CrewError> {
        loop {
            match self.places.iter().position(|place| !place.settled) {
                Some(next) if self.places[next].daemon.is_none() => self.places[next].start().await?,
                Some(next) => self.work(next).await?,
                None => {
                    let (place, status) = ended(&mut self.places).await?;
                    place.ended(status)?;
                }
            }
            self.tell();
        }
    }

    /// Waits until this one does its work, or until one of those that run ends.
    async fn work(&mut self, next: usize) -> Result<(), CrewError> {
        let (place, rest) = split(&mut self.places, next);
        let Place { part, daemon: Some(daemon), deadline: Some(deadline), settled, .. } = place else { return Ok(()) };
        let (name, pid, patience) = (part.name(), daemon.pid(), part.patience());
        let works = async {
            let mut why = "it was not asked".to_owned();
            let asked = async {
                loop {
                    match part.check(pid).await {
                        Ok(()) => break,
                        Err(error) => why = error.to_string(),
                    }
                    tokio::time::sleep(PAUSE).await;
                }
            };
            if tokio::time::timeout_at((*deadline).into(), asked).await.is_err() {
                return Err(CrewError::NotReady { name, patience, why });
            }
            part.settle(pid).await.map_err(|error| CrewError::Part { name, why: error.to_string() })
        };
        tokio::select! {
            worked = works => {
                worked?;
                *settled = true;
                tracing::info!(daemon = name, pid, "works");
                Ok(())
            }
            status = daemon.ended() => {
                let status = status.map_err(|source| CrewError::System { name, source })?;
                self.places[next].ended(status)
            }
            other = ended(rest) => {
                let (place, status) = other?;
                place.ended(status)
            }
        }
    }

    /// Stops what runs, in reverse order, however that goes; the first error.
    async fn stop(&mut self) -> Result<(), CrewError> {
        let mut outcome = Ok(());
        for place in self.places.iter_mut().rev() {
            let Some(mut daemon) = place.daemon.take() else { continue };
            let name = place.part.name();
            let stopped = daemon.stop(place.part.exit(daemon.pid()), self.grace).await;
            if let Err(source) = stopped
                && outcome.is_ok()
            {
                outcome = Err(CrewError::System { name, source });
            }
            place.settled = false;
        }
        self.tell();
        outcome
    }

    fn tell(&self) {
        let members = self.places.iter().map(|place| Member {
            name: place.part.name(),
            pid: place.daemon.as_ref().map(Daemon::pid),
            settled: place.settled,
        });
        self.members.send_replace(members.collect());
    }
}

impl<P: Part> Place<P> {
    async fn start(&mut self) -> Result<(), CrewError> {
        let name = self.part.name();
        tokio::time::sleep(self.pause).await;
        let command = self.part.prepare().await.map_err(|error| CrewError::Part { name, why: error.to_string() })?;
        let program = command.as_std().get_program().to_string_lossy().into_owned();
        let started = Daemon::start(name, command);
        let daemon = started.map_err(|source| CrewError::Part { name, why: format!("start {program}: {source}") })?;
        self.daemon = Some(daemon);
        self.deadline = Some(Instant::now() + self.part.patience());
        Ok(())
    }

    /// It has ended by itself.
    fn ended(&mut self, status: ExitStatus) -> Result<(), CrewError> {
        let name = self.part.name();
        let pid = self.daemon.take().map(|daemon| daemon.pid());
        self.settled = false;
        match self.restarts.ended(Instant::now()) {
            Verdict::Again(pause) => {
                tracing::error!(daemon = name, pid, %status, "has ended by itself, and is started again");
                self.pause = pause;
                Ok(())
            }
            Verdict::GiveUp => Err(CrewError::Ending { name, times: self.restarts.count(), status }),
        }
    }
}

/// Waits for the end of one of those that run; for ever when none does. Safe to cancel.
async fn ended<'a, P: Part + 'a>(
    places: impl IntoIterator<Item = &'a mut Place<P>>,
) -> Result<(&'a mut Place<P>, ExitStatus), CrewError> {
    let mut running = Vec::new();
    for place in places {
        if place.daemon.is_some() {
            running.push(place);
        }
    }
    if running.is_empty() {
        return std::future::pending().await;
    }
    let (status, index) = {
        let ends = running.iter_mut().filter_map(|place| place.daemon.as_mut()).map(|daemon| Box::pin(daemon.ended()));
        let (status, index, _) = select_all(ends).await;
        (status, index)
    };
    let place = running.swap_remove(index);
    let name = place.part.name();
    let status = status.map_err(|source| CrewError::System { name, source })?;
    Ok((place, status))
}

/// One of them, and all others.
fn split<P>(places: &mut [Place<P>], one: usize) -> (&mut Place<P>, impl Iterator<Item = &mut Place<P>>) {
    let (before, rest) = places.split_at_mut(one);
    let (place, after) = rest.split_at_mut(1);
    (&mut place[0], before.iter_mut().chain(after))
}
