//! The state that the handles, the session task and the transport share. Locks are held briefly and never across an
//! await.
//!
//! This module guarantees the order of events. A change is marked after the replica contains it. `connected` becomes
//! true after the snapshot is applied and before its changes are reported. It becomes false before anyone learns that
//! the session ended.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard};
use std::time::Duration;

use serde_json::value::RawValue;
use serde_json::{Map, Value, json};
use tokio::sync::watch;
use tokio::time::Instant;

use super::changes::{Changes, Dirty};
use super::config::Config;
use super::endpoint::Endpoint;
use super::error::SessionError;
use super::leader::{DATABASE, Member, Seen};
use super::ticket::Tickets;
use super::wire::{Monitor, Monitored};
use crate::{Replica, RowId, Schema, Table, Updates};

#[derive(Debug)]
pub(super) struct State {
    /// The servers to try, instead of those of the configuration.
    pub(super) endpoints: watch::Sender<Vec<Endpoint>>,
    pub(super) config: Config,
    pub(super) connected: watch::Sender<bool>,
    /// Why there is no session.
    pub(super) failure: watch::Sender<Option<Arc<str>>>,
    replica: RwLock<Replica>,
    /// The contents of the database whose place one took that is not filled yet.
    before: Mutex<Option<Arc<Replica>>>,
    dirty: Arc<Dirty>,
    /// The ID of the last transaction in the replica. `None` if the replica needs a snapshot.
    last_txn: Mutex<Option<String>>,
    live: RwLock<Option<Arc<Live>>>,
    /// The highest log index seen in the cluster.
    seen: Seen,
}

/// A session that accepts transactions.
#[derive(Debug)]
pub(super) struct Live {
    pub(super) rpc: Rpc,
    pub(super) link: Arc<Link>,
}

pub(super) type Rpc = jsonrpsee::core::client::Client<jsonrpsee::core::client::async_client::RpcService>;

/// One connection, from start to end.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) tickets: Tickets,
    pub(super) member: Member,
    /// The monitor whose reply is pending, and the ID of the request.
    awaited: Mutex<Option<(Monitor, String)>>,
    heard: Mutex<Instant>,
    end: watch::Sender<Option<Arc<SessionError>>>,
}

impl State {
    pub(super) fn new(config: Config) -> (State, Changes) {
        let dirty = Arc::new(Dirty::default());
        let state = State {
            endpoints: watch::Sender::new(config.endpoints.clone()),
            connected: watch::Sender::new(false),
            failure: watch::Sender::new(None),
            replica: RwLock::new(Replica::new(config.tables.iter().copied())),
            before: Mutex::default(),
            dirty: dirty.clone(),
            last_txn: Mutex::new(None),
            live: RwLock::new(None),
            seen: Seen::default(),
            config,
        };
        (state, Changes::new(dirty))
    }

    pub(super) fn replica(&self) -> RwLockReadGuard<'_, Replica> {
        self.replica.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn live(&self) -> Option<Arc<Live>> {
        self.live.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn tables(&self) -> &[Table] {
        &self.config.tables
    }

    /// Adopts the schema of the connected server.
    pub(super) fn adopt(&self, schema: &Schema) {
        if !self.replica.write().unwrap_or_else(PoisonError::into_inner).adopt(schema) {
            return;
        }
        self.forget_txn();
        let (database, version) = (self.config.database, &schema.version);
        for table in self.tables() {
            let lacking = table.columns.iter().filter(|column| schema.column(table.name, column).is_none());
            let columns = lacking.copied().collect::<Vec<_>>().join(" ");
            if !columns.is_empty() {
                tracing::warn!(database, version, table = table.name, columns, "the schema lacks columns that we read");
            }
        }
    }

    /// The parameters of the monitor request: every change since the last transaction in the replica.
    pub(super) fn monitor_params(&self) -> Vec<Value> {
        let replica = self.replica();
        let monitored = self.tables().iter().filter_map(|table| {
            let columns: Vec<_> = replica.columns(table.name).collect();
            let only = self.config.only.iter().filter(|(limited, _)| *limited == table.name);
            let only: Vec<_> = only.map(|(_, condition)| condition.to_json()).collect();
            let mut request = json!({ "columns": columns });
            if !only.is_empty() {
                request["where"] = only.into();
            }
            (!columns.is_empty()).then(|| (table.name.to_owned(), json!([request])))
        });
        let since = self.last_txn.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let since = since.unwrap_or_else(|| uuid::Uuid::nil().to_string());
        let database = self.config.database;
        vec![json!(database), json!(database), monitored.collect::<Map<_, _>>().into(), json!(since)]
    }

    /// Applies the reply to the monitor request: a snapshot, or the changes since the last session.
    pub(super) fn monitored(&self, reply: Monitored<'_>) -> Result<(), SessionError> {
        let Monitored { found, last_txn, updates } = reply;
        let updates = Updates::decode(self.tables(), updates)?;
        if found {
            let changed = self.apply(&last_txn, updates)?;
            self.release();
            self.dirty.hold(changed, false);
        } else {
            // Readers continue while the new replica is built.
            let (fresh, changed) = self.replica().snapshot(updates)?;
            let old = std::mem::replace(&mut *self.replica.write().unwrap_or_else(PoisonError::into_inner), fresh);
            self.remember_txn(&last_txn);
            self.keep(old);
            self.dirty.hold(changed, true);
        }
        Ok(())
    }

    /// Keeps what a snapshot has replaced, if it is that of an unfilled database.
    fn keep(&self, old: Replica) {
        let Some(is_unfilled) = self.config.unfilled else { return };
        let mut before = self.before();
        if !is_unfilled(&self.replica()) {
            *before = None;
        } else if old.has_rows() && !is_unfilled(&old) {
            *before = Some(Arc::new(old));
        }
    }

    /// Drops what was kept as soon as the database is filled.
    fn release(&self) {
        let mut before = self.before();
        if before.is_some() && !self.config.unfilled.is_some_and(|is_unfilled| is_unfilled(&self.replica())) {
            *before = None;
        }
    }

    pub(super) fn before(&self) -> MutexGuard<'_, Option<Arc<Replica>>> {
        self.before.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Applies an update.
    pub(super) fn updated(&self, last_txn: &str, updates: &RawValue) -> Result<(), SessionError> {
        let updates = Updates::decode(self.tables(), updates).inspect_err(|_| self.forget_txn())?;
        let changed = self.apply(last_txn, updates)?;
        self.release();
        self.dirty.mark(changed);
        Ok(())
    }

    /// Applies an update of the server's own database and checks whether the server is still accepted.
    pub(super) fn told(&self, link: &Link, updates: &RawValue) -> Result<(), SessionError> {
        link.member.updated(Updates::decode(&[DATABASE], updates)?)?;
        Ok(link.member.check(self.config.database, self.config.accept, &self.seen)?)
    }

    /// Applies updates and returns the changed rows, which the caller must mark.
    fn apply(&self, last_txn: &str, updates: Updates) -> Result<BTreeSet<RowId>, SessionError> {
        let applied = self.replica.write().unwrap_or_else(PoisonError::into_inner).apply(updates);
        // An update that does not fit means that the replica differs from the server's data. Only a snapshot repairs
        // this.
        let changed = applied.inspect_err(|_| self.forget_txn())?;
        self.remember_txn(last_txn);
        Ok(changed)
    }

    fn remember_txn(&self, last_txn: &str) {
        *self.last_txn.lock().unwrap_or_else(PoisonError::into_inner) = Some(last_txn.to_owned());
    }

    fn forget_txn(&self) {
        *self.last_txn.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// Makes the session available for transactions, unless it has ended in the meantime.
    pub(super) fn begin(&self, live: Arc<Live>) {
        let link = live.link.clone();
        link.end.send_if_modified(|end| {
            if end.is_none() {
                *self.live.write().unwrap_or_else(PoisonError::into_inner) = Some(live);
                self.failure.send_replace(None);
                self.connected.send_replace(true);
                self.dirty.begin();
            }
            false
        });
    }

    /// Ends a session. The first reason wins.
    pub(super) fn end(&self, link: &Link, reason: SessionError) {
        link.end.send_if_modified(|end| {
            let first = end.is_none();
            if first {
                *self.live.write().unwrap_or_else(PoisonError::into_inner) = None;
                self.connected.send_replace(false);
                *end = Some(Arc::new(reason));
            }
            first
        });
    }
}

impl Link {
    pub(super) fn new() -> Link {
        Link {
            tickets: Tickets::default(),
            member: Member::new(),
            awaited: Mutex::new(None),
            heard: Mutex::new(Instant::now()),
            end: watch::Sender::new(None),
        }
    }

    /// Whether the pending reply can contain a whole database.
    pub(super) fn awaits_snapshot(&self) -> bool {
        let awaited = self.awaited.lock().unwrap_or_else(PoisonError::into_inner);
        matches!(*awaited, Some((Monitor::Tables, _)))
    }

    /// Records a monitor request.
    pub(super) fn await_monitor(&self, monitor: Monitor, id: String) {
        *self.awaited.lock().unwrap_or_else(PoisonError::into_inner) = Some((monitor, id));
    }

    /// Takes the pending monitor if its request has this ID.
    pub(super) fn started(&self, id: &str) -> Option<Monitor> {
        let mut awaited = self.awaited.lock().unwrap_or_else(PoisonError::into_inner);
        awaited.take_if(|(_, asked)| asked == id).map(|(monitor, _)| monitor)
    }

    /// Waits for the end of the session and returns the reason.
    pub(super) async fn ended(&self) -> Arc<SessionError> {
        let mut end = self.end.subscribe();
        let reason = end.wait_for(Option::is_some).await;
        // The sender is part of `self`, so `wait_for` cannot fail.
        reason.ok().and_then(|reason| reason.clone()).unwrap_or_else(|| Arc::new(SessionError::Closed))
    }

    /// Records that the server sent something.
    pub(super) fn hear(&self) {
        *self.heard.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    /// Returns the time since the server last sent something.
    pub(super) fn silence(&self) -> Duration {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner).elapsed()
    }
}
