//! Pods: which subnet, which address, and why not.

use std::sync::Arc;

use api::{FieldError, PodIps};
use ipam::{Lease, Want, WantIps};
use plan::Port;

use super::{Engine, Verdict};
use crate::cluster::{Cluster, Object, Pod};

/// Why a port has no address. Told to users by an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// What is in the way, naming object and field.
    pub message: String,
}

impl Refused {
    pub(super) fn new(message: String) -> Self {
        Self { message }
    }
}

/// A refusal while it is being decided: why, and which subnet's change may lift it.
struct NotNow {
    message: String,
    subnet: Option<Arc<str>>,
}

impl From<FieldError> for NotNow {
    fn from(error: FieldError) -> Self {
        Self { message: error.to_string(), subnet: None }
    }
}

impl Engine {
    pub(super) fn decide_pod(&mut self, cluster: &Cluster, port: &Arc<str>) {
        self.decided.insert(Object::Ip(Arc::clone(port)));
        let Some(pod) = cluster.pods.get(port).filter(|pod| !pod.done) else {
            self.refused.remove(port);
            if self.world.port(port).is_some() {
                self.release(port);
            }
            return;
        };
        if self.world.port(port).is_some_and(|before| before.uid != pod.uid) {
            self.release(port);
        }
        let outcome = no_node_is_called_so(cluster, pod).and_then(|()| self.address_for(cluster, pod));
        match outcome {
            Ok((subnet, lease)) => {
                self.refused.remove(port);
                self.decided.insert(Object::Subnet(Arc::clone(&subnet)));
                self.world.set_port(Port {
                    name: Arc::clone(port),
                    uid: Arc::clone(&pod.uid),
                    pod: pod.path().into(),
                    subnet,
                    ips: lease.ips,
                    mac: lease.mac,
                    port_security: pod.want.as_ref().is_ok_and(|want| want.port_security),
                });
            }
            Err(why) => {
                let refused = Refused::new(why.message);
                if self.refused.get(port) != Some(&refused) {
                    tracing::warn!(pod = pod.path(), reason = refused.message, "the pod got no address");
                }
                self.refused.insert(Arc::clone(port), refused);
                if let Some(subnet) = why.subnet {
                    self.waiting.entry(subnet).or_default().insert(Object::Pod(Arc::clone(port)));
                }
            }
        }
    }

    /// The address that the pod holds, or one for it: a running pod keeps its own, whatever its namespace is bound to now.
    fn address_for(&mut self, cluster: &Cluster, pod: &Pod) -> Result<(Arc<str>, Lease), NotNow> {
        if let Some((subnet, lease)) = self.ipam.lease(&pod.port) {
            return Ok((subnet.into(), lease));
        }
        let want = pod.want.clone()?;
        let subnet = match &want.switch {
            Some(named) => named.as_str().into(),
            None => self.subnet_of(cluster, &pod.namespace)?,
        };
        let not_now = |message: String| NotNow { message, subnet: Some(Arc::clone(&subnet)) };
        if let Some(unusable) = self.unusable(&subnet) {
            return Err(not_now(unusable));
        }
        let ips = match want.ips {
            PodIps::Any => WantIps::Any,
            PodIps::Exact(ips) => WantIps::Exact(ips),
            PodIps::FirstFree(list) => WantIps::FirstFree(list),
            PodIps::Pool(name) => {
                return Err(not_now(format!("pod {}: annotation ip_pool: no IPPool {name}", pod.path())));
            }
        };
        match self.ipam.assign(&subnet, &pod.port, Want { ips, mac: want.mac }) {
            Ok(lease) => {
                tracing::info!(pod = pod.path(), subnet = &*subnet, ip = %lease.ips, mac = %lease.mac, "address given");
                Ok((subnet, lease))
            }
            Err(refusal) => Err(not_now(refusal.to_string())),
        }
    }

    /// Why a subnet gives out no address, if it does not.
    fn unusable(&self, subnet: &str) -> Option<String> {
        match self.verdicts.get(subnet) {
            None => Some(format!("subnet {subnet}: metadata.name: there is no such subnet")),
            Some(Verdict::Valid) => None,
            Some(Verdict::Invalid { .. }) if self.world.subnet(subnet).is_some() => None,
            Some(Verdict::Invalid { message, .. }) => Some(message.clone()),
            Some(Verdict::Held { .. } | Verdict::Released) => {
                Some(format!("subnet {subnet}: metadata.deletionTimestamp: it is being deleted"))
            }
            Some(Verdict::Foreign) => Some(format!("subnet {subnet}: spec.provider: it is not served here")),
        }
    }
}

/// A pod `node-a` in a namespace `b` would have the port of a node `a.b`, and with it that node's address.
fn no_node_is_called_so(cluster: &Cluster, pod: &Pod) -> Result<(), NotNow> {
    match pod.port.strip_prefix("node-").filter(|node| cluster.nodes.contains_key(*node)) {
        None => Ok(()),
        Some(node) => {
            let why = format!("its port would be called {}, as that of node {node} is", pod.port);
            Err(FieldError::new(format!("pod {}", pod.path()), "metadata.name", why).into())
        }
    }
}
