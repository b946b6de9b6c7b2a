//! Typed rows of the OVN northbound and `Open_vSwitch` tables, their natural keys, and the facts made from them.
//!
//! Each table declares its natural key once ([`Descriptor`], [`RowKey`]). The UUID of a new row depends only on that
//! key and its owner ([`row_id`]). Facts made from a typed row always include our mark ([`VENDOR`]) and the reference
//! that keeps the row alive.
//!
//! The columns are documented in ovn-nb(5) and ovs-vswitchd.conf.db(5). A test compares every table and column in this
//! crate with the schema files of the installed packages.

mod encapsulation;
mod fact;
pub mod fence;
mod group;
mod incomplete;
mod key;
pub mod local;
pub mod ports;
mod rows;
pub mod southbound;
mod table;
pub mod text;

pub use encapsulation::{Encapsulation, UnknownEncapsulation};
pub use fact::{Element, Fact};
pub use group::Group;
pub use incomplete::{INCOMPLETE_KEY, complete, is_incomplete};
pub use key::{RowKey, row_id};
pub use rows::{
    Acl, Action, AddressSet, Bfd, Direction, GatewayChassis, LogicalRouter, LogicalRouterPort, LogicalSwitch,
    LogicalSwitchPort, Mirror, NbGlobal, PortGroup, Qos, RouterPolicy, StaticMacBinding, StaticRoute, Verdict,
};
pub use table::{Column, Descriptor, EXIT, Kind, Link, MARK, Scope, TableId, VENDOR, northbound, of_kube_ovn, ours};
