//! Random facts and random databases. The value ranges are small, so collisions occur.

use std::collections::BTreeSet;

use ovn::{
    Acl, Action, AddressSet, Bfd, Direction, Element, Fact, Link, LogicalRouter, LogicalRouterPort, LogicalSwitch,
    LogicalSwitchPort, MARK, NbGlobal, PortGroup, RouterPolicy, StaticRoute, TableId, VENDOR, Verdict,
};
use ovsdb::{Atom, Datum, Replica, Row, Uuid};
use plan::testing::{event, world_after};
use proptest::collection::vec;
use proptest::prelude::*;

use crate::model;

/// Something that an owner wants. The numbers select from a few names and values.
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
    Rule {
        switch: u8,
        network: u8,
        drop: bool,
    },
    Router {
        name: u8,
        option: u8,
    },
    /// A router port. It sends router advertisements unless `interval` is 0.
    Leg {
        name: u8,
        router: u8,
        interval: u8,
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
    /// A port group.
    Ports {
        name: u8,
    },
    InPorts {
        name: u8,
        port: u8,
    },
    Session {
        to: u8,
    },
    /// A route has a session.
    Watched {
        router: u8,
        hop: u8,
        session: u8,
    },
    Address {
        set: u8,
        address: u8,
    },
    /// A row without its membership, or a membership without its row: half of a port's facts.
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
            Want::Global { option: 0 } => vec![NbGlobal::default().fact()],
            Want::Global { option } => vec![NbGlobal { options: map("use_ct_inv_match", option) }.fact()],
            Want::Switch { name, config } => {
                let (name, seed) = (format!("s{name}"), "seed".into());
                vec![LogicalSwitch { name, seed, other_config: map("c", config), ..Default::default() }.fact()]
            }
            Want::Port { name, switch, address } => port(name, switch, address).into(),
            Want::Half { name, switch, which } => {
                let [row, place] = port(name, switch, 0);
                vec![if which { row } else { place }]
            }
            Want::Rule { switch, network, drop } => {
                let action = if drop { Verdict::Drop } else { Verdict::AllowRelated };
                let match_ = format!("ip4.src == 10.{network}.0.0/16");
                // The last number is a port group with the name of a switch.
                let parent = if switch == 3 { PortGroup::key("s0") } else { LogicalSwitch::key(&format!("s{switch}")) };
                let (seed, tier, direction) = ("seed".into(), 2, Direction::ToLport);
                Acl { parent, seed, tier, direction, priority: 1000, match_, action, log: false }.facts().into()
            }
            Want::Router { name, option } => {
                vec![LogicalRouter { name: format!("r{name}"), seed: "seed".into(), options: map("o", option) }.fact()]
            }
            Want::Leg { name, router, interval } => {
                let (mac, networks) = ("0e:00:00:00:00:01".into(), vec![format!("fd00:{router}::1/64")]);
                let (name, router, seed) = (format!("l{name}"), format!("r{router}"), "seed".into());
                let ipv6_ra_configs = if interval == 0 { [].into() } else { map("max_interval", interval) };
                let leg =
                    LogicalRouterPort { name, router, seed, mac, networks, ipv6_ra_configs, ..Default::default() };
                leg.facts().into()
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
            Want::Ports { name } => {
                vec![PortGroup { name: format!("s{name}"), seed: "seed".into(), ..PortGroup::default() }.fact()]
            }
            Want::InPorts { name, port } => vec![PortGroup::member(&format!("s{name}"), &format!("p{port}"))],
            Want::Session { to } => vec![session(to).fact()],
            Want::Watched { router, hop, session: to } => {
                let (ip_prefix, nexthop) = ("0.0.0.0/0".into(), format!("10.0.0.{hop}"));
                let route = StaticRoute { router: format!("r{router}"), seed: "seed".into(), ip_prefix, nexthop };
                vec![session(to).of(route.key())]
            }
            Want::Set { name } => {
                vec![AddressSet { name: format!("a{name}"), seed: "seed".into(), ..AddressSet::default() }.fact()]
            }
            Want::Address { set, address } => {
                vec![AddressSet::member(&format!("a{set}"), &format!("10.9.0.{address}"))]
            }
        }
    }
}

fn session(to: u8) -> Bfd {
    Bfd { port: "l0".into(), to: format!("10.0.0.{to}"), seed: "seed".into() }
}

fn port(name: u8, switch: u8, address: u8) -> [Fact; 2] {
    LogicalSwitchPort {
        name: format!("p{name}").into(),
        switch: format!("s{switch}").into(),
        seed: "seed".into(),
        addresses: vec![format!("10.0.{switch}.{address}")],
        external_ids: [("pod", address.to_string().into())]
            .into_iter()
            .chain((address == 1).then(|| ("gateway", "10.0.0.1".into())))
            .collect(),
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
        4 => (0..4u8, 0..2u8, any::<bool>()).prop_map(|(switch, network, drop)| Want::Rule { switch, network, drop }),
        3 => (0..2u8, 0..2u8).prop_map(|(name, option)| Want::Router { name, option }),
        3 => (0..2u8, 0..2u8, 0..3u8).prop_map(|(name, router, interval)| Want::Leg { name, router, interval }),
        4 => (0..2u8, 0..3u8, 0..3u8).prop_map(|(router, rule, hop)| Want::Policy { router, rule, hop }),
        2 => (0..2u8, 0..2u8).prop_map(|(router, hop)| Want::Route { router, hop }),
        2 => (0..2u8).prop_map(|name| Want::Set { name }),
        2 => (0..2u8).prop_map(|name| Want::Ports { name }),
        4 => (0..2u8, 0..5u8).prop_map(|(name, port)| Want::InPorts { name, port }),
        2 => (0..3u8).prop_map(|to| Want::Session { to }),
        4 => (0..2u8, 0..2u8, 0..3u8).prop_map(|(router, hop, session)| Want::Watched { router, hop, session }),
        4 => (0..2u8, 0..4u8).prop_map(|(set, address)| Want::Address { set, address }),
    ]
}

/// Rows found in the database, marked as ours or not.
#[derive(Clone, Debug)]
pub(crate) struct Found {
    facts: Vec<Fact>,
    by: By,
}

/// The owner and the place of a found row.
#[derive(Clone, Debug)]
pub(crate) struct By {
    marked: bool,
    /// Whether `external_ids` contains keys of others.
    notes: bool,
    /// A part of the UUID.
    id: u8,
    /// Selects one of the possible holders.
    holder: usize,
}

fn by() -> impl Strategy<Value = By> {
    let parts = (any::<bool>(), any::<bool>(), any::<u8>(), 0..8usize);
    parts.prop_map(|(marked, notes, id, holder)| By { marked, notes, id, holder })
}

pub(crate) fn found() -> impl Strategy<Value = Found> {
    (want(), by()).prop_map(|(want, by)| Found { facts: want.facts(), by })
}

/// Returns rows that all carry our mark.
pub(crate) fn left_behind() -> impl Strategy<Value = Found> {
    found().prop_map(|found| Found { by: By { marked: true, ..found.by }, ..found })
}

/// Returns remains of another world: some of its facts, each written by an arbitrary owner.
pub(crate) fn left_over() -> impl Strategy<Value = Vec<Found>> {
    (vec(event(), 1..16), vec((any::<bool>(), by()), 32)).prop_map(|(events, by)| {
        let world = world_after(&events);
        let facts = world.keys().flat_map(|key| world.compile(&key));
        let some = facts.zip(by.into_iter().cycle()).filter(|(_, (there, _))| *there);
        some.map(|(fact, (_, by))| Found { facts: vec![fact], by }).collect()
    })
}

/// Returns a database with these rows, as far as the schema allows them.
pub(crate) fn database(mut rows: Vec<Found>) -> Replica {
    let mut db = model::empty();
    rows.sort_by_key(|found| !is_root(found));
    let mut names = BTreeSet::new();
    for (at, Found { facts, by }) in rows.into_iter().enumerate() {
        let id = Uuid::from_u128(u128::from(by.id) << 64 | at as u128);
        for fact in facts {
            let (key, columns) = match fact {
                Fact::Row { key, columns, .. } => (key, columns),
                Fact::Member { of, column, element: Element::Value(value) } => {
                    let found = db.find(of.table.name(), of.local()).next();
                    if let Some(id) = found {
                        put(&mut db, of.table, id, column, value);
                    }
                    continue;
                }
                Fact::Member { of, column, element: Element::Row(row) } => {
                    let [of_row, to] = [&of, &row].map(|key| db.find(key.table.name(), key.local()).next());
                    let many = of.table.descriptor().link(column).is_some_and(|link| link.many);
                    if let (Some(of_row), Some(to), false) = (of_row, to, many) {
                        put(&mut db, of.table, of_row, column, to.into());
                    }
                    continue;
                }
            };
            let unique = !matches!(key.table, TableId::LogicalSwitch | TableId::LogicalRouter) && key.scope().is_none();
            if unique && !names.insert(key.clone()) {
                continue;
            }
            let table = key.table.descriptor();
            if !table.root {
                let strong =
                    table.referrers().filter(|(of, c)| of.descriptor().link(c).is_some_and(|link| link.strong));
                let rows = |(of, column): (TableId, _)| {
                    let mut rows: Vec<Uuid> = db.rows(of.name()).map(|(id, _)| id).collect();
                    rows.sort();
                    rows.into_iter().map(move |id| (of, id, column)).collect::<Vec<_>>()
                };
                let holders: Vec<_> = strong.flat_map(rows).collect();
                if holders.is_empty() {
                    continue;
                }
                let (of, holder, column) = holders[by.holder % holders.len()];
                put(&mut db, of, holder, column, id.into());
            }
            db.insert(table.name, id, dress(columns, &by, key.table));
        }
    }
    model::commit(&mut db);
    db
}

fn is_root(found: &Found) -> bool {
    found.facts.iter().all(|fact| fact.key().table.descriptor().root && matches!(fact, Fact::Row { .. }))
}

fn dress(mut columns: Row, by: &By, table: TableId) -> Row {
    let mut ids: Vec<(&str, &str)> = Vec::new();
    if by.marked && table != TableId::NbGlobal {
        ids.extend([MARK, VENDOR]);
    }
    if by.notes {
        ids.extend([("note", "of somebody"), ("pod", "stale"), ("gateway", "stale"), ("in_force", "stale")]);
    }
    columns.insert("external_ids", Datum::map(ids));
    columns
}

/// Adds an element to a set.
fn put(db: &mut Replica, table: TableId, id: Uuid, column: &'static str, atom: Atom) {
    let mut row = db.get(table.name(), id).unwrap().clone();
    if table.descriptor().link(column).is_some_and(|link| !link.many) {
        row.insert(column, Datum::from(atom));
        db.insert(table.name(), id, row);
        return;
    }
    let atoms = row.get(column).into_iter().flat_map(Datum::atoms).cloned().chain([atom]);
    row.insert(column, Datum::set(atoms.collect::<Vec<_>>()));
    db.insert(table.name(), id, row);
}

/// A change that another client makes to a set, without that anybody tells.
#[derive(Clone, Debug)]
pub(crate) struct Damage {
    row: prop::sample::Index,
    column: prop::sample::Index,
    element: prop::sample::Index,
    kind: Harm,
}

#[derive(Clone, Copy, Debug)]
enum Harm {
    /// An element goes.
    Lost,
    /// A value is replaced by another one.
    Replaced,
    /// Another row refers to the same row, too.
    Shared(prop::sample::Index),
}

pub(crate) fn damage() -> impl Strategy<Value = Damage> {
    let kind = prop_oneof![Just(Harm::Lost), Just(Harm::Replaced), any::<prop::sample::Index>().prop_map(Harm::Shared)];
    let parts = (any::<prop::sample::Index>(), any::<prop::sample::Index>(), any::<prop::sample::Index>(), kind);
    parts.prop_map(|(row, column, element, kind)| Damage { row, column, element, kind })
}

impl Damage {
    pub(crate) fn happens(&self, db: &mut Replica) {
        let mut sets: Vec<(TableId, Uuid, &'static str)> = Vec::new();
        for table in TableId::ALL {
            for (column, _) in table.descriptor().member_columns().filter(|(_, to)| to.is_none_or(|link| link.many)) {
                sets.extend(db.rows(table.name()).map(|(id, _)| (table, id, column)));
            }
        }
        sets.sort();
        let full = |(table, id, column): &(TableId, Uuid, &'static str)| {
            db.get(table.name(), *id).and_then(|row| row.get(column)).is_some_and(|set| !set.is_empty())
        };
        let mut from: Vec<_> = sets.iter().copied().filter(full).collect();
        if from.is_empty() {
            return;
        }
        let (table, id, column) = from.swap_remove(self.row.index(from.len()));
        let mut row = db.get(table.name(), id).unwrap().clone();
        let mut atoms: Vec<Atom> = row.get(column).into_iter().flat_map(Datum::atoms).cloned().collect();
        let gone = atoms.swap_remove(self.element.index(atoms.len()));
        match self.kind {
            Harm::Lost => {}
            Harm::Replaced if gone.as_uuid().is_some() => return,
            Harm::Replaced => atoms.push(format!("10.8.0.{}", self.column.index(4)).into()),
            Harm::Shared(other) => {
                let to: Vec<_> = sets.into_iter().filter(|(t, i, c)| (*t, *c) == (table, column) && *i != id).collect();
                // With two parents, a row would have two keys.
                let scoped = |link: Link| !link.to.descriptor().scope.is_empty();
                if to.is_empty() || table.descriptor().link(column).is_none_or(scoped) {
                    return;
                }
                let (table, other, column) = to[other.index(to.len())];
                put(db, table, other, column, gone);
                model::commit(db);
                return;
            }
        }
        row.insert(column, Datum::set(atoms));
        db.insert(table.name(), id, row);
        model::commit(db);
    }
}
