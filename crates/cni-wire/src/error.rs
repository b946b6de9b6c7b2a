//! The CNI specification's error object and its codes.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::Version;

/// Error codes: 1-99 are the specification's, 100 and up are ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Code(pub u32);

impl Code {
    /// The configuration's CNI version is not one we speak.
    pub const VERSION: Self = Self(1);
    /// A field of the configuration asks for something we do not do.
    pub const UNSUPPORTED: Self = Self(2);
    /// The container is not known; the runtime need not clean up.
    pub const UNKNOWN_CONTAINER: Self = Self(3);
    /// A `CNI_*` variable is missing or wrong; the message names it.
    pub const ENVIRONMENT: Self = Self(4);
    /// Reading standard input or the like failed.
    pub const IO: Self = Self(5);
    /// Something could not be decoded as JSON.
    pub const DECODE: Self = Self(6);
    /// The configuration is JSON, but wrong.
    pub const CONFIG: Self = Self(7);
    /// Not now: the runtime should try again.
    pub const TRY_AGAIN: Self = Self(11);
    /// STATUS: an ADD would not work now.
    pub const NOT_AVAILABLE: Self = Self(50);
    /// STATUS: an ADD would not work now, and running containers may suffer.
    pub const LIMITED: Self = Self(51);
    /// The kernel or Open vSwitch refused.
    pub const PLUMBING: Self = Self(100);
    /// The pod's allocation is unusable (annotations malformed).
    pub const ALLOCATION: Self = Self(101);
    /// The agent answered something that is not our protocol.
    pub const PROTOCOL: Self = Self(102);
    /// The agent does not know the verb.
    pub const VERB: Self = Self(103);
    /// CHECK found the container's network different from what was promised.
    pub const DIFFERS: Self = Self(104);
}

/// What a plugin prints on standard output when it fails.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CniError {
    /// What kind of failure.
    pub code: Code,
    /// One line for a human, naming the object.
    pub msg: String,
    /// More, or empty.
    pub details: String,
}

impl CniError {
    /// An error without details.
    pub fn new(code: Code, msg: impl Into<String>) -> Self {
        Self { code, msg: msg.into(), details: String::new() }
    }

    /// The same with details, for example the text of a lower error.
    #[must_use]
    pub fn details(mut self, details: impl fmt::Display) -> Self {
        self.details = details.to_string();
        self
    }

    /// The JSON object of the specification, section 5 "Error".
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
        // Strings and an integer always serialise.
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
