//! `ACL`: what may pass through a switch.

use std::collections::BTreeMap;
use std::sync::Arc;

use ovsdb::Datum;

use crate::fact::Fact;
use crate::key::RowKey;
use crate::rows::switch::LogicalSwitch;
use crate::rows::{map, marked};
use crate::table::TableId;

/// Where on its way through the switch a packet meets the ACL (ovn-nb(5), `ACL`, `direction`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Direction {
    /// As it enters, from a port.
    FromLport,
    /// As it leaves, to a port. The port may be the router's.
    ToLport,
}

impl Direction {
    /// As the database spells it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::FromLport => "from-lport",
            Self::ToLport => "to-lport",
        }
    }
}

/// What an ACL does with a packet that it matches (ovn-nb(5), `ACL`, `action`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// Passes, and so does what answers it.
    AllowRelated,
    /// Is dropped without a word.
    Drop,
}

/// A rule of a switch (ovn-nb(5), `ACL`), known by its switch, direction, priority and match.
///
/// It is of tier 0, the column's default, which we do not write: OVN before 23.06 has no tiers.
#[derive(Clone, Debug)]
pub struct Acl {
    /// The switch, by name.
    pub switch: String,
    /// The uid of what the rule is there for.
    pub seed: Arc<str>,
    /// `direction`.
    pub direction: Direction,
    /// `priority`, 0 to 32767; the highest match wins.
    pub priority: u16,
    /// `match`: an OVN expression.
    pub match_: String,
    /// `action`.
    pub action: Verdict,
    /// `log`: whether ovn-controller tells of each packet. Nothing limits how many that are.
    pub log: bool,
}

impl Acl {
    /// The row's key.
    pub fn key(&self) -> RowKey {
        let name = format!("{}/{}/{}/{}", self.switch, self.direction.as_str(), self.priority, self.match_);
        RowKey::new(TableId::Acl, name)
    }

    /// The row and its place in the switch.
    pub fn facts(&self) -> [Fact; 2] {
        let key = self.key();
        let action = match self.action {
            Verdict::AllowRelated => "allow-related",
            Verdict::Drop => "drop",
        };
        let columns = [
            ("direction", Datum::from(self.direction.as_str())),
            ("priority", Datum::from(i64::from(self.priority))),
            ("match", Datum::from(self.match_.as_str())),
            ("action", Datum::from(action)),
            ("log", Datum::from(self.log)),
            ("severity", Datum::empty()),
            ("name", Datum::empty()),
            ("options", map(&BTreeMap::new())),
            ("external_ids", marked(&[])),
        ];
        [
            Fact::Row { key: key.clone(), seed: self.seed.clone(), columns: columns.into() },
            Fact::reference(LogicalSwitch::key(&self.switch), "acls", key),
        ]
    }
}
