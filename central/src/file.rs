//! Prepares a database file before its server opens it.
//!
//! The result is the file of a cluster whose only member has our address. The contents are kept, with one exception: a
//! file that no server can open is moved aside and replaced by an empty database, which the controller fills again.

use std::io;
use std::path::{Path, PathBuf};

use daemons::damage;
use daemons::tool::{self, ToolError};

/// A database file and its expected properties.
#[derive(Clone, Debug)]
pub struct File {
    /// The path of the database file.
    pub path: PathBuf,
    /// The path of the installed schema.
    pub schema: PathBuf,
    /// The address of this member in the cluster: `tcp:<address>:<port>`.
    pub address: String,
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
    /// The file belongs to a member with another address, in a cluster with other members.
    #[error("database {} belongs to {was} in a cluster of {members}, and this is {is}: only one without others is moved",
        path.display())]
    Clustered {
        /// The file.
        path: PathBuf,
        /// The address in the file.
        was: String,
        /// The number of members.
        members: usize,
        /// The address of this member.
        is: String,
    },
}

/// The state of the file.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Found {
    Nothing,
    /// No server can open the file, for this reason.
    Damaged(String),
    /// A standalone database.
    Standalone,
    /// The file of the cluster member with this address.
    Member(String),
}

impl File {
    /// Prepares the file.
    pub async fn prepare(&self) -> Result<(), FileError> {
        let path = self.path.display();
        match self.look().await? {
            Found::Nothing => {
                tracing::info!(%path, "there is no database yet: an empty one is made");
                self.create(&self.path, &self.schema).await
            }
            Found::Damaged(why) => {
                let now = jiff::Timestamp::now().strftime("%Y%m%dT%H%M%SZ").to_string();
                let aside = damage::put_aside(&self.path, &now).map_err(|source| self.io(source))?;
                let kept = aside.display();
                tracing::error!(
                    %path, %kept, why,
                    "THE DATABASE CANNOT BE READ: its file is kept, and an empty database takes its place"
                );
                self.create(&self.path, &self.schema).await
            }
            Found::Standalone => {
                tracing::info!(%path, "the database is in no cluster yet: one is made of it");
                let contents = self.beside("standalone");
                kit::file::copy(&self.path, &contents).map_err(|source| self.io(source))?;
                self.replace(&contents).await
            }
            Found::Member(address) if address == self.address => Ok(()),
            Found::Member(address) => self.move_from(address).await,
        }
    }

    async fn look(&self) -> Result<Found, FileError> {
        if !self.path.try_exists().map_err(|source| self.io(source))? {
            return Ok(Found::Nothing);
        }
        let error = match self.tool("db-local-address", &[&self.path]).await {
            Ok(address) => return Ok(Found::Member(address.trim().to_owned())),
            Err(error) => error,
        };
        match error.said() {
            Some(said) if said.ends_with("not a clustered database") => Ok(Found::Standalone),
            Some(said) if damage::is_damage(said) => Ok(Found::Damaged(said.to_owned())),
            _ => Err(error.into()),
        }
    }

    /// Moves the file from another address to ours, for example after the node's address changed. A member without
    /// other members can be recreated from its contents.
    async fn move_from(&self, was: String) -> Result<(), FileError> {
        let (path, is) = (self.path.display(), &self.address);
        let members = members(&self.tool("show-log", &[&self.path]).await.unwrap_or_default());
        if members > 1 {
            let (path, is) = (self.path.clone(), self.address.clone());
            return Err(FileError::Clustered { path, was, members, is });
        }
        let contents = self.beside("standalone");
        remove(&contents).map_err(|source| self.io(source))?;
        if let Err(error) = self.tool("cluster-to-standalone", &[&contents, &self.path]).await {
            // The last write is incomplete. The server repairs this when it opens the file. A single member works with
            // any address.
            tracing::warn!(%path, was, is, %error, "the database keeps its old address for now");
            return Ok(());
        }
        tracing::warn!(%path, was, is, "this member has another address than before: its database is moved");
        self.replace(&contents).await
    }

    /// Replaces the file atomically by that of a new cluster with these contents.
    async fn replace(&self, contents: &Path) -> Result<(), FileError> {
        let new = self.beside("new");
        remove(&new).map_err(|source| self.io(source))?;
        self.create(&new, contents).await?;
        kit::file::rename(&new, &self.path).and_then(|()| remove(contents)).map_err(|source| self.io(source))
    }

    async fn create(&self, path: &Path, contents: &Path) -> Result<(), FileError> {
        let address = Path::new(&self.address);
        self.tool("create-cluster", &[path, contents, address]).await?;
        Ok(())
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

/// Returns the number of servers in the last configuration of a log (`ovsdb-tool show-log`).
fn members(log: &str) -> usize {
    let line = |line: &&str| ["servers: ", "prev_servers: "].iter().any(|words| line.trim_start().starts_with(words));
    log.lines().rfind(line).map_or(0, |line| line.matches("(\"").count())
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
    use std::fs;

    const SCHEMA: &str = r#"{"name": "Test", "version": "1.0.0", "tables":
        {"T": {"columns": {"name": {"type": "string"}}, "isRoot": true}}}"#;

    /// Returns a database file in a directory with a schema.
    fn file(dir: &Path, address: &str) -> File {
        let schema = dir.join("test.ovsschema");
        fs::write(&schema, SCHEMA).unwrap();
        File { path: dir.join("test.db"), schema, address: address.to_owned() }
    }

    /// Returns the names of the rows in a clustered database file.
    async fn rows(file: &File, dir: &Path) -> String {
        let copy = dir.join("copy");
        remove(&copy).unwrap();
        file.tool("cluster-to-standalone", &[&copy, &file.path]).await.unwrap();
        let select = r#"["Test", {"op": "select", "table": "T", "where": [], "columns": ["name"]}]"#;
        file.tool("query", &[&copy, Path::new(select)]).await.unwrap().trim().to_owned()
    }

    const HELD: &str = r#"[{"rows":[{"name":"held"}]}]"#;
    const EMPTY: &str = r#"[{"rows":[]}]"#;

    /// Creates a standalone database with one row.
    async fn standalone(file: &File) {
        file.tool("create", &[&file.path, &file.schema]).await.unwrap();
        let insert = r#"["Test", {"op": "insert", "table": "T", "row": {"name": "held"}}]"#;
        file.tool("transact", &[&file.path, Path::new(insert)]).await.unwrap();
    }

    #[tokio::test]
    async fn what_is_there_is_kept_whoever_has_made_it() {
        let dir = tempfile::tempdir().unwrap();
        let here = file(dir.path(), "tcp:127.0.0.1:6643");
        here.prepare().await.unwrap();
        assert_eq!(rows(&here, dir.path()).await, EMPTY);

        fs::remove_file(&here.path).unwrap();
        standalone(&here).await;
        here.prepare().await.unwrap();
        assert_eq!(here.look().await.unwrap(), Found::Member(here.address.clone()));
        assert_eq!(rows(&here, dir.path()).await, HELD);
        let before = fs::read(&here.path).unwrap();
        here.prepare().await.unwrap();
        assert_eq!(fs::read(&here.path).unwrap(), before);

        let there = file(dir.path(), "tcp:[::1]:6643");
        there.prepare().await.unwrap();
        assert_eq!(there.look().await.unwrap(), Found::Member(there.address.clone()));
        assert_eq!(rows(&there, dir.path()).await, HELD);
        let mut left: Vec<_> = fs::read_dir(dir.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
        left.retain(|name| !name.to_string_lossy().starts_with('.'));
        left.sort();
        assert_eq!(left, ["copy", "test.db", "test.ovsschema"]);
    }

    #[tokio::test]
    async fn a_file_that_cannot_be_read_is_put_aside_as_it_is() {
        for cut in [0, 100] {
            let dir = tempfile::tempdir().unwrap();
            let file = file(dir.path(), "tcp:127.0.0.1:6643");
            file.prepare().await.unwrap();
            let damaged = fs::read(&file.path).unwrap()[..cut].to_vec();
            fs::write(&file.path, &damaged).unwrap();
            file.prepare().await.unwrap();
            assert_eq!(rows(&file, dir.path()).await, EMPTY);
            let aside = fs::read_dir(dir.path()).unwrap().map(|e| e.unwrap().path());
            let aside: Vec<_> = aside.filter(|path| path.to_string_lossy().contains(".damaged-")).collect();
            assert_eq!(aside.len(), 1);
            assert_eq!(fs::read(&aside[0]).unwrap(), damaged);
        }
    }

    #[tokio::test]
    async fn a_write_that_was_cut_short_costs_nothing_but_the_move() {
        let dir = tempfile::tempdir().unwrap();
        let here = file(dir.path(), "tcp:127.0.0.1:6643");
        here.prepare().await.unwrap();
        let mut cut = fs::read(&here.path).unwrap();
        cut.extend_from_slice(b"OVSDB CLUSTER 100 0123456789");
        fs::write(&here.path, &cut).unwrap();
        let there = file(dir.path(), "tcp:[::1]:6643");
        there.prepare().await.unwrap();
        assert_eq!(fs::read(&here.path).unwrap(), cut);
    }

    #[test]
    fn the_last_configuration_counts() {
        let log = "record 0:\n prev_servers: 02f2(\"tcp:[::1]:6643\")\n\nrecord 3:\n servers: 02f2(\"tcp:10.0.0.1:6643\"), \
            55aa(\"tcp:10.0.0.2:6643\")\n";
        assert_eq!(members(log), 2);
        assert_eq!(members("record 0:\n prev_servers: 02f2(\"tcp:[::1]:6643\")\nrecord 1:\n index: 2\n"), 1);
    }
}
