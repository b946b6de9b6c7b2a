//! The error of this crate. It names the object, the field and the reason.

use std::fmt;

/// The value of a field that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{object}: {field}: {reason}")]
pub struct FieldError {
    /// The kind and the name of the object, e.g. `subnet test-ns-subnet` or `pod test-ns/a`.
    pub object: String,
    /// The path of the field, e.g. `spec.cidrBlock`, or `annotation ovn.kubernetes.io/cidr`.
    pub field: String,
    /// The reason, which quotes the value.
    pub reason: String,
}

impl FieldError {
    /// An error in `field` of `object`.
    pub fn new(object: impl Into<String>, field: impl Into<String>, reason: impl fmt::Display) -> Self {
        Self { object: object.into(), field: field.into(), reason: reason.to_string() }
    }
}
