//! `Logical_Switch` and `Logical_Switch_Port`.

use std::collections::BTreeMap;
use std::sync::Arc;

use ovsdb::{Atom, Datum};

use crate::fact::Fact;
use crate::key::RowKey;
use crate::rows::{map, marked, pairs, set};
use crate::table::TableId;

/// An L2 segment (ovn-nb(5), `Logical_Switch`). Each Subnet has one, and the nodes have `join`.
#[derive(Clone, Debug, Default)]
pub struct LogicalSwitch {
    /// `name`. The database does not enforce unique names, the controller does.
    pub name: String,
    /// The UID of the Subnet.
    pub seed: Arc<str>,
    /// `other_config`, for example `mcast_snoop`. OVN's address management (`subnet`, `exclude_ips`) is not used.
    pub other_config: BTreeMap<String, String>,
    /// `external_ids` in addition to our mark.
    pub external_ids: Vec<(&'static str, Arc<str>)>,
}

impl LogicalSwitch {
    /// Returns the key of the switch `name`.
    pub fn key(name: &str) -> RowKey {
        RowKey::new(TableId::LogicalSwitch, name)
    }

    /// Returns the row.
    pub fn fact(&self) -> Fact {
        Fact::Row {
            key: Self::key(&self.name),
            seed: self.seed.clone(),
            columns: [
                ("name", Datum::from(self.name.as_str())),
                ("other_config", map(&self.other_config)),
                ("external_ids", marked(&self.external_ids)),
            ]
            .into(),
        }
    }
}

/// A switch port (ovn-nb(5), `Logical_Switch_Port`): of a pod, of a node, or the switch's end of a router port.
#[derive(Clone, Debug, Default)]
pub struct LogicalSwitchPort {
    /// `name`, unique in the database: `<pod>.<namespace>`, `node-<node>`, `<switch>-<router>`.
    pub name: Arc<str>,
    /// The name of the switch.
    pub switch: Arc<str>,
    /// The UID of the Pod, Node or Subnet.
    pub seed: Arc<str>,
    /// `type`: empty for a port that a chassis binds (`iface-id`), `router`, `localnet`, ...
    pub kind: &'static str,
    /// `addresses`: each element is `<mac> <ip>...` or `router`.
    pub addresses: Vec<String>,
    /// `port_security`: each element is `<mac> <ip>[/<mask>]...`. Without any, all packets pass.
    pub port_security: Vec<String>,
    /// `options`, for example `router-port` or `requested-chassis`.
    pub options: Vec<(&'static str, Arc<str>)>,
    /// `external_ids` in addition to our mark.
    pub external_ids: Vec<(&'static str, Arc<str>)>,
}

impl LogicalSwitchPort {
    /// Returns the key of the port `name`.
    pub fn key(name: &str) -> RowKey {
        RowKey::new(TableId::LogicalSwitchPort, name)
    }

    /// Returns the switch's end of the router port `peer`.
    pub fn to_router(name: Arc<str>, switch: Arc<str>, seed: Arc<str>, peer: String) -> Self {
        Self {
            name,
            switch,
            seed,
            kind: "router",
            addresses: vec!["router".to_owned()],
            options: vec![("router-port", peer.into())],
            ..Self::default()
        }
    }

    /// Returns the row and its reference from the switch.
    pub fn facts(&self) -> [Fact; 2] {
        let key = RowKey::new(TableId::LogicalSwitchPort, Arc::clone(&self.name));
        let switch = RowKey::new(TableId::LogicalSwitch, Arc::clone(&self.switch));
        let columns = [
            ("name", Datum::from(Arc::clone(&self.name))),
            ("type", Datum::from(Atom::word(self.kind))),
            ("addresses", set(&self.addresses)),
            ("port_security", set(&self.port_security)),
            ("options", pairs(&self.options)),
            ("external_ids", marked(&self.external_ids)),
        ];
        [
            Fact::Row { key: key.clone(), seed: self.seed.clone(), columns: columns.into() },
            Fact::reference(switch, "ports", key),
        ]
    }
}
