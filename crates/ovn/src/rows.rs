//! The typed rows. Each row converts to facts that include our mark and the reference that keeps the row alive.

mod acl;
mod bfd;
mod exit;
mod global;
mod group;
mod mirror;
mod qos;
mod router;
mod set;
mod switch;
#[cfg(test)]
mod tests;

pub use acl::{Acl, Direction, Verdict};
pub use bfd::Bfd;
pub use exit::{GatewayChassis, StaticMacBinding};
pub use global::NbGlobal;
pub use group::PortGroup;
pub use mirror::Mirror;
pub use qos::Qos;
pub use router::{Action, LogicalRouter, LogicalRouterPort, RouterPolicy, StaticRoute};
pub use set::AddressSet;
pub use switch::{LogicalSwitch, LogicalSwitchPort};

use std::collections::BTreeMap;
use std::sync::Arc;

use ovsdb::{Atom, Datum};

use crate::table::{MARK, VENDOR};

/// Returns `external_ids` with these keys, our mark and kube-ovn's.
fn marked(ids: &[(&'static str, Arc<str>)]) -> Datum {
    let others = ids.iter().filter(|(key, _)| *key != VENDOR.0 && *key != MARK.0);
    let others = others.map(|(key, value)| (Atom::word(key), Atom::from(Arc::clone(value))));
    let marks = [MARK, VENDOR].map(|(key, value)| (Atom::word(key), Atom::word(value)));
    Datum::map(others.chain(marks))
}

fn pairs(of: &[(&'static str, Arc<str>)]) -> Datum {
    Datum::map(of.iter().map(|(key, value)| (Atom::word(key), Atom::from(Arc::clone(value)))))
}

fn map(of: &BTreeMap<String, String>) -> Datum {
    Datum::map(of.iter().map(|(k, v)| (k.as_str(), v.as_str())))
}

fn set(of: &[String]) -> Datum {
    Datum::set(of.iter().map(String::as_str))
}
