//! Warnings about an object that is otherwise in force: parts that cannot be read or have no effect.

use api::FieldError;
use api::annotations::PORT_SECURITY;

use super::{Engine, GatewayState, Verdict};
use crate::cluster::{Cluster, Object};

/// A warning, shown as an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Remark {
    /// The reason of the event, one word.
    pub reason: &'static str,
    /// The problem and what applies instead, naming object and field.
    pub message: String,
}

const UNREADABLE: &str = "UnreadableAnnotation";
const UNSERVED: &str = "AnnotationNotServed";
const LOST: &str = "NorthGatewayUnreachable";
const CONTESTED: &str = "NodeAddressConflict";
const TAKEN: &str = "NodeNetworkConflict";
const RESTORED: &str = "PortsRestored";
const MOVED: &str = "SubnetGatewayNodeChanged";
const NO_GATEWAY: &str = "GatewayNodeMissing";
const IDLE: &str = "NamespacesIgnored";
const NOT_FOR_NODES: &str = "FieldIgnored";

/// What applies instead of an annotation that cannot be read.
pub const IGNORED: &str = "it is ignored, what was in force before stays";

impl Engine {
    /// The warnings about an object.
    pub fn remarks(&self, cluster: &Cluster, object: &Object) -> Vec<Remark> {
        match object {
            Object::Pod(port) => {
                let Some(pod) = cluster.pods.get(port).filter(|pod| !pod.done) else { return Vec::new() };
                let message = |name| format!("pod {}: annotation {name}: this version does not serve it", pod.path());
                let unserved = pod.unserved.iter().map(|name| Remark { reason: UNSERVED, message: message(name) });
                let lost = self.lost_north_gateway(pod).map(|message| Remark { reason: LOST, message });
                self.unreadable(object, pod.unreadable.iter()).into_iter().chain(unserved).chain(lost).collect()
            }
            Object::Namespace(name) => {
                let namespace = cluster.namespaces.get(name);
                self.unreadable(object, namespace.into_iter().flat_map(|namespace| namespace.net.unreadable()))
            }
            Object::Subnet(name) => {
                let taken =
                    self.overlap_in_force(cluster, name).filter(|_| self.verdict(name) == Some(&Verdict::Valid));
                let message = |why| {
                    format!(
                        "subnet {name}: spec.cidrBlock: {why}; it was in force before, and the nodes keep their own routes"
                    )
                };
                let taken = taken.map(|why| Remark { reason: TAKEN, message: message(why) });
                let moved = self.gateway_moved(name).map(|[from, to]| Remark {
                    reason: MOVED,
                    message: format!("subnet {name}: its pods leave by node {to} now, no longer by {from}"),
                });
                let problem = self.gateway_state(name).and_then(GatewayState::problem);
                let problem =
                    problem.map(|problem| Remark { reason: NO_GATEWAY, message: format!("subnet {name}: {problem}") });
                self.ignored_namespaces(cluster, name)
                    .into_iter()
                    .chain(self.ignored_field(cluster, name))
                    .chain(taken)
                    .chain(moved)
                    .chain(problem)
                    .collect()
            }
            Object::Node(name) => {
                let contested = cluster.nodes.get(name).and_then(|node| self.contested_address(name, &node.internal));
                let contested = contested.map(|message| Remark { reason: CONTESTED, message });
                let restored = cluster.report(name).map(|chassis| chassis.report.restored).filter(|count| *count > 0);
                let restored = restored.map(|count| Remark {
                    reason: RESTORED,
                    message: format!(
                        "node {name}: its Open vSwitch had lost or changed the ports of {count} running pods: the agent has \
                         restored them"
                    ),
                });
                let shares = cluster.report(name).and_then(|chassis| chassis.shares.as_ref());
                let shares = shares.map(|(address, other)| Remark {
                    reason: CONTESTED,
                    message: format!(
                        "node {name}: its tunnel address {address} is that of {other} as well: the one of the two that came \
                         later takes no pods until the other one has another address"
                    ),
                });
                let node = cluster.nodes.get(name);
                let unreadable = self.unreadable(object, node.into_iter().flat_map(|node| &node.unreadable));
                contested.into_iter().chain(shares).chain(restored).chain(unreadable).collect()
            }
            Object::IpPool(_) | Object::ExternalHost(_) | Object::StatefulSet(_) | Object::Ip(_) => Vec::new(),
        }
    }

    /// The annotations that cannot be read, except for the one that already explains a missing address.
    fn unreadable<'a>(&self, object: &Object, errors: impl Iterator<Item = &'a FieldError>) -> Vec<Remark> {
        let refused = self.no_address(object).map(|refused| refused.message.as_str());
        let others = errors.filter(|error| refused != Some(error.to_string().as_str()));
        let message = |error: &FieldError| {
            let instead = if error.field.ends_with(PORT_SECURITY) {
                "what was in force before stays, and a pod without that may only send from its own addresses"
            } else {
                IGNORED
            };
            format!("{error}; {instead}")
        };
        others.map(|error| Remark { reason: UNREADABLE, message: message(error) }).collect()
    }

    /// The warning that a field of the join subnet concerns pods alone.
    fn ignored_field(&self, cluster: &Cluster, name: &str) -> Option<Remark> {
        let spec = &cluster.subnets.get(name).filter(|_| *name == *self.install.settings.node_switch)?.spec;
        let fields = [("remoteMirror", spec.remote_mirror.is_some()), ("nodeNetwork", spec.node_network.is_some())];
        let (field, _) = fields.into_iter().find(|(_, given)| *given)?;
        let message = format!(
            "subnet {name}: spec.{field}: it is for pods, and this subnet is the nodes' own; the field is ignored"
        );
        Some(Remark { reason: NOT_FOR_NODES, message })
    }

    /// The warning that the join subnet ignores its namespaces.
    fn ignored_namespaces(&self, cluster: &Cluster, name: &str) -> Option<Remark> {
        let spec = &cluster.subnets.get(name)?.spec;
        let field = if !spec.namespaces.is_empty() {
            "spec.namespaces"
        } else if !spec.namespace_selectors.is_empty() {
            "spec.namespaceSelectors"
        } else {
            return None;
        };
        if *name != *self.install.settings.node_switch {
            return None;
        }
        let why = "it is the nodes' own, pods get no addresses of it; the field is ignored";
        Some(Remark { reason: IDLE, message: format!("subnet {name}: {field}: {why}") })
    }
}
