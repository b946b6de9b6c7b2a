//! A pod's port on its subnet's switch.

use ovn::{Fact, LogicalSwitchPort};

use crate::world::{Port, World};

pub(super) fn compile(world: &World, port: &Port, facts: &mut Vec<Fact>) {
    if !world.subnets.contains_key(&port.subnet) {
        return;
    }
    let address = std::iter::once(port.mac.to_string())
        .chain(port.ips.iter().map(ToString::to_string))
        .collect::<Vec<_>>()
        .join(" ");
    let row = LogicalSwitchPort {
        name: port.name.to_string(),
        switch: port.subnet.to_string(),
        seed: port.uid.clone(),
        port_security: if port.port_security { vec![address.clone()] } else { vec![] },
        addresses: vec![address],
        external_ids: [("pod".into(), port.pod.to_string()), ("ls".into(), port.subnet.to_string())].into(),
        ..LogicalSwitchPort::default()
    };
    facts.extend(row.facts());
}
