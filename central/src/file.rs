//! A database file: what it is, and how another one takes its place.
//!
//! A file with data is never deleted. A new file is made beside the old one and takes its place by a rename; what was there is
//! renamed, unless the new file has its contents.

use std::io;
use std::path::{Path, PathBuf};

use daemons::damage;
use daemons::tool::{self, ToolError};
use uuid::Uuid;

/// A database file and its expected properties.
#[derive(Clone, Debug)]
pub struct File {
    /// The path of the database file.
    pub path: PathBuf,
    /// The path of the installed schema.
    pub schema: PathBuf,
    /// The name of the database in its schema.
    pub database: &'static str,
    /// The address of this member in the cluster ([`crate::address`]).
    pub address: String,
    /// What an empty database begins with: a transaction in the words of `ovsdb-tool transact`.
    pub first: Option<String>,
}

/// Why the file cannot be prepared.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// The file cannot be read, created or moved.
    #[error("database {}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The error.
        source: io::Error,
    },
    /// `ovsdb-tool` failed.
    #[error(transparent)]
    Tool(#[from] ToolError),
    /// `ovsdb-tool` printed something else than an ID.
    #[error("database {}: {said:?} is no ID of a server or cluster", path.display())]
    NoId {
        /// The file.
        path: PathBuf,
        /// What it printed.
        said: String,
    },
}

/// The state of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// There is no file.
    Nothing,
    /// No server can open the file, for this reason.
    Damaged(String),
    /// A standalone database.
    Standalone,
    /// The file of a member of a cluster.
    Member(Identity),
    /// The file of a member that has not joined a cluster yet. It contains no data.
    Joining,
}

/// What the file of a member says of it. It never changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The ID of the cluster.
    pub cluster: Uuid,
    /// The ID of the server.
    pub server: Uuid,
    /// The address of the server ([`crate::address`]).
    pub address: String,
}

impl File {
    /// Returns the state of the file. `closely`: its server may not be able to open it, so of the file of a member, every record
    /// is read.
    pub async fn look(&self, closely: bool) -> Result<Found, FileError> {
        let found = self.glance().await?;
        if closely && matches!(found, Found::Member(_)) { self.examine(found).await } else { Ok(found) }
    }

    /// Returns the state of the file by its first record.
    async fn glance(&self) -> Result<Found, FileError> {
        if !self.path.try_exists().map_err(|source| self.io(source))? {
            return Ok(Found::Nothing);
        }
        let name = self.tool("db-name", &[&self.path]).await.unwrap_or_default();
        if !name.trim().is_empty() && name.trim() != self.database {
            return Ok(Found::Damaged(format!("it is the database {}", name.trim())));
        }
        let error = match self.tool("db-local-address", &[&self.path]).await {
            Ok(address) => {
                let address = address.trim().to_owned();
                let cluster = match self.tool("db-cid", &[&self.path]).await {
                    Err(error) if error.said().is_some_and(|said| said.ends_with("cluster ID not yet known")) => {
                        return Ok(Found::Joining);
                    }
                    said => self.id(&said?)?,
                };
                return Ok(Found::Member(Identity { cluster, server: self.server(&self.path).await?, address }));
            }
            Err(error) => error,
        };
        match error.said() {
            Some(said) if said.ends_with("not a clustered database") => Ok(Found::Standalone),
            Some(said) if damage::is_damage(said) => Ok(Found::Damaged(said.to_owned())),
            _ => Err(error.into()),
        }
    }

    /// Returns the state of the file of a member, which was found to be this, after reading every record.
    async fn examine(&self, found: Found) -> Result<Found, FileError> {
        let why = match self.tool("check-cluster", &[&self.path]).await {
            Ok(said) if said.contains("shows that the server left the cluster") => said.trim().to_owned(),
            Ok(_) => return Ok(found),
            Err(error) => match error.said() {
                Some(said) if damage::is_torn(said) => return Ok(found),
                Some(said) if damage::is_damage(said) => said.to_owned(),
                _ => return Err(error.into()),
            },
        };
        Ok(Found::Damaged(why))
    }

    /// Makes the new file, of the first server of a new cluster. Its contents are those of the file if that is found to have
    /// any, else it is empty.
    pub async fn create(&self, found: &Found) -> Result<Identity, FileError> {
        let (new, contents) = (self.new_file(), self.beside("standalone"));
        // Whether the one that was made before is recorded may be unknown. The file has not changed since.
        if let Some(before) = self.identity(&new).await
            && before.address == self.address
        {
            return Ok(before);
        }
        self.remove_new()?;
        let contents = match found {
            Found::Nothing | Found::Damaged(_) | Found::Joining => match &self.first {
                None => &self.schema,
                Some(first) => {
                    self.tool("create", &[&contents, &self.schema]).await?;
                    self.tool("transact", &[&contents, Path::new(first)]).await?;
                    &contents
                }
            },
            Found::Standalone => {
                kit::file::copy(&self.path, &contents).map_err(|source| self.io(source))?;
                &contents
            }
            Found::Member(_) => {
                self.tool("cluster-to-standalone", &[&contents, &self.path]).await?;
                &contents
            }
        };
        self.tool("create-cluster", &[&new, contents, Path::new(&self.address)]).await?;
        remove(&self.beside("standalone")).map_err(|source| self.io(source))?;
        let cluster = self.id(&self.tool("db-cid", &[&new]).await?)?;
        Ok(Identity { cluster, server: self.server(&new).await?, address: self.address.clone() })
    }

    /// Makes the new file, of a server that joins the cluster of these servers. Returns its ID.
    pub async fn join(&self, others: &[String]) -> Result<Uuid, FileError> {
        self.remove_new()?;
        let new = self.new_file();
        let words = [new.as_path(), Path::new(self.database), Path::new(&self.address)];
        self.tool("join-cluster", &words.into_iter().chain(others.iter().map(Path::new)).collect::<Vec<_>>()).await?;
        self.server(&new).await
    }

    /// Returns what the file of a member of a cluster says of it. `None` if it is something else.
    async fn identity(&self, path: &Path) -> Option<Identity> {
        let address = self.tool("db-local-address", &[path]).await.ok()?.trim().to_owned();
        let cluster = self.id(&self.tool("db-cid", &[path]).await.ok()?).ok()?;
        Some(Identity { cluster, server: self.server(path).await.ok()?, address })
    }

    /// Returns the ID of the server of the new file, if there is a complete one.
    pub async fn pending(&self) -> Result<Option<Uuid>, FileError> {
        let new = self.new_file();
        if !new.try_exists().map_err(|source| self.io(source))? {
            return Ok(None);
        }
        Ok(self.server(&new).await.ok())
    }

    /// Puts the new file in the place of the file. If a reason is given, what was there is kept under another name.
    pub fn replace(&self, keep: Option<&str>) -> Result<(), FileError> {
        if let Some(reason) = keep
            && self.path.try_exists().map_err(|source| self.io(source))?
        {
            let aside = damage::put_aside(&self.path, reason).map_err(|source| self.io(source))?;
            tracing::warn!(path = %self.path.display(), kept = %aside.display(), reason, "another file takes the place of the database");
        }
        kit::file::rename(&self.new_file(), &self.path).map_err(|source| self.io(source))
    }

    /// Removes a new file that did not take the place of the file.
    pub fn remove_new(&self) -> Result<(), FileError> {
        // ovsdb-tool locks a file by another one, whose name starts with a dot, and leaves that.
        [self.new_file(), self.beside("standalone")]
            .iter()
            .try_for_each(|path| remove(path))
            .map_err(|source| self.io(source))
    }

    /// Returns the last configuration in the log of the file: the servers of the cluster in the words of `ovsdb-tool
    /// show-log`.
    pub async fn last_configuration(&self) -> Result<String, FileError> {
        Ok(last_configuration(&self.tool("show-log", &[&self.path]).await?).to_owned())
    }

    fn new_file(&self) -> PathBuf {
        self.beside("new")
    }

    async fn server(&self, path: &Path) -> Result<Uuid, FileError> {
        self.id(&self.tool("db-sid", &[path]).await?)
    }

    fn id(&self, said: &str) -> Result<Uuid, FileError> {
        let said = said.trim();
        said.parse().map_err(|_| FileError::NoId { path: self.path.clone(), said: said.to_owned() })
    }

    async fn tool(&self, verb: &str, paths: &[&Path]) -> Result<String, ToolError> {
        let quiet = ["-vconsole:off", "-vsyslog:off", verb].map(AsRef::<Path>::as_ref);
        tool::run("ovsdb-tool", quiet.iter().chain(paths)).await
    }

    fn beside(&self, what: &str) -> PathBuf {
        let mut name = self.path.clone().into_os_string();
        name.push(".");
        name.push(what);
        name.into()
    }

    fn io(&self, source: io::Error) -> FileError {
        FileError::Io { path: self.path.clone(), source }
    }
}

/// Returns the line with the last configuration of a log (`ovsdb-tool show-log`).
fn last_configuration(log: &str) -> &str {
    let line = |line: &&str| ["servers: ", "prev_servers: "].iter().any(|words| line.trim_start().starts_with(words));
    log.lines().rfind(line).unwrap_or_default()
}

/// Returns the number of servers in a configuration.
pub fn members(configuration: &str) -> usize {
    configuration.matches("(\"").count()
}

fn remove(path: &Path) -> io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_configuration_counts() {
        let log = "record 0:\n prev_servers: 02f2(\"tcp:[::1]:6643\")\n\nrecord 3:\n servers: 02f2(\"tcp:10.0.0.1:6643\"), \
            55aa(\"tcp:10.0.0.2:6643\")\n";
        assert_eq!(members(last_configuration(log)), 2);
        let one = "record 0:\n prev_servers: 02f2(\"tcp:[::1]:6643\")\nrecord 1:\n index: 2\n";
        assert_eq!(members(last_configuration(one)), 1);
    }
}
