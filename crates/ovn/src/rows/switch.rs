//! `Logical_Switch` and `Logical_Switch_Port`.

use std::collections::BTreeMap;
use std::sync::Arc;

use ovsdb::{Atom, Datum};

use crate::fact::Fact;
use crate::key::RowKey;
use crate::rows::{map, marked, set};
use crate::table::TableId;

/// An L2 segment (ovn-nb(5), `Logical_Switch`); we have one for each Subnet, and `join` for the nodes.
#[derive(Clone, Debug, Default)]
pub struct LogicalSwitch {
    /// `name`; the database does not keep it unique, we do.
    pub name: String,
    /// The uid of the Subnet.
    pub seed: Arc<str>,
    /// `other_config`, such as `mcast_snoop`; we do not use OVN's own address management (`subnet`, `exclude_ips`).
    pub other_config: BTreeMap<String, String>,
    /// `external_ids` besides our mark.
    pub external_ids: Vec<(&'static str, Arc<str>)>,
}

impl LogicalSwitch {
    /// The key of the switch called `name`.
    pub fn key(name: &str) -> RowKey {
        RowKey::new(TableId::LogicalSwitch, name)
    }

    /// The row.
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

/// A port of a switch (ovn-nb(5), `Logical_Switch_Port`): of a pod, a node, or the switch's end of a router's leg.
#[derive(Clone, Debug, Default)]
pub struct LogicalSwitchPort {
    /// `name`, unique in the database: `<pod>.<namespace>`, `node-<node>`, `<switch>-<router>`.
    pub name: Arc<str>,
    /// The switch it is plugged into, by name.
    pub switch: Arc<str>,
    /// The uid of the Pod, the Node or the Subnet.
    pub seed: Arc<str>,
    /// `type`: empty for what a chassis binds (`iface-id`), `router`, `localnet`, ...
    pub kind: &'static str,
    /// `addresses`: each `<mac> <ip>...`, or `router`.
    pub addresses: Vec<String>,
    /// `port_security`: each `<mac> <ip>[/<mask>]...`; none lets anything pass.
    pub port_security: Vec<String>,
    /// `options`, such as `router-port`.
    pub options: BTreeMap<String, String>,
    /// `external_ids` besides our mark.
    pub external_ids: Vec<(&'static str, Arc<str>)>,
}

impl LogicalSwitchPort {
    /// The key of the port called `name`.
    pub fn key(name: &str) -> RowKey {
        RowKey::new(TableId::LogicalSwitchPort, name)
    }

    /// The switch's end of the router port `peer`.
    pub fn to_router(name: Arc<str>, switch: Arc<str>, seed: Arc<str>, peer: String) -> Self {
        Self {
            name,
            switch,
            seed,
            kind: "router",
            addresses: vec!["router".to_owned()],
            options: [("router-port".to_owned(), peer)].into(),
            ..Self::default()
        }
    }

    /// The row and its place in the switch.
    pub fn facts(&self) -> [Fact; 2] {
        let key = RowKey::new(TableId::LogicalSwitchPort, Arc::clone(&self.name));
        let switch = RowKey::new(TableId::LogicalSwitch, Arc::clone(&self.switch));
        let columns = [
            ("name", Datum::from(Arc::clone(&self.name))),
            ("type", Datum::from(Atom::word(self.kind))),
            ("addresses", set(&self.addresses)),
            ("port_security", set(&self.port_security)),
            ("options", map(&self.options)),
            ("external_ids", marked(&self.external_ids)),
        ];
        [
            Fact::Row { key: key.clone(), seed: self.seed.clone(), columns: columns.into() },
            Fact::reference(switch, "ports", key),
        ]
    }
}
