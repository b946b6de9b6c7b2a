//! A pod's port on its subnet's switch, its port security, its mirror, the limits of its traffic, and its own next hop.

use api::{Addresses, GatewayType};
use ovn::{Action, Direction, Fact, LogicalSwitchPort, Qos, RouterPolicy};

use super::{
    GATEWAY, MIRRORED, NETWORKS, NORTH_GATEWAY, PRIORITY_LIMIT, PRIORITY_NORTH_GATEWAY, REQUESTED_CHASSIS, address,
    family_of,
};
use crate::objects::Port;
use crate::world::World;

pub(super) fn compile(world: &World, port: &Port, facts: &mut Vec<Fact>) {
    let Some(subnet) = world.subnets.get(&port.subnet) else { return };
    let address = address(port.mac, &port.ips);
    let mut external_ids = vec![("pod", port.pod.clone()), ("ls", port.subnet.clone())];
    external_ids.extend(port.gateway.map(|gateway| (GATEWAY, gateway.to_string().into())));
    external_ids.extend(port.cidrs.map(|cidrs| (NETWORKS, cidrs.to_string().into())));
    external_ids.extend(port.mirrored.then(|| (MIRRORED, "true".into())));
    external_ids.extend(port.north_gateway.map(|next| (NORTH_GATEWAY, next.to_string().into())));
    let row = LogicalSwitchPort {
        name: port.name.clone(),
        switch: port.subnet.clone(),
        seed: port.uid.clone(),
        port_security: if port.port_security { vec![address.clone()] } else { vec![] },
        addresses: vec![address],
        // No other chassis binds the port, for example that of a node whose kubelet is cut off while the pod of a
        // StatefulSet already runs elsewhere.
        options: vec![(REQUESTED_CHASSIS, port.node.clone())],
        external_ids,
        ..LogicalSwitchPort::default()
    };
    facts.extend(row.facts());
    if port.port_security {
        facts.push(super::security::member(&port.name));
    }
    super::mirror::port(subnet, port, facts);
    // No pod gets past the gateway that its administrator has chosen.
    let is_free = subnet.gateway_type != GatewayType::Centralized;
    for (family, next) in port.north_gateway.iter().filter(|_| is_free).flat_map(Addresses::each) {
        let Some(ip) = port.ips.get(family) else { continue };
        let policy = RouterPolicy {
            router: world.settings.router.to_string(),
            seed: port.uid.clone(),
            priority: PRIORITY_NORTH_GATEWAY,
            match_: format!("{}.src == {ip}", family_of(*ip)),
            action: Action::Reroute(vec![next.to_string()]),
        };
        facts.extend(policy.facts());
    }
    let limits = [(Direction::ToLport, "outport", port.ingress), (Direction::FromLport, "inport", port.egress)];
    for (direction, field, limit) in limits {
        let Some(limit) = limit else { continue };
        let rule = Qos {
            switch: port.subnet.clone(),
            seed: port.uid.clone(),
            direction,
            priority: PRIORITY_LIMIT,
            match_: format!("{field} == \"{}\"", port.name),
            rate: limit.rate,
            burst: limit.burst,
        };
        facts.extend(rule.facts());
    }
}
