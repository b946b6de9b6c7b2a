//! Backups of the northbound database: files beside it, which the leader makes and `ovn-central restore` reads.
//!
//! The controller can write everything again without one. A backup keeps what others have written.

use std::convert::Infallible;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, SystemTime};

use daemons::tool::{self, ToolError};
use daemons::version::Version;
use ovn::fence::{EPOCH_KEY, WRITER_KEY};
use serde_json::json;
use tokio::sync::watch;
use tracing::{info, warn};

use crate::args::Restore;
use crate::server::Role;

/// The pause after a backup has failed.
const RETRY: Duration = Duration::from_mins(10);

const NORTHBOUND: &str = "OVN_Northbound";

/// What each backup begins with. The rest of its name is the time, so that the names are in the order of their making.
const PREFIX: &str = "ovnnb_db-";
const SUFFIX: &str = ".backup";
/// Takes the place of the time in the name of a backup that was made before the database was converted. The version follows.
const BEFORE: &str = "before-";

/// How the directory begins in which a backup is prepared.
const RESTORE: &str = ".restore-";

/// How long a backup from before a conversion is new enough for another attempt.
const DAY: Duration = Duration::from_hours(24);

/// The backups of a member.
#[derive(Clone, Debug)]
pub struct Backups {
    /// Their directory.
    pub directory: PathBuf,
    /// The socket of the server of the northbound database.
    pub socket: PathBuf,
    /// The time from one to the next. `None` if there are none.
    pub every: Option<Duration>,
    /// How many are kept.
    pub keep: usize,
}

/// Why a backup cannot be made or restored.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// A file cannot be read or written.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// The error.
        source: io::Error,
    },
    /// `ovsdb-client` failed.
    #[error(transparent)]
    Tool(#[from] ToolError),
    /// The backup has what the database does not know.
    #[error("the backup is of version {backup} of the schema, and the database of {database}: upgrade OVN first")]
    Newer {
        /// The version of the schema of the backup.
        backup: Version,
        /// That of the database.
        database: Version,
    },
    /// A file has no version.
    #[error("{0:?} is no version of a schema")]
    NoVersion(String),
    /// A program has said why on stderr.
    #[error("{program} {verb}: {status}")]
    Failed {
        /// The program.
        program: String,
        /// What it was to do.
        verb: &'static str,
        /// How it ended.
        status: ExitStatus,
    },
}

impl Backups {
    /// Makes backups for as long as this member leads, each when the last one of this member is old enough.
    pub async fn run(self, mut role: watch::Receiver<Role>) -> Infallible {
        let Some(every) = self.every else { return std::future::pending().await };
        loop {
            // The sender lives as long as the process.
            let _ = role.wait_for(|role| role.leads).await;
            let mut pause = every.saturating_sub(self.age().unwrap_or(every));
            if pause.is_zero() {
                pause = match self.make().await {
                    Ok(_) => every,
                    Err(error) => {
                        warn!(%error, "the northbound database is not backed up; trying again");
                        RETRY
                    }
                };
            }
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                _ = role.wait_for(|role| !role.leads) => {}
            }
        }
    }

    /// Makes one, and removes the oldest ones.
    pub async fn make(&self) -> Result<PathBuf, BackupError> {
        let time = jiff::Timestamp::now().strftime("%Y%m%dT%H%M%SZ");
        let path = self.write(&time.to_string()).await?;
        let all = self.all().map_err(at(&self.directory))?;
        for old in &all[..all.len().saturating_sub(self.keep)] {
            fs::remove_file(old).map_err(at(old))?;
        }
        Ok(path)
    }

    /// Makes one before the database is converted to this version. It is not counted. One that an earlier attempt has made within a
    /// day stays.
    pub async fn make_before(&self, version: &Version) -> Result<(), BackupError> {
        let what = format!("{BEFORE}{version}");
        let made = age(&self.path(&what));
        if made.is_none_or(|age| age > DAY) {
            self.write(&what).await?;
        }
        Ok(())
    }

    async fn write(&self, what: &str) -> Result<PathBuf, BackupError> {
        let server = format!("unix:{}", self.socket.display());
        let contents = tool::run("ovsdb-client", ["backup", &server, NORTHBOUND]).await?;
        fs::create_dir_all(&self.directory).map_err(at(&self.directory))?;
        let path = self.path(what);
        kit::file::write(&path, contents.as_bytes(), 0o600).map_err(at(&path))?;
        info!(path = %path.display(), bytes = contents.len(), "backed the northbound database up");
        Ok(path)
    }

    fn path(&self, what: &str) -> PathBuf {
        self.directory.join(format!("{PREFIX}{what}{SUFFIX}"))
    }

    /// Returns how old the last one is. Those that were made while the clock was ahead say nothing.
    fn age(&self) -> Option<Duration> {
        self.all().ok()?.iter().filter_map(|path| age(path)).min()
    }

    /// Returns all that are counted, the oldest first. Before them are those that were made while the clock was ahead.
    fn all(&self) -> io::Result<Vec<PathBuf>> {
        let mut all = Vec::new();
        for entry in fs::read_dir(&self.directory)? {
            let path = entry?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            let what = name.strip_prefix(PREFIX).and_then(|name| name.strip_suffix(SUFFIX));
            if what.is_some_and(|what| !what.starts_with(BEFORE)) {
                all.push(path);
            }
        }
        all.sort_by_cached_key(|path| (age(path).is_some(), path.clone()));
        Ok(all)
    }
}

/// Returns how old a file is. `None` if it is not there, or of the future.
fn age(path: &Path) -> Option<Duration> {
    SystemTime::now().duration_since(fs::metadata(path).ok()?.modified().ok()?).ok()
}

fn at(path: &Path) -> impl FnOnce(io::Error) -> BackupError {
    let path = path.to_owned();
    move |source| BackupError::Io { path, source }
}

/// Replaces the contents of the northbound database by those of a backup, but for the fence: the controller that led when the
/// backup was made may write no more. It takes effect on all members at once. The controller that leads then corrects what has
/// changed since.
pub fn restore(restore: &Restore) -> Result<(), BackupError> {
    let directory = restore.file.parent().unwrap_or(Path::new("."));
    remove_left_over(directory);
    // There, too, is room for a database.
    let backup = fs::read(&restore.file).map_err(at(&restore.file))?;
    let room = tempfile::Builder::new().prefix(RESTORE).tempdir_in(directory).map_err(at(directory))?;
    let copy = room.path().join("copy");
    fs::write(&copy, backup).map_err(at(&copy))?;
    let fence = json!(["set", [EPOCH_KEY, WRITER_KEY]]);
    let open =
        json!({"op": "mutate", "table": "NB_Global", "where": [], "mutations": [["external_ids", "delete", fence]]});
    let open = json!([NORTHBOUND, open]).to_string();
    let mut transact = Command::new("ovsdb-tool");
    finish("transact", transact.arg("transact").arg(&copy).arg(&open).stdout(Stdio::null()))?;

    // The database may have been converted since.
    let server = format!("unix:{}", restore.directory.northbound().display());
    let schema = room.path().join("schema");
    let of_server = fs::File::create(&schema).map_err(at(&schema))?;
    let words = ["--no-leader-only", "get-schema", &server, NORTHBOUND];
    finish("get-schema", Command::new("ovsdb-client").args(words).stdout(of_server))?;
    let of = |verb: &'static str, path: &Path| version(Command::new("ovsdb-tool").arg(verb).arg(path));
    let (backup, database) = (of("db-version", &copy)?, of("schema-version", &schema)?);
    if backup > database {
        return Err(BackupError::Newer { backup, database });
    }
    finish("convert", Command::new("ovsdb-tool").arg("convert").arg(&copy).arg(&schema))?;

    let file = fs::File::open(&copy).map_err(at(&copy))?;
    // Any member passes it on to the leader.
    let words = ["--no-leader-only", "restore", &server, NORTHBOUND];
    finish("restore", Command::new("ovsdb-client").args(words).stdin(file))
}

/// Removes what a restore that was killed has left over, a day later.
fn remove_left_over(directory: &Path) {
    for path in fs::read_dir(directory).into_iter().flatten().flatten().map(|entry| entry.path()) {
        let is_ours = path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(RESTORE));
        if is_ours && age(&path).is_some_and(|age| age > DAY) {
            // It is tried again with the next one.
            let _ = fs::remove_dir_all(path);
        }
    }
}

/// Returns the version that a program prints.
fn version(command: &mut Command) -> Result<Version, BackupError> {
    let program = command.get_program().to_owned();
    let said = command.output().map_err(at(Path::new(&program)))?;
    let text = String::from_utf8_lossy(&said.stdout).trim().to_owned();
    text.parse().map_err(|_| BackupError::NoVersion(text))
}

/// Runs a program of OVSDB, which says on stderr why it fails.
fn finish(verb: &'static str, command: &mut Command) -> Result<(), BackupError> {
    let program = command.get_program().to_string_lossy().into_owned();
    let status = command.status();
    let status = status.map_err(|source| BackupError::Io { path: program.clone().into(), source })?;
    if status.success() { Ok(()) } else { Err(BackupError::Failed { program, verb, status }) }
}
