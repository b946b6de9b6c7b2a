//! Prepares a database file before its server opens it.
//!
//! The result is the file of a member of a cluster, with our address. A member that is alone founds a cluster with the
//! contents of its file. Beside other members, one without data never founds one: it joins theirs. A file that no server can
//! open, or that is of a member with another address, is renamed, and the contents come from the other members, or from the
//! controller, which fills an empty database again.

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
    /// The name of the database in its schema.
    pub database: &'static str,
    /// The address of this member in the cluster: `tcp:<address>:<port>`.
    pub address: String,
    /// The addresses of the other members.
    pub others: Vec<String>,
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
    #[error("database {} belongs to {was} in a cluster of {members}, and this is {is}: name those in --members that are left of \
        it, so that this member joins them",
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
    /// The file is in no cluster, and there are other members, which may have a cluster already.
    #[error("database {} is in no cluster, and the other members may have one: start this member alone in --members to found a \
        cluster with its contents, or move the file away to join theirs",
        path.display())]
    Standalone {
        /// The file.
        path: PathBuf,
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
    /// The file of a member that has not joined a cluster yet. It contains no data.
    Joining,
}

impl File {
    /// Prepares the file.
    pub async fn prepare(&self) -> Result<(), FileError> {
        let path = self.path.display();
        match self.look().await? {
            Found::Nothing => self.begin().await,
            Found::Damaged(why) => {
                let aside = self.put_aside("damaged")?;
                let kept = aside.display();
                tracing::error!(%path, %kept, why, "THE DATABASE CANNOT BE READ: its file is kept, and another one takes its place");
                self.begin().await
            }
            Found::Standalone if !self.others.is_empty() => Err(FileError::Standalone { path: self.path.clone() }),
            Found::Standalone => {
                tracing::info!(%path, "the database is in no cluster yet: one is made of it");
                let contents = self.beside("standalone");
                kit::file::copy(&self.path, &contents).map_err(|source| self.io(source))?;
                self.replace(&contents).await
            }
            Found::Joining => {
                // The other members may be others than when it was made.
                remove(&self.path).map_err(|source| self.io(source))?;
                self.begin().await
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
            Ok(_) if self.is_joining().await => return Ok(Found::Joining),
            Ok(address) => return Ok(Found::Member(address.trim().to_owned())),
            Err(error) => error,
        };
        match error.said() {
            Some(said) if said.ends_with("not a clustered database") => Ok(Found::Standalone),
            Some(said) if damage::is_damage(said) => Ok(Found::Damaged(said.to_owned())),
            _ => Err(error.into()),
        }
    }

    /// Returns true if the member has not joined a cluster yet. If the file cannot be read so far, the server says why.
    async fn is_joining(&self) -> bool {
        let cluster = self.tool("db-cid", &[&self.path]).await;
        cluster.is_err_and(|error| error.said().is_some_and(|said| said.ends_with("cluster ID not yet known")))
    }

    /// Makes the file of a new member: of one that joins the others, or of the first one of a cluster.
    async fn begin(&self) -> Result<(), FileError> {
        let path = self.path.display();
        if self.others.is_empty() {
            tracing::info!(%path, "there is no database yet: an empty one is made");
            return self.create(&self.path, &self.schema).await;
        }
        tracing::info!(%path, others = ?self.others, "there is no database yet: this member joins the others");
        let remotes = self.others.iter().map(Path::new);
        let words = [self.path.as_path(), Path::new(self.database), Path::new(&self.address)];
        self.tool("join-cluster", &words.into_iter().chain(remotes).collect::<Vec<_>>()).await?;
        Ok(())
    }

    /// Moves the file from another address to ours, for example after the node's address changed. The only member of a
    /// cluster can be recreated from its contents. Beside others it joins them, as the members of a cluster cannot change
    /// their addresses.
    async fn move_from(&self, was: String) -> Result<(), FileError> {
        let (path, is) = (self.path.display(), &self.address);
        let log = self.tool("show-log", &[&self.path]).await;
        let members = members(log.as_deref().unwrap_or_default());
        if !self.others.is_empty() && members != 1 {
            let log = log?;
            let last = last_configuration(&log);
            if !self.others.iter().any(|other| last.contains(&format!("(\"{other}\")"))) {
                return Err(self.clustered(was, members));
            }
            let aside = self.put_aside("replaced")?;
            let kept = aside.display();
            tracing::warn!(%path, was, is, %kept, "this member has another address than before: its file is kept");
            return self.begin().await;
        }
        if members > 1 {
            return Err(self.clustered(was, members));
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

    fn put_aside(&self, reason: &str) -> Result<PathBuf, FileError> {
        damage::put_aside(&self.path, reason).map_err(|source| self.io(source))
    }

    fn clustered(&self, was: String, members: usize) -> FileError {
        FileError::Clustered { path: self.path.clone(), was, members, is: self.address.clone() }
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

/// Returns the line with the last configuration of a log (`ovsdb-tool show-log`).
fn last_configuration(log: &str) -> &str {
    let line = |line: &&str| ["servers: ", "prev_servers: "].iter().any(|words| line.trim_start().starts_with(words));
    log.lines().rfind(line).unwrap_or_default()
}

/// Returns the number of servers in the last configuration of a log.
fn members(log: &str) -> usize {
    last_configuration(log).matches("(\"").count()
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
        File { path: dir.join("test.db"), schema, database: "Test", address: address.to_owned(), others: Vec::new() }
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

    #[tokio::test]
    async fn beside_others_a_file_in_no_cluster_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let others = vec!["tcp:127.0.0.2:6643".to_owned()];
        let here = File { others, ..file(dir.path(), "tcp:127.0.0.1:6643") };
        standalone(&here).await;
        let before = fs::read(&here.path).unwrap();
        let refused = here.prepare().await.unwrap_err();
        assert!(matches!(refused, FileError::Standalone { .. }), "{refused}");
        assert_eq!(fs::read(&here.path).unwrap(), before);
        let message = FileError::Standalone { path: "/etc/ovn/ovnnb_db.db".into() }.to_string();
        let start = "database /etc/ovn/ovnnb_db.db is in no cluster, and the other members may have one: start this member alone";
        assert!(message.starts_with(start), "{message}");

        // Without a file, it joins, and it knows no cluster until the others answer.
        fs::remove_file(&here.path).unwrap();
        here.prepare().await.unwrap();
        assert_eq!(here.look().await.unwrap(), Found::Joining);
        // Nobody has answered, and now it is alone.
        let alone = File { others: Vec::new(), ..here };
        alone.prepare().await.unwrap();
        assert_eq!(rows(&alone, dir.path()).await, EMPTY);
    }

    #[test]
    fn the_last_configuration_counts() {
        let log = "record 0:\n prev_servers: 02f2(\"tcp:[::1]:6643\")\n\nrecord 3:\n servers: 02f2(\"tcp:10.0.0.1:6643\"), \
            55aa(\"tcp:10.0.0.2:6643\")\n";
        assert_eq!(members(log), 2);
        assert_eq!(members("record 0:\n prev_servers: 02f2(\"tcp:[::1]:6643\")\nrecord 1:\n index: 2\n"), 1);
    }
}
