//! Runs one transaction: sends it at most once and reports what is known about its outcome.

use std::collections::BTreeMap;

use jsonrpsee::core::client::{ClientT, Error as RpcError};
use serde::Deserialize;
use serde_json::{Value, json};
use uuid::Uuid;

use super::error::SessionError;
use super::leader::DATABASE;
use super::state::State;
use super::ticket::Ticket;
use super::wire::{SERVER, Ticketed, describe};
use crate::{Atom, Condition, Datum, Function, Op, Where};

/// The result of one operation of a committed transaction.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OpReply {
    /// The number of rows that an update, mutate or delete matched.
    pub count: u64,
    /// The UUID of the row that an insert created.
    pub uuid: Option<Uuid>,
    /// The rows that a select returned, with the selected columns.
    pub rows: Vec<BTreeMap<String, Datum>>,
}

/// Why a transaction is not known to be committed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TransactError {
    /// There is no session. The request was not sent and will not be sent.
    #[error("the database is not connected")]
    Disconnected,
    /// The request was sent, but the session ended before the reply. The transaction may have been committed. It can
    /// also still be committed later: a new leader commits entries that the old leader left, even after it has sent its
    /// snapshot. The replica is certain once a later write is committed that changes what this transaction waits for
    /// ([`Op::Wait`]). Without such a wait, any later write is enough, unless a paused server resumes. Never send the
    /// transaction again without this check.
    #[error("the reply of the database was lost: the transaction may have been committed or not")]
    Unknown,
    /// The server refused the transaction. None of its operations took effect.
    #[error("the database refused {}: {error}{}{details}",
        index.map_or_else(|| "the transaction".to_owned(), |index| format!("operation {index}")),
        if details.is_empty() { "" } else { ": " })]
    Refused {
        /// The operation that failed. `None` if the transaction failed as a whole, for example on a constraint
        /// violation.
        index: Option<usize>,
        /// The error string (RFC 7047 section 5.2), for example `constraint violation`. An [`Op::Wait`] fails with
        /// `timed out`.
        error: String,
        /// The server's explanation. It can be empty.
        details: String,
    },
    /// The reply is invalid. The outcome is unknown, as with [`TransactError::Unknown`].
    #[error("the reply of the database makes no sense: {0}")]
    Protocol(String),
}

#[derive(Debug, Deserialize)]
struct RawReply {
    #[serde(default)]
    count: u64,
    uuid: Option<Atom>,
    #[serde(default)]
    rows: Vec<BTreeMap<String, Datum>>,
    error: Option<String>,
    #[serde(default)]
    details: String,
}

pub(super) async fn transact(state: &State, ops: &[Op]) -> Result<Vec<OpReply>, TransactError> {
    run(state, state.config.database, ops).await
}

/// Returns the ID of the server's cluster (ovsdb-server(7), "_Server Database").
pub(super) async fn cluster(state: &State) -> Result<Option<Uuid>, TransactError> {
    let named = Condition { column: "name", function: Function::Equal, value: state.config.database.into() };
    let select = Op::Select { table: DATABASE.name, on: Where::Conditions(vec![named]), columns: vec!["cid"] };
    let replies = run(state, SERVER, &[select]).await?;
    Ok(replies.first().and_then(|reply| reply.rows.first()?.get("cid")?.as_uuid()))
}

async fn run(state: &State, database: &str, ops: &[Op]) -> Result<Vec<OpReply>, TransactError> {
    let params: Vec<Value> = std::iter::once(json!(database)).chain(ops.iter().map(Op::to_json)).collect();
    // ovsdb-server cannot parse such a request, and ends the session. Nobody could tell which operation it was.
    if let Some(index) = params[1..].iter().position(has_nul) {
        let details = "a string contains a NUL character".to_owned();
        return Err(TransactError::Refused { index: Some(index), error: "constraint violation".to_owned(), details });
    }
    let live = state.live().ok_or(TransactError::Disconnected)?;
    let ticket = live.link.tickets.issue();
    let params = Ticketed { ticket: ticket.number(), params };
    let within = state.config.request_timeout;
    let reply = tokio::select! {
        // A reply that arrives just before the session ends still counts.
        biased;
        reply = live.rpc.request::<Vec<Option<RawReply>>, _>("transact", params) => reply,
        _ = live.link.ended() => return Err(lost(&ticket)),
        () = tokio::time::sleep(within) => {
            let lost = lost(&ticket);
            if lost == TransactError::Unknown {
                state.end(&live.link, SessionError::ReplyTimeout(within));
            }
            return Err(lost);
        }
    };
    match reply {
        Ok(replies) => outcome(replies, ops.len()),
        Err(RpcError::Call(error)) => {
            let (error, details) = describe(&error);
            Err(TransactError::Refused { index: None, error, details })
        }
        Err(RpcError::ParseError(error)) => Err(TransactError::Protocol(error.to_string())),
        Err(_) => Err(lost(&ticket)),
    }
}

/// Returns whether a string of a value contains U+0000 (ovsdb(7), "String Data": it is not allowed).
fn has_nul(value: &Value) -> bool {
    match value {
        Value::String(text) => text.contains('\0'),
        Value::Array(all) => all.iter().any(has_nul),
        Value::Object(fields) => fields.iter().any(|(key, value)| key.contains('\0') || has_nul(value)),
        _ => false,
    }
}

/// The error for a request whose session ended or that took too long.
fn lost(ticket: &Ticket<'_>) -> TransactError {
    if ticket.void() { TransactError::Disconnected } else { TransactError::Unknown }
}

/// Reads the replies to `ops` operations (RFC 7047 section 4.1.3). There is one reply for each operation up to the
/// first failure, and an additional one if the commit failed.
fn outcome(replies: Vec<Option<RawReply>>, ops: usize) -> Result<Vec<OpReply>, TransactError> {
    let mut done = Vec::with_capacity(ops);
    for (index, reply) in replies.into_iter().enumerate() {
        let Some(reply) = reply else {
            return Err(TransactError::Protocol(format!("operation {index} has no reply and none before it failed")));
        };
        if let Some(error) = reply.error {
            let index = (index < ops).then_some(index);
            return Err(TransactError::Refused { index, error, details: reply.details });
        }
        done.push(OpReply { count: reply.count, uuid: reply.uuid.and_then(|atom| atom.as_uuid()), rows: reply.rows });
    }
    if done.len() < ops {
        return Err(TransactError::Protocol(format!("{} replies to {ops} operations", done.len())));
    }
    done.truncate(ops);
    Ok(done)
}
