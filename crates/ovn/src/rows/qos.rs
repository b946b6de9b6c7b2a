//! `QoS`: limits of the rate at which packets pass a switch.

use std::collections::BTreeMap;
use std::sync::Arc;

use ovsdb::{Atom, Datum};

use super::Direction;
use crate::fact::Fact;
use crate::key::RowKey;
use crate::rows::{map, marked};
use crate::table::TableId;

/// A limit (ovn-nb(5), `QoS`). Packets beyond it are dropped. Its key is the switch, the direction, the priority and the
/// match.
#[derive(Clone, Debug)]
pub struct Qos {
    /// The name of the switch.
    pub switch: Arc<str>,
    /// The UID of the rule's owner.
    pub seed: Arc<str>,
    /// `direction`.
    pub direction: Direction,
    /// `priority`, 0 to 32767. The highest match wins.
    pub priority: u16,
    /// `match`: an OVN expression.
    pub match_: String,
    /// `bandwidth:rate`, in kbit/s, at least 1.
    pub rate: u32,
    /// `bandwidth:burst`, in kbit, at least 1.
    pub burst: u32,
}

impl Qos {
    /// Returns the row and its reference from the switch.
    pub fn facts(&self) -> [Fact; 2] {
        let switch = RowKey::new(TableId::LogicalSwitch, Arc::clone(&self.switch));
        let local = format_args!("{}/{}/{}", self.direction.as_str(), self.priority, self.match_);
        let key = RowKey::within(TableId::Qos, &switch, local);
        let bandwidth = [("rate", self.rate), ("burst", self.burst)];
        let bandwidth = bandwidth.map(|(key, value)| (Atom::word(key), Atom::from(i64::from(value))));
        let columns = [
            ("direction", Datum::from(self.direction.as_str())),
            ("priority", Datum::from(i64::from(self.priority))),
            ("match", Datum::from(self.match_.as_str())),
            ("bandwidth", Datum::map(bandwidth)),
            ("action", map(&BTreeMap::new())),
            ("external_ids", marked(&[])),
        ];
        [
            Fact::Row { key: key.clone(), seed: self.seed.clone(), columns: columns.into() },
            Fact::reference(switch, "qos_rules", key),
        ]
    }
}
