//! Facts against the replica: the smallest fenced transaction that makes the northbound database say them.
//!
//! [`Facts`] counts what is wanted and remembers what changed. [`diff`] compares what changed with the replica,
//! [`diff_all`] compares everything; both are pure and tell the same. [`Writer`] writes what they ask for, and only for as
//! long as no other controller has raised the epoch.
//!
//! Promises:
//! - A row is found by its natural key and keeps the id it has; a new row gets the id that follows from its key and owner.
//! - A set is never rewritten, it is mutated; a map shared with others is changed only in the keys we name.
//! - Only rows with our mark are removed, and only references to such rows; what others wrote stays.
//! - What is right already costs no operation, and a change costs what changed, however large its switch is.

mod batch;
mod diff;
mod drift;
mod facts;
mod resolve;
pub mod text;
mod writer;

pub use batch::batches;
pub use diff::{diff, diff_all, holds};
pub use drift::Drift;
pub use facts::{Facts, Touched};
pub use writer::{BATCH, CommitError, EPOCH_KEY, FenceError, Refusal, Writer};
