//! Pods: the subnet and the address of each pod, or why it has none.

use std::net::IpAddr;
use std::sync::Arc;

use api::annotations::{IP_POOL, MAC_ADDRESS, NORTH_GATEWAY};
use api::{AddressWant, Addresses, FieldError, Mac, PodIps};
use ipam::{Lease, Refusal, Want, WantIps};
use plan::{Port, router_mac};

use super::subnets::LEAVING;
use super::wait_queues::QueueKey;
use super::{Engine, Verdict};
use crate::cluster::{Cluster, Object, Pod, PortSecurity};

/// The reasons of events, as in kube-ovn.
const FAILED: &str = "AcquireAddressFailed";
const CONFLICT: &str = "AddressConflict";

/// The limit of the API server for the name of an object.
pub(super) const LONGEST_NAME: usize = 253;

/// Why a pod or a node has no address, or why new pods of a namespace get none. An event shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NoAddress {
    /// The reason of the event, one word.
    pub reason: &'static str,
    /// The cause, naming object and field.
    pub message: String,
}

impl NoAddress {
    pub(super) fn new(message: String) -> Self {
        Self { reason: FAILED, message }
    }
}

/// Why an attempt to assign an address failed, and the queue to wait in, if a later change can help.
pub(super) struct AssignError {
    reason: &'static str,
    pub message: String,
    queue: Option<QueueKey>,
}

impl AssignError {
    /// No address can be assigned before this object changes.
    pub(super) fn until(object: Object, message: String) -> Self {
        Self::until_any([object], message)
    }

    /// No address can be assigned before one of these objects changes.
    pub(super) fn until_any(objects: impl IntoIterator<Item = Object>, message: String) -> Self {
        Self {
            reason: FAILED,
            message,
            queue: Some(QueueKey { until: objects.into_iter().collect(), want: Want::any() }),
        }
    }

    /// Attributes the failure to the pod's annotation for pools.
    pub(super) fn about_pod(self, pod: &Pod) -> Self {
        Self { message: format!("pod {}: annotation {IP_POOL}: {}", pod.path(), self.message), ..self }
    }
}

impl From<FieldError> for AssignError {
    fn from(error: FieldError) -> Self {
        Self { reason: FAILED, message: error.to_string(), queue: None }
    }
}

impl Engine {
    pub(super) fn decide_pod(&mut self, cluster: &Cluster, port: &Arc<str>) {
        let object = Object::Pod(Arc::clone(port));
        self.unpublished.insert(Object::Ip(Arc::clone(port)));
        let Some(pod) = cluster.pods.get(port).filter(|pod| !pod.done) else {
            self.no_address.remove(&object);
            self.wait_queues.forget(&object);
            let ours = self.world.port(port).is_some() || self.is_reserved(port);
            if ours && !self.reserve(cluster, port) {
                self.release(port);
            }
            return;
        };
        let namesake = self.world.port(port).is_some_and(|before| before.uid != pod.uid);
        if namesake && !self.reserve(cluster, port) {
            self.release(port);
        }
        let outcome = self.check_port_name(cluster, pod).and_then(|()| self.address_for(cluster, pod));
        match outcome {
            Ok((subnet, lease)) => {
                self.no_address.remove(&object);
                self.wait_queues.forget(&object);
                if let Some(member) = &pod.member {
                    self.remember_member(port, member);
                }
                self.unpublished.insert(Object::Subnet(Arc::clone(&subnet)));
                self.republish_pools_of(lease);
                let limits = self.limits(pod, &subnet);
                let port = Port {
                    name: Arc::clone(port),
                    uid: Arc::clone(&pod.uid),
                    pod: pod.path().into(),
                    node: Arc::clone(&pod.node),
                    subnet: Arc::clone(&subnet),
                    ips: lease.ips,
                    mac: lease.mac,
                    port_security: self.port_security(pod),
                    mirrored: self.mirrored(pod),
                    north_gateway: self.north_gateway(pod),
                    ingress: limits.ingress,
                    egress: limits.egress,
                    gateway: self.given_gateway(pod, &subnet, &lease),
                    cidrs: self.given_networks(pod, &subnet),
                };
                self.world.set_port(port);
                self.update_retired_gateways(&subnet);
            }
            Err(error) => {
                let no_address = NoAddress { reason: error.reason, message: error.message };
                if self.no_address.get(&object) != Some(&no_address) {
                    tracing::warn!(pod = pod.path(), reason = no_address.message, "the pod got no address");
                }
                if let Some(queue) = error.queue {
                    self.wait_queues.insert(object.clone(), pod.made, queue);
                }
                self.no_address.insert(object, no_address);
            }
        }
    }

    /// Checks that the pod's port can have its name. A pod `node-a` in a namespace `b` would have the same port as the
    /// node `a.b`, and so the node's address. The node wins even if it is newer, so that users who create pods cannot
    /// block a node. Between a pod and the router port of a subnet with the same name, the first one wins.
    fn check_port_name(&self, cluster: &Cluster, pod: &Pod) -> Result<(), AssignError> {
        let error = |why: String| FieldError::new(format!("pod {}", pod.path()), "metadata.name", why);
        let port = &pod.port;
        if port.len() > LONGEST_NAME {
            let why = format!(
                "with the namespace's it is longer than {LONGEST_NAME} characters, and so is the name of its IP object"
            );
            return Err(error(why).into());
        }
        if let Some(node) = api::node_of_port(port).filter(|node| cluster.machine(node).is_some()) {
            let why = error(format!("its port would be called {port}, as that of node {node} is"));
            return Err(AssignError::until(Object::Node(node.into()), why.to_string()));
        }
        if let Some(subnet) = self.subnet_of_router_port(port).filter(|_| self.world.port(port).is_none()) {
            let why = error(format!("its port would be called {port}, as that of subnet {subnet} to the router is"));
            return Err(AssignError::until(Object::Subnet(subnet.into()), why.to_string()));
        }
        Ok(())
    }

    /// The subnet in force whose port to the router has this name.
    fn subnet_of_router_port<'a>(&self, port: &'a str) -> Option<&'a str> {
        self.subnet_with_port(port).filter(|subnet| self.world.subnet(subnet).is_some())
    }

    /// The address that the pod holds, or a new one. A running pod keeps its address even if its namespace is bound to
    /// another subnet now.
    fn address_for(&mut self, cluster: &Cluster, pod: &Pod) -> Result<(Arc<str>, Lease), AssignError> {
        if let Some((subnet, lease)) = self.ipam.lease(&pod.port) {
            let subnet: Arc<str> = subnet.into();
            if self.world.port(&pod.port).is_some() || was_given(cluster, pod, &lease) {
                return Ok((subnet, lease));
            }
            if self.still_fits(pod, &subnet) {
                let lease = self.complete(pod, &subnet).unwrap_or(lease);
                return Ok((subnet, lease));
            }
            self.release(&pod.port);
        }
        let want = pod.want.clone()?;
        self.check_mac(pod, want.mac)?;
        let sources = self.sources(cluster, pod, &want)?;
        let subnets: Vec<Object> = sources.iter().map(|(subnet, _)| Object::Subnet(Arc::clone(subnet))).collect();
        let mut first_error = None;
        for (subnet, ips) in sources {
            if let Some(unusable) = self.why_unusable(&subnet) {
                first_error.get_or_insert_with(|| AssignError::until(Object::Subnet(subnet), unusable));
                continue;
            }
            let want = allocator_want(&want, ips);
            let refusal = match self.ipam.assign(&subnet, &pod.port, &want) {
                Ok(lease) => {
                    tracing::info!(pod = pod.path(), subnet = &*subnet, ip = %lease.ips, mac = %lease.mac, "address given");
                    return Ok((subnet, lease));
                }
                Err(refusal) => refusal,
            };
            let full = matches!(refusal, Refusal::Full { .. } | Refusal::PoolFull { .. });
            let reason = if matches!(refusal, Refusal::Reserved { .. }) { CONFLICT } else { FAILED };
            // kube-ovn tools look for this word in the message.
            let message = if reason == CONFLICT { format!("{CONFLICT}: {refusal}") } else { refusal.to_string() };
            let queue = QueueKey::for_refusal(&refusal, subnet, want);
            first_error.get_or_insert(AssignError { reason, message, queue: Some(queue) });
            if !full {
                break;
            }
        }
        // There is at least one source, so there is an error. The pod waits for any of the subnets.
        let mut error = first_error.unwrap_or_else(|| AssignError::until_any(Vec::new(), String::new()));
        if let Some(queue) = error.queue.as_mut().filter(|_| subnets.len() > 1) {
            queue.until.extend(subnets.into_iter().filter(|subnet| !queue.until.contains(subnet)).collect::<Vec<_>>());
        }
        Err(error)
    }

    /// Checks that the requested MAC is not the MAC of a gateway.
    fn check_mac(&self, pod: &Pod, mac: Option<Mac>) -> Result<(), AssignError> {
        let Some((mac, owner)) = mac.and_then(|mac| Some((mac, self.subnet_with_router_mac(mac)?))) else {
            return Ok(());
        };
        let why = format!("{CONFLICT}: {mac} is the MAC of subnet {owner}'s gateway");
        let error = FieldError::new(format!("pod {}", pod.path()), format!("annotation {MAC_ADDRESS}"), why);
        Err(AssignError { reason: CONFLICT, ..AssignError::until(Object::Subnet(owner), error.to_string()) })
    }

    /// Whether port security is on. If the annotation cannot be read, the previous value stays in force; without a
    /// previous value it is on, whatever the default is.
    fn port_security(&self, pod: &Pod) -> bool {
        let before = || self.world.port(&pod.port).filter(|port| port.uid == pod.uid).map(|port| port.port_security);
        let recorded = || self.recorded_security.get(&pod.port).copied();
        match pod.port_security {
            PortSecurity::Unset => self.install.port_security,
            PortSecurity::On => true,
            PortSecurity::Off => false,
            PortSecurity::Unreadable => before().or_else(recorded).unwrap_or(true),
        }
    }

    /// Whether the pod's annotation says that its packets are mirrored. If it cannot be read, the previous value stays.
    fn mirrored(&self, pod: &Pod) -> bool {
        let before = || self.world.port(&pod.port).filter(|port| port.uid == pod.uid).map(|port| port.mirrored);
        let recorded = || self.recorded_mirrored.get(&pod.port).copied();
        match pod.mirror {
            Ok(said) => said.unwrap_or_default(),
            Err(_) => before().or_else(recorded).unwrap_or_default(),
        }
    }

    /// The next hop of the pod's traffic that leaves the cluster. If the annotation cannot be read, the previous one stays.
    fn north_gateway(&self, pod: &Pod) -> Option<Addresses> {
        let before = || self.world.port(&pod.port).filter(|port| port.uid == pod.uid).map(|port| port.north_gateway);
        let recorded = || self.recorded_north_gateways.get(&pod.port).copied();
        match pod.north_gateway {
            Ok(asked) => asked,
            Err(_) => before().unwrap_or_else(recorded),
        }
    }

    /// The message about a next hop of a pod that is in no subnet, so that the router cannot reach it.
    pub(super) fn lost_north_gateway(&self, pod: &Pod) -> Option<String> {
        let asked = pod.north_gateway.as_ref().ok()?.as_ref()?;
        let is_inside =
            |ip: &IpAddr| self.world.subnets().any(|subnet| subnet.cidrs.iter().any(|net| net.contains(*ip)));
        let lost = asked.iter().find(|ip| !is_inside(ip))?;
        Some(format!(
            "pod {}: annotation {NORTH_GATEWAY}: {lost} is in no subnet: the router cannot reach it",
            pod.path()
        ))
    }

    /// The subnet whose router port has this MAC. Router MACs have a common prefix, so other MACs need no search.
    fn subnet_with_router_mac(&self, mac: Mac) -> Option<Arc<str>> {
        let (router, text) = (&self.install.settings.router, mac.to_string());
        let subnet = self.world.subnets().filter(|_| text.starts_with("0e:"));
        let mut names = subnet.map(|subnet| subnet.name.as_str());
        names.find(|name| router_mac(router, name) == text).map(Into::into)
    }

    /// Whether the reserved address of a pod satisfies its annotations.
    fn still_fits(&mut self, pod: &Pod, subnet: &str) -> bool {
        let Ok(want) = &pod.want else { return false };
        let named = want.switch.as_deref().is_none_or(|switch| switch == subnet);
        // A change of the namespace's subnet does not move the pod.
        let ips = match &want.ips {
            PodIps::Any => WantIps::Any,
            PodIps::Exact(ips) => WantIps::Exact(*ips),
            PodIps::FirstFree(list) => WantIps::FirstFree(list.clone()),
            PodIps::Pool(name) => WantIps::Pools(vec![name.as_str().into()]),
        };
        named && self.ipam.assign(subnet, &pod.port, &allocator_want(want, ips)).is_ok()
    }

    /// Adds the families that the subnet has got since the address of a pod was reserved, if the pod asks for no other.
    fn complete(&mut self, pod: &Pod, subnet: &str) -> Option<Lease> {
        let want = pod.want.as_ref().ok()?;
        let any = want.families.is_none() && !matches!(want.ips, PodIps::Pool(_));
        any.then(|| self.ipam.complete(subnet, &pod.port)).flatten()
    }

    /// Why a subnet assigns no addresses to pods, if so.
    fn why_unusable(&self, subnet: &str) -> Option<String> {
        if *subnet == *self.install.settings.node_switch {
            return Some(format!("subnet {subnet}: it is the nodes' own, pods get no addresses of it"));
        }
        match self.verdicts.get(subnet) {
            None => Some(format!("subnet {subnet}: metadata.name: there is no such subnet")),
            Some(Verdict::Valid) => None,
            Some(Verdict::Invalid { reason, .. }) if *reason != LEAVING && self.world.subnet(subnet).is_some() => None,
            Some(Verdict::Invalid { message, .. }) => Some(message.clone()),
            Some(Verdict::Held { .. } | Verdict::Released) => {
                Some(format!("subnet {subnet}: metadata.deletionTimestamp: it is being deleted"))
            }
            Some(Verdict::Foreign) => Some(format!("subnet {subnet}: spec.provider: it is not served here")),
        }
    }
}

/// Whether this pod has received its address: its IP object has the pod's uid, or kubelet reports the address.
fn was_given(cluster: &Cluster, pod: &Pod, lease: &Lease) -> bool {
    let recorded = cluster.ips.get(&pod.port).is_some_and(|ip| *ip.spec.pod_uid == *pod.uid);
    recorded || pod.reported == Some(lease.ips)
}

/// The request to the allocator.
fn allocator_want(want: &AddressWant, ips: WantIps) -> Want {
    Want { ips, families: want.families, mac: want.mac }
}
