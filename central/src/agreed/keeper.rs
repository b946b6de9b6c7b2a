//! Does what a running member owes to its cluster, whenever its server, the record or the labelled nodes change.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::time::Duration;

use daemons::control::{self, ControlError};
use daemons::damage;
use kit::once::Once;
use tokio::sync::watch;
use tokio::time::Instant;
use tracing::{info, warn};

use super::decision::Me;
use super::duties;
use super::store::StoreError;
use super::{Agreement, RETRY};
use crate::database::{Database, DatabaseError};
use crate::server::Role;
use crate::standing::Standing;

/// The pause before a server that was told to do something is asked how far it is.
const SOON: Duration = Duration::from_millis(250);

/// The time in which a server is not removed again. The removal ends soon after the request, and a server that is then alone
/// takes the request for a server that it does not know for its own removal (`cluster/kick` removes the best match).
const KICKED: Duration = Duration::from_secs(10);

/// How long the container of a member may take to end after its node has lost the labels.
const END: Duration = Duration::from_secs(35);

/// Why a member could not do its duties.
#[derive(Debug, thiserror::Error)]
enum KeeperError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Database(#[from] DatabaseError),
    #[error(transparent)]
    Control(#[from] ControlError),
    #[error("it founds the cluster anew when its file is complete: {0}")]
    Incomplete(ControlError),
}

/// Keeps one database of this member.
#[derive(Debug)]
pub struct Keeper {
    agreement: Agreement,
    database: Database,
    role: watch::Receiver<Role>,
    /// The election timer of the cluster in milliseconds.
    election_timer: u32,
    /// The servers that were removed, and when.
    kicked: BTreeMap<String, Instant>,
    /// Since when its server leads although its node has not the labels.
    leads_without_label: Option<Instant>,
}

impl Keeper {
    /// Creates the keeper of a database. `election_timer` is that of its cluster, in milliseconds.
    pub fn new(agreement: Agreement, database: Database, role: watch::Receiver<Role>, election_timer: u32) -> Self {
        Self { agreement, database, role, election_timer, kicked: BTreeMap::new(), leads_without_label: None }
    }

    /// Acts for as long as the future runs.
    pub async fn run(mut self) -> Infallible {
        let database = self.database.which().schema();
        let mut said = Once::default();
        loop {
            self.agreement.labelled.mark_unchanged();
            self.agreement.changed.mark_unchanged();
            self.role.mark_unchanged();
            let again = match self.round().await {
                Ok(again) => {
                    said.clear();
                    again
                }
                Err(error) => {
                    let error = error.to_string();
                    if said.is_new(&error) {
                        warn!(database, error, "the members of the cluster are not looked after; trying again");
                    }
                    Some(RETRY)
                }
            };
            tokio::select! {
                _ = self.agreement.labelled.changed() => {}
                _ = self.agreement.changed.changed() => {}
                _ = self.role.changed() => {}
                () = tokio::time::sleep(again.unwrap_or_default()), if again.is_some() => {}
            }
        }
    }

    /// Acts once. Returns when to look again, if nothing tells.
    async fn round(&mut self) -> Result<Option<Duration>, KeeperError> {
        let labelled = self.agreement.labelled().filter(|labelled| !labelled.is_empty());
        let Some(mut labelled) = labelled else { return Ok(None) };
        let read = self.agreement.store.read().await?;
        let database = self.database.which().schema();
        let is_member = labelled.contains_key(&self.agreement.node);
        let mut standing = match self.database.standing().await {
            Ok(standing) => standing,
            // It has left, or is about to end.
            Err(_) if !is_member => return Ok(None),
            // It is not running, and one that starts without a leader has nothing to tell.
            Err(DatabaseError::Control(ControlError::Io { .. })) => return Ok(Some(RETRY)),
            // The server has learnt that it was removed, and has closed its database.
            Err(DatabaseError::Control(ControlError::Refused { said, .. })) if said.contains("unknown cluster") => {
                return self.restart("it was removed from its cluster", false).await;
            }
            Err(error) => return Err(error.into()),
        };
        let me = Me { node: &self.agreement.node, address: self.database.address() };
        let mut duties = duties::duties(&read.record, &standing, me, &labelled);
        if duties.concerns_others(&read.record) {
            labelled = self.agreement.list_labelled().await?;
            standing = self.database.standing().await?;
            duties = duties::duties(&read.record, &standing, me, &labelled);
        }
        if !labelled.contains_key(&self.agreement.node) {
            return if duties.leave { self.leave().await } else { Ok(None) };
        }
        self.leads_without_label = None;
        if let Some(record) = &duties.record
            && !self.agreement.store.write(&read, record).await?
        {
            return Ok(Some(SOON));
        }
        self.kicked.retain(|_, at| at.elapsed() < KICKED);
        for server in &duties.kick {
            if self.kicked.contains_key(server) {
                continue;
            }
            info!(database, server, "a server that never comes back is removed from the cluster");
            // It may be carried out although there is no answer in time.
            self.kicked.insert(server.clone(), Instant::now());
            control::ask(&self.database.control(), "cluster/kick", &[database, server]).await?;
        }
        let timer = next_timer(&standing, self.election_timer);
        if let Some(timer) = &timer {
            control::ask(&self.database.control(), "cluster/change-election-timer", &[database, timer]).await?;
        }
        match duties.restart {
            Some(why) => self.restart(why, duties.founds).await,
            None if !duties.kick.is_empty() || duties.record.is_some() || timer.is_some() => Ok(Some(SOON)),
            None => Ok((!standing.connected).then_some(RETRY)),
        }
    }

    /// Leaves the cluster, so that a member leads that clients know. Normally the container of a member without the label ends
    /// within seconds. It goes on if its kubelet does not work any more.
    async fn leave(&mut self) -> Result<Option<Duration>, KeeperError> {
        let since = *self.leads_without_label.get_or_insert_with(Instant::now);
        if let Some(left) = END.checked_sub(since.elapsed()).filter(|left| !left.is_zero()) {
            return Ok(Some(left));
        }
        let database = self.database.which().schema();
        warn!(database, "this node has not the labels of nodes with members any more: its server, which leads, leaves");
        control::ask(&self.database.control(), "cluster/leave", &[database]).await?;
        Ok(None)
    }

    /// Has the server end, so that it is started with the file that is right now. If that is made of its file, nothing may be
    /// in its memory alone.
    async fn restart(&self, why: &'static str, founds: bool) -> Result<Option<Duration>, KeeperError> {
        let database = self.database.which().schema();
        // ovsdb-tool would also take over what the cluster has taken back.
        if let Err(error) = control::ask(&self.database.control(), "ovsdb-server/compact", &[database]).await {
            if founds && damage::lacks_space(&error.to_string()) {
                return Err(KeeperError::Incomplete(error));
            }
            warn!(database, %error, "the file is not compacted");
        }
        warn!(database, why, "the server is started again");
        self.database.restart().await?;
        Ok(Some(RETRY))
    }
}

/// Returns the election timer in milliseconds that the leader asks for on the way to this one. A cluster can at most double it at a
/// time (ovsdb-server(1), `cluster/change-election-timer`).
fn next_timer(standing: &Standing, wanted: u32) -> Option<String> {
    let now = standing.election_timer.filter(|now| standing.leads && *now != wanted)?;
    Some(wanted.min(now.saturating_mul(2)).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_leader_doubles_the_election_timer_until_it_is_right() {
        let next = |leads, now, wanted| {
            let timer = format!("Leader: {}\nElection timer: {now}", if leads { "self" } else { "4db3" });
            next_timer(&Standing::parse(&timer), wanted)
        };
        assert_eq!([next(true, 1000, 5000), next(true, 4000, 5000)].map(Option::unwrap), ["2000", "5000"]);
        assert_eq!(next(true, 5000, 1000).as_deref(), Some("1000"));
        assert_eq!([next(true, 5000, 5000), next(false, 1000, 5000)], [None, None]);
    }
}
