//! What happens while the disk is full: OVS goes on in memory, and leaves a file in which records are missing.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use daemons::control::{self, ControlError};
use daemons::daemon::Hear;
use daemons::damage;
use kit::once::Once;

use super::{Database, DatabaseError, RETRY};

/// The pause before a full disk is looked at again.
const SPACE: Duration = Duration::from_secs(5);

/// The longest pause before a server that did not answer is asked again to write its file anew.
const LONGEST: Duration = Duration::from_mins(10);

impl Database {
    /// Prepares the file. Without space for that, waits until there is some.
    pub(super) async fn prepare_file_in_space(&self) -> Result<(), DatabaseError> {
        let mut said = false;
        while let Err(error) = self.prepare_file().await {
            if !damage::lacks_space(&error.to_string()) {
                return Err(error);
            }
            if !said {
                tracing::error!(database = self.which.schema(), %error, "the file cannot be prepared before there is space");
            }
            said = true;
            tokio::time::sleep(SPACE).await;
        }
        Ok(())
    }

    /// Returns what listens to the server's log.
    pub fn hear(&self) -> Hear {
        let unwritten = self.unwritten.clone();
        Arc::new(move |message| {
            if message.contains("write failed") {
                unwritten.notify_one();
            }
        })
    }

    /// Whenever the server could not write records, because the disk was full, has it write its file anew when there is space. Until
    /// then, it goes on in memory, and it neither acknowledges nor writes the missing records by itself.
    pub async fn complete_file(&self) -> Infallible {
        loop {
            self.unwritten.notified().await;
            let database = self.which.schema();
            tracing::error!(database, "records are not in the file: the server goes on in memory until there is space");
            let (mut said, mut pause) = (Once::default(), RETRY);
            loop {
                tokio::time::sleep(pause).await;
                match control::ask(&self.control(), "ovsdb-server/compact", &[database]).await {
                    Ok(_) => {
                        tracing::info!(database, "the file is complete again");
                        break;
                    }
                    // It has ended, and the next server has only what is in the file.
                    Err(error @ ControlError::Io { .. }) => {
                        tracing::warn!(database, %error, "the file is not written anew");
                        break;
                    }
                    Err(ControlError::Refused { said, .. }) if damage::lacks_space(&said) => {}
                    // A server that takes longer than its answer writes each time that it was asked.
                    Err(error) => {
                        pause = (pause * 2).min(LONGEST);
                        let error = error.to_string();
                        if said.is_new(&error) {
                            tracing::warn!(database, error, "the file is not written anew yet; trying again");
                        }
                    }
                }
            }
        }
    }
}
