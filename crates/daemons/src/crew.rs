//! A group of daemons. They start in order, restart when they exit, and stop in reverse order.
//!
//! Each daemon implements [`Part`]. One task runs all of them; other tasks read [`Crew::members`]. A daemon waits for others only before
//! it starts. So one that exits is started again even while another one is prepared for hours.

use std::fmt::Display;
use std::process::ExitStatus;
use std::time::{Duration, Instant};

use futures::future::try_join_all;
use tokio::process::Command;
use tokio::sync::watch;

use crate::daemon::{Daemon, Hear};
use crate::member::Member;
use crate::restarts::{Restarts, Verdict};
use crate::status::{Question, Status};

/// The interval at which a starting daemon is checked. No daemon reports its readiness by itself.
const PAUSE: Duration = Duration::from_millis(20);

/// The maximum number of times that a daemon may exit within [`WINDOW`].
const MOST_ENDS: usize = 5;
/// See [`MOST_ENDS`].
const WINDOW: Duration = Duration::from_mins(1);

/// The pause before a dispensable daemon that exits too often is started again.
pub const LONGEST_PAUSE: Duration = Duration::from_secs(20);

/// The daemon-specific part.
pub trait Part {
    /// Why the daemon does not work.
    type Error: Display;

    /// Returns the name in the log.
    fn name(&self) -> &'static str;

    /// Prepares the start or restart of the daemon. Returns the command to run.
    fn prepare(&mut self) -> impl Future<Output = Result<Command, Self::Error>>;

    /// Checks that the process works.
    fn check(&self, pid: u32) -> impl Future<Output = Result<(), Self::Error>>;

    /// Runs once after each start, when the daemon works and before those that wait for it start.
    fn finish_start(&mut self, pid: u32) -> impl Future<Output = Result<(), Self::Error>>;

    /// Asks the daemon to exit. The daemon may take some time.
    fn exit(&mut self, pid: u32) -> impl Future<Output = Result<(), Self::Error>>;

    /// Whether the daemon starts beside those before it, which it does not need. Others wait until all before them work.
    fn is_independent(&self) -> bool {
        false
    }

    /// Whether the others are worth more than this daemon. If it exits too often, or does not work in time, the group goes
    /// on: the daemon is started again after [`LONGEST_PAUSE`], or waited for. Only the last daemon can be one: those after
    /// it would wait, too.
    fn is_dispensable(&self) -> bool {
        false
    }

    /// Returns what takes the messages of the daemon's log. By default, nobody does.
    fn hear(&self) -> Option<Hear> {
        None
    }

    /// Returns true if the daemon was told to exit so that it is prepared and started again. Its exit then is no fault. The
    /// answer is true once for each request.
    fn take_restart(&mut self) -> bool {
        false
    }

    /// The time limit for the start.
    fn patience(&self) -> Duration {
        Duration::from_secs(30)
    }
}

/// Why the group stopped without a stop request.
#[derive(Debug, thiserror::Error)]
pub enum CrewError {
    /// A prerequisite of a daemon is missing or wrong.
    #[error("{name}: {why}")]
    Part {
        /// The daemon.
        name: &'static str,
        /// The error of the daemon's [`Part`].
        why: String,
    },
    /// The daemon runs but does not work.
    #[error("{name} does not work {patience:?} after it was started: {why}")]
    NotReady {
        /// The daemon.
        name: &'static str,
        /// The time limit that it had.
        patience: Duration,
        /// The error of the last check.
        why: String,
    },
    /// The daemon exits again and again.
    #[error("{name} has ended {times} times within {WINDOW:?}, the last time by {status}")]
    Ending {
        /// The daemon.
        name: &'static str,
        /// The number of exits.
        times: usize,
        /// The last exit status.
        status: ExitStatus,
    },
    /// The daemon cannot be started, or waiting for it failed.
    #[error("{name}: {source}")]
    System {
        /// The daemon.
        name: &'static str,
        /// The error.
        source: std::io::Error,
    },
}

/// Daemons in the order of their start.
#[derive(Debug)]
pub struct Crew<P> {
    places: Vec<Place<P>>,
    members: watch::Sender<Vec<Member>>,
    /// The time that each daemon has to stop.
    grace: Duration,
}

#[derive(Debug)]
struct Place<P> {
    part: P,
    daemon: Option<Daemon>,
    /// The deadline for a daemon that has started but does not work yet.
    deadline: Option<Instant>,
    is_up: bool,
    restarts: Restarts,
    /// The pause before the next start.
    pause: Duration,
}

impl<P: Part> Crew<P> {
    /// Creates a group. No daemon is started yet.
    pub fn new(parts: impl IntoIterator<Item = P>, grace: Duration) -> Self {
        let place = |part| Place {
            part,
            daemon: None,
            deadline: None,
            is_up: false,
            restarts: Restarts::new(MOST_ENDS, WINDOW),
            pause: Duration::ZERO,
        };
        let crew = Self { places: parts.into_iter().map(place).collect(), members: watch::Sender::default(), grace };
        crew.tell();
        crew
    }

    /// Returns the state of the daemons.
    pub fn members(&self) -> watch::Receiver<Vec<Member>> {
        self.members.subscribe()
    }

    /// Runs the daemons until `stop` completes or a daemon fails permanently. On return, no daemon is running.
    pub async fn run(mut self, stop: impl Future<Output = ()>) -> Result<(), CrewError> {
        let outcome = tokio::select! {
            failed = self.keep() => failed,
            () = stop => Ok(()),
        };
        let stopped = self.stop().await;
        outcome.and(stopped)
    }

    /// Calls [`Crew::run`] until a stop signal, and answers probes in the meantime. If the signal handlers fail, the
    /// group stops.
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

    /// Keeps all daemons running until one of them fails permanently. All progress is in `self`, so the future can be dropped at any
    /// time.
    async fn keep(&mut self) -> Result<(), CrewError> {
        let members = &self.members;
        let each = self.places.iter_mut().enumerate().map(|(index, place)| place.keep(index, members));
        try_join_all(each).await.map(drop)
    }

    /// Stops the running daemons in reverse order, even after an error. Returns the first error.
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
            place.is_up = false;
        }
        self.tell();
        outcome
    }

    fn tell(&self) {
        self.members.send_replace(self.places.iter().map(Place::member).collect());
    }
}

impl<P: Part> Place<P> {
    /// Keeps the daemon running, the one with this index. Returns when it fails permanently.
    async fn keep(&mut self, index: usize, members: &watch::Sender<Vec<Member>>) -> Result<(), CrewError> {
        loop {
            if self.daemon.is_none() {
                tokio::time::sleep(self.pause).await;
                if !self.part.is_independent() {
                    let are_up = |all: &Vec<Member>| all[..index].iter().all(|member| member.is_up);
                    // The sender lives as long as this borrows it.
                    let _ = members.subscribe().wait_for(are_up).await;
                }
                self.start().await?;
            } else if self.is_up {
                self.wait().await?;
            } else {
                self.work().await?;
            }
            members.send_modify(|all| all[index] = self.member());
        }
    }

    fn member(&self) -> Member {
        let pid = self.daemon.as_ref().map(Daemon::pid);
        Member { name: self.part.name(), pid, is_up: self.is_up }
    }

    async fn start(&mut self) -> Result<(), CrewError> {
        let name = self.part.name();
        let command = self.part.prepare().await.map_err(|error| CrewError::Part { name, why: error.to_string() })?;
        let program = command.as_std().get_program().to_string_lossy().into_owned();
        let started = Daemon::start(name, command, self.part.hear().as_ref());
        let daemon = started.map_err(|source| CrewError::Part { name, why: format!("start {program}: {source}") })?;
        self.daemon = Some(daemon);
        self.deadline = Some(Instant::now() + self.part.patience());
        Ok(())
    }

    /// Waits until the daemon works or exits.
    async fn work(&mut self) -> Result<(), CrewError> {
        let Self { part, daemon: Some(daemon), deadline: Some(deadline), .. } = self else { return Ok(()) };
        let (name, pid, patience) = (part.name(), daemon.pid(), part.patience());
        let works = async {
            let mut is_late = false;
            while let Err(why) = part.check(pid).await {
                let now_late = Instant::now() >= *deadline;
                let not_ready = CrewError::NotReady { name, patience, why: why.to_string() };
                match (now_late, part.is_dispensable()) {
                    (true, false) => return Err(not_ready),
                    (true, true) if !is_late => tracing::error!("{not_ready}; the others go on"),
                    _ => {}
                }
                is_late = now_late;
                tokio::time::sleep(PAUSE).await;
            }
            part.finish_start(pid).await.map_err(|error| CrewError::Part { name, why: error.to_string() })
        };
        tokio::select! {
            worked = works => {
                worked?;
                self.is_up = true;
                tracing::info!(daemon = name, pid, "works");
                Ok(())
            }
            status = daemon.ended() => self.ended(status.map_err(|source| CrewError::System { name, source })?),
        }
    }

    /// Waits until the daemon exits.
    async fn wait(&mut self) -> Result<(), CrewError> {
        let Some(daemon) = &mut self.daemon else { return Ok(()) };
        let status = daemon.ended().await;
        let name = self.part.name();
        self.ended(status.map_err(|source| CrewError::System { name, source })?)
    }

    /// Handles an exit while the group runs.
    fn ended(&mut self, status: ExitStatus) -> Result<(), CrewError> {
        let name = self.part.name();
        let pid = self.daemon.take().map(|daemon| daemon.pid());
        self.is_up = false;
        if self.part.take_restart() {
            tracing::info!(daemon = name, pid, %status, "has ended as it was told, and is started again");
            self.pause = match self.restarts.ended(Instant::now()) {
                Verdict::Again(pause) => pause,
                Verdict::GiveUp => LONGEST_PAUSE,
            };
            return Ok(());
        }
        match self.restarts.ended(Instant::now()) {
            Verdict::Again(pause) => {
                tracing::error!(daemon = name, pid, %status, "has ended by itself, and is started again");
                self.pause = pause;
                Ok(())
            }
            Verdict::GiveUp if self.part.is_dispensable() => {
                let times = self.restarts.count();
                tracing::error!(daemon = name, pid, %status, times, "ends again and again; the others go on without it");
                self.pause = LONGEST_PAUSE;
                Ok(())
            }
            Verdict::GiveUp => Err(CrewError::Ending { name, times: self.restarts.count(), status }),
        }
    }
}
