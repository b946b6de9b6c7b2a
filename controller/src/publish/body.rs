//! What a write sends, kept as the text that goes out.
//!
//! In a burst thousands of writes wait for the API server, and each is known to the outbox and to the queue. As text, and
//! shared between them, one costs its own length; as a tree of JSON values it would cost ten times that, twice.

use std::sync::Arc;

use serde_json::Value;
use serde_json::value::RawValue;

/// A JSON document. Copies share it, and two are equal if they say the same in the same words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Body(Arc<str>);

impl Body {
    /// This value as text; the names in an object are in order, so equal values are equal texts.
    pub fn of(value: &Value) -> Self {
        Self(value.to_string().into())
    }

    /// The text, to be sent as it is.
    pub fn raw(&self) -> Result<&RawValue, serde_json::Error> {
        serde_json::from_str(&self.0)
    }

    /// What the text says.
    pub fn parse<'a, T: serde::Deserialize<'a>>(&'a self) -> Result<T, serde_json::Error> {
        serde_json::from_str(&self.0)
    }
}
