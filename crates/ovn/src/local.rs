//! The local database of a node, `Open_vSwitch`: what our programs on the node monitor, read and write
//! (ovs-vswitchd.conf.db(5)).
//!
//! The views borrow from the replica and return `None` for absent columns. The write functions return operations. The
//! UUIDs of new rows are derived from the port's name and owner, so the database refuses a retry of a transaction that
//! was already committed.

mod mirror;
pub mod netem;

use std::collections::BTreeMap;

use ovsdb::{Datum, Mutation, Mutator, Op, Replica, Row, Table, Uuid, Where};

use crate::key::local_id;

pub use mirror::{Mirror, NewMirror, select};

/// The table with the node's settings. It has one row.
pub const OPEN_VSWITCH: &str = "Open_vSwitch";
/// The table of bridges.
pub const BRIDGE: &str = "Bridge";
/// The bridge that has the interface for tunnels, and its addresses, on the userspace datapath.
pub const UNDERLAY: &str = "br-phy";
/// The table of a bridge's ports.
pub const PORT: &str = "Port";
/// The table of a port's interfaces.
pub const INTERFACE: &str = "Interface";
/// The table of rules for the packets that leave by a port.
pub const QOS: &str = "QoS";
/// The table of bridges' mirrors.
pub const MIRROR: &str = "Mirror";

/// The key in `external_ids` of [`OPEN_VSWITCH`] with the servers of the southbound database.
pub const REMOTE: &str = "ovn-remote";

/// The key in `external_ids` of [`OPEN_VSWITCH`] with the ID of the cluster that serves the southbound database. The agent
/// writes it. When another cluster takes the place of one, ovn-controller must be told that it is new: it refuses servers with
/// shorter logs than it has seen.
pub const SOUTHBOUND_CLUSTER: &str = "kube-ovn-southbound-cluster";

/// The bridge of ovn-controller, unless `ovn-bridge` names another one.
pub const INTEGRATION_BRIDGE: &str = "br-int";

/// Returns the tables that the node agent monitors. Columns that change every few seconds, such as `statistics`, are
/// omitted.
pub fn open_vswitch() -> Vec<Table> {
    let name = |row: &Row| row.get("name").and_then(Datum::as_str).map(str::to_owned);
    vec![
        Table {
            name: OPEN_VSWITCH,
            columns: &["bridges", "external_ids", "other_config", "ovs_version", "next_cfg", "cur_cfg"],
            key: Some(|_| Some(".".to_owned())),
        },
        Table {
            name: BRIDGE,
            columns: &["name", "ports", "mirrors", "datapath_type", "fail_mode", "external_ids", "other_config"],
            key: Some(name),
        },
        Table { name: PORT, columns: &["name", "interfaces", "tag", "qos", "external_ids"], key: Some(name) },
        Table {
            name: INTERFACE,
            columns: &[
                "name",
                "type",
                "options",
                "mac",
                "mac_in_use",
                "mtu",
                "mtu_request",
                "ingress_policing_rate",
                "ingress_policing_burst",
                "ofport",
                "admin_state",
                "link_state",
                "error",
                "external_ids",
            ],
            key: Some(name),
        },
        Table { name: QOS, columns: &["type", "other_config", "external_ids"], key: None },
        Table {
            name: MIRROR,
            columns: &["name", "select_all", "select_src_port", "select_dst_port", "output_port"],
            key: Some(name),
        },
    ]
}

/// The node's settings.
#[derive(Clone, Copy, Debug)]
pub struct Settings<'a> {
    /// The UUID of the row.
    pub id: Uuid,
    row: &'a Row,
}

/// A bridge.
#[derive(Clone, Copy, Debug)]
pub struct Bridge<'a> {
    /// The UUID of the row.
    pub id: Uuid,
    row: &'a Row,
}

/// An interface. The agent's rows are its persistent record of attached containers; `external_ids` names the owner.
#[derive(Clone, Copy, Debug)]
pub struct Interface<'a> {
    /// The UUID of the row.
    pub id: Uuid,
    row: &'a Row,
}

impl<'a> Settings<'a> {
    /// Returns the row, or `None` if `ovs-vsctl init` has not run.
    pub fn find(replica: &'a Replica) -> Option<Self> {
        replica.rows(OPEN_VSWITCH).next().map(|(id, row)| Self { id, row })
    }

    /// Returns a value of `external_ids`, for example `system-id` or `ovn-encap-ip`.
    pub fn external_id(&self, key: &str) -> Option<&'a str> {
        self.row.get("external_ids")?.get(key)
    }

    /// Returns the operation that gives these keys of `external_ids` these values. Other keys are not changed. `None` if nothing
    /// differs.
    pub fn set_external_ids<'k>(&self, wanted: impl IntoIterator<Item = (&'k str, &'k str)>) -> Option<Op> {
        set_differing_ids(OPEN_VSWITCH, self.id, |key| self.external_id(key), wanted)
    }

    /// `next_cfg`: the number of the newest configuration whose effect somebody waits for.
    pub fn next_cfg(&self) -> i64 {
        self.row.get("next_cfg").and_then(Datum::as_int).unwrap_or_default()
    }

    /// `cur_cfg`: the number of the newest configuration that ovs-vswitchd has applied.
    pub fn cur_cfg(&self) -> i64 {
        self.row.get("cur_cfg").and_then(Datum::as_int).unwrap_or_default()
    }

    /// Returns the operation that gives the configuration of its transaction a new number: one more than
    /// [`Settings::next_cfg`], or more if others write at the same time.
    pub fn count_cfg(&self) -> Op {
        let mutation = Mutation { column: "next_cfg", mutator: Mutator::Add, value: 1.into() };
        Op::Mutate { table: OPEN_VSWITCH, on: Where::Row(self.id), mutations: vec![mutation] }
    }

    /// `ovs_version`.
    pub fn version(&self) -> Option<&'a str> {
        self.row.get("ovs_version")?.as_str()
    }
}

impl<'a> Bridge<'a> {
    /// Returns the bridge with this name.
    pub fn find(replica: &'a Replica, name: &str) -> Option<Self> {
        let id = replica.find(BRIDGE, name).next()?;
        Some(Self { id, row: replica.get(BRIDGE, id)? })
    }

    /// `datapath_type`: `system`, `netdev`, or empty for `system`.
    pub fn datapath_type(&self) -> Option<&'a str> {
        self.row.get("datapath_type")?.as_str()
    }

    /// Returns a value of `external_ids`.
    pub fn external_id(&self, key: &str) -> Option<&'a str> {
        self.row.get("external_ids")?.get(key)
    }

    /// Returns true if the bridge has a port with this name.
    pub fn has_port(&self, replica: &Replica, name: &str) -> bool {
        replica.find(PORT, name).any(|port| self.ports().any(|own| own == port))
    }

    /// Returns the UUIDs of the mirrors.
    pub fn mirrors(&self) -> impl Iterator<Item = Uuid> + use<'a> {
        self.row.get("mirrors").into_iter().flat_map(Datum::uuids)
    }

    /// Returns the UUIDs of the ports.
    pub fn ports(&self) -> impl Iterator<Item = Uuid> + use<'a> {
        self.row.get("ports").into_iter().flat_map(Datum::uuids)
    }
}

impl<'a> Interface<'a> {
    /// Returns the interface with this name. Names are unique on a node.
    pub fn find(replica: &'a Replica, name: &str) -> Option<Self> {
        Self::get(replica, replica.find(INTERFACE, name).next()?)
    }

    /// Returns the interface with this UUID.
    pub fn get(replica: &'a Replica, id: Uuid) -> Option<Self> {
        Some(Self { id, row: replica.get(INTERFACE, id)? })
    }

    /// Returns all interfaces.
    pub fn all(replica: &'a Replica) -> impl Iterator<Item = Self> {
        replica.rows(INTERFACE).map(|(id, row)| Self { id, row })
    }

    /// `name`: the name of the network device.
    pub fn name(&self) -> Option<&'a str> {
        self.text("name")
    }

    /// `type`: empty for a system device, `internal`, `geneve`, ...
    pub fn kind(&self) -> Option<&'a str> {
        self.text("type")
    }

    /// `ofport`: -1 if the device could not be opened, `None` before the first attempt.
    pub fn ofport(&self) -> Option<i64> {
        self.row.get("ofport")?.as_int()
    }

    /// `error`: why the device could not be opened.
    pub fn error(&self) -> Option<&'a str> {
        self.text("error")
    }

    /// `link_state`: `up` or `down`.
    pub fn link_state(&self) -> Option<&'a str> {
        self.text("link_state")
    }

    /// `mac_in_use`: the MAC address of the device.
    pub fn mac_in_use(&self) -> Option<&'a str> {
        self.text("mac_in_use")
    }

    /// `mtu`, in bytes.
    pub fn mtu(&self) -> Option<i64> {
        self.row.get("mtu")?.as_int()
    }

    /// Returns a value of `external_ids`.
    pub fn external_id(&self, key: &str) -> Option<&'a str> {
        self.row.get("external_ids")?.get(key)
    }

    /// Returns whether `external_ids` has these keys with these values. Others may be there.
    pub fn has_external_ids(&self, ids: &BTreeMap<String, String>) -> bool {
        ids.iter().all(|(key, value)| self.external_id(key) == Some(value))
    }

    /// Returns the operation that gives these keys of `external_ids` these values, as [`Settings::set_external_ids`] does.
    pub fn set_external_ids(&self, ids: &BTreeMap<String, String>) -> Option<Op> {
        let wanted = ids.iter().map(|(key, value)| (key.as_str(), value.as_str()));
        set_differing_ids(INTERFACE, self.id, |key| self.external_id(key), wanted)
    }

    /// Returns the operation that ends the policing of what the interface receives. `None` if there is none. kube-ovn limits so
    /// what a pod sends; here, meters of OVN do.
    pub fn without_policing(&self) -> Option<Op> {
        let columns = ["ingress_policing_rate", "ingress_policing_burst"];
        let is_set = |column: &&str| self.row.get(column).and_then(Datum::as_int).is_some_and(|value| value != 0);
        let row: Row = columns.into_iter().filter(is_set).map(|column| (column, 0.into())).collect();
        (!row.is_empty()).then_some(Op::Update { table: INTERFACE, on: Where::Row(self.id), row })
    }

    /// `external_ids:iface-id`: the logical switch port of this interface (ovn-controller(8)).
    pub fn iface_id(&self) -> Option<&'a str> {
        self.external_id("iface-id")
    }

    /// `external_ids:ovn-installed`: whether ovn-controller has installed the flows of the port.
    pub fn ovn_installed(&self) -> bool {
        self.external_id("ovn-installed") == Some("true")
    }

    fn text(&self, column: &str) -> Option<&'a str> {
        self.row.get(column)?.as_str()
    }
}

/// A port with one interface of the same name.
#[derive(Clone, Debug, Default)]
pub struct NewPort {
    /// The name of the device, at most 15 bytes.
    pub name: String,
    /// The owner: the container ID. It distinguishes two ports with the same name.
    pub seed: String,
    /// The `type` of the interface: empty for an existing device, `internal` for a device that Open vSwitch creates.
    pub kind: &'static str,
    /// The `mac` of an internal interface.
    pub mac: Option<String>,
    /// The `mtu_request` of the interface, in bytes.
    pub mtu: Option<u32>,
    /// The `external_ids` of the interface, for example `iface-id`.
    pub external_ids: BTreeMap<String, String>,
}

impl NewPort {
    /// Returns the UUID of the port's row.
    pub fn port_id(&self) -> Uuid {
        local_id(PORT, &self.name, &self.seed)
    }

    /// Returns the UUID of the interface's row.
    pub fn interface_id(&self) -> Uuid {
        local_id(INTERFACE, &self.name, &self.seed)
    }

    /// Returns the operations that add the port to a bridge, for one transaction.
    pub fn add_to(&self, bridge: Uuid) -> Vec<Op> {
        let (port, interface) = (self.port_id(), self.interface_id());
        let name = Datum::from(self.name.as_str());
        let mut row: Row = [
            ("name", name.clone()),
            ("type", Datum::from(self.kind)),
            ("external_ids", Datum::map(&self.external_ids)),
        ]
        .into();
        if let Some(mac) = &self.mac {
            row.insert("mac", mac.into());
        }
        if let Some(mtu) = self.mtu {
            row.insert("mtu_request", i64::from(mtu).into());
        }
        vec![
            Op::Insert { table: INTERFACE, uuid: Some(interface), row },
            Op::Insert {
                table: PORT,
                uuid: Some(port),
                row: [("name", name), ("interfaces", interface.into())].into(),
            },
            ports_of(bridge, Mutator::Insert, port),
        ]
    }
}

/// A bridge, with the internal port of the same name that every bridge has.
#[derive(Clone, Debug)]
pub struct NewBridge<'a> {
    /// The name, at most 15 bytes.
    pub name: &'static str,
    /// What distinguishes this node from others, for example its `system-id`. ovs-vswitchd derives the MAC address of the
    /// bridge from the UUID of its row, so that the UUIDs of two nodes must differ.
    pub node: &'a str,
    /// `datapath_type`: `system` or `netdev`.
    pub datapath_type: &'static str,
}

impl NewBridge<'_> {
    /// Returns the UUID of the bridge's row.
    pub fn id(&self) -> Uuid {
        local_id(BRIDGE, self.name, self.node)
    }

    /// Returns the operations that add the bridge, for one transaction. `settings` is the row with the node's settings.
    pub fn add_to(&self, settings: Uuid) -> Vec<Op> {
        let row = [("name", self.name.into()), ("datapath_type", self.datapath_type.into())].into();
        let mutation = Mutation { column: "bridges", mutator: Mutator::Insert, value: self.id().into() };
        let mut ops = vec![
            Op::Insert { table: BRIDGE, uuid: Some(self.id()), row },
            Op::Mutate { table: OPEN_VSWITCH, on: Where::Row(settings), mutations: vec![mutation] },
        ];
        let port = NewPort { name: self.name.to_owned(), kind: "internal", ..NewPort::default() };
        ops.extend(port.add_to(self.id()));
        ops
    }
}

/// Returns the operations that remove the port `name` and its interface from every bridge. Empty if there is no such
/// port.
pub fn delete_port(replica: &Replica, name: &str) -> Vec<Op> {
    let mut ops = Vec::new();
    for port in replica.find(PORT, name) {
        let holds = |row: &Row| row.get("ports").is_some_and(|ports| ports.contains(&port.into()));
        let bridges = replica.rows(BRIDGE).filter(|(_, row)| holds(row));
        ops.extend(bridges.map(|(bridge, _)| ports_of(bridge, Mutator::Delete, port)));
    }
    ops
}

/// Returns the operation that sets these keys of a row's `external_ids`. Other keys are not changed.
pub fn set_external_ids<'a>(table: &'static str, row: Uuid, ids: impl IntoIterator<Item = (&'a str, &'a str)>) -> Op {
    let ids: BTreeMap<&str, &str> = ids.into_iter().collect();
    let keys = Datum::set(ids.keys().copied());
    let mutations = vec![
        Mutation { column: "external_ids", mutator: Mutator::Delete, value: keys },
        Mutation { column: "external_ids", mutator: Mutator::Insert, value: Datum::map(ids) },
    ];
    Op::Mutate { table, on: Where::Row(row), mutations }
}

/// Returns the operation that sets those keys of a row's `external_ids` that have other values. `None` if there are none.
fn set_differing_ids<'r, 'k>(
    table: &'static str,
    row: Uuid,
    now: impl Fn(&str) -> Option<&'r str>,
    wanted: impl IntoIterator<Item = (&'k str, &'k str)>,
) -> Option<Op> {
    let differ: Vec<_> = wanted.into_iter().filter(|(key, value)| now(key) != Some(*value)).collect();
    (!differ.is_empty()).then(|| set_external_ids(table, row, differ))
}

/// Returns the operation that removes these keys from a row's `external_ids`.
pub fn remove_external_ids<'a>(table: &'static str, row: Uuid, keys: impl IntoIterator<Item = &'a str>) -> Op {
    let mutation = Mutation { column: "external_ids", mutator: Mutator::Delete, value: Datum::set(keys) };
    Op::Mutate { table, on: Where::Row(row), mutations: vec![mutation] }
}

fn ports_of(bridge: Uuid, mutator: Mutator, port: Uuid) -> Op {
    let mutation = Mutation { column: "ports", mutator, value: port.into() };
    Op::Mutate { table: BRIDGE, on: Where::Row(bridge), mutations: vec![mutation] }
}

/// Returns the name that the chassis of a node or external host has by default: a UUID that follows from the node's name, because
/// tools for kube-ovn expect a UUID. A node that has lost its disk gets the same one again, so its chassis takes the place of the
/// one that is registered.
pub fn chassis_of(node_name: &str) -> String {
    const NAMESPACE: Uuid = Uuid::from_u128(0x3a1d_84f2_7c55_4e0b_b9d6_60e2_95c8_1f73);
    Uuid::new_v5(&NAMESPACE, node_name.as_bytes()).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: Uuid = Uuid::from_u128(7);

    /// Returns a node with a bridge `br-int` after `ops`: inserts, and mutations of the bridge's ports.
    fn node(ops: &[Op]) -> Replica {
        let mut replica = Replica::new(open_vswitch());
        replica.insert(BRIDGE, ID, [("name", "br-int".into()), ("ports", Datum::empty())].into());
        for op in ops {
            match op {
                Op::Insert { table, uuid: Some(uuid), row } => drop(replica.insert(table, *uuid, row.clone())),
                Op::Mutate { table: BRIDGE, on: Where::Row(id), mutations } => {
                    let mut row = replica.get(BRIDGE, *id).unwrap().clone();
                    row.insert("ports", mutations[0].value.clone());
                    replica.insert(BRIDGE, *id, row);
                }
                other => panic!("{other:?}"),
            }
        }
        replica
    }

    fn pod() -> NewPort {
        NewPort {
            name: "0123456789ab_h".into(),
            seed: "container".into(),
            external_ids: [("iface-id".to_owned(), "web-0.shop".to_owned())].into(),
            ..NewPort::default()
        }
    }

    #[test]
    fn a_port_added_is_found_and_deleted_by_name() {
        let replica = node(&pod().add_to(ID));
        let bridge = Bridge::find(&replica, "br-int").unwrap();
        assert_eq!(bridge.ports().count(), 1);
        let interface = Interface::find(&replica, "0123456789ab_h").unwrap();
        assert_eq!(interface.id, pod().interface_id());
        assert_eq!(interface.iface_id(), Some("web-0.shop"));
        assert_eq!((interface.ofport(), interface.ovn_installed()), (None, false));

        let [Op::Mutate { on: Where::Row(ID), mutations, .. }] = &delete_port(&replica, "0123456789ab_h")[..] else {
            panic!("one mutation of the bridge");
        };
        assert_eq!((mutations[0].column, mutations[0].mutator), ("ports", Mutator::Delete));
        assert_eq!(mutations[0].value, Datum::set(bridge.ports()));
        assert!(delete_port(&replica, "other").is_empty());
    }

    #[test]
    fn names_of_another_container_are_other_rows() {
        let other = NewPort { seed: "other".into(), ..pod() };
        assert_ne!(other.interface_id(), pod().interface_id());
    }

    #[test]
    fn keys_are_replaced_and_others_left() {
        let Op::Mutate { mutations, .. } = set_external_ids(INTERFACE, ID, [("a", "1"), ("b", "2")]) else {
            panic!("a mutation");
        };
        assert_eq!(mutations[0].value, Datum::set(["a", "b"]));
        assert_eq!(mutations[1].value, Datum::map([("a", "1"), ("b", "2")]));
    }
}
