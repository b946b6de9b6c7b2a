//! The member: both databases and northd, started in the order of their dependencies.

use daemons::control::{self, ControlError};
use daemons::crew::{Crew, CrewError, Part};
use daemons::init::{self, InitError};
use daemons::status::{self, Question, Status, StatusError};
use daemons::version::{OLDEST_OVN, Version, VersionError};
use tokio::process::Command;

use crate::args::{Check, Run};
use crate::database::{Database, DatabaseError, Which};
use crate::northd::{Northd, NorthdError};

/// Why the member stopped without a stop signal.
#[derive(Debug, thiserror::Error)]
pub enum MemberError {
    /// The flags contradict each other.
    #[error("{0}")]
    Flags(String),
    /// The installed OVN is too old.
    #[error(transparent)]
    Version(#[from] VersionError),
    /// A daemon fails permanently.
    #[error(transparent)]
    Crew(#[from] CrewError),
    /// A directory, a socket or a limit cannot be set up.
    #[error(transparent)]
    Init(#[from] InitError),
}

/// A daemon of the member.
#[derive(Clone, Debug)]
enum Place {
    Database(Database),
    Northd(Northd),
}

/// Why a daemon does not work.
#[derive(Debug, thiserror::Error)]
enum PlaceError {
    #[error(transparent)]
    Database(#[from] DatabaseError),
    #[error(transparent)]
    Northd(#[from] NorthdError),
    #[error(transparent)]
    Control(#[from] ControlError),
}

/// Runs the member until a stop signal.
pub async fn run(run: Run) -> Result<(), MemberError> {
    let others = run.others().map_err(MemberError::Flags)?;
    let files = init::begin()?;
    let ovn = Version::at_least("ovn-northd", OLDEST_OVN).await?;
    let stop = kit::signals::stop_requested();
    let Some(_turn) = init::take_turn(&run.directory.run_directory, &[&run.database_directory], stop).await? else {
        return Ok(());
    };
    tracing::info!(%ovn, address = %run.address, ?others, listen = ?run.listen(), files, "starting");

    let [northbound, southbound] =
        [Which::Northbound, Which::Southbound].map(|which| Database::new(which, &run, &others));
    let northd = Northd::new(&northbound, &southbound, &run);
    let places = [Place::Database(northbound), Place::Database(southbound), Place::Northd(northd)];
    let crew = Crew::new(places.clone(), run.grace());
    let socket = run.directory.status();
    let status = Status::bind(&socket, crew.members()).map_err(InitError::on(&socket.display()))?;
    let answering =
        async |question, name, pid| match (places.iter().find(|place: &&Place| place.name() == name), question) {
            (Some(place), Question::Live) => place.answers(pid).await,
            (Some(place), Question::Ready) => place.serves(pid).await,
            (None, _) => Ok(()),
        };
    Ok(crew.serve(status, kit::signals::stop_requested(), answering).await?)
}

/// Queries the member in this container.
pub async fn check(check: &Check) -> Result<(), StatusError> {
    status::ask(&check.directory.status(), check.question).await
}

impl Place {
    /// Checks that the daemon serves its clients.
    async fn serves(&self, pid: u32) -> Result<(), PlaceError> {
        match self {
            Self::Database(database) => Ok(database.check().await?),
            Self::Northd(northd) => Ok(northd.check(pid).await?),
        }
    }

    /// Checks that the daemon answers.
    async fn answers(&self, pid: u32) -> Result<(), PlaceError> {
        let socket = match self {
            Self::Database(database) => database.control(),
            Self::Northd(northd) => northd.control(pid),
        };
        control::ask(&socket, "version", &[]).await?;
        Ok(())
    }
}

impl Part for Place {
    type Error = PlaceError;

    fn name(&self) -> &'static str {
        match self {
            Self::Database(database) => database.which().name(),
            Self::Northd(_) => "northd",
        }
    }

    async fn prepare(&mut self) -> Result<Command, PlaceError> {
        match self {
            Self::Database(database) => Ok(database.prepare().await?),
            Self::Northd(northd) => Ok(northd.command()),
        }
    }

    /// A server that has no leader works: to start it again would not help, and the other members need it for a majority. A
    /// northd that waits for a leader works, too.
    async fn check(&self, pid: u32) -> Result<(), PlaceError> {
        match self {
            Self::Database(database) => Ok(database.standing().await.map(drop)?),
            Self::Northd(_) => self.answers(pid).await,
        }
    }

    async fn finish_start(&mut self, _: u32) -> Result<(), PlaceError> {
        match self {
            Self::Database(database) => Ok(database.finish_start().await?),
            Self::Northd(_) => Ok(()),
        }
    }

    async fn exit(&mut self, pid: u32) -> Result<(), PlaceError> {
        match self {
            Self::Database(database) => Ok(database.exit().await?),
            Self::Northd(northd) => Ok(northd.exit(pid).await?),
        }
    }

    fn patience(&self) -> std::time::Duration {
        match self {
            Self::Database(database) => database.patience(),
            Self::Northd(_) => std::time::Duration::from_mins(1),
        }
    }
}
