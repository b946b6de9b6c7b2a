//! One transaction: sent at most once, and its outcome told apart as well as it can be known.

use std::collections::BTreeMap;

use jsonrpsee::core::client::{ClientT, Error as RpcError};
use serde::Deserialize;
use serde_json::json;
use uuid::Uuid;

use super::error::SessionError;
use super::state::State;
use super::ticket::Ticket;
use super::wire::{Ticketed, describe};
use crate::{Atom, Datum, Op};

/// What one operation of a committed transaction has done.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OpReply {
    /// How many rows an update, mutate or delete matched.
    pub count: u64,
    /// The id of the row that an insert made.
    pub uuid: Option<Uuid>,
    /// The rows that a select found, with the columns asked for.
    pub rows: Vec<BTreeMap<String, Datum>>,
}

/// Why a transaction is not known to be committed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TransactError {
    /// There is no session. Nothing was sent and nothing will be.
    #[error("the database is not connected")]
    Disconnected,
    /// It was sent, but the session ended before a reply: it may have been committed or not, and it may yet be, since
    /// the new leader of a cluster commits what the old one has left when it has long sent its snapshot. Once a later
    /// write is committed that changes what this one waits for ([`Op::Wait`]), the replica tells for good. Without such a
    /// wait any later write will do, unless a server wakes up that was paused. Never just send it again.
    #[error("the reply of the database was lost: the transaction may have been committed or not")]
    Unknown,
    /// The server has refused it; nothing of it was done.
    #[error("the database refused {}: {error}{}{details}",
        index.map_or_else(|| "the transaction".to_owned(), |index| format!("operation {index}")),
        if details.is_empty() { "" } else { ": " })]
    Refused {
        /// The operation that failed; `None` when they failed as a whole, as for a broken constraint.
        index: Option<usize>,
        /// The kind of error (RFC 7047 section 5.2), such as `constraint violation`;
        /// `timed out` is how a [`Op::Wait`] fails.
        error: String,
        /// The server's explanation; may be empty.
        details: String,
    },
    /// The reply makes no sense, so that the outcome is as little known as with [`TransactError::Unknown`].
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
    let live = state.live().ok_or(TransactError::Disconnected)?;
    let ticket = live.link.tickets.issue();
    let params = std::iter::once(json!(state.config.database)).chain(ops.iter().map(Op::to_json)).collect();
    let params = Ticketed { ticket: ticket.number(), params };
    let within = state.config.request_timeout;
    let reply = tokio::select! {
        // A reply that came just before the end counts.
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

/// The session has ended or taken too long: what can be said of the request?
fn lost(ticket: &Ticket<'_>) -> TransactError {
    if ticket.void() { TransactError::Disconnected } else { TransactError::Unknown }
}

/// Reads the replies to so many operations (RFC 7047 section 4.1.3): one for each, up to the first that failed,
/// and one more when committing failed.
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
