//! The error object of the CNI specification, and its codes.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::Version;

/// Error codes. The specification reserves 1-99; plugins define codes from 100 on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Code(pub u32);

impl Code {
    /// The CNI version of the configuration is not supported.
    pub const VERSION: Self = Self(1);
    /// A field of the configuration is not supported.
    pub const UNSUPPORTED: Self = Self(2);
    /// The container is unknown. The runtime does not need to clean up.
    pub const UNKNOWN_CONTAINER: Self = Self(3);
    /// A `CNI_*` variable is missing or invalid. The message names it.
    pub const ENVIRONMENT: Self = Self(4);
    /// An I/O error, for example when reading standard input.
    pub const IO: Self = Self(5);
    /// Invalid JSON.
    pub const DECODE: Self = Self(6);
    /// Valid JSON, but an invalid configuration.
    pub const CONFIG: Self = Self(7);
    /// The runtime should try again later.
    pub const TRY_AGAIN: Self = Self(11);
    /// STATUS: the plugin cannot serve ADD requests.
    pub const NOT_AVAILABLE: Self = Self(50);
    /// STATUS: the plugin cannot serve ADD requests, and running containers may have limited connectivity.
    pub const LIMITED: Self = Self(51);
    /// The kernel or Open vSwitch refused a change.
    pub const PLUMBING: Self = Self(100);
    /// The pod's annotations contain no valid allocation.
    pub const ALLOCATION: Self = Self(101);
    /// The agent's reply violates the protocol.
    pub const PROTOCOL: Self = Self(102);
    /// The agent does not know the method.
    pub const VERB: Self = Self(103);
    /// CHECK: the container's network differs from the result of ADD.
    pub const DIFFERS: Self = Self(104);
}

/// The error that a plugin prints on standard output.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CniError {
    /// The error code.
    pub code: Code,
    /// A one-line message that names the object.
    pub msg: String,
    /// Details. Can be empty.
    pub details: String,
}

impl CniError {
    /// Returns an error without details.
    pub fn new(code: Code, msg: impl Into<String>) -> Self {
        Self { code, msg: msg.into(), details: String::new() }
    }

    /// Adds details, for example the text of an underlying error.
    #[must_use]
    pub fn details(mut self, details: impl fmt::Display) -> Self {
        self.details = details.to_string();
        self
    }

    /// Returns the JSON object of the specification, section 5 "Error".
    pub fn to_json(&self, version: Version) -> String {
        #[derive(Serialize)]
        #[serde(rename_all = "camelCase")]
        struct Wire<'a> {
            cni_version: &'a str,
            code: Code,
            msg: &'a str,
            #[serde(skip_serializing_if = "str::is_empty")]
            details: &'a str,
        }
        let wire = Wire { cni_version: version.as_str(), code: self.code, msg: &self.msg, details: &self.details };
        // Strings and an integer always serialize.
        serde_json::to_string(&wire).unwrap_or_default()
    }
}

impl fmt::Display for CniError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (code {})", self.msg, self.code.0)?;
        if self.details.is_empty() { Ok(()) } else { write!(f, ": {}", self.details) }
    }
}

impl std::error::Error for CniError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_prints_the_specifications_object() {
        let error = CniError::new(Code::TRY_AGAIN, "agent away").details("connection refused");
        assert_eq!(
            error.to_json(Version::V1_0_0),
            r#"{"cniVersion":"1.0.0","code":11,"msg":"agent away","details":"connection refused"}"#
        );
        assert_eq!(
            CniError::new(Code::VERSION, "x").to_json(Version::V0_3_1),
            r#"{"cniVersion":"0.3.1","code":1,"msg":"x"}"#
        );
    }
}
