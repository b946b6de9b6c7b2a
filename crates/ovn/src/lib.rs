//! Typed rows of the OVN northbound and `Open_vSwitch` tables, their natural keys, and the facts made of them.
//!
//! Promises: a row is known by its natural key ([`RowKey`]), declared once for each table ([`Descriptor`]); a new row gets
//! an id that depends on nothing but that key and its owner ([`row_id`]); a typed row cannot be turned into facts without
//! our mark ([`VENDOR`]) and without the membership that keeps it alive in the database.
//!
//! What OVN means by a column is told in ovn-nb(5), what Open vSwitch means in ovs-vswitchd.conf.db(5). A test holds every
//! table and column named here against the schema files of the installed packages.

mod fact;
mod key;
pub mod local;
mod rows;
pub mod southbound;
mod table;
pub mod text;

pub use fact::{Element, Fact};
pub use key::{RowKey, row_id};
pub use rows::{
    Acl, Action, AddressSet, Direction, LogicalRouter, LogicalRouterPort, LogicalSwitch, LogicalSwitchPort, NbGlobal,
    RouterPolicy, StaticRoute, Verdict,
};
pub use table::{Column, Descriptor, Kind, Scope, TableId, VENDOR, northbound, ours};
