//! The CNI error codes of failures on the node.

use cni_wire::{CniError, Code};
use links::LinkError;
use links::netns::NetnsError;
use ovsdb::client::TransactError;

use crate::ovs::OvsError;

/// Something is missing that comes by itself, so the runtime tries again.
pub(super) fn try_again(what: &str) -> CniError {
    CniError::new(Code::TRY_AGAIN, what)
}

/// The runtime named a path that is no network namespace.
pub(super) fn environment(error: NetnsError) -> CniError {
    CniError::new(Code::ENVIRONMENT, "CNI_NETNS").details(error)
}

/// The kernel refused a request.
pub(super) fn plumbing(error: LinkError) -> CniError {
    CniError::new(Code::PLUMBING, "the pod's link").details(error)
}

/// Open vSwitch refused a request, or is away.
pub(super) fn ovs(error: OvsError) -> CniError {
    let code = match error {
        OvsError::Transact { source: TransactError::Refused { .. }, .. } => Code::PLUMBING,
        // After a lost reply it is unknown what was written. The ADD is undone and can be tried again.
        OvsError::Transact { .. } | OvsError::Away | OvsError::NoBridge | OvsError::Gone(_) => Code::TRY_AGAIN,
    };
    CniError::new(code, "the pod's port").details(error)
}
