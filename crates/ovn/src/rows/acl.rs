//! `ACL`: access control rules of a switch or a port group.

use std::collections::BTreeMap;
use std::sync::Arc;

use ovsdb::Datum;

use crate::fact::Fact;
use crate::key::RowKey;
use crate::rows::{map, marked};
use crate::table::TableId;

/// The direction of an ACL (ovn-nb(5), `ACL`, `direction`).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Direction {
    /// Packets that enter the switch from a port.
    FromLport,
    /// Packets that leave the switch to a port. The port can be a router's port.
    ToLport,
}

impl Direction {
    /// Returns the value in the database.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::FromLport => "from-lport",
            Self::ToLport => "to-lport",
        }
    }
}

/// The action of an ACL (ovn-nb(5), `ACL`, `action`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// Allows the packet and its replies.
    AllowRelated,
    /// Allows the packet without connection tracking.
    AllowStateless,
    /// Allows the packet; with its replies if another rule of the switch is stateful.
    Allow,
    /// Drops the packet silently.
    Drop,
    /// Drops the packet and answers with a TCP reset or an ICMP error.
    Reject,
}

/// A rule of a switch or a port group (ovn-nb(5), `ACL`). Its key is the parent, the tier, the direction, the priority
/// and the match.
#[derive(Clone, Debug)]
pub struct Acl {
    /// The switch or port group.
    pub parent: RowKey,
    /// The UID of the rule's owner.
    pub seed: Arc<str>,
    /// `tier`, 0 to 3. A lower tier is evaluated first. OVN before 23.06 has no tiers.
    pub tier: u8,
    /// `direction`.
    pub direction: Direction,
    /// `priority`, 0 to 32767. The highest match wins.
    pub priority: u16,
    /// `match`: an OVN expression.
    pub match_: String,
    /// `action`.
    pub action: Verdict,
    /// `log`: whether ovn-controller logs each packet. The number of log lines is not limited.
    pub log: bool,
}

impl Acl {
    /// Returns the row's key.
    pub fn key(&self) -> RowKey {
        let local = format_args!("{}/{}/{}/{}", self.tier, self.direction.as_str(), self.priority, self.match_);
        RowKey::within(TableId::Acl, &self.parent, local)
    }

    /// Returns the row and its reference from the parent.
    pub fn facts(&self) -> [Fact; 2] {
        let key = self.key();
        let action = match self.action {
            Verdict::AllowRelated => "allow-related",
            Verdict::AllowStateless => "allow-stateless",
            Verdict::Allow => "allow",
            Verdict::Drop => "drop",
            Verdict::Reject => "reject",
        };
        let columns = [
            ("direction", Datum::from(self.direction.as_str())),
            ("priority", Datum::from(i64::from(self.priority))),
            ("match", Datum::from(self.match_.as_str())),
            ("action", Datum::from(action)),
            ("tier", Datum::from(i64::from(self.tier))),
            ("log", Datum::from(self.log)),
            ("severity", Datum::empty()),
            ("name", Datum::empty()),
            ("options", map(&BTreeMap::new())),
            ("external_ids", marked(&[])),
        ];
        [
            Fact::Row { key: key.clone(), seed: self.seed.clone(), columns: columns.into() },
            Fact::reference(self.parent.clone(), "acls", key),
        ]
    }
}
