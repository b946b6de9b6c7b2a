//! A Subnet: its switch, its router port, the policy that keeps traffic to it inside the cluster, and for the node
//! switch the default route.

use api::{GatewayType, SubnetDef};
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
    super::acls::compile(subnet, facts);
    super::mirror::subnet(subnet, facts);
    if *subnet.name == *world.settings.node_switch {
        default_route(world, subnet, facts);
    } else if subnet.gateway_type == GatewayType::Centralized {
        super::exit::compile(world, subnet, facts);
    } else {
        leave_by_own_node(subnet, facts);
    }
}

/// The two ports of the link between switch and router. The router port has the gateway addresses.
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

/// The current gateways, and former gateways that running pods still use.
fn networks(world: &World, subnet: &SubnetDef) -> Vec<String> {
    let retired = world.retired_gateways(&subnet.name).filter_map(|address| {
        let cidr = subnet.cidrs.get(api::Family::of(address)).filter(|cidr| cidr.contains(address))?;
        Some(cidr.with_host(address))
    });
    let mut networks: Vec<String> = subnet.gateway_networks().into_iter().chain(retired).collect();
    networks.dedup();
    networks
}

/// The MAC address of a subnet's router port. It depends only on the names, so that neighbors need not relearn it when
/// the subnet is created again. The prefix `0e:` is locally administered and is not used for pods.
pub fn router_mac(router: &str, subnet: &str) -> String {
    mac_of_port(&format!("{router}-{subnet}"))
}

/// The MAC address of a router port.
pub(super) fn mac_of_port(port: &str) -> String {
    let id = row_id(&LogicalRouterPort::key(port), "");
    id.as_bytes().iter().take(5).fold("0e".to_owned(), |mac, byte| format!("{mac}:{byte:02x}"))
}

/// Traffic to the subnet uses the connected route, so that no gateway policy sends it out of the cluster.
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

/// The router drops packets without a route before it applies policies, so it needs a default route. The gateway
/// policies then choose the next hop.
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

/// The distributed gateway: the policies of the nodes match on these address sets, so no row is needed per subnet and
/// node.
fn leave_by_own_node(subnet: &SubnetDef, facts: &mut Vec<Fact>) {
    for cidr in subnet.cidrs.iter() {
        let set = if cidr.network().is_ipv4() { DISTRIBUTED_V4 } else { DISTRIBUTED_V6 };
        facts.push(AddressSet::member(set, &cidr.to_string()));
    }
}
