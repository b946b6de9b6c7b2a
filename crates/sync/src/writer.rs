//! Writing, for as long as nobody else has taken over.
//!
//! The fence: an epoch in `NB_Global.external_ids`. Whoever wants to write raises it first, by compare-and-swap, and each
//! transaction begins by asking for the epoch that its writer has raised. A writer that was paused while another took over
//! is thus refused by the database itself.
//!
//! Promises: nothing whose outcome is unknown is ever sent again. What became of a transaction whose reply was lost is for
//! the caller to find out, by comparing again, and not before [`Writer::settle`] has raised the epoch once more: until then
//! it may still be on its way, through another server or in the log of a new leader. And what the database refuses holds
//! nothing else up: a refused transaction, of which nothing was written, is taken apart until only the bad part is left.

use std::sync::atomic::{AtomicBool, Ordering};

use ovsdb::client::{Client, TransactError};
use ovsdb::{Condition, Datum, Function, Mutation, Mutator, Op, Row, Until, Where};

use crate::batch::{batches, units};
use crate::text::describe;

/// The key of the epoch in `NB_Global.external_ids`.
pub const EPOCH_KEY: &str = "kube-ovn-leader-epoch";

/// The most operations of one transaction, the fence not counted.
pub const BATCH: usize = 500;

/// How often [`Writer::raise_epoch`] tries when others raise the epoch at the same moment.
const ATTEMPTS: usize = 16;

const NB_GLOBAL: &str = "NB_Global";

/// The one way to write to the northbound database.
#[derive(Debug)]
pub struct Writer {
    client: Client,
    /// The last epoch raised here.
    epoch: Option<u64>,
    /// A transaction under this epoch may still be on its way.
    unsettled: AtomicBool,
}

/// Why facts are not known to be written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CommitError {
    /// Another controller has raised the epoch, or the database was emptied: nothing of this transaction was written.
    /// Whoever still holds the lease raises the epoch again and compares everything.
    #[error("northbound: the epoch is not ours any more: another controller took over, or the database was replaced")]
    Fenced,
    /// There is no session; nothing of this transaction was sent.
    #[error("northbound: not connected")]
    Disconnected,
    /// The reply was lost: the transaction may or may not be written, now or later. Once synced, [`Writer::settle`] it and
    /// compare again.
    #[error("northbound: the reply was lost, the transaction may or may not be written")]
    Unknown,
    /// The database refused some of it. Everything else is written.
    #[error("northbound: refused: {first}{}", if *others == 0 { String::new() } else { format!(" (and {others} more)") })]
    Refused {
        /// The first refusal.
        first: Refusal,
        /// How many more there were.
        others: usize,
    },
}

/// What the database refused, and why.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{op}: {error}{}{details}", if details.is_empty() { "" } else { ": " })]
pub struct Refusal {
    /// The operation, as [`describe`] tells it.
    pub op: String,
    /// The kind of error (RFC 7047 section 5.2), such as `constraint violation`.
    pub error: String,
    /// The database's explanation; may be empty.
    pub details: String,
}

/// Why the epoch is not known to be raised.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FenceError {
    /// There is no session.
    #[error("northbound: not connected, the epoch is not raised")]
    Disconnected,
    /// The reply was lost. Try again: an epoch raised twice does no harm.
    #[error("northbound: the reply was lost, the epoch may or may not be raised")]
    Unknown,
    /// Others raise it all the time.
    #[error("northbound: others raised the epoch at the same moment, {ATTEMPTS} times in a row")]
    Contended,
    /// The database refused it.
    #[error("northbound: raising the epoch was refused: {0}")]
    Refused(String),
}

impl Writer {
    /// A writer that is fenced off until it raises the epoch.
    pub fn new(client: Client) -> Self {
        Self { client, epoch: None, unsettled: AtomicBool::new(false) }
    }

    /// The session it writes by.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// The epoch that it writes under.
    pub fn epoch(&self) -> Option<u64> {
        self.epoch
    }

    /// Whether another writer has raised the epoch above ours, as far as the replica knows. [`CommitError::Fenced`] without
    /// this means that the database was replaced by one that knows nothing of us.
    pub fn overtaken(&self) -> bool {
        let there = self.client.read(|nb| {
            let (_, row) = nb.rows(NB_GLOBAL).next()?;
            row.get("external_ids")?.get(EPOCH_KEY)?.parse::<u64>().ok()
        });
        there > self.epoch
    }

    /// Takes over: from now on others are refused. Makes the `NB_Global` row when the database is empty. Returns the epoch.
    pub async fn raise_epoch(&mut self) -> Result<u64, FenceError> {
        for _ in 0..ATTEMPTS {
            let there = self.client.read(|nb| nb.rows(NB_GLOBAL).next().map(|(id, row)| (id, row.clone())));
            let ids = there.as_ref().and_then(|(_, row)| row.get("external_ids")).cloned();
            let ids = ids.unwrap_or_else(Datum::empty_map);
            // A value that is no number, or that went back because the database was replaced, counts as past.
            let before = ids.get(EPOCH_KEY).and_then(|epoch| epoch.parse::<u64>().ok());
            let epoch = before.max(self.epoch).unwrap_or(0).saturating_add(1);
            let wanted = Datum::map([(EPOCH_KEY, epoch.to_string())]);
            let ops = match there {
                Some((id, _)) => vec![
                    wait(Where::Row(id), Until::Equal, "external_ids", vec![[("external_ids", ids)].into()]),
                    Op::Mutate {
                        table: NB_GLOBAL,
                        on: Where::Row(id),
                        mutations: vec![
                            mutation(Mutator::Delete, Datum::from(EPOCH_KEY)),
                            mutation(Mutator::Insert, wanted),
                        ],
                    },
                ],
                None => vec![
                    wait(Where::All, Until::Equal, "external_ids", Vec::new()),
                    Op::Insert { table: NB_GLOBAL, uuid: None, row: [("external_ids", wanted)].into() },
                ],
            };
            match self.client.transact(&ops).await {
                Ok(_) => {
                    self.holds(epoch);
                    return Ok(epoch);
                }
                // The replica is read again: by the time of this reply it holds what was before it.
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

    /// After [`CommitError::Unknown`]: makes sure that what was lost is either in the replica now or never will be, by going
    /// on from our epoch to the next one, which whatever was sent before does not know. Nothing to do otherwise.
    ///
    /// When the reply to this is lost too, an epoch above ours may be our own; it counts as another's.
    pub async fn settle(&mut self) -> Result<(), CommitError> {
        if !self.unsettled.load(Ordering::Relaxed) {
            return Ok(());
        }
        let epoch = self.epoch.ok_or(CommitError::Fenced)?;
        let next = epoch.saturating_add(1);
        let mutations = vec![
            mutation(Mutator::Delete, Datum::from(EPOCH_KEY)),
            mutation(Mutator::Insert, Datum::map([(EPOCH_KEY, next.to_string())])),
        ];
        let raise = Op::Mutate { table: NB_GLOBAL, on: Where::Conditions(vec![ours(epoch)]), mutations };
        self.write(epoch, vec![raise]).await?;
        self.holds(next);
        Ok(())
    }

    /// Writes the operations in order, in as few transactions as [`BATCH`] allows, each of them behind the fence. On
    /// [`CommitError::Refused`] everything else is written, on another error the transactions before it; the caller
    /// compares again.
    pub async fn commit(&self, ops: Vec<Op>) -> Result<(), CommitError> {
        if ops.is_empty() {
            return Ok(());
        }
        self.write(self.epoch.ok_or(CommitError::Fenced)?, ops).await
    }

    /// The epoch is ours, and nothing is on its way under it.
    fn holds(&mut self, epoch: u64) {
        self.epoch = Some(epoch);
        *self.unsettled.get_mut() = false;
    }

    async fn write(&self, epoch: u64, ops: Vec<Op>) -> Result<(), CommitError> {
        let mut refusals = Vec::new();
        for batch in batches(ops, BATCH) {
            self.batch(epoch, batch, &mut refusals).await?;
        }
        let others = refusals.len().saturating_sub(1);
        match refusals.into_iter().next() {
            None => Ok(()),
            Some(first) => Err(CommitError::Refused { first, others }),
        }
    }

    /// One transaction, or as many as are needed to keep what is refused apart from the rest.
    async fn batch(&self, epoch: u64, batch: Vec<Op>, refusals: &mut Vec<Refusal>) -> Result<(), CommitError> {
        let mut left = vec![batch];
        while let Some(mut ops) = left.pop() {
            ops.insert(0, fence(epoch));
            match self.client.transact(&ops).await {
                Ok(_) => {}
                Err(TransactError::Disconnected) => return Err(CommitError::Disconnected),
                Err(TransactError::Unknown | TransactError::Protocol(_)) => {
                    self.unsettled.store(true, Ordering::Relaxed);
                    return Err(CommitError::Unknown);
                }
                Err(TransactError::Refused { index: Some(0), error, .. }) if error == "timed out" => {
                    return Err(CommitError::Fenced);
                }
                Err(TransactError::Refused { index, error, details }) => {
                    let op = self.client.read(|nb| describe(&ops, nb)).into_iter().nth(index.unwrap_or(1));
                    ops.remove(0);
                    let mut first = if is_about_content(&error) { units(ops) } else { vec![ops] };
                    if first.len() > 1 {
                        let rest = first.split_off(first.len() / 2);
                        left.extend([rest.concat(), first.concat()]);
                    } else {
                        refusals.push(Refusal { op: op.unwrap_or_default(), error, details });
                    }
                }
            }
        }
        Ok(())
    }
}

/// Whether a smaller transaction could fare better: not if the disk is full, or the server does not take any.
fn is_about_content(error: &str) -> bool {
    !["I/O error", "resources exhausted", "timed out", "aborted", "not owner", "not allowed", "permission error"]
        .contains(&error)
}

/// Refused with "timed out" unless a row has this epoch: waits for 0 ms until there is not no such row.
fn fence(epoch: u64) -> Op {
    wait(Where::Conditions(vec![ours(epoch)]), Until::NotEqual, "external_ids", Vec::new())
}

fn ours(epoch: u64) -> Condition {
    let value = Datum::map([(EPOCH_KEY, epoch.to_string())]);
    Condition { column: "external_ids", function: Function::Includes, value }
}

fn wait(on: Where, until: Until, column: &'static str, rows: Vec<Row>) -> Op {
    Op::Wait { table: NB_GLOBAL, on, columns: vec![column], until, rows, timeout_ms: Some(0) }
}

fn mutation(mutator: Mutator, value: Datum) -> Mutation {
    Mutation { column: "external_ids", mutator, value }
}
