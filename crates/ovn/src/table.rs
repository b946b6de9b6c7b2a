//! The northbound tables we own rows of: what is monitored, how rows are named, how columns are compared.
//!
//! This is the one place that knows a table; `sync` reads it and knows none by name.

use std::fmt;

use ovsdb::{Row, Table};

/// The northbound tables we own rows of, in the order in which their rows are written.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum TableId {
    /// The one row of settings for all of northbound.
    NbGlobal,
    /// One row for each Subnet.
    LogicalSwitch,
    /// One row for each VPC.
    LogicalRouter,
    /// Named sets of addresses that matches refer to as `$name`.
    AddressSet,
    /// Where pods, nodes and routers are plugged into a switch.
    LogicalSwitchPort,
    /// A router's leg in a switch.
    LogicalRouterPort,
    /// A router's routing policies.
    LogicalRouterPolicy,
    /// A router's static routes.
    LogicalRouterStaticRoute,
    /// What may pass through a switch.
    Acl,
}

impl TableId {
    /// Every table, in order.
    pub const ALL: [TableId; 9] = [
        TableId::NbGlobal,
        TableId::LogicalSwitch,
        TableId::LogicalRouter,
        TableId::AddressSet,
        TableId::LogicalSwitchPort,
        TableId::LogicalRouterPort,
        TableId::LogicalRouterPolicy,
        TableId::LogicalRouterStaticRoute,
        TableId::Acl,
    ];

    /// What is known of this table: its columns, its key, who refers to it.
    pub fn descriptor(self) -> &'static Descriptor {
        &TABLES[self as usize]
    }

    /// The table's name in the OVSDB schema, such as `Logical_Switch_Port`.
    pub fn name(self) -> &'static str {
        self.descriptor().name
    }
}

impl fmt::Display for TableId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The mark in `external_ids` of every row that is ours. kube-ovn writes the same one, so its rows become ours.
pub const VENDOR: (&str, &str) = ("vendor", "kube-ovn");

/// Whether a row carries our mark.
pub fn ours(row: &Row) -> bool {
    row.get("external_ids").and_then(|ids| ids.get(VENDOR.0)) == Some(VENDOR.1)
}

/// How a column is compared and written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// One value, or an optional one: compared and written whole.
    Scalar,
    /// A small set: compared and written whole.
    Set,
    /// A map that is ours alone: compared and written whole.
    Map,
    /// A map that others write to as well: only the keys we name are compared and written.
    Keys,
    /// A set of values, each wanted by a fact of its own and written by mutation.
    Values,
    /// A set of references to rows of a table, each wanted by a fact of its own and written by mutation.
    References(TableId),
}

/// A monitored column.
#[derive(Clone, Copy, Debug)]
pub struct Column {
    /// Its name in the schema.
    pub name: &'static str,
    /// How it is compared and written.
    pub kind: Kind,
}

/// For rows whose own columns do not name them: the parent whose name does.
#[derive(Clone, Copy, Debug)]
pub struct Scope {
    /// The parent's table.
    pub parent: TableId,
    /// The parent's column that refers to the rows.
    pub column: &'static str,
}

/// What is known of a table.
#[derive(Debug)]
pub struct Descriptor {
    /// Which one it is.
    pub id: TableId,
    /// Its name in the schema.
    pub name: &'static str,
    /// Whether rows live by themselves. Those of other tables are collected once nothing refers to them (RFC 7047, 3.2
    /// `isRoot`), and are removed by removing the reference.
    pub root: bool,
    /// The columns we monitor.
    pub columns: &'static [Column],
    /// The names of `columns`.
    pub names: &'static [&'static str],
    /// The natural key as far as the row itself knows it.
    pub key: fn(&Row) -> Option<String>,
    /// Who completes the key, if the row alone does not.
    pub scope: Option<Scope>,
}

impl Descriptor {
    /// How `column` is compared; a column that is not monitored counts as a scalar.
    pub fn kind(&self, column: &str) -> Kind {
        self.columns.iter().find(|c| c.name == column).map_or(Kind::Scalar, |c| c.kind)
    }

    /// The columns that hold members, with the table they refer to (`None`: plain values).
    pub fn member_columns(&self) -> impl Iterator<Item = (&'static str, Option<TableId>)> {
        self.columns.iter().filter_map(|c| match c.kind {
            Kind::Values => Some((c.name, None)),
            Kind::References(to) => Some((c.name, Some(to))),
            _ => None,
        })
    }

    /// The columns of other tables that refer to rows of this one.
    pub fn referrers(&self) -> impl Iterator<Item = (TableId, &'static str)> {
        let id = self.id;
        TABLES.iter().flat_map(move |table| {
            table.columns.iter().filter(move |c| c.kind == Kind::References(id)).map(move |c| (table.id, c.name))
        })
    }
}

/// What the controller monitors of the northbound database.
pub fn northbound() -> Vec<Table> {
    TABLES.iter().map(|t| Table { name: t.name, columns: t.names, key: Some(t.key) }).collect()
}

/// Writes a table down once: its columns with their kinds, and their names for the monitor.
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
static TABLES: [Descriptor; 9] = [
    table!(NbGlobal = "NB_Global", root: true, key: |_| Some(".".to_owned()), scope: None, {
        "options": Kind::Keys,
        "external_ids": Kind::Keys,
    }),
    table!(LogicalSwitch = "Logical_Switch", root: true, key: name, scope: None, {
        "name": Kind::Scalar,
        "ports": Kind::References(TableId::LogicalSwitchPort),
        "acls": Kind::References(TableId::Acl),
        "other_config": Kind::Map,
        "external_ids": Kind::Keys,
    }),
    table!(LogicalRouter = "Logical_Router", root: true, key: name, scope: None, {
        "name": Kind::Scalar,
        "ports": Kind::References(TableId::LogicalRouterPort),
        "policies": Kind::References(TableId::LogicalRouterPolicy),
        "static_routes": Kind::References(TableId::LogicalRouterStaticRoute),
        "options": Kind::Map,
        "external_ids": Kind::Keys,
    }),
    table!(AddressSet = "Address_Set", root: true, key: name, scope: None, {
        "name": Kind::Scalar,
        "addresses": Kind::Values,
        "external_ids": Kind::Keys,
    }),
    table!(LogicalSwitchPort = "Logical_Switch_Port", root: false, key: name, scope: None, {
        "name": Kind::Scalar,
        "type": Kind::Scalar,
        "addresses": Kind::Set,
        "port_security": Kind::Set,
        "options": Kind::Map,
        "external_ids": Kind::Keys,
    }),
    table!(LogicalRouterPort = "Logical_Router_Port", root: false, key: name, scope: None, {
        "name": Kind::Scalar,
        "mac": Kind::Scalar,
        "networks": Kind::Set,
        "ipv6_ra_configs": Kind::Map,
        "options": Kind::Map,
        "external_ids": Kind::Keys,
    }),
    table!(LogicalRouterPolicy = "Logical_Router_Policy", root: false, key: policy,
        scope: Some(Scope { parent: TableId::LogicalRouter, column: "policies" }), {
        "priority": Kind::Scalar,
        "match": Kind::Scalar,
        "action": Kind::Scalar,
        "nexthop": Kind::Scalar,
        "nexthops": Kind::Set,
        "external_ids": Kind::Keys,
    }),
    table!(LogicalRouterStaticRoute = "Logical_Router_Static_Route", root: false, key: route,
        scope: Some(Scope { parent: TableId::LogicalRouter, column: "static_routes" }), {
        "ip_prefix": Kind::Scalar,
        "nexthop": Kind::Scalar,
        "policy": Kind::Scalar,
        "route_table": Kind::Scalar,
        "output_port": Kind::Scalar,
        "external_ids": Kind::Keys,
    }),
    table!(Acl = "ACL", root: false, key: acl,
        scope: Some(Scope { parent: TableId::LogicalSwitch, column: "acls" }), {
        "direction": Kind::Scalar,
        "priority": Kind::Scalar,
        "match": Kind::Scalar,
        "action": Kind::Scalar,
        "log": Kind::Scalar,
        "severity": Kind::Scalar,
        "name": Kind::Scalar,
        "tier": Kind::Scalar,
        "options": Kind::Map,
        "external_ids": Kind::Keys,
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
    Some(format!("{}/{}/{}", text(row, "direction")?, row.get("priority")?.as_int()?, text(row, "match")?))
}

/// An absent policy means `dst-ip` (ovn-nb(5), `Logical_Router_Static_Route`); a route of another table than the main one
/// is another route.
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
