//! The content of a write, stored as JSON text.
//!
//! In a burst thousands of writes wait, and both the outbox and the queue hold each of them. Shared text needs about a
//! twentieth of the memory of two trees of JSON values.

use std::sync::Arc;

use serde_json::Value;
use serde_json::value::RawValue;

/// A JSON document. Clones share the text. Documents are equal if their texts are equal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Body(Arc<str>);

impl Body {
    /// Serializes a value. Object keys are sorted, so equal values have equal texts.
    pub fn of(value: &Value) -> Self {
        Self(value.to_string().into())
    }

    /// The text, for sending it as it is.
    pub fn raw(&self) -> Result<&RawValue, serde_json::Error> {
        serde_json::from_str(&self.0)
    }

    /// Deserializes the text.
    pub fn parse<'a, T: serde::Deserialize<'a>>(&'a self) -> Result<T, serde_json::Error> {
        serde_json::from_str(&self.0)
    }
}
