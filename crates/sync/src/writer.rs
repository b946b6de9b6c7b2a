//! Writing, for as long as nobody else has taken over.
//!
//! The fence: an epoch in `NB_Global.external_ids`. Whoever wants to write raises it first, by compare-and-swap, and each
//! transaction begins by asking for the epoch that its writer has raised. A writer that was paused while another took over
//! is thus refused by the database itself.
//!
//! Promise: nothing is ever sent twice. What became of a transaction whose reply was lost is for the caller to find out,
//! by comparing again.

use ovsdb::client::{Client, TransactError};
use ovsdb::{Condition, Datum, Function, Mutation, Mutator, Op, Row, Until, Where};

use crate::batch::batches;
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
    /// The reply was lost: the transaction may or may not be written. Compare again once synced.
    #[error("northbound: the reply was lost, the transaction may or may not be written")]
    Unknown,
    /// The database refused the transaction; nothing of it was written.
    #[error("northbound: refused: {error}: {details}{}", op.as_ref().map_or_else(String::new, |op| format!(" (in: {op})")))]
    Refused {
        /// The kind of error, as the database names it.
        error: String,
        /// The database's explanation.
        details: String,
        /// The operation that it is about, if it is about one.
        op: Option<String>,
    },
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
        Self { client, epoch: None }
    }

    /// The session it writes by.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// The epoch that it writes under.
    pub fn epoch(&self) -> Option<u64> {
        self.epoch
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
                    self.epoch = Some(epoch);
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

    /// Writes the operations in order, in as few transactions as [`BATCH`] allows, each of them behind the fence. On an
    /// error the transactions before it are written; the caller compares again.
    pub async fn commit(&self, ops: Vec<Op>) -> Result<(), CommitError> {
        let Some(epoch) = self.epoch else { return if ops.is_empty() { Ok(()) } else { Err(CommitError::Fenced) } };
        for mut batch in batches(ops, BATCH) {
            batch.insert(0, fence(epoch));
            self.client.transact(&batch).await.map_err(|error| self.explain(error, &batch))?;
        }
        Ok(())
    }

    fn explain(&self, error: TransactError, batch: &[Op]) -> CommitError {
        match error {
            TransactError::Disconnected => CommitError::Disconnected,
            TransactError::Unknown | TransactError::Protocol(_) => CommitError::Unknown,
            TransactError::Refused { index: Some(0), error, .. } if error == "timed out" => CommitError::Fenced,
            TransactError::Refused { index, error, details } => {
                let op = index.and_then(|at| self.client.read(|nb| describe(batch, nb).into_iter().nth(at)));
                CommitError::Refused { error, details, op }
            }
        }
    }
}

/// Refused with "timed out" unless a row has this epoch: waits for 0 ms until there is not no such row.
fn fence(epoch: u64) -> Op {
    let ours = Condition {
        column: "external_ids",
        function: Function::Includes,
        value: Datum::map([(EPOCH_KEY, epoch.to_string())]),
    };
    wait(Where::Conditions(vec![ours]), Until::NotEqual, "external_ids", Vec::new())
}

fn wait(on: Where, until: Until, column: &'static str, rows: Vec<Row>) -> Op {
    Op::Wait { table: NB_GLOBAL, on, columns: vec![column], until, rows, timeout_ms: Some(0) }
}

fn mutation(mutator: Mutator, value: Datum) -> Mutation {
    Mutation { column: "external_ids", mutator, value }
}
