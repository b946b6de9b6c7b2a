//! The property of the compiler: any order of changes gives the facts of a compilation from scratch.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use ovn::{Fact, TableId};
use plan::testing::{Event, event, world_after};
use plan::{Key, Settings, World};
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;

/// The number of times that each fact occurs.
fn count<'a>(facts: impl IntoIterator<Item = &'a Fact>) -> BTreeMap<&'a Fact, usize> {
    let mut counts = BTreeMap::new();
    for fact in facts {
        *counts.entry(fact).or_default() += 1;
    }
    counts
}

fn from_scratch(world: &World) -> Vec<Fact> {
    world.keys().flat_map(|key| world.compile(&key)).collect()
}

/// The ports of a subnet, by a search of all ports.
fn ports_of<'a>(world: &'a World, subnet: &str) -> BTreeSet<&'a str> {
    let names: Vec<Key> = world.keys().collect();
    let ports = names.iter().filter_map(|key| if let Key::Port(name) = key { world.port(name) } else { None });
    ports.filter(|port| *port.subnet == *subnet).map(|port| &*port.name).collect()
}

proptest! {
    #[test]
    fn incremental_compilation_equals_compilation_from_scratch(steps in prop::collection::vec(prop::collection::vec(event(), 1..5), 1..12)) {
        let mut world = World::new(Settings::default());
        let mut compiled: HashMap<Key, Vec<Fact>> = HashMap::new();
        for batch in &steps {
            for event in batch {
                event.apply(&mut world);
            }
            for key in world.take_dirty() {
                let facts = world.compile(&key);
                compiled.insert(key, facts);
            }
            let scratch = from_scratch(&world);
            prop_assert_eq!(count(compiled.values().flatten()), count(&scratch));
            for subnet in ["join", "net-1", "net-2", "net-3"] {
                let index: BTreeSet<&str> = world.ports_of(subnet).map(|name| &**name).collect();
                prop_assert_eq!(index, ports_of(&world, subnet));
            }
            if let Some(last) = batch.last() {
                last.apply(&mut world);
                prop_assert!(!world.is_dirty(), "{:?} a second time is no change", last);
            }
        }
    }

    #[test]
    fn the_order_of_events_about_different_objects_does_not_matter(
        events in prop::collection::vec((event(), any::<u8>()), 1..24),
    ) {
        let world = world_after(events.iter().map(|(event, _)| event));
        // The last change of each object, in another order.
        let mut last: BTreeMap<String, (u8, &Event)> = BTreeMap::new();
        for (event, rank) in &events {
            last.insert(about(event), (*rank, event));
        }
        let mut last: Vec<(u8, &Event)> = last.into_values().collect();
        last.sort_by_key(|(rank, _)| *rank);
        let other = world_after(last.into_iter().map(|(_, event)| event));
        prop_assert_eq!(from_scratch(&world), from_scratch(&other));
    }
}

/// The object that an event is about.
fn about(event: &Event) -> String {
    match event {
        Event::Subnet(subnet) => format!("subnet {}", subnet.name),
        Event::SubnetGone(name) => format!("subnet {name}"),
        Event::Node(node) => format!("node {}", node.name),
        Event::NodeGone(name) => format!("node {name}"),
        Event::Port(port) => format!("port {}", port.name),
        Event::PortGone(name) => format!("port {name}"),
        Event::GatewayNodes(subnet, ..) => format!("gateway nodes {subnet}"),
    }
}

/// The properties cover a feature only if the changes produce it, so every column that the compiler can fill must
/// occur.
#[test]
fn the_events_reach_every_feature() {
    let mut runner = TestRunner::deterministic();
    let mut filled = BTreeSet::new();
    for _ in 0..200 {
        let events = prop::collection::vec(event(), 24).new_tree(&mut runner).unwrap().current();
        for fact in from_scratch(&world_after(&events)) {
            match fact {
                Fact::Row { key, columns, .. } => {
                    let columns = columns.iter().filter(|(_, value)| !value.is_empty());
                    filled.extend(columns.map(|(column, _)| (key.table, *column)));
                }
                Fact::Member { of, column, .. } => drop(filled.insert((of.table, column))),
            }
        }
    }
    for feature in [
        (TableId::LogicalSwitch, "acls"),
        (TableId::LogicalSwitch, "ports"),
        (TableId::LogicalRouter, "policies"),
        (TableId::LogicalRouter, "ports"),
        (TableId::LogicalRouter, "static_routes"),
        (TableId::LogicalRouterPolicy, "nexthops"),
        (TableId::LogicalRouterPort, "ipv6_ra_configs"),
        (TableId::LogicalSwitchPort, "options"),
        (TableId::LogicalSwitchPort, "port_security"),
        (TableId::AddressSet, "addresses"),
        (TableId::PortGroup, "acls"),
        (TableId::PortGroup, "ports"),
    ] {
        assert!(filled.contains(&feature), "no event leads to {feature:?}");
    }
}
