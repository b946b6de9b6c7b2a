//! What the kernel says when it refuses a request.

use nix::errno::Errno;
use rtnetlink::Error;

/// A request that the kernel refused.
#[derive(Debug, thiserror::Error)]
#[error("{what}: {source}")]
pub struct LinkError {
    pub(crate) what: String,
    pub(crate) source: Error,
}

impl LinkError {
    pub(crate) fn on(what: impl Into<String>) -> impl FnOnce(Error) -> Self {
        let what = what.into();
        move |source| Self { what, source }
    }

    /// A request that cannot be written as a message, for example because the families of its addresses differ.
    pub(crate) fn invalid<E: std::fmt::Display>(what: &str) -> impl FnOnce(E) -> Self {
        move |error| Self { what: format!("{what}: {error}"), source: Error::RequestFailed }
    }

    /// Returns the kernel's error number, or `UnknownErrno` if there is none.
    pub fn errno(&self) -> Errno {
        match &self.source {
            Error::NetlinkError(message) => Errno::from_raw(message.raw_code().abs()),
            _ => Errno::UnknownErrno,
        }
    }

    /// Returns true if the object does not exist.
    pub fn is_absent(&self) -> bool {
        matches!(self.errno(), Errno::ENODEV | Errno::ENOENT | Errno::ESRCH | Errno::EADDRNOTAVAIL)
    }

    /// Returns true if the object already exists.
    pub fn is_present(&self) -> bool {
        self.errno() == Errno::EEXIST
    }
}
