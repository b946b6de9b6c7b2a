//! Moving a subnet's gateway and growing its networks under running pods. They keep the gateway that they were given: the
//! router answers for it until the last of them is gone, and no pod gets its address meanwhile. They keep the prefix length,
//! too, so that they could not reach a pod with the first or the last address of the network that they know.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use api::{Addresses, Cidrs, SubnetDef};
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
            None => self.recorded_gateways.get(&pod.port).copied().or_else(|| from_annotations(pod, lease)),
        };
        other_than(given?, &current)
    }

    /// The networks that the pod was given, when they are not the subnet's now.
    pub(super) fn given_networks(&self, pod: &Pod, subnet: &str) -> Option<Cidrs> {
        let current = self.world.subnet(subnet)?.cidrs;
        let before = self.world.port(&pod.port).filter(|port| port.uid == pod.uid && *port.subnet == *subnet);
        let given = match before {
            Some(port) => port.cidrs,
            None => self.recorded_networks.get(&pod.port).copied(),
        };
        given.filter(|given| !given.iter().all(|cidr| current.iter().any(|now| now == cidr)))
    }

    /// A subnet's definition is about to change: its ports keep the gateway and the networks that they were given.
    pub(super) fn keep_given_networks(&mut self, def: &SubnetDef) {
        let Some((before, cidrs)) = self.world.subnet(&def.name).map(|subnet| (subnet.gateway, subnet.cidrs)) else {
            return;
        };
        if before == def.gateway && cidrs == def.cidrs {
            return;
        }
        let ports: Vec<Port> =
            self.world.ports_of(&def.name).filter_map(|port| self.world.port(port)).cloned().collect();
        for port in ports {
            let given = port.gateway.or_else(|| before.only(&port.ips));
            let gateway = given.and_then(|given| other_than(given, &def.gateway));
            let known = port.cidrs.or_else(|| cidrs.only(&port.ips));
            let cidrs = known.filter(|known| !known.iter().all(|cidr| def.cidrs.iter().any(|now| now == cidr)));
            self.world.set_port(Port { gateway, cidrs, ..port });
        }
    }

    /// The addresses that no pod may get, for the sake of those that run: their gateways, and the ends of the networks that
    /// they know.
    pub(super) fn kept_for_running_pods(&self, subnet: &str) -> Vec<IpAddr> {
        let ends = self.world.former_networks(subnet).flat_map(|cidr| cidr.kept_back().collect::<Vec<_>>());
        let all: BTreeSet<IpAddr> = self.world.retired_gateways(subnet).chain(ends).collect();
        all.into_iter().collect()
    }

    /// Has the allocator keep back the gateways that pods still use, and no others.
    pub(super) fn update_retired_gateways(&mut self, subnet: &Arc<str>) {
        let Some(network) = self.ipam.network(subnet) else { return };
        let retired = self.kept_for_running_pods(subnet);
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
fn from_annotations(pod: &Pod, lease: &Lease) -> Option<Addresses> {
    let net = pod.net.as_ref().ok()?.as_ref()?;
    (pod.reported == Some(lease.ips) && net.ips == lease.ips).then(|| net.gateway.only(&lease.ips))?
}
