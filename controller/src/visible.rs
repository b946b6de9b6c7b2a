//! The writes that make the API server show the committed decisions, to users and node agents.
//!
//! Each function compares the wanted state with the state that the watch last reported, and returns only the
//! difference. So it also repairs a write that was lost, reverted by a user, or missed by a crashed leader. There is
//! one function for each kind, and it returns at most one write that contains all changes of the object.

mod conditions;
mod counts;
mod external_host;
mod ip;
mod ippool;
mod namespace;
mod node;
mod placement;
mod subnet;

use crate::cluster::{Cluster, Object};
use crate::engine::Engine;
use crate::publish::Action;

/// The write that updates an object's metadata and spec, if they differ.
pub fn write(engine: &Engine, cluster: &Cluster, object: &Object) -> Option<Action> {
    match object {
        Object::Subnet(name) => subnet::write(engine, cluster, name),
        Object::IpPool(name) => ippool::write(cluster, name),
        Object::Namespace(name) => namespace::write(engine, cluster, name),
        Object::ExternalHost(_) | Object::StatefulSet(_) => None,
        Object::Node(name) => placement::of_node(engine, cluster, name),
        Object::Pod(port) => placement::of_pod(engine, cluster, port),
        Object::Ip(name) => ip::write(engine, cluster, name),
    }
}

/// Whether the controller writes the status of this kind.
pub fn has_status(object: &Object) -> bool {
    match object {
        Object::Subnet(_) | Object::IpPool(_) | Object::ExternalHost(_) | Object::Node(_) => true,
        Object::Namespace(_) | Object::StatefulSet(_) | Object::Pod(_) | Object::Ip(_) => false,
    }
}

/// The write that updates the status of an object, if it differs. `now` is the time of conditions that
/// change.
pub fn status(engine: &Engine, cluster: &Cluster, object: &Object, now: jiff::Timestamp) -> Option<Action> {
    match object {
        Object::Subnet(name) => subnet::status(engine, cluster, name, now),
        Object::IpPool(name) => ippool::status(engine, cluster, name, now),
        Object::ExternalHost(name) => external_host::status(engine, cluster, name, now),
        Object::Node(name) => node::status(cluster, name, now),
        Object::Namespace(_) | Object::StatefulSet(_) | Object::Pod(_) | Object::Ip(_) => None,
    }
}

/// Whether the status of a Subnet or an `IPPool` differs in what is in force. Node agents and new leaders depend on
/// that field, so it is written at once. The other fields of a status are written at a slower pace.
pub fn in_force_differs(engine: &Engine, cluster: &Cluster, object: &Object) -> bool {
    match object {
        Object::Subnet(name) => subnet::in_force_differs(engine, cluster, name),
        Object::IpPool(name) => ippool::in_force_differs(engine, cluster, name),
        _ => false,
    }
}
