//! Writes to the northbound database until another controller takes over.
//!
//! The fence is an epoch and the name of its writer in `NB_Global.external_ids` ([`ovn::fence`]). A writer first raises the epoch by
//! compare-and-swap. Each of its transactions starts with a wait for both. If a writer is paused and another one takes over, the
//! database itself refuses the first writer's transactions, also after a backup was restored and the epoch reached again.
//!
//! A transaction with an unknown outcome is never sent again. The caller finds out the outcome by comparing again, but
//! only after [`Writer::settle`] has raised the epoch once more. Before that, the transaction may still be in flight,
//! on another server or in the log of a new leader. A refused unit of changes does not block others: a refused
//! transaction, which wrote nothing, is split between its units until only the refused ones are left. A unit is never
//! split. A unit that needs a refused one is not tried.

use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};

use ovn::Group;
use ovn::fence::{EPOCH_KEY, WRITER_KEY};
use ovsdb::client::{Client, TransactError};
use ovsdb::{Condition, Datum, Function, Mutation, Mutator, Op, Row, Until, Uuid, Where};

use crate::changes::{Changes, Progress};
use crate::facts::Touched;
use crate::text::describe;

/// The maximum number of operations in a transaction, without the fence. A unit with more is a transaction of its own.
pub const BATCH: usize = 500;

/// How often [`Writer::raise_epoch`] tries if other writers raise the epoch at the same time.
const ATTEMPTS: usize = 16;

const NB_GLOBAL: &str = "NB_Global";

/// The only way to write to the northbound database.
#[derive(Debug)]
pub struct Writer {
    client: Client,
    /// The name of this writer.
    name: Uuid,
    /// The last epoch that this writer raised.
    epoch: Option<u64>,
    /// True if a transaction under this epoch may still be in flight.
    unsettled: AtomicBool,
}

/// Why facts are not known to be written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CommitError {
    /// Another controller raised the epoch, or the database was emptied. Nothing of this transaction was written. A
    /// controller that still holds the lease must raise the epoch again and compare everything.
    #[error("northbound: the epoch is not ours any more: another controller took over, or the database was replaced")]
    Fenced,
    /// There is no session. Nothing of this transaction was sent.
    #[error("northbound: not connected")]
    Disconnected,
    /// The reply was lost. The transaction may be written now, later or never. After the client is synced, call
    /// [`Writer::settle`] and compare again.
    #[error("northbound: the reply was lost, the transaction may or may not be written")]
    Unknown,
    /// The database refused some units of changes. All others are written.
    #[error("northbound: refused: {}{}", .0.first().map_or_else(String::new, ToString::to_string),
        if .0.len() < 2 { String::new() } else { format!(" (and {} more)", .0.len() - 1) })]
    Refused(Vec<Refusal>),
}

/// A refused unit of changes and the reason.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}{op}: {error}{}{details}", of(groups), if details.is_empty() { "" } else { ": " })]
pub struct Refusal {
    /// The groups whose changes are not written. Empty if the changes belong to no group.
    pub groups: Vec<Group>,
    /// The refused operation in the format of [`describe`].
    pub op: String,
    /// The error string (RFC 7047 section 5.2), for example `constraint violation`.
    pub error: String,
    /// The database's explanation. It can be empty.
    pub details: String,
    /// What the changes are about. [`crate::Facts::touch`] makes the next comparison ask for them again.
    pub touched: Touched,
}

fn of(groups: &[Group]) -> String {
    let names: Vec<&str> = groups.iter().map(|group| &**group.label()).collect();
    if names.is_empty() { String::new() } else { format!("{}: ", names.join(", ")) }
}

/// Why the epoch is not known to be raised.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FenceError {
    /// There is no session.
    #[error("northbound: not connected, the epoch is not raised")]
    Disconnected,
    /// The reply was lost. Try again: raising the epoch twice is harmless.
    #[error("northbound: the reply was lost, the epoch may or may not be raised")]
    Unknown,
    /// Other writers raised the epoch in every attempt.
    #[error("northbound: others raised the epoch at the same moment, {ATTEMPTS} times in a row")]
    Contended,
    /// The database refused the transaction.
    #[error("northbound: raising the epoch was refused: {0}")]
    Refused(String),
}

impl Writer {
    /// Returns a writer without an epoch. It cannot write until it raises the epoch.
    pub fn new(client: Client) -> Self {
        Self { client, name: Uuid::new_v4(), epoch: None, unsettled: AtomicBool::new(false) }
    }

    /// Returns the client.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// Returns the epoch of this writer.
    pub fn epoch(&self) -> Option<u64> {
        self.epoch
    }

    /// Returns true if the replica has the name of another writer, or a higher epoch than this one. If not,
    /// [`CommitError::Fenced`] means that the database was replaced by one that nobody has taken over.
    pub fn overtaken(&self) -> bool {
        self.client.read(|nb| {
            let ids = nb.rows(NB_GLOBAL).next().and_then(|(_, row)| row.get("external_ids"));
            let epoch = ids.and_then(|ids| ids.get(EPOCH_KEY)).and_then(|epoch| epoch.parse::<u64>().ok());
            let writer = ids.and_then(|ids| ids.get(WRITER_KEY));
            epoch > self.epoch || writer.is_some_and(|writer| *writer != *self.name.to_string())
        })
    }

    /// Raises the epoch and thereby fences off all other writers. Inserts the `NB_Global` row if the database is empty.
    /// Returns the new epoch.
    pub async fn raise_epoch(&mut self) -> Result<u64, FenceError> {
        for _ in 0..ATTEMPTS {
            let there = self.client.read(|nb| nb.rows(NB_GLOBAL).next().map(|(id, row)| (id, row.clone())));
            let ids = there.as_ref().and_then(|(_, row)| row.get("external_ids")).cloned();
            let ids = ids.unwrap_or_else(Datum::empty_map);
            // A value that is not a number, or a lower one because the database was replaced, counts as an old epoch.
            let before = ids.get(EPOCH_KEY).and_then(|epoch| epoch.parse::<u64>().ok());
            let epoch = before.max(self.epoch).unwrap_or(0).saturating_add(1);
            let ops = match there {
                Some((id, _)) => vec![
                    wait(Where::Row(id), Until::Equal, "external_ids", vec![[("external_ids", ids)].into()]),
                    Op::Mutate { table: NB_GLOBAL, on: Where::Row(id), mutations: self.raise(epoch) },
                ],
                None => vec![
                    wait(Where::All, Until::Equal, "external_ids", Vec::new()),
                    Op::Insert { table: NB_GLOBAL, uuid: None, row: [("external_ids", self.mark(epoch))].into() },
                ],
            };
            match self.client.transact(&ops).await {
                Ok(_) => {
                    self.holds(epoch);
                    return Ok(epoch);
                }
                // Read the replica again. By the time of this reply, the replica has the current epoch.
                Err(TransactError::Refused { error, .. })
                    if error == "timed out" || error == "constraint violation" => {}
                Err(TransactError::Refused { error, details, .. }) => {
                    return Err(FenceError::Refused(format!("{error}: {details}")));
                }
                Err(TransactError::Disconnected) => return Err(FenceError::Disconnected),
                Err(TransactError::Unknown | TransactError::Protocol(_)) => return Err(FenceError::Unknown),
            }
        }
        Err(FenceError::Contended)
    }

    /// After [`CommitError::Unknown`], moves our epoch on to the next one. Requests sent before do not match the new
    /// epoch, so a lost transaction is now either in the replica or never will be. Does nothing if no reply was lost.
    ///
    /// If the reply to this is lost too, a higher epoch in the database may be our own. It counts as another writer's.
    pub async fn settle(&mut self) -> Result<(), CommitError> {
        if !self.unsettled.load(Ordering::Relaxed) {
            return Ok(());
        }
        let epoch = self.epoch.ok_or(CommitError::Fenced)?;
        let next = epoch.saturating_add(1);
        let on = Where::Conditions(vec![self.ours(epoch)]);
        let raise = Op::Mutate { table: NB_GLOBAL, on, mutations: self.raise(next) };
        self.send(epoch, vec![raise]).await?.map_err(|refused| CommitError::Refused(vec![refused]))?;
        self.holds(next);
        Ok(())
    }

    /// Writes the changes in order, in as few fenced transactions as [`BATCH`] allows. The changes of a group are in one
    /// transaction. On [`CommitError::Refused`], all other changes are written. On another error, only the transactions
    /// before it are written, and the caller must compare again.
    pub async fn commit(&self, changes: Changes) -> Result<(), CommitError> {
        if changes.is_empty() {
            return Ok(());
        }
        let epoch = self.epoch.ok_or(CommitError::Fenced)?;
        let (mut progress, mut refusals) = (Progress::default(), Vec::new());
        for units in changes.ranges(BATCH) {
            self.units(epoch, &changes, units, &mut progress, &mut refusals).await?;
        }
        let dependent = Changes::dependent(&progress);
        if !dependent.is_empty() {
            refusals.push(Refusal {
                groups: changes.groups(dependent),
                op: "what depends on it".to_owned(),
                error: "not tried".to_owned(),
                details: String::new(),
                touched: self.touched(&changes, dependent),
            });
        }
        if refusals.is_empty() { Ok(()) } else { Err(CommitError::Refused(refusals)) }
    }

    /// Records in a database that was founded empty that everything is written. Does nothing in any other database.
    pub async fn complete(&self) -> Result<(), CommitError> {
        if !self.client.read(|nb| ovn::is_incomplete(nb, NB_GLOBAL)) {
            return Ok(());
        }
        let epoch = self.epoch.ok_or(CommitError::Fenced)?;
        self.send(epoch, vec![ovn::complete(NB_GLOBAL)]).await?.map_err(|refused| CommitError::Refused(vec![refused]))
    }

    /// Records that the epoch is ours and that no transaction under it is in flight.
    fn holds(&mut self, epoch: u64) {
        self.epoch = Some(epoch);
        *self.unsettled.get_mut() = false;
    }

    /// Writes one transaction. Splits it as needed to separate refused units from the rest.
    async fn units(
        &self,
        epoch: u64,
        changes: &Changes,
        units: Range<usize>,
        progress: &mut Progress,
        refusals: &mut Vec<Refusal>,
    ) -> Result<(), CommitError> {
        let mut left = vec![units];
        while let Some(units) = left.pop() {
            let ops = changes.transaction(units.clone(), progress);
            match if ops.is_empty() { Ok(()) } else { self.send(epoch, ops).await? } {
                Ok(()) => changes.written(units, progress),
                Err(refusal) if units.len() > 1 && is_about_content(&refusal.error) => {
                    let middle = units.start + units.len() / 2;
                    left.extend([middle..units.end, units.start..middle]);
                }
                Err(refusal) => {
                    let all: Vec<usize> = units.collect();
                    for unit in &all {
                        changes.refused(*unit, progress);
                    }
                    let touched = self.touched(changes, &all);
                    refusals.push(Refusal { groups: changes.groups(&all), touched, ..refusal });
                }
            }
        }
        Ok(())
    }

    /// Fails with "timed out" unless a row has this epoch and this writer: waits 0 ms until the set of such rows is not empty.
    fn fence(&self, epoch: u64) -> Op {
        wait(Where::Conditions(vec![self.ours(epoch)]), Until::NotEqual, "external_ids", Vec::new())
    }

    fn ours(&self, epoch: u64) -> Condition {
        Condition { column: "external_ids", function: Function::Includes, value: self.mark(epoch) }
    }

    fn raise(&self, epoch: u64) -> Vec<Mutation> {
        let before = Datum::set([EPOCH_KEY, WRITER_KEY]);
        vec![mutation(Mutator::Delete, before), mutation(Mutator::Insert, self.mark(epoch))]
    }

    fn mark(&self, epoch: u64) -> Datum {
        Datum::map([(EPOCH_KEY, epoch.to_string()), (WRITER_KEY, self.name.to_string())])
    }

    fn touched(&self, changes: &Changes, units: &[usize]) -> Touched {
        self.client.read(|replica| changes.touched(units, replica))
    }

    /// Writes one transaction behind the fence. The inner error is the database's refusal.
    async fn send(&self, epoch: u64, mut ops: Vec<Op>) -> Result<Result<(), Refusal>, CommitError> {
        ops.insert(0, self.fence(epoch));
        match self.client.transact(&ops).await {
            Ok(_) => Ok(Ok(())),
            Err(TransactError::Disconnected) => Err(CommitError::Disconnected),
            Err(TransactError::Unknown | TransactError::Protocol(_)) => {
                self.unsettled.store(true, Ordering::Relaxed);
                Err(CommitError::Unknown)
            }
            Err(TransactError::Refused { index: Some(0), error, .. }) if error == "timed out" => {
                Err(CommitError::Fenced)
            }
            Err(TransactError::Refused { index, error, details }) => {
                let op = self.client.read(|nb| describe(&ops, nb)).into_iter().nth(index.unwrap_or(1));
                let (groups, op, touched) = (Vec::new(), op.unwrap_or_default(), Touched::default());
                Ok(Err(Refusal { groups, op, error, details, touched }))
            }
        }
    }
}

/// Returns true if a smaller transaction could succeed. It could not if the disk is full or the server refuses all
/// writes.
fn is_about_content(error: &str) -> bool {
    !["I/O error", "resources exhausted", "timed out", "aborted", "not owner", "not allowed", "permission error"]
        .contains(&error)
}

fn wait(on: Where, until: Until, column: &'static str, rows: Vec<Row>) -> Op {
    Op::Wait { table: NB_GLOBAL, on, columns: vec![column], until, rows, timeout_ms: Some(0) }
}

fn mutation(mutator: Mutator, value: Datum) -> Mutation {
    Mutation { column: "external_ids", mutator, value }
}
