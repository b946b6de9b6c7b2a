//! The installed version of OVN or OVS, from the output of its programs.

use std::fmt;
use std::str::FromStr;

use crate::tool::{self, ToolError};

/// A version of a program or a schema: `25.03.0` is 25, 3, 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version(pub u32, pub u32, pub u32);

/// The oldest supported version of OVN. Older versions lack the ACL tiers that NetworkPolicy needs, and local mirrors, and let a pod
/// change the state of tunnels by its own BFD packets (CVE-2024-2182).
pub const OLDEST_OVN: Version = Version(24, 3, 1);
/// The version of Open vSwitch that the oldest supported OVN was built with.
pub const OLDEST_OVS: Version = Version(3, 3, 0);

/// Why a program is unusable.
#[derive(Debug, thiserror::Error)]
pub enum VersionError {
    /// The program cannot be run.
    #[error(transparent)]
    Tool(#[from] ToolError),
    /// The output contains no version.
    #[error("{program} --version says no version: {said}")]
    None {
        /// The program.
        program: String,
        /// The first line of the output.
        said: String,
    },
    /// The program is too old.
    #[error("{program} is of version {found}, and {oldest} is the oldest that will do")]
    TooOld {
        /// The program.
        program: String,
        /// The installed version.
        found: Version,
        /// The oldest supported version.
        oldest: Version,
    },
}

impl Version {
    /// Parses the output of `--version`: the version is the last word of the first line.
    pub fn said(text: &str) -> Option<Self> {
        text.lines().next()?.split_whitespace().last()?.parse().ok()
    }

    /// Returns the version of a program of OVN. Fails if it is too old, and warns if it has a known fault.
    pub async fn of_ovn(program: &str) -> Result<Self, VersionError> {
        let ovn = Self::at_least(program, OLDEST_OVN).await?;
        if let Some(fault) = ovn.fault_of_ovn() {
            tracing::warn!(%ovn, fault, "this version of OVN has a known fault, unless the distribution has mended it");
        }
        Ok(ovn)
    }

    /// Returns the fault of this version of OVN that an administrator should know: distributions also mend older versions.
    fn fault_of_ovn(self) -> Option<&'static str> {
        let is_mended = self >= Self(24, 9, 2) || (self >= Self(24, 3, 5) && self < Self(24, 9, 0));
        (!is_mended).then_some("CVE-2025-0650: DNS rows let UDP packets pass ACLs; mended in 24.03.5 and 24.09.2")
    }

    /// Returns the version of a program. Fails if it is older than `oldest`.
    pub async fn at_least(program: &str, oldest: Self) -> Result<Self, VersionError> {
        let said = tool::run(program, ["--version"]).await?;
        let found = Self::said(&said).ok_or_else(|| VersionError::None {
            program: program.to_owned(),
            said: said.lines().next().unwrap_or_default().to_owned(),
        })?;
        if found < oldest {
            return Err(VersionError::TooOld { program: program.to_owned(), found, oldest });
        }
        Ok(found)
    }
}

impl FromStr for Version {
    type Err = std::num::ParseIntError;

    /// Parses two or three numbers. Ignores what follows the digits of the last one, for example in `3.5.0-rc1`.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut parts = text.trim().splitn(3, '.').map(|part| {
            let end = part.find(|c: char| !c.is_ascii_digit()).unwrap_or(part.len());
            part[..end].parse::<u32>()
        });
        let mut next = || parts.next().unwrap_or(Ok(0));
        let (major, minor, patch) = (next()?, next()?, next()?);
        Ok(Self(major, minor, patch))
    }
}

/// Formats the version like OVN: `24.03.0`.
impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(major, minor, patch) = self;
        if *major >= 20 { write!(f, "{major}.{minor:02}.{patch}") } else { write!(f, "{major}.{minor}.{patch}") }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_from_what_programs_say() {
        for (said, version) in [
            ("ovn-northd 25.03.0\nOpen vSwitch Library 3.5.0\n", Some(Version(25, 3, 0))),
            ("ovn-northd 23.03.1\nOpen vSwitch Library 3.1.0\n", Some(Version(23, 3, 1))),
            ("ovs-vswitchd (Open vSwitch) 3.5.0-rc1\nDPDK 24.11.1\n", Some(Version(3, 5, 0))),
            ("7.13\n", Some(Version(7, 13, 0))),
            ("ovn-northd: unknown option\n", None),
            ("", None),
        ] {
            assert_eq!(Version::said(said), version, "{said}");
        }
        for (version, has_fault) in
            [((24, 3, 4), true), ((24, 3, 5), false), ((24, 9, 1), true), ((24, 9, 2), false), ((25, 3, 0), false)]
        {
            let (major, minor, patch) = version;
            assert_eq!(Version(major, minor, patch).fault_of_ovn().is_some(), has_fault, "{version:?}");
        }
        assert!(Version(23, 9, 1) < Version(24, 3, 0) && Version(24, 3, 0) < Version(25, 3, 0));
        assert_eq!(Version(24, 3, 0).to_string(), "24.03.0");
    }

    #[tokio::test]
    async fn a_program_that_is_too_old_is_refused_in_words() {
        let dir = tempfile::tempdir().unwrap();
        let program = dir.path().join("ovn-northd");
        std::fs::write(&program, "#!/bin/sh\necho ovn-northd 23.03.1\n").unwrap();
        std::fs::set_permissions(&program, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        let program = program.display().to_string();
        assert_eq!(Version::at_least(&program, Version(23, 3, 1)).await.unwrap(), Version(23, 3, 1));
        let refused = Version::at_least(&program, Version(24, 3, 1)).await.unwrap_err().to_string();
        assert_eq!(refused, format!("{program} is of version 23.03.1, and 24.03.1 is the oldest that will do"));
        let missing = Version::at_least("/no/such/program", Version(1, 0, 0)).await.unwrap_err().to_string();
        assert!(missing.starts_with("/no/such/program: cannot be started: No such file"), "{missing}");
    }
}
