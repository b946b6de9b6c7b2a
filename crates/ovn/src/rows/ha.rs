//! `HA_Chassis_Group` and `HA_Chassis`, and `Static_MAC_Binding`: how traffic leaves by one of several chassis.

use std::sync::Arc;

use ovsdb::Datum;

use crate::fact::Fact;
use crate::key::RowKey;
use crate::rows::marked;
use crate::table::TableId;

/// Chassis that stand in for each other (ovn-nb(5), `HA_Chassis_Group`). The chassis of the highest priority that the others
/// reach is active. They find out by BFD on their tunnels.
#[derive(Clone, Debug, Default)]
pub struct HaChassisGroup {
    /// `name`, unique in the database.
    pub name: String,
    /// The UID of the group's owner.
    pub seed: Arc<str>,
    /// The names of the chassis, the preferred one first. At most 32,767.
    pub chassis: Vec<Arc<str>>,
}

impl HaChassisGroup {
    /// Returns the key of the group `name`.
    pub fn key(name: &str) -> RowKey {
        RowKey::new(TableId::HaChassisGroup, name)
    }

    /// Returns the rows of the group and of its chassis, and their references.
    pub fn facts(&self) -> Vec<Fact> {
        let key = Self::key(&self.name);
        let columns = [("name", Datum::from(self.name.as_str())), ("external_ids", marked(&[]))];
        let mut facts = vec![Fact::Row { key: key.clone(), seed: self.seed.clone(), columns: columns.into() }];
        for (chassis, priority) in self.chassis.iter().zip((0..=HIGHEST).rev()) {
            let member = RowKey::new(TableId::HaChassis, format!("{}/{chassis}", self.name));
            let columns = [
                ("chassis_name", Datum::from(Arc::clone(chassis))),
                ("priority", Datum::from(priority)),
                ("external_ids", marked(&[])),
            ];
            facts.push(Fact::Row { key: member.clone(), seed: self.seed.clone(), columns: columns.into() });
            facts.push(Fact::reference(key.clone(), "ha_chassis", member));
        }
        facts
    }

    /// Returns the fact that the group's active chassis owns the router port with this key.
    pub fn owns(&self, port: RowKey) -> Fact {
        Fact::reference(port, "ha_chassis_group", Self::key(&self.name))
    }
}

/// The highest priority of a chassis (ovn-nb(5), `HA_Chassis`).
const HIGHEST: i64 = 32767;

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
