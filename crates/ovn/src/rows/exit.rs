//! `Gateway_Chassis` and `Static_MAC_Binding`: how traffic leaves by one of several chassis.

use std::sync::Arc;

use ovsdb::Datum;

use crate::fact::Fact;
use crate::key::RowKey;
use crate::rows::marked;
use crate::table::TableId;

/// A chassis that a router port can belong to (ovn-nb(5), `Gateway_Chassis`). The port belongs to the chassis of the highest
/// priority that the others reach. They find out by BFD on their tunnels.
#[derive(Clone, Debug, Default)]
pub struct GatewayChassis {
    /// The name of the router port.
    pub port: String,
    /// The UID of the port's owner.
    pub seed: Arc<str>,
    /// `chassis_name`.
    pub chassis: Arc<str>,
    /// `priority`, 0 to 32767.
    pub priority: u16,
}

impl GatewayChassis {
    /// The highest priority.
    pub const HIGHEST: u16 = 32767;

    /// Returns the row and its reference from the router port.
    pub fn facts(&self) -> [Fact; 2] {
        // The database has one row of a name.
        let name = format!("{}@{}", self.port, self.chassis);
        let key = RowKey::new(TableId::GatewayChassis, name.as_str());
        let columns = [
            ("name", Datum::from(name)),
            ("chassis_name", Datum::from(Arc::clone(&self.chassis))),
            ("priority", Datum::from(i64::from(self.priority))),
            ("external_ids", marked(&[])),
        ];
        let port = RowKey::new(TableId::LogicalRouterPort, self.port.as_str());
        [
            Fact::Row { key: key.clone(), seed: self.seed.clone(), columns: columns.into() },
            Fact::reference(port, "gateway_chassis", key),
        ]
    }
}

/// The MAC address of a next hop (ovn-nb(5), `Static_MAC_Binding`). Its key is the port and the address. The table has no
/// `external_ids`, so that only bindings of ports with the prefix [`crate::EXIT`] are deleted.
#[derive(Clone, Debug, Default)]
pub struct StaticMacBinding {
    /// `logical_port`: the router port to which the next hop is connected.
    pub port: String,
    /// The UID of the binding's owner.
    pub seed: Arc<str>,
    /// `ip`: the next hop.
    pub ip: String,
    /// `mac`.
    pub mac: String,
}

impl StaticMacBinding {
    /// Returns the row.
    pub fn fact(&self) -> Fact {
        let key = RowKey::new(TableId::StaticMacBinding, format!("{}/{}", self.port, self.ip));
        let columns = [
            ("logical_port", Datum::from(self.port.as_str())),
            ("ip", Datum::from(self.ip.as_str())),
            ("mac", Datum::from(self.mac.as_str())),
            ("override_dynamic_mac", Datum::from(true)),
        ];
        Fact::Row { key, seed: self.seed.clone(), columns: columns.into() }
    }
}
