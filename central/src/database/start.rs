//! The end of a server's start, beside other members as soon as it is connected to its cluster: the schema is converted, and clients of
//! other machines are let in.

use std::sync::atomic::Ordering;

use daemons::control;
use daemons::tool::{self, ToolError};
use daemons::version::Version;
use kit::once::Once;

use super::{Database, DatabaseError, Others, RETRY};
use crate::complete;

impl Database {
    /// Finishes the start of a server that works. Beside other members, that may take as long as the cluster has no leader,
    /// and the other daemons do not wait for it.
    pub async fn finish_start(&mut self) -> Result<(), DatabaseError> {
        self.failed = false;
        self.stop_settling();
        // What a compaction frees goes back to the system.
        control::ask(&self.control(), "ovsdb-server/memory-trim-on-compaction", &["on"]).await?;
        let standing = self.standing().await?;
        if !standing.joining && standing.address != self.file.address {
            // It could not be moved because its last write was incomplete. The server has repaired that.
            tracing::warn!(was = standing.address, is = self.file.address, "the database is moved");
            return Ok(self.restart().await?);
        }
        let servers = standing.servers.len();
        let is_alone = matches!(&self.others, Others::Listed(others) if others.is_empty());
        let is_only = is_alone && servers <= 1;
        if is_only {
            self.connected().await?;
            self.convert().await?;
        } else if is_alone {
            let database = self.which.schema();
            tracing::warn!(
                database,
                servers,
                "--members names only this member of the cluster: if its file is lost, it founds another cluster"
            );
        }
        let database = self.clone();
        self.settling = Some(tokio::spawn(async move { database.settle(!is_only).await }).abort_handle());
        Ok(())
    }

    /// Opens the database, and does what needs a leader, as soon as the server is connected to its cluster.
    async fn settle(&self, connects: bool) {
        let database = self.which.schema();
        let mut said = Once::default();
        while let Err(error) = self.try_to_settle(connects).await {
            let error = error.to_string();
            if said.is_new(&error) {
                tracing::warn!(database, error, "the start is not finished; trying again");
            }
            tokio::time::sleep(RETRY).await;
        }
    }

    async fn try_to_settle(&self, connects: bool) -> Result<(), DatabaseError> {
        if !connects {
            return self.open().await;
        }
        self.connected().await?;
        let removed = self.remove_predecessors().await;
        let converted = self.convert().await;
        // Until it is converted, clients find the former schema.
        self.open().await?;
        converted.and(removed)
    }

    /// Removes former servers with the address of this one from the cluster. Their files are gone, so they never come back.
    /// Members that agree in Kubernetes know more, and the leader removes those ([`crate::agreed::keeper`]).
    async fn remove_predecessors(&self) -> Result<(), DatabaseError> {
        if matches!(self.others, Others::Agreed(_)) {
            return Ok(());
        }
        let database = self.which.schema();
        loop {
            let standing = self.standing().await?;
            let mut before = standing.predecessors(&self.file.address).peekable();
            if before.peek().is_none() {
                return Ok(());
            }
            for server in before {
                tracing::warn!(database, server, "a former server with the address of this one is removed");
                control::ask(&self.control(), "cluster/kick", &[database, server]).await?;
            }
            // A follower passes the request on, and no event tells when the cluster has done it.
            tokio::time::sleep(RETRY).await;
        }
    }

    pub(super) fn stop_settling(&mut self) {
        if let Some(settling) = self.settling.take() {
            settling.abort();
        }
    }

    /// Waits until the server is connected to its cluster. Fails if the server ends.
    async fn connected(&self) -> Result<(), DatabaseError> {
        let (database, server) = (self.which.schema(), self.server());
        loop {
            match tool::run("ovsdb-client", ["wait", &server, database, "connected"]).await {
                Err(ToolError::Slow { .. }) => {
                    let standing = self.standing().await?;
                    tracing::warn!(database, status = standing.why(), "waiting for a leader of the cluster");
                }
                other => return Ok(other.map(drop)?),
            }
        }
    }

    /// Converts the database to the installed schema if that is newer. Keeps a newer database schema: members are
    /// upgraded one by one, and an old member must not undo the conversion.
    async fn convert(&self) -> Result<(), DatabaseError> {
        let server = self.server();
        let schema = self.file.schema.display().to_string();
        let name = self.which.schema();
        let found = version(&tool::run("ovsdb-client", ["get-schema-version", &server, name]).await?)?;
        let installed = version(&tool::run("ovsdb-tool", ["schema-version", &schema]).await?)?;
        if installed > found {
            if let Some(backups) = &self.backups
                && let Err(error) = backups.make_before(&installed).await
            {
                tracing::warn!(%error, "there is no backup from before the conversion");
            }
            tracing::info!(database = name, %found, %installed, "the schema is converted");
            tool::run("ovsdb-client", ["--timeout=120", "convert", &server, &schema]).await?;
        }
        Ok(())
    }

    /// Serves clients of other machines as soon as northd has written to the southbound database. An ovn-controller that sees an
    /// empty one takes all flows away.
    async fn open(&self) -> Result<(), DatabaseError> {
        if self.is_open() {
            return Ok(());
        }
        complete::written(&self.socket()).await;
        self.transport.ready().await;
        self.configure(true)?;
        control::ask(&self.control(), "ovsdb-server/reload", &[]).await?;
        self.open.store(true, Ordering::Relaxed);
        Ok(())
    }
}

fn version(said: &str) -> Result<Version, DatabaseError> {
    said.trim().parse().map_err(|_| DatabaseError::Schema(said.trim().to_owned()))
}
