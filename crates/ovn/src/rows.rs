//! The typed rows. Each turns into facts that carry our mark and the membership that keeps the row alive.

mod acl;
mod global;
mod router;
mod set;
mod switch;
#[cfg(test)]
mod tests;

pub use acl::{Acl, Direction, Verdict};
pub use global::NbGlobal;
pub use router::{Action, LogicalRouter, LogicalRouterPort, RouterPolicy, StaticRoute};
pub use set::AddressSet;
pub use switch::{LogicalSwitch, LogicalSwitchPort};

use std::collections::BTreeMap;

use ovsdb::Datum;

use crate::table::VENDOR;

/// `external_ids` with our mark in it, whatever else is asked for.
fn marked(ids: &BTreeMap<String, String>) -> Datum {
    let others = ids.iter().map(|(k, v)| (k.as_str(), v.as_str())).filter(|(k, _)| *k != VENDOR.0);
    Datum::map(others.chain([VENDOR]))
}

fn map(of: &BTreeMap<String, String>) -> Datum {
    Datum::map(of.iter().map(|(k, v)| (k.as_str(), v.as_str())))
}

fn set(of: &[String]) -> Datum {
    Datum::set(of.iter().map(String::as_str))
}
