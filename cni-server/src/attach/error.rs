//! Which CNI code a failure of the node has.

use cni_wire::{CniError, Code};
use ovsdb::client::TransactError;

use crate::link::LinkError;
use crate::netns::NetnsError;
use crate::ovs::OvsError;

/// Something that comes back by itself is missing: the runtime tries again.
pub(super) fn away(what: &str) -> CniError {
    CniError::new(Code::TRY_AGAIN, what)
}

/// A subnet's MTU does not fit through this node's tunnels.
pub(super) fn mtu(subnet: &str, mtu: u32, most: u32) -> CniError {
    let why = format!("subnet {subnet}: spec.mtu {mtu}: this node's tunnels leave {most} at most");
    CniError::new(Code::CONFIG, why)
}

/// The runtime named a namespace that is not one.
pub(super) fn environment(error: NetnsError) -> CniError {
    CniError::new(Code::ENVIRONMENT, "CNI_NETNS").details(error)
}

/// The kernel refused.
pub(super) fn plumbing(error: LinkError) -> CniError {
    CniError::new(Code::PLUMBING, "the pod's link").details(error)
}

/// Open vSwitch refused, or is away.
pub(super) fn ovs(error: OvsError) -> CniError {
    let code = match error {
        OvsError::Transact { source: TransactError::Refused { .. }, .. } => Code::PLUMBING,
        // A lost reply says nothing about what was written: undone, it can be tried again.
        OvsError::Transact { .. } | OvsError::Away | OvsError::NoBridge | OvsError::Gone(_) => Code::TRY_AGAIN,
    };
    CniError::new(code, "the pod's port").details(error)
}
