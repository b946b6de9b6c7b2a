//! The one error of this crate: which object, which field, what is wrong with it.

use std::fmt;

/// A field of an object that cannot be used as written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{object}: {field}: {reason}")]
pub struct FieldError {
    /// Kind and name, e.g. `subnet test-ns-subnet` or `pod test-ns/a`.
    pub object: String,
    /// Path of the field, e.g. `spec.cidrBlock` or `metadata.annotations[ovn.kubernetes.io/cidr]`.
    pub field: String,
    /// What is wrong with it, naming the offending text.
    pub reason: String,
}

impl FieldError {
    /// An error in `field` of `object`.
    pub fn new(object: impl Into<String>, field: impl Into<String>, reason: impl fmt::Display) -> Self {
        Self { object: object.into(), field: field.into(), reason: reason.to_string() }
    }
}
