//! Writes and their results.

use std::sync::Arc;

use serde_json::Value;

use super::Body;
use crate::cluster::Object;

/// What a request writes to. Writes to one target are never reordered.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Target {
    /// The object.
    pub object: Object,
    /// The part of the object.
    pub part: Part,
}

/// A part of an object that has its own endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Part {
    /// Metadata and spec.
    Main,
    /// The status.
    Status,
}

impl Target {
    /// An object's metadata and spec.
    pub fn main(object: Object) -> Self {
        Self { object, part: Part::Main }
    }

    /// An object's status.
    pub fn status(object: Object) -> Self {
        Self { object, part: Part::Status }
    }
}

/// The operation on the target.
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    /// A JSON merge patch (RFC 7386). A `metadata.uid` in it prevents a write to another object of the same name; a
    /// `metadata.resourceVersion` prevents a write to another version of the object.
    Merge(Body),
    /// A strategic merge patch, for a list of which others write other entries, with the same precondition.
    Strategic(Body),
    /// A server-side apply. It does not take over fields of other managers.
    Apply(Body),
    /// The creation of the whole object.
    Create(Body),
    /// The deletion of the object, if it is unchanged.
    Delete(Precondition),
}

/// The version of the object that the deletion was decided on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Precondition {
    /// Its uid.
    pub uid: Arc<str>,
    /// Its resource version.
    pub version: Arc<str>,
}

impl Action {
    /// [`Action::Merge`] of this patch.
    pub fn merge(patch: &Value) -> Self {
        Self::Merge(Body::of(patch))
    }

    /// [`Action::Strategic`] of this patch.
    pub fn strategic(patch: &Value) -> Self {
        Self::Strategic(Body::of(patch))
    }

    /// [`Action::Apply`] of this configuration.
    pub fn apply(object: &Value) -> Self {
        Self::Apply(Body::of(object))
    }

    /// [`Action::Create`] of this object.
    pub fn create(object: &Value) -> Self {
        Self::Create(Body::of(object))
    }
}

#[cfg(test)]
impl Action {
    /// The patch or configuration, as a JSON value.
    pub fn patch(&self) -> Value {
        match self {
            Self::Merge(patch) | Self::Strategic(patch) | Self::Apply(patch) => patch.parse().unwrap(),
            other => panic!("{other:?} is no patch"),
        }
    }
}

/// One write.
#[derive(Debug, Clone, PartialEq)]
pub struct Write {
    /// The id that the outbox gave to the write.
    pub id: u64,
    /// What it writes to.
    pub target: Target,
    /// What it writes. `None` cancels a write that has not started.
    pub action: Option<Action>,
}

/// A write that has started.
#[derive(Debug, Clone, PartialEq)]
pub struct Started {
    /// The id that the outbox gave to the write.
    pub id: u64,
    /// What it writes to.
    pub target: Target,
    /// What it writes.
    pub action: Action,
}

/// The result of a write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Done {
    /// The id that the outbox gave to the write.
    pub id: u64,
    /// What it wrote to.
    pub target: Target,
    /// The result.
    pub outcome: Outcome,
}

/// The result of a write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The API server has accepted it.
    Taken,
    /// The object has another version than the write was computed from, or does not exist.
    Conflict,
    /// The API server refuses the content, for this reason.
    Refused(String),
    /// The API server has failed with this write again and again, as when an admission webhook does not work.
    Failing(String),
}
