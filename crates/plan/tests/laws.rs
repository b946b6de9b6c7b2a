//! The compiler's law: any order of events gives the facts of a compile from scratch.

mod common;

use std::collections::{BTreeMap, HashMap};

use common::{node, port, subnet};
use ovn::Fact;
use plan::{Key, Settings, World};
use proptest::prelude::*;
use serde_json::json;

/// One thing that happens to the world; small ranges, so that events meet the same objects again and again.
#[derive(Debug, Clone)]
enum Event {
    SetSubnet { index: u8, variant: u8 },
    RemoveSubnet { index: u8 },
    SetNode { index: u8, variant: u8 },
    RemoveNode { index: u8 },
    SetPort { index: u8, subnet: u8, variant: u8 },
    RemovePort { index: u8 },
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        (0..4u8, 0..5u8).prop_map(|(index, variant)| Event::SetSubnet { index, variant }),
        (0..4u8).prop_map(|index| Event::RemoveSubnet { index }),
        (0..3u8, 0..3u8).prop_map(|(index, variant)| Event::SetNode { index, variant }),
        (0..3u8).prop_map(|index| Event::RemoveNode { index }),
        (0..6u8, 0..4u8, 0..2u8).prop_map(|(index, subnet, variant)| Event::SetPort { index, subnet, variant }),
        (0..6u8).prop_map(|index| Event::RemovePort { index }),
    ]
}

/// Subnet 0 is the join subnet, so that it comes and goes like any other.
fn subnet_name(index: u8) -> String {
    if index == 0 { "join".into() } else { format!("net-{index}") }
}

fn apply(world: &mut World, event: &Event) {
    match *event {
        Event::SetSubnet { index, variant } => {
            let cidr = match variant {
                0 => format!("10.{index}.0.0/24"),
                _ => format!("10.{index}.0.0/24,fd00:{index}::/64"),
            };
            let kind = if variant == 2 { "centralized" } else { "distributed" };
            let allow = if variant == 4 { json!(["10.3.0.0/24", "fd00:3::/64", "10.16.0.0/16"]) } else { json!([]) };
            let more = json!({ "gatewayType": kind, "private": variant >= 3, "allowSubnets": allow });
            world.set_subnet(subnet(&subnet_name(index), &cidr, more));
        }
        Event::RemoveSubnet { index } => world.remove_subnet(&subnet_name(index)),
        Event::SetNode { index, variant } => {
            let join = if variant == 0 {
                format!("10.0.0.{}", index + 2)
            } else {
                format!("10.0.0.{0},fd00:0::{0}", index + 2)
            };
            let internal = format!("172.30.{variant}.{index}");
            world.set_node(node(&format!("n{index}"), &join, &format!("0a:00:00:00:01:0{index}"), &[&internal]));
        }
        Event::RemoveNode { index } => world.remove_node(&format!("n{index}")),
        Event::SetPort { index, subnet, variant } => {
            let ips = format!("10.{subnet}.0.{}", 10 + index + variant * 10);
            let pod = format!("ns/p{index}");
            world.set_port(port(&pod, &subnet_name(subnet), &ips, &format!("0a:00:00:00:00:0{index}")));
        }
        Event::RemovePort { index } => world.remove_port(&format!("p{index}.ns")),
    }
}

/// How often each fact is wanted.
fn count<'a>(facts: impl IntoIterator<Item = &'a Fact>) -> BTreeMap<&'a Fact, usize> {
    let mut counts = BTreeMap::new();
    for fact in facts {
        *counts.entry(fact).or_default() += 1;
    }
    counts
}

proptest! {
    #[test]
    fn incremental_is_from_scratch(steps in prop::collection::vec(prop::collection::vec(event(), 1..5), 1..12)) {
        let mut world = World::new(Settings::default());
        let mut compiled: HashMap<Key, Vec<Fact>> = HashMap::new();
        for batch in &steps {
            for event in batch {
                apply(&mut world, event);
            }
            for key in world.take_dirty() {
                let facts = world.compile(&key);
                compiled.insert(key, facts);
            }
            let scratch: Vec<Fact> = world.keys().flat_map(|key| world.compile(&key)).collect();
            prop_assert_eq!(count(compiled.values().flatten()), count(&scratch));
        }
    }
}
