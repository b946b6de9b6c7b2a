//! The part of the southbound database that the controller uses (ovn-sb(5)): the chassis, and what is lost with the database.
//! northd and ovn-controller own the rest.

mod report;
pub mod unfilled;

use ovsdb::{Datum, Op, Replica, Row, Table, Uuid, Where};

pub use report::NodeReport;

/// The name of the database.
pub const DATABASE: &str = "OVN_Southbound";
/// The table of the chassis' tunnel addresses. No two rows have the same type and address.
pub const ENCAP: &str = "Encap";
/// The table of chassis. Each ovn-controller writes one row.
pub const CHASSIS: &str = "Chassis";
/// The table of private chassis data. It has a row of the same name for each chassis.
pub const CHASSIS_PRIVATE: &str = "Chassis_Private";
/// The table of switches and routers.
pub const DATAPATH_BINDING: &str = "Datapath_Binding";
/// The table that says which chassis has a port. It has a row for each port.
pub const PORT_BINDING: &str = "Port_Binding";
/// The table with the only row of settings.
pub const SB_GLOBAL: &str = "SB_Global";

/// How the names of router ports begin that belong to one chassis at a time, and by what they are found in a replica.
const REDIRECTS: &str = "cr-";

/// A key of a node's `external_ids` and of a chassis' `other_config`. Its value is a comma-separated list of options
/// for the CMS (ovn-controller(8)), in this case kube-ovn.
pub const CMS_OPTIONS: &str = "ovn-cms-options";
/// Our option in this list that marks the chassis as a node of the cluster. [`NodeReport`] has the others.
pub const MARK: &str = "kube-ovn";

/// Returns the tables that a controller replicates. Only rows of [`PORT_BINDING`] change with each pod.
pub fn tables() -> Vec<Table> {
    vec![
        Table { name: SB_GLOBAL, columns: &["external_ids", "options"], key: None },
        Table {
            name: CHASSIS,
            columns: &["name", "hostname", "other_config", "external_ids", "encaps", "transport_zones"],
            key: None,
        },
        Table {
            name: CHASSIS_PRIVATE,
            columns: &["name"],
            key: Some(|row| Some(row.get("name")?.as_str()?.to_owned())),
        },
        Table { name: ENCAP, columns: &["type", "ip", "chassis_name", "options"], key: None },
        Table { name: DATAPATH_BINDING, columns: &["external_ids", "tunnel_key"], key: None },
        Table {
            name: PORT_BINDING,
            columns: &["logical_port", "datapath", "tunnel_key", "chassis", "encap"],
            key: Some(|row| is_named_as_redirect(row).then(|| REDIRECTS.to_owned())),
        },
    ]
}

/// Returns whether this port is a router port that belongs to one chassis at a time.
pub fn is_redirect(replica: &Replica, port: Uuid) -> bool {
    replica.get(PORT_BINDING, port).is_some_and(is_named_as_redirect)
}

fn is_named_as_redirect(row: &Row) -> bool {
    row.get("logical_port").and_then(Datum::as_str).is_some_and(|name| name.starts_with(REDIRECTS))
}

/// Returns the router ports that belong to one chassis at a time.
pub fn redirects(replica: &Replica) -> impl Iterator<Item = Uuid> {
    replica.find(PORT_BINDING, REDIRECTS)
}

/// Returns the names of the router ports that belong to one chassis at a time (`cr-<port>` in the database), each with the name
/// of the chassis that is active for it, if one is.
pub fn active(replica: &Replica) -> impl Iterator<Item = (&str, &str)> {
    redirects(replica).filter_map(|port| {
        let row = replica.get(PORT_BINDING, port)?;
        let chassis = row.get("chassis")?.uuids().next()?;
        let chassis = replica.get(CHASSIS, chassis)?.get("name")?.as_str()?;
        Some((row.get("logical_port")?.as_str()?.strip_prefix(REDIRECTS)?, chassis))
    })
}

/// Returns the table of tunnel addresses, for an agent that looks for its own.
pub fn encaps() -> Vec<Table> {
    vec![Table { name: ENCAP, columns: &["type", "ip", "chassis_name"], key: None }]
}

/// A tunnel address of a chassis.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Encap {
    /// The encapsulation, for example `geneve`.
    pub kind: String,
    /// The address.
    pub ip: String,
    /// The name of the chassis.
    pub chassis: String,
}

impl Encap {
    /// Returns all tunnel addresses of the replica.
    pub fn all(replica: &Replica) -> impl Iterator<Item = Self> {
        replica.rows(ENCAP).map(|(_, row)| {
            let text = |column| row.get(column).and_then(Datum::as_str).unwrap_or_default().to_owned();
            Self { kind: text("type"), ip: text("ip"), chassis: text("chassis_name") }
        })
    }
}

/// A chassis with our mark.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chassis {
    /// The UUID of the row.
    pub id: Uuid,
    /// The name of the chassis, which is the node's `system-id`.
    pub name: String,
    /// The name of the node.
    pub hostname: String,
    /// The options for the CMS that ovn-controller has copied from the node's settings.
    pub options: String,
}

impl Chassis {
    /// Returns all chassis with our mark.
    pub fn all(replica: &Replica) -> impl Iterator<Item = Self> {
        replica.rows(CHASSIS).filter(|(_, row)| is_ours(row)).map(|(id, row)| {
            let text = |column| row.get(column).and_then(Datum::as_str).unwrap_or_default().to_owned();
            Self { id, name: text("name"), hostname: text("hostname"), options: options(row).to_owned() }
        })
    }

    /// Returns what the node's agent reports. Empty if the agent is an earlier one that reports nothing.
    pub fn report(&self) -> NodeReport {
        NodeReport::parse(&self.options)
    }

    /// Returns the operations that remove the chassis, as `ovn-sbctl chassis-del` does. A running ovn-controller
    /// recreates it.
    pub fn removal(&self, replica: &Replica) -> Vec<Op> {
        let delete = |table, row| Op::Delete { table, on: Where::Row(row) };
        let private = replica.find(CHASSIS_PRIVATE, &self.name).map(|row| delete(CHASSIS_PRIVATE, row));
        private.chain([delete(CHASSIS, self.id)]).collect()
    }
}

fn options(row: &Row) -> &str {
    row.get("other_config").and_then(|config| config.get(CMS_OPTIONS)).unwrap_or_default()
}

fn is_ours(row: &Row) -> bool {
    words(options(row)).any(|word| word == MARK)
}

fn words(options: &str) -> impl Iterator<Item = &str> {
    options.split(',').map(str::trim).filter(|word| !word.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(name: &str, options: &str) -> Row {
        let config = Datum::map([(CMS_OPTIONS, options)]);
        Row::from([("name", name.into()), ("hostname", format!("host-{name}").into()), ("other_config", config)])
    }

    #[test]
    fn only_marked_ones_are_ours_and_go_with_their_private_row() {
        let mut replica = Replica::new(tables());
        let [ours, foreign, private] = [1, 2, 3].map(Uuid::from_u128);
        replica.insert(CHASSIS, ours, row("a", "enable-chassis-as-gw,kube-ovn,kube-ovn-mtu=1442"));
        replica.insert(CHASSIS, foreign, row("b", "not-kube-ovn"));
        replica.insert(CHASSIS_PRIVATE, private, Row::from([("name", "a".into())]));
        let found: Vec<_> = Chassis::all(&replica).collect();
        let options = "enable-chassis-as-gw,kube-ovn,kube-ovn-mtu=1442".to_owned();
        assert_eq!(found, [Chassis { id: ours, name: "a".to_owned(), hostname: "host-a".to_owned(), options }]);
        assert_eq!(found[0].report().mtu, Some(1442));
        let delete = |table, row| Op::Delete { table, on: Where::Row(row) };
        assert_eq!(found[0].removal(&replica), [delete(CHASSIS_PRIVATE, private), delete(CHASSIS, ours)]);
    }
}
