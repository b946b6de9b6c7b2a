//! Random wants and random databases, in a world so small that they meet.

use std::collections::BTreeSet;

use ovn::{
    Action, AddressSet, Fact, LogicalRouter, LogicalSwitch, LogicalSwitchPort, NbGlobal, RouterPolicy, StaticRoute,
    TableId, VENDOR,
};
use ovsdb::{Datum, Replica, Row, Uuid};
use proptest::prelude::*;

use crate::model;

/// Something that an owner wants, as facts. The numbers choose among a few names and values.
#[derive(Clone, Debug)]
pub(crate) enum Want {
    Global {
        option: u8,
    },
    Switch {
        name: u8,
        config: u8,
    },
    Port {
        name: u8,
        switch: u8,
        address: u8,
    },
    Router {
        name: u8,
        option: u8,
    },
    Policy {
        router: u8,
        rule: u8,
        hop: u8,
    },
    Route {
        router: u8,
        hop: u8,
    },
    Set {
        name: u8,
    },
    Address {
        set: u8,
        address: u8,
    },
    /// A row without its place, or a place without a row: half of a port's facts.
    Half {
        name: u8,
        switch: u8,
        which: bool,
    },
}

impl Want {
    pub(crate) fn facts(&self) -> Vec<Fact> {
        let map = |key: &str, value: u8| [(key.to_owned(), value.to_string())].into();
        match *self {
            Want::Global { option } => vec![NbGlobal { options: map("o", option) }.fact()],
            Want::Switch { name, config } => {
                let (name, seed) = (format!("s{name}"), "seed".into());
                vec![LogicalSwitch { name, seed, other_config: map("c", config), ..Default::default() }.fact()]
            }
            Want::Port { name, switch, address } => port(name, switch, address).into(),
            Want::Half { name, switch, which } => {
                let [row, place] = port(name, switch, 0);
                vec![if which { row } else { place }]
            }
            Want::Router { name, option } => {
                vec![LogicalRouter { name: format!("r{name}"), seed: "seed".into(), options: map("o", option) }.fact()]
            }
            Want::Policy { router, rule, hop } => {
                let action = if hop == 0 { Action::Allow } else { Action::Reroute(vec![format!("10.0.0.{hop}")]) };
                let match_ = format!("ip4.src == 10.{rule}.0.0/16");
                let (router, seed) = (format!("r{router}"), "seed".into());
                RouterPolicy { router, seed, priority: 100, match_, action }.facts().into()
            }
            Want::Route { router, hop } => {
                let (ip_prefix, nexthop) = ("0.0.0.0/0".into(), format!("10.0.0.{hop}"));
                StaticRoute { router: format!("r{router}"), seed: "seed".into(), ip_prefix, nexthop }.facts().into()
            }
            Want::Set { name } => vec![AddressSet { name: format!("a{name}"), seed: "seed".into() }.fact()],
            Want::Address { set, address } => {
                vec![AddressSet::member(&format!("a{set}"), &format!("10.9.0.{address}"))]
            }
        }
    }
}

fn port(name: u8, switch: u8, address: u8) -> [Fact; 2] {
    LogicalSwitchPort {
        name: format!("p{name}").into(),
        switch: format!("s{switch}").into(),
        seed: "seed".into(),
        addresses: vec![format!("10.0.{switch}.{address}")],
        external_ids: vec![("pod", address.to_string().into())],
        ..LogicalSwitchPort::default()
    }
    .facts()
}

pub(crate) fn want() -> impl Strategy<Value = Want> {
    prop_oneof![
        1 => (0..2u8).prop_map(|option| Want::Global { option }),
        4 => (0..3u8, 0..2u8).prop_map(|(name, config)| Want::Switch { name, config }),
        8 => (0..5u8, 0..3u8, 0..3u8).prop_map(|(name, switch, address)| Want::Port { name, switch, address }),
        2 => (0..5u8, 0..3u8, any::<bool>()).prop_map(|(name, switch, which)| Want::Half { name, switch, which }),
        3 => (0..2u8, 0..2u8).prop_map(|(name, option)| Want::Router { name, option }),
        4 => (0..2u8, 0..3u8, 0..3u8).prop_map(|(router, rule, hop)| Want::Policy { router, rule, hop }),
        2 => (0..2u8, 0..2u8).prop_map(|(router, hop)| Want::Route { router, hop }),
        2 => (0..2u8).prop_map(|name| Want::Set { name }),
        4 => (0..2u8, 0..4u8).prop_map(|(set, address)| Want::Address { set, address }),
    ]
}

/// A row of a database that we find: as one of ours, or as somebody else's.
#[derive(Clone, Debug)]
pub(crate) struct Found {
    want: Want,
    marked: bool,
    /// Whether it has keys of others in its `external_ids`.
    notes: bool,
    /// Part of its id.
    id: u8,
    /// Which of the possible holders has it.
    holder: usize,
}

pub(crate) fn found() -> impl Strategy<Value = Found> {
    (want(), any::<bool>(), any::<bool>(), any::<u8>(), 0..8usize).prop_map(|(want, marked, notes, id, holder)| Found {
        want,
        marked,
        notes,
        id,
        holder,
    })
}

/// A database with these rows, as far as the schema allows them.
pub(crate) fn database(mut rows: Vec<Found>) -> Replica {
    let mut db = model::empty();
    rows.sort_by_key(|found| !is_root(found));
    let mut names = BTreeSet::new();
    for (at, found) in rows.into_iter().enumerate() {
        let id = Uuid::from_u128(u128::from(found.id) << 64 | at as u128);
        for fact in found.want.facts() {
            let Fact::Row { key, columns, .. } = fact else {
                if let Want::Address { set, address } = found.want {
                    values(&mut db, set, address);
                }
                continue;
            };
            let unique = !matches!(key.table, TableId::LogicalSwitch | TableId::LogicalRouter) && key.scope().is_none();
            if unique && !names.insert(key.clone()) {
                continue;
            }
            let columns = dress(columns, &found, key.table);
            let table = key.table.descriptor();
            if let Some((holder, column)) = table.referrers().next() {
                let mut holders: Vec<Uuid> = db.rows(holder.name()).map(|(id, _)| id).collect();
                holders.sort();
                if holders.is_empty() {
                    continue;
                }
                let holder_id = holders[found.holder % holders.len()];
                let mut row = db.get(holder.name(), holder_id).unwrap().clone();
                let ids = row.get(column).into_iter().flat_map(Datum::uuids).chain([id]);
                row.insert(column, Datum::set(ids.collect::<Vec<_>>()));
                db.insert(holder.name(), holder_id, row);
            }
            db.insert(table.name, id, columns);
        }
    }
    model::commit(&mut db);
    db
}

fn is_root(found: &Found) -> bool {
    found.want.facts().iter().all(|fact| fact.key().table.descriptor().root && matches!(fact, Fact::Row { .. }))
}

fn dress(mut columns: Row, found: &Found, table: TableId) -> Row {
    let mut ids: Vec<(&str, &str)> = Vec::new();
    if found.marked && table != TableId::NbGlobal {
        ids.push(VENDOR);
    }
    if found.notes {
        ids.extend([("note", "of somebody"), ("pod", "stale")]);
    }
    columns.insert("external_ids", Datum::map(ids));
    columns
}

fn values(db: &mut Replica, set: u8, address: u8) {
    let Some(id) = db.find("Address_Set", &format!("a{set}")).next() else { return };
    let mut row = db.get("Address_Set", id).unwrap().clone();
    let old: Vec<String> = row.get("addresses").into_iter().flat_map(Datum::strs).map(str::to_owned).collect();
    row.insert("addresses", Datum::set(old.into_iter().chain([format!("10.9.0.{address}")])));
    db.insert("Address_Set", id, row);
}
