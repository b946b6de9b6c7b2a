//! `Logical_Router`, its ports, policies and static routes.

use std::collections::BTreeMap;
use std::sync::Arc;

use ovsdb::Datum;

use crate::fact::Fact;
use crate::key::RowKey;
use crate::rows::{map, marked, set};
use crate::table::TableId;

/// A router (ovn-nb(5), `Logical_Router`). `ovn-cluster` connects all switches.
#[derive(Clone, Debug, Default)]
pub struct LogicalRouter {
    /// `name`. The database does not enforce unique names, the controller does. The name contains no `/`.
    pub name: String,
    /// The UID of the router's owner.
    pub seed: Arc<str>,
    /// `options`, for example `dynamic_neigh_routers`.
    pub options: BTreeMap<String, String>,
}

impl LogicalRouter {
    /// Returns the key of the router `name`.
    pub fn key(name: &str) -> RowKey {
        RowKey::new(TableId::LogicalRouter, name)
    }

    /// Returns the row.
    pub fn fact(&self) -> Fact {
        Fact::Row {
            key: Self::key(&self.name),
            seed: self.seed.clone(),
            columns: [
                ("name", Datum::from(self.name.as_str())),
                ("options", map(&self.options)),
                ("external_ids", marked(&[])),
            ]
            .into(),
        }
    }
}

/// A router's port on a switch (ovn-nb(5), `Logical_Router_Port`).
#[derive(Clone, Debug, Default)]
pub struct LogicalRouterPort {
    /// `name`, unique in the database: `<router>-<switch>`.
    pub name: String,
    /// The name of the router.
    pub router: String,
    /// The UID of the Subnet.
    pub seed: Arc<str>,
    /// `mac`, in lower case.
    pub mac: String,
    /// `networks`: the port's addresses with their prefix lengths, for example `10.16.0.1/16`.
    pub networks: Vec<String>,
    /// `ipv6_ra_configs`, for example `address_mode`. Without any, the router sends no router advertisements.
    pub ipv6_ra_configs: BTreeMap<String, String>,
    /// `options`, for example `gateway_mtu`.
    pub options: BTreeMap<String, String>,
    /// `external_ids` in addition to our mark.
    pub external_ids: Vec<(&'static str, Arc<str>)>,
}

impl LogicalRouterPort {
    /// Returns the key of the port `name`.
    pub fn key(name: &str) -> RowKey {
        RowKey::new(TableId::LogicalRouterPort, name)
    }

    /// Returns the row and its reference from the router.
    pub fn facts(&self) -> [Fact; 2] {
        let key = Self::key(&self.name);
        let columns = [
            ("name", Datum::from(self.name.as_str())),
            ("mac", Datum::from(self.mac.as_str())),
            ("networks", set(&self.networks)),
            ("ipv6_ra_configs", map(&self.ipv6_ra_configs)),
            ("options", map(&self.options)),
            ("external_ids", marked(&self.external_ids)),
        ];
        [
            Fact::Row { key: key.clone(), seed: self.seed.clone(), columns: columns.into() },
            Fact::reference(LogicalRouter::key(&self.router), "ports", key),
        ]
    }
}

/// The action of a policy.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Action {
    /// Routes the packet by the routing table.
    Allow,
    /// Drops the packet.
    Drop,
    /// Routes the packet to one of these next hops, all of one address family.
    Reroute(Vec<String>),
}

/// A routing policy (ovn-nb(5), `Logical_Router_Policy`). Its key is the router, the priority and the match.
#[derive(Clone, Debug)]
pub struct RouterPolicy {
    /// The name of the router.
    pub router: String,
    /// The UID of the policy's owner.
    pub seed: Arc<str>,
    /// `priority`, 0 to 32767. The highest match wins.
    pub priority: u16,
    /// `match`: an OVN expression.
    pub match_: String,
    /// `action` and `nexthops`.
    pub action: Action,
}

impl RouterPolicy {
    /// Returns the row's key.
    pub fn key(&self) -> RowKey {
        RowKey::new(TableId::LogicalRouterPolicy, format!("{}/{}/{}", self.router, self.priority, self.match_))
    }

    /// Returns the row and its reference from the router.
    pub fn facts(&self) -> [Fact; 2] {
        let key = self.key();
        let (action, hops) = match &self.action {
            Action::Allow => ("allow", Datum::empty()),
            Action::Drop => ("drop", Datum::empty()),
            Action::Reroute(hops) => ("reroute", set(hops)),
        };
        let columns = [
            ("priority", Datum::from(i64::from(self.priority))),
            ("match", Datum::from(self.match_.as_str())),
            ("action", Datum::from(action)),
            ("nexthop", Datum::empty()),
            ("nexthops", hops),
            ("external_ids", marked(&[])),
        ];
        [
            Fact::Row { key: key.clone(), seed: self.seed.clone(), columns: columns.into() },
            Fact::reference(LogicalRouter::key(&self.router), "policies", key),
        ]
    }
}

/// A destination route in the main table (ovn-nb(5), `Logical_Router_Static_Route`). Its key is the router and all
/// values.
#[derive(Clone, Debug, Default)]
pub struct StaticRoute {
    /// The name of the router.
    pub router: String,
    /// The UID of the route's owner.
    pub seed: Arc<str>,
    /// `ip_prefix`, for example `0.0.0.0/0`.
    pub ip_prefix: String,
    /// `nexthop`: an address, or `discard`.
    pub nexthop: String,
}

impl StaticRoute {
    /// Returns the row's key.
    pub fn key(&self) -> RowKey {
        let name = format!("{}/dst-ip/{}/{}", self.router, self.ip_prefix, self.nexthop);
        RowKey::new(TableId::LogicalRouterStaticRoute, name)
    }

    /// Returns the row and its reference from the router.
    pub fn facts(&self) -> [Fact; 2] {
        let key = self.key();
        let columns = [
            ("ip_prefix", Datum::from(self.ip_prefix.as_str())),
            ("nexthop", Datum::from(self.nexthop.as_str())),
            ("policy", Datum::from("dst-ip")),
            ("external_ids", marked(&[])),
        ];
        [
            Fact::Row { key: key.clone(), seed: self.seed.clone(), columns: columns.into() },
            Fact::reference(LogicalRouter::key(&self.router), "static_routes", key),
        ]
    }
}
