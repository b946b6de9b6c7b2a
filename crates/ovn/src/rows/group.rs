//! `Port_Group`.

use std::sync::Arc;

use ovsdb::Datum;

use crate::fact::Fact;
use crate::key::RowKey;
use crate::rows::marked;
use crate::rows::switch::LogicalSwitchPort;
use crate::table::TableId;

/// A named group of switch ports, of any switches (ovn-nb(5), `Port_Group`). Matches refer to it as `@name`, and rules
/// can hang at it ([`crate::Acl`]).
#[derive(Clone, Debug, Default)]
pub struct PortGroup {
    /// `name`, unique in the database. It contains letters, digits, `_` and `.`, as ovn-nb(5) requires for use in a
    /// match.
    pub name: String,
    /// The UID of the group's owner.
    pub seed: Arc<str>,
    /// `external_ids` in addition to our mark.
    pub external_ids: Vec<(&'static str, Arc<str>)>,
}

impl PortGroup {
    /// Returns the key of the group `name`.
    pub fn key(name: &str) -> RowKey {
        RowKey::new(TableId::PortGroup, name)
    }

    /// Returns the row, without its ports and rules.
    pub fn fact(&self) -> Fact {
        Fact::Row {
            key: Self::key(&self.name),
            seed: self.seed.clone(),
            columns: [("name", Datum::from(self.name.as_str())), ("external_ids", marked(&self.external_ids))].into(),
        }
    }

    /// Returns the fact that the group `name` contains `port`. It does not keep the port.
    pub fn member(name: &str, port: &str) -> Fact {
        Fact::reference(Self::key(name), "ports", LogicalSwitchPort::key(port))
    }
}
