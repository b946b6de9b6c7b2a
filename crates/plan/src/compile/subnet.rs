//! A Subnet: its switch, its port on the router, the policy that keeps traffic to it inside, and for the node switch the
//! default route.

use api::SubnetDef;
use ovn::{
    Action, AddressSet, Fact, LogicalRouterPort, LogicalSwitch, LogicalSwitchPort, RouterPolicy, StaticRoute, row_id,
};

use super::{DISTRIBUTED_V4, DISTRIBUTED_V6, IN_FORCE, PRIORITY_TO_SUBNET, family_of};
use crate::world::World;

pub(super) fn compile(world: &World, subnet: &SubnetDef, facts: &mut Vec<Fact>) {
    let switch = LogicalSwitch {
        name: subnet.name.clone(),
        seed: subnet.uid.as_str().into(),
        external_ids: vec![(IN_FORCE, subnet.record().into())],
        ..LogicalSwitch::default()
    };
    facts.push(switch.fact());
    router_port(world, subnet, facts);
    stay_inside(world, subnet, facts);
    if subnet.private {
        super::private::compile(world, subnet, facts);
    }
    if *subnet.name == *world.settings.node_switch {
        default_route(world, subnet, facts);
    } else {
        // A centralized gateway is not served yet. Its pods leave by their own nodes, so that they have a way out.
        leave_by_own_node(subnet, facts);
    }
}

/// The two ends of the link between switch and router. The router's end holds the gateway addresses.
fn router_port(world: &World, subnet: &SubnetDef, facts: &mut Vec<Fact>) {
    let router = &world.settings.router;
    let port = format!("{router}-{}", subnet.name);
    let router_end = LogicalRouterPort {
        name: port.clone(),
        router: router.to_string(),
        seed: subnet.uid.as_str().into(),
        mac: router_mac(router, &subnet.name),
        networks: networks(world, subnet),
        ipv6_ra_configs: subnet.router_advertisements.clone().unwrap_or_default(),
        ..LogicalRouterPort::default()
    };
    facts.extend(router_end.facts());
    let switch_end = LogicalSwitchPort::to_router(
        format!("{}-{router}", subnet.name).into(),
        subnet.name.as_str().into(),
        subnet.uid.as_str().into(),
        port,
    );
    facts.extend(switch_end.facts());
}

/// The gateways, and those of earlier that running pods were given: the router answers for these as well.
fn networks(world: &World, subnet: &SubnetDef) -> Vec<String> {
    let retired = world.retired_gateways(&subnet.name).filter_map(|address| {
        let cidr = subnet.cidrs.get(api::Family::of(address)).filter(|cidr| cidr.contains(address))?;
        Some(cidr.with_host(address))
    });
    let mut networks: Vec<String> = subnet.gateway_networks().into_iter().chain(retired).collect();
    networks.dedup();
    networks
}

/// A router port keeps its MAC address for as long as it keeps its name: neighbours need not learn it anew when the
/// subnet is made again. `0e:` is locally administered and is not used for pods.
pub fn router_mac(router: &str, subnet: &str) -> String {
    let id = row_id(&LogicalRouterPort::key(&format!("{router}-{subnet}")), "");
    id.as_bytes().iter().take(5).fold("0e".to_owned(), |mac, byte| format!("{mac}:{byte:02x}"))
}

/// Traffic to the subnet is routed by the connected route; no gateway policy may take it out of the cluster.
fn stay_inside(world: &World, subnet: &SubnetDef, facts: &mut Vec<Fact>) {
    for cidr in subnet.cidrs.iter() {
        let policy = RouterPolicy {
            router: world.settings.router.to_string(),
            seed: subnet.uid.as_str().into(),
            priority: PRIORITY_TO_SUBNET,
            match_: format!("{}.dst == {cidr}", family_of(cidr.network())),
            action: Action::Allow,
        };
        facts.extend(policy.facts());
    }
}

/// A packet that no route matches is dropped before the policies see it, so the router has a default route; the gateway
/// policies then choose the real way out.
fn default_route(world: &World, subnet: &SubnetDef, facts: &mut Vec<Fact>) {
    for gateway in subnet.gateway.iter() {
        let route = StaticRoute {
            router: world.settings.router.to_string(),
            seed: subnet.uid.as_str().into(),
            ip_prefix: if gateway.is_ipv4() { "0.0.0.0/0".into() } else { "::/0".into() },
            nexthop: gateway.to_string(),
        };
        facts.extend(route.facts());
    }
}

/// The distributed gateway: the nodes' policies match on these sets, so nothing is kept per subnet and node.
fn leave_by_own_node(subnet: &SubnetDef, facts: &mut Vec<Fact>) {
    for cidr in subnet.cidrs.iter() {
        let set = if cidr.network().is_ipv4() { DISTRIBUTED_V4 } else { DISTRIBUTED_V6 };
        facts.push(AddressSet::member(set, &cidr.to_string()));
    }
}
