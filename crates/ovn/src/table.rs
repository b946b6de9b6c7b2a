//! The northbound tables that contain our rows: the monitored columns, the keys of rows, and how columns are compared.
//!
//! All knowledge about tables is in this module. `sync` reads it and names no table.

mod descriptor;

use std::fmt;

use ovsdb::{Datum, Row, Table};

pub use descriptor::{Column, Descriptor, Kind, Link, Scope};

/// The northbound tables that contain our rows, in the order in which rows are written.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum TableId {
    /// The northbound settings, one row.
    NbGlobal,
    /// One row for each Subnet.
    LogicalSwitch,
    /// One row for each VPC.
    LogicalRouter,
    /// Named sets of addresses. Matches refer to them as `$name`.
    AddressSet,
    /// Named groups of switch ports, with access control rules. Matches refer to a group as `@name`.
    PortGroup,
    /// Sessions that tell whether a next hop is there.
    Bfd,
    /// The MAC addresses of next hops.
    StaticMacBinding,
    /// Where copies of the packets of switch ports go.
    Mirror,
    /// Switch ports of pods, nodes and routers.
    LogicalSwitchPort,
    /// A router's ports on switches.
    LogicalRouterPort,
    /// A router's routing policies.
    LogicalRouterPolicy,
    /// A router's static routes.
    LogicalRouterStaticRoute,
    /// Access control rules of switches and port groups.
    Acl,
    /// The chassis that a router port can belong to, with their priorities.
    GatewayChassis,
    /// Limits of the rate of packets of switches.
    Qos,
}

impl TableId {
    /// All tables, in order.
    pub const ALL: [TableId; 15] = [
        TableId::NbGlobal,
        TableId::LogicalSwitch,
        TableId::LogicalRouter,
        TableId::AddressSet,
        TableId::PortGroup,
        TableId::Bfd,
        TableId::StaticMacBinding,
        TableId::Mirror,
        TableId::LogicalSwitchPort,
        TableId::LogicalRouterPort,
        TableId::LogicalRouterPolicy,
        TableId::LogicalRouterStaticRoute,
        TableId::Acl,
        TableId::GatewayChassis,
        TableId::Qos,
    ];

    /// Returns the table's columns, key and references.
    pub fn descriptor(self) -> &'static Descriptor {
        &TABLES[self as usize]
    }

    /// Returns the name in the OVSDB schema, for example `Logical_Switch_Port`.
    pub fn name(self) -> &'static str {
        self.descriptor().name
    }
}

impl fmt::Display for TableId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// kube-ovn's mark in `external_ids`. Our rows carry it too, because tools select by it.
pub const VENDOR: (&str, &str) = ("vendor", "kube-ovn");

/// The mark in `external_ids` of every row that this project writes. Only rows with this mark are deleted: kube-ovn's mark
/// alone is also on rows of networks that are not served here, such as those of other VPCs.
pub const MARK: (&str, &str) = ("owner", "kube-ovn-rs");

/// The prefix of the names of our router ports that lead out of the cluster. A Subnet's name cannot contain it.
pub const EXIT: &str = "exit:";

/// Returns true if a row carries our mark. A MAC binding has no `external_ids`: it is ours if its port is.
pub fn ours(row: &Row) -> bool {
    carries(row, MARK)
        || row.get("mac").is_some() && text(row, "logical_port").is_some_and(|port| port.starts_with(EXIT))
}

/// Returns true if a row carries kube-ovn's mark: it is ours, or a kube-ovn wrote it that ran here before.
pub fn of_kube_ovn(row: &Row) -> bool {
    carries(row, VENDOR)
}

fn carries(row: &Row, (key, value): (&str, &str)) -> bool {
    row.get("external_ids").and_then(|ids| ids.get(key)) == Some(value)
}

/// Returns the tables that the controller monitors in the northbound database.
pub fn northbound() -> Vec<Table> {
    TABLES.iter().map(|t| Table { name: t.name, columns: t.names, key: Some(t.key) }).collect()
}

/// Declares a table: its columns with their kinds, and their names for the monitor.
macro_rules! table {
    ($id:ident = $name:literal, root: $root:literal, key: $key:expr, scope: $scope:expr, { $($column:literal: $kind:expr,)* }) => {
        Descriptor {
            id: TableId::$id,
            name: $name,
            root: $root,
            columns: &[$(Column { name: $column, kind: $kind }),*],
            names: &[$($column),*],
            key: $key,
            scope: $scope,
        }
    };
}

/// In the order of [`TableId`].
static TABLES: [Descriptor; 15] = [
    table!(NbGlobal = "NB_Global", root: true, key: |_| Some(".".to_owned()), scope: &[], {
        "options": Kind::Keys(&["bfd-min-rx", "bfd-min-tx", "bfd-mult", "use_ct_inv_match"]),
        "external_ids": Kind::Keys(&[]),
    }),
    table!(LogicalSwitch = "Logical_Switch", root: true, key: name, scope: &[], {
        "name": Kind::Scalar,
        "ports": Link::strong(TableId::LogicalSwitchPort),
        "acls": Link::strong(TableId::Acl),
        "qos_rules": Link::strong(TableId::Qos),
        "other_config": Kind::Map,
        "external_ids": Kind::Keys(&["in_force", "owner", "vendor"]),
    }),
    table!(LogicalRouter = "Logical_Router", root: true, key: name, scope: &[], {
        "name": Kind::Scalar,
        "ports": Link::strong(TableId::LogicalRouterPort),
        "policies": Link::strong(TableId::LogicalRouterPolicy),
        "static_routes": Link::strong(TableId::LogicalRouterStaticRoute),
        "options": Kind::Map,
        "external_ids": Kind::Keys(&["owner", "vendor"]),
    }),
    table!(AddressSet = "Address_Set", root: true, key: name, scope: &[], {
        "name": Kind::Scalar,
        "addresses": Kind::Values,
        "external_ids": Kind::Keys(&["ippool", "owner", "vendor"]),
    }),
    table!(PortGroup = "Port_Group", root: true, key: name, scope: &[], {
        "name": Kind::Scalar,
        "ports": Link::weak(TableId::LogicalSwitchPort),
        "acls": Link::strong(TableId::Acl),
        "external_ids": Kind::Keys(&["owner", "vendor"]),
    }),
    table!(Bfd = "BFD", root: true, key: session, scope: &[], {
        "logical_port": Kind::Scalar,
        "dst_ip": Kind::Scalar,
        "external_ids": Kind::Keys(&["owner", "vendor"]),
    }),
    table!(StaticMacBinding = "Static_MAC_Binding", root: true, key: binding, scope: &[], {
        "logical_port": Kind::Scalar,
        "ip": Kind::Scalar,
        "mac": Kind::Scalar,
        "override_dynamic_mac": Kind::Scalar,
    }),
    table!(Mirror = "Mirror", root: true, key: name, scope: &[], {
        "name": Kind::Scalar,
        "filter": Kind::Scalar,
        "sink": Kind::Scalar,
        "type": Kind::Scalar,
        "index": Kind::Scalar,
        "external_ids": Kind::Keys(&["owner", "vendor"]),
    }),
    table!(LogicalSwitchPort = "Logical_Switch_Port", root: false, key: name, scope: &[], {
        "name": Kind::Scalar,
        "type": Kind::Scalar,
        "addresses": Kind::Set,
        "port_security": Kind::Set,
        "mirror_rules": Link::weak(TableId::Mirror),
        "options": Kind::Map,
        "external_ids": Kind::Keys(&["cidr", "gateway", "ls", "mirrored", "node", "north_gateway", "owner", "pod", "vendor"]),
    }),
    table!(LogicalRouterPort = "Logical_Router_Port", root: false, key: name, scope: &[], {
        "name": Kind::Scalar,
        "mac": Kind::Scalar,
        "networks": Kind::Set,
        "gateway_chassis": Link::strong(TableId::GatewayChassis),
        "ipv6_ra_configs": Kind::Map,
        "options": Kind::Map,
        "external_ids": Kind::Keys(&["owner", "vendor"]),
    }),
    table!(LogicalRouterPolicy = "Logical_Router_Policy", root: false, key: policy,
        scope: &[(TableId::LogicalRouter, "policies")], {
        "priority": Kind::Scalar,
        "match": Kind::Scalar,
        "action": Kind::Scalar,
        "nexthop": Kind::Scalar,
        "nexthops": Kind::Set,
        "external_ids": Kind::Keys(&["owner", "vendor"]),
    }),
    table!(LogicalRouterStaticRoute = "Logical_Router_Static_Route", root: false, key: route,
        scope: &[(TableId::LogicalRouter, "static_routes")], {
        "ip_prefix": Kind::Scalar,
        "nexthop": Kind::Scalar,
        "policy": Kind::Scalar,
        "route_table": Kind::Scalar,
        "output_port": Kind::Scalar,
        "bfd": Link::weak_or_none(TableId::Bfd),
        "external_ids": Kind::Keys(&["owner", "vendor"]),
    }),
    table!(Acl = "ACL", root: false, key: acl,
        scope: &[(TableId::LogicalSwitch, "acls"), (TableId::PortGroup, "acls")], {
        "direction": Kind::Scalar,
        "priority": Kind::Scalar,
        "match": Kind::Scalar,
        "action": Kind::Scalar,
        "log": Kind::Scalar,
        "severity": Kind::Scalar,
        "name": Kind::Scalar,
        "tier": Kind::Scalar,
        "options": Kind::Map,
        "external_ids": Kind::Keys(&["owner", "vendor"]),
    }),
    table!(GatewayChassis = "Gateway_Chassis", root: false, key: name, scope: &[], {
        "name": Kind::Scalar,
        "chassis_name": Kind::Scalar,
        "priority": Kind::Scalar,
        "external_ids": Kind::Keys(&["owner", "vendor"]),
    }),
    table!(Qos = "QoS", root: false, key: qos, scope: &[(TableId::LogicalSwitch, "qos_rules")], {
        "direction": Kind::Scalar,
        "priority": Kind::Scalar,
        "match": Kind::Scalar,
        "bandwidth": Kind::Map,
        "action": Kind::Map,
        "external_ids": Kind::Keys(&["owner", "vendor"]),
    }),
];

fn text<'a>(row: &'a Row, column: &str) -> Option<&'a str> {
    row.get(column)?.as_str()
}

fn name(row: &Row) -> Option<String> {
    text(row, "name").map(str::to_owned)
}

fn policy(row: &Row) -> Option<String> {
    Some(format!("{}/{}", row.get("priority")?.as_int()?, text(row, "match")?))
}

fn acl(row: &Row) -> Option<String> {
    let tier = row.get("tier").and_then(Datum::as_int).unwrap_or_default();
    let priority = row.get("priority")?.as_int()?;
    Some(format!("{tier}/{}/{priority}/{}", text(row, "direction")?, text(row, "match")?))
}

fn qos(row: &Row) -> Option<String> {
    let priority = row.get("priority")?.as_int()?;
    Some(format!("{}/{priority}/{}", text(row, "direction")?, text(row, "match")?))
}

fn session(row: &Row) -> Option<String> {
    Some(format!("{}/{}", text(row, "logical_port")?, text(row, "dst_ip")?))
}

fn binding(row: &Row) -> Option<String> {
    Some(format!("{}/{}", text(row, "logical_port")?, text(row, "ip")?))
}

/// An absent policy means `dst-ip` (ovn-nb(5), `Logical_Router_Static_Route`). A route in another table than the main
/// one is a different route.
fn route(row: &Row) -> Option<String> {
    let policy = text(row, "policy").unwrap_or("dst-ip");
    let main = format!("{policy}/{}/{}", text(row, "ip_prefix")?, text(row, "nexthop")?);
    Some(match text(row, "route_table") {
        None | Some("") => main,
        Some(table) => format!("{main}@{table}"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_stand_in_the_order_of_their_ids() {
        for (at, id) in TableId::ALL.into_iter().enumerate() {
            assert_eq!(TABLES[at].id, id);
            assert_eq!(id as usize, at);
        }
    }

    #[test]
    fn every_collected_table_has_a_referrer() {
        for table in TABLES.iter().filter(|t| !t.root) {
            assert!(table.referrers().next().is_some(), "{}", table.name);
        }
    }

    #[test]
    fn routes_of_other_tables_are_other_routes() {
        let row = |table: &str| {
            Row::from([
                ("ip_prefix", "0.0.0.0/0".into()),
                ("nexthop", "10.0.0.1".into()),
                ("route_table", table.into()),
            ])
        };
        assert_eq!(route(&row("")).unwrap(), "dst-ip/0.0.0.0/0/10.0.0.1");
        assert_eq!(route(&row("vpn")).unwrap(), "dst-ip/0.0.0.0/0/10.0.0.1@vpn");
    }
}
