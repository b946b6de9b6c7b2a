//! Changes of a subnet's gateway and networks while pods run.
//!
//! A running pod keeps the gateway that it was given. The router answers for it until the last of these pods is gone,
//! and its address is not assigned. A running pod also keeps the prefix length, so it cannot reach a pod whose address
//! is the first or the last of the network that it knows.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use api::{Addresses, Cidrs, SubnetDef};
use ipam::{Lease, Network};
use plan::Port;

use super::Engine;
use crate::cluster::Pod;

impl Engine {
    /// The gateway that the pod was given, if it is not the current one.
    pub(super) fn given_gateway(&self, pod: &Pod, subnet: &str, lease: &Lease) -> Option<Addresses> {
        let current = self.world.subnet(subnet)?.gateway;
        let before = self.world.port(&pod.port).filter(|port| port.uid == pod.uid && *port.subnet == *subnet);
        let given = match before {
            Some(port) => port.gateway,
            None => self.recorded_gateways.get(&pod.port).copied().or_else(|| from_annotations(pod, lease)),
        };
        other_than(given?, &current)
    }

    /// The networks that the pod was given, if they are not the current ones.
    pub(super) fn given_networks(&self, pod: &Pod, subnet: &str) -> Option<Cidrs> {
        let current = self.world.subnet(subnet)?.cidrs;
        let before = self.world.port(&pod.port).filter(|port| port.uid == pod.uid && *port.subnet == *subnet);
        let given = match before {
            Some(port) => port.cidrs,
            None => self.recorded_networks.get(&pod.port).copied(),
        };
        given.filter(|given| !given.iter().all(|cidr| current.iter().any(|now| now == cidr)))
    }

    /// Keeps the given gateway and networks of all ports before the subnet's definition changes to `def`.
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

    /// The addresses that are not assigned because of running pods: their gateways, and the boundaries of the networks
    /// that they know.
    pub(super) fn kept_for_running_pods(&self, subnet: &str) -> Vec<IpAddr> {
        let ends = self.world.former_networks(subnet).flat_map(|cidr| cidr.kept_back().collect::<Vec<_>>());
        let all: BTreeSet<IpAddr> = self.world.retired_gateways(subnet).chain(ends).collect();
        all.into_iter().collect()
    }

    /// Updates the addresses that the allocator does not assign because of running pods. Returns whether they have changed.
    pub(super) fn update_retired_gateways(&mut self, subnet: &Arc<str>) -> bool {
        let Some(network) = self.ipam.network(subnet) else { return false };
        let retired = self.kept_for_running_pods(subnet);
        let changed = network.retired_gateways != retired;
        if changed {
            let network = Network { retired_gateways: retired, ..network.clone() };
            // No other field changes, so there is no conflict.
            if let Err(refusal) = self.ipam.set_subnet(subnet, &network) {
                tracing::error!(subnet = &**subnet, %refusal, "gateways in use are not kept back");
            }
        }
        changed
    }
}

/// The addresses in `given` that are not current.
fn other_than(given: Addresses, current: &Addresses) -> Option<Addresses> {
    let other = |v4: bool| {
        let ip = given.iter().find(|ip| ip.is_ipv4() == v4)?;
        (!current.iter().any(|current| current == ip)).then_some(*ip)
    };
    Addresses::from_options(other(true), other(false))
}

/// The gateway in a running pod's annotations, for a port that the database has lost.
fn from_annotations(pod: &Pod, lease: &Lease) -> Option<Addresses> {
    let net = pod.net.as_ref().ok()?.as_ref()?;
    (pod.reported == Some(lease.ips) && net.ips == lease.ips).then(|| net.gateway.only(&lease.ips))?
}
