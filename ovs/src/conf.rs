//! The local database of the node, `conf.db`: its file and its server.

use std::io;
use std::path::{Path, PathBuf};

use daemons::damage;
use daemons::tool::{self, ToolError};
use tokio::process::Command;

/// The database and its server.
#[derive(Clone, Debug)]
pub struct Conf {
    /// The path of the database file.
    pub file: PathBuf,
    /// The path of the installed schema.
    pub schema: PathBuf,
    /// The directory of the sockets.
    pub run_directory: PathBuf,
}

/// Why the database is not available.
#[derive(Debug, thiserror::Error)]
pub enum ConfError {
    /// A tool such as `ovsdb-tool` failed.
    #[error(transparent)]
    Tool(#[from] ToolError),
    /// The file cannot be read or moved.
    #[error("database {}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The error.
        source: io::Error,
    },
}

impl Conf {
    /// Returns the socket for clients.
    pub fn socket(&self) -> PathBuf {
        self.run_directory.join("db.sock")
    }

    /// Prepares the database file. Returns the command that starts the server.
    pub async fn prepare(&self) -> Result<Command, ConfError> {
        self.file().await?;
        let mut command = daemons::daemon::command("ovsdb-server");
        command.arg(&self.file).env("OVS_RUNDIR", &self.run_directory).args([
            format!("--remote=punix:{}", self.socket().display()),
            format!("--pidfile={}", self.run_directory.join("ovsdb-server.pid").display()),
        ]);
        Ok(command)
    }

    /// Creates the database, or converts it to the installed schema. Data that the installed schema does not know is
    /// lost, as in every downgrade. A copy of the file before the conversion is kept until the next conversion.
    async fn file(&self) -> Result<(), ConfError> {
        let path = self.file.display();
        if !self.file.try_exists().map_err(|source| self.io(source))? {
            tracing::info!(%path, "there is no database yet: an empty one is made");
            return self.create().await;
        }
        let needed = match self.tool("needs-conversion", &[&self.file, &self.schema]).await {
            Ok(said) => said.trim() == "yes",
            Err(error) if error.said().is_some_and(damage::is_damage) => {
                let aside = damage::put_aside(&self.file, "damaged").map_err(|source| self.io(source))?;
                let kept = aside.display();
                tracing::error!(
                    %path, %kept, %error,
                    "THE DATABASE CANNOT BE READ: its file is kept, and an empty database takes its place; the node agent \
                     adds the ports of running pods again"
                );
                return self.create().await;
            }
            Err(error) => return Err(error.into()),
        };
        if needed {
            tracing::info!(%path, "the schema is converted");
            kit::file::copy(&self.file, &self.file.with_extension("db.before")).map_err(|source| self.io(source))?;
            // The transactions in an uncompacted file may violate the new schema even if the current rows do not.
            self.tool("compact", &[&self.file]).await?;
            self.tool("convert", &[&self.file, &self.schema]).await?;
        }
        Ok(())
    }

    async fn create(&self) -> Result<(), ConfError> {
        self.tool("create", &[&self.file, &self.schema]).await?;
        Ok(())
    }

    async fn tool(&self, verb: &str, paths: &[&Path]) -> Result<String, ToolError> {
        let quiet = ["-vconsole:off", "-vsyslog:off", verb].map(AsRef::<Path>::as_ref);
        tool::run("ovsdb-tool", quiet.iter().chain(paths)).await
    }

    fn io(&self, source: io::Error) -> ConfError {
        ConfError::Io { path: self.file.clone(), source }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn schema(dir: &Path, version: &str, column: &str) {
        let schema = format!(
            r#"{{"name": "Test", "version": "{version}", "tables":
                {{"T": {{"columns": {{"name": {{"type": "string"}}{column}}}, "isRoot": true}}}}}}"#
        );
        fs::write(dir.join("schema"), schema).unwrap();
    }

    #[tokio::test]
    async fn a_file_is_made_converted_and_put_aside_as_it_must_be() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        let conf = Conf { file: path("conf.db"), schema: path("schema"), run_directory: path("") };
        schema(dir.path(), "1.0.0", "");
        conf.file().await.unwrap();
        let insert = r#"["Test", {"op": "insert", "table": "T", "row": {"name": "held"}}]"#;
        conf.tool("transact", &[&conf.file, Path::new(insert)]).await.unwrap();

        schema(dir.path(), "1.1.0", r#", "more": {"type": "string"}"#);
        conf.file().await.unwrap();
        let select = r#"["Test", {"op": "select", "table": "T", "where": [], "columns": ["name", "more"]}]"#;
        let query = conf.tool("query", &[&conf.file, Path::new(select)]).await.unwrap();
        assert_eq!(query.trim(), r#"[{"rows":[{"more":"","name":"held"}]}]"#);

        fs::write(&conf.file, "no database").unwrap();
        conf.file().await.unwrap();
        let query = conf.tool("query", &[&conf.file, Path::new(select)]).await.unwrap();
        assert_eq!(query.trim(), r#"[{"rows":[]}]"#);
        let names = fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
        assert_eq!(names.filter(|name| name.starts_with("conf.db.damaged-")).count(), 1);
    }
}
