//! Compares facts with the replica and writes the smallest fenced transaction that makes the northbound database match.
//!
//! [`Facts`] counts what is wanted and records what changed. [`diff`] compares the changes with the replica, and
//! [`diff_all`] compares everything. Both are pure functions and agree. [`Sweep`] compares everything, too, in slices. [`Writer`] writes the resulting operations, as
//! long as no other controller has raised the epoch.
//!
//! The crate guarantees:
//! - A row is identified by its natural key and keeps its UUID. The UUID of a new row is derived from its key and
//!   owner.
//! - Sets are mutated, never rewritten. In a map shared with others, only our keys are changed.
//! - Only rows with our mark are removed, and only references to such rows. Other clients' data stays.
//! - Correct rows cost no operation. The cost of a change does not depend on the size of its switch.

mod changes;
mod diff;
mod drift;
mod facts;
mod resolve;
mod sweep;
pub mod text;
mod writer;

pub use changes::Changes;
pub use diff::{diff, diff_all, holds};
pub use drift::Drift;
pub use facts::{Facts, Touched};
pub use sweep::{SLICE, Sweep};
pub use writer::{BATCH, CommitError, FenceError, Refusal, Writer};
