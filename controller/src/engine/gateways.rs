//! Moving a subnet's gateway. Running pods keep the gateway that they were given: the router answers for it until the last of
//! them is gone, and no pod gets its address meanwhile.

use std::sync::Arc;

use api::{Addresses, SubnetDef};
use ipam::{Lease, Network};
use plan::Port;

use super::Engine;
use crate::cluster::Pod;

impl Engine {
    /// The gateway that the pod was given, when it is not the subnet's now.
    pub(super) fn given_gateway(&self, pod: &Pod, subnet: &str, lease: &Lease) -> Option<Addresses> {
        let current = self.world.subnet(subnet)?.gateway;
        let before = self.world.port(&pod.port).filter(|port| port.uid == pod.uid && *port.subnet == *subnet);
        let given = match before {
            Some(port) => port.gateway,
            None => self.recorded_gateways.get(&pod.port).copied().or_else(|| annotated(pod, lease)),
        };
        other_than(given?, &current)
    }

    /// A subnet's definition is about to change: its ports keep the gateway that they were given.
    pub(super) fn move_gateway(&mut self, def: &SubnetDef) {
        let Some(before) = self.world.subnet(&def.name).map(|subnet| subnet.gateway) else { return };
        if before == def.gateway {
            return;
        }
        let ports: Vec<Port> =
            self.world.ports_of(&def.name).filter_map(|port| self.world.port(port)).cloned().collect();
        for port in ports {
            let given = port.gateway.or_else(|| before.only(&port.ips));
            let gateway = given.and_then(|given| other_than(given, &def.gateway));
            self.world.set_port(Port { gateway, ..port });
        }
    }

    /// Has the allocator keep back the gateways that pods still use, and no others.
    pub(super) fn keep_gateways(&mut self, subnet: &Arc<str>) {
        let Some(network) = self.ipam.network(subnet) else { return };
        let retired: Vec<_> = self.world.retired_gateways(subnet).collect();
        if network.retired_gateways != retired {
            let network = Network { retired_gateways: retired, ..network.clone() };
            // Nothing else of the network changes, so that nothing stands against it.
            if let Err(refusal) = self.ipam.set_subnet(subnet, &network) {
                tracing::error!(subnet = &**subnet, %refusal, "gateways in use are not kept back");
            }
        }
    }
}

/// What of a given gateway is not current.
fn other_than(given: Addresses, current: &Addresses) -> Option<Addresses> {
    let other = |v4: bool| {
        let ip = given.iter().find(|ip| ip.is_ipv4() == v4)?;
        (!current.iter().any(|current| current == ip)).then_some(*ip)
    };
    Addresses::from_options(other(true), other(false))
}

/// What the annotations of a running pod say, when the database does not have its port any more.
fn annotated(pod: &Pod, lease: &Lease) -> Option<Addresses> {
    let net = pod.net.as_ref().ok()?.as_ref()?;
    (pod.reported == Some(lease.ips) && net.ips == lease.ips).then(|| net.gateway.only(&lease.ips))?
}
