//! The limits of pods' traffic: from the annotations of the pod, else of its namespace, else of its subnet.
//!
//! For each direction, the nearest object that says something decides. What cannot be read leaves the limit that the pod
//! has. A pod that has none yet is treated as if the unreadable annotations were absent.

use std::sync::Arc;

use api::annotations::{Limit, LimitWant, Limits};

use super::Engine;
use crate::cluster::{Object, Pod};

/// The limits of a pod's traffic in both directions.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct PodLimits {
    /// The limit of traffic into the pod.
    pub ingress: Option<Limit>,
    /// The limit of traffic out of the pod.
    pub egress: Option<Limit>,
}

/// What a namespace or a subnet says about the limits of its pods: into the pod, out of it.
pub(super) type DefaultLimits = (LimitWant, LimitWant);

impl Engine {
    /// The limits of a pod in a subnet.
    pub(super) fn limits(&self, pod: &Pod, subnet: &Arc<str>) -> PodLimits {
        let said_by = |object| self.default_limits.get(&object).copied().unwrap_or_default();
        let namespace = said_by(Object::Namespace(Arc::clone(&pod.namespace)));
        let subnet = said_by(Object::Subnet(Arc::clone(subnet)));
        let now = self.world.port(&pod.port).filter(|port| port.uid == pod.uid);
        let now = now.map(|port| PodLimits { ingress: port.ingress, egress: port.egress });
        let last = now.or_else(|| self.recorded_limits.get(&pod.port).copied());
        PodLimits {
            ingress: nearest([pod.ingress, namespace.0, subnet.0], last, |last| last.ingress),
            egress: nearest([pod.egress, namespace.1, subnet.1], last, |last| last.egress),
        }
    }

    /// Stores what the annotations of a namespace say, and decides again about its pods (`ports`) if that has changed.
    pub(super) fn set_namespace_limits<'a>(
        &mut self,
        namespace: &Arc<str>,
        limits: &Limits,
        ports: impl Iterator<Item = &'a Arc<str>>,
    ) {
        if self.replace_limits(Object::Namespace(Arc::clone(namespace)), (limits.ingress, limits.egress)) {
            self.undecided.extend(ports.cloned().map(Object::Pod));
        }
    }

    /// Stores what the annotations of a Subnet say (`limits`; `None` without the object), and decides again about its pods
    /// if that has changed. When the object has vanished while the subnet is in use, its pods keep their limits.
    pub(super) fn set_subnet_limits(&mut self, subnet: &Arc<str>, limits: Option<&Limits>) {
        let limits = match limits {
            Some(limits) => (limits.ingress, limits.egress),
            None if self.world.subnet(subnet).is_some() => (LimitWant::Unreadable, LimitWant::Unreadable),
            None => DefaultLimits::default(),
        };
        if self.replace_limits(Object::Subnet(Arc::clone(subnet)), limits) {
            self.undecided.extend(self.world.ports_of(subnet).cloned().map(Object::Pod));
        }
    }

    /// Whether the stored limits have changed.
    fn replace_limits(&mut self, object: Object, limits: DefaultLimits) -> bool {
        let before = if limits == DefaultLimits::default() {
            self.default_limits.remove(&object)
        } else {
            self.default_limits.insert(object, limits)
        };
        before.unwrap_or_default() != limits
    }
}

/// The limit that the first object with a wish asks for. `last`: the limits in force, if the pod has a port.
fn nearest(said: [LimitWant; 3], last: Option<PodLimits>, of: fn(PodLimits) -> Option<Limit>) -> Option<Limit> {
    for want in said {
        match (want, last) {
            (LimitWant::Limit(limit), _) => return Some(limit),
            (LimitWant::Unlimited, _) => return None,
            (LimitWant::Unreadable, Some(last)) => return of(last),
            (LimitWant::Unreadable, None) | (LimitWant::Unset, _) => {}
        }
    }
    None
}
