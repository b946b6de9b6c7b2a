//! `Logical_Router`, its ports, policies and static routes.

use std::collections::BTreeMap;
use std::sync::Arc;

use ovsdb::Datum;

use crate::fact::Fact;
use crate::key::RowKey;
use crate::rows::{map, marked, set};
use crate::table::TableId;

/// A router (ovn-nb(5), `Logical_Router`); `ovn-cluster` ties all switches together.
#[derive(Clone, Debug, Default)]
pub struct LogicalRouter {
    /// `name`; the database does not keep it unique, we do. It holds no `/`.
    pub name: String,
    /// The uid of what the router is there for.
    pub seed: Arc<str>,
    /// `options`, such as `dynamic_neigh_routers`.
    pub options: BTreeMap<String, String>,
}

impl LogicalRouter {
    /// The key of the router called `name`.
    pub fn key(name: &str) -> RowKey {
        RowKey::new(TableId::LogicalRouter, name)
    }

    /// The row.
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

/// A router's leg in a switch (ovn-nb(5), `Logical_Router_Port`).
#[derive(Clone, Debug, Default)]
pub struct LogicalRouterPort {
    /// `name`, unique in the database: `<router>-<switch>`.
    pub name: String,
    /// The router, by name.
    pub router: String,
    /// The uid of the Subnet.
    pub seed: Arc<str>,
    /// `mac`, lower-case.
    pub mac: String,
    /// `networks`: the leg's own addresses with their prefix lengths, such as `10.16.0.1/16`.
    pub networks: Vec<String>,
    /// `ipv6_ra_configs`, such as `address_mode`; none means no router advertisements.
    pub ipv6_ra_configs: BTreeMap<String, String>,
    /// `options`, such as `gateway_mtu`.
    pub options: BTreeMap<String, String>,
    /// `external_ids` besides our mark.
    pub external_ids: Vec<(&'static str, Arc<str>)>,
}

impl LogicalRouterPort {
    /// The key of the port called `name`.
    pub fn key(name: &str) -> RowKey {
        RowKey::new(TableId::LogicalRouterPort, name)
    }

    /// The row and its place in the router.
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

/// What a policy does with a packet that it matches.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Action {
    /// Goes on by the routing table's decision.
    Allow,
    /// Is dropped.
    Drop,
    /// Goes to one of these next hops, all of one family.
    Reroute(Vec<String>),
}

/// A routing policy (ovn-nb(5), `Logical_Router_Policy`), known by its router, priority and match.
#[derive(Clone, Debug)]
pub struct RouterPolicy {
    /// The router, by name.
    pub router: String,
    /// The uid of what the policy is there for.
    pub seed: Arc<str>,
    /// `priority`, 0 to 32767; the highest match wins.
    pub priority: u16,
    /// `match`: an OVN expression.
    pub match_: String,
    /// `action`, and `nexthops` with it.
    pub action: Action,
}

impl RouterPolicy {
    /// The row's key.
    pub fn key(&self) -> RowKey {
        RowKey::new(TableId::LogicalRouterPolicy, format!("{}/{}/{}", self.router, self.priority, self.match_))
    }

    /// The row and its place in the router.
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

/// A route by destination in the main table (ovn-nb(5), `Logical_Router_Static_Route`), known by its router and all of its values.
#[derive(Clone, Debug, Default)]
pub struct StaticRoute {
    /// The router, by name.
    pub router: String,
    /// The uid of what the route is there for.
    pub seed: Arc<str>,
    /// `ip_prefix`, such as `0.0.0.0/0`.
    pub ip_prefix: String,
    /// `nexthop`: an address, or `discard`.
    pub nexthop: String,
}

impl StaticRoute {
    /// The row's key.
    pub fn key(&self) -> RowKey {
        let name = format!("{}/dst-ip/{}/{}", self.router, self.ip_prefix, self.nexthop);
        RowKey::new(TableId::LogicalRouterStaticRoute, name)
    }

    /// The row and its place in the router.
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
