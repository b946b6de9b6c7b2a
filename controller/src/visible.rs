//! What users and node agents see: for each object the write that makes the API server show what has been decided and
//! committed.
//!
//! Each function compares what should be shown with what the watch last saw, and returns only the difference. So a write that
//! was lost, undone by hand, or left over by a crashed leader is found in the same way as a new one. There is one function
//! for each kind, and it returns at most one write: several wishes for one object end up in one write of it.

mod conditions;
mod counts;
mod ip;
mod ippool;
mod namespace;
mod placement;
mod subnet;

use crate::cluster::{Cluster, Object};
use crate::engine::Engine;
use crate::publish::Action;

/// The write that brings an object's metadata and spec up to date, if they are not.
pub fn write(engine: &Engine, cluster: &Cluster, object: &Object) -> Option<Action> {
    match object {
        Object::Subnet(name) => subnet::write(engine, cluster, name),
        Object::IpPool(name) => ippool::write(cluster, name),
        Object::Namespace(name) => namespace::write(engine, cluster, name),
        Object::StatefulSet(_) => None,
        Object::Node(name) => placement::of_node(engine, cluster, name),
        Object::Pod(port) => placement::of_pod(engine, cluster, port),
        Object::Ip(name) => ip::write(engine, cluster, name),
    }
}

/// The write that brings the status of a Subnet or an `IPPool` up to date, if it is not. `now` dates the conditions that
/// change.
pub fn status(engine: &Engine, cluster: &Cluster, object: &Object, now: jiff::Timestamp) -> Option<Action> {
    match object {
        Object::Subnet(name) => subnet::status(engine, cluster, name, now),
        Object::IpPool(name) => ippool::status(engine, cluster, name, now),
        _ => None,
    }
}

/// Whether the status of a Subnet or an `IPPool` does not show what is in force. Node agents act on it, and a new leader
/// reads it, so that it is written at once; all else of a status is written at a slower pace.
pub fn in_force_differs(engine: &Engine, cluster: &Cluster, object: &Object) -> bool {
    match object {
        Object::Subnet(name) => subnet::in_force_differs(engine, cluster, name),
        Object::IpPool(name) => ippool::in_force_differs(engine, cluster, name),
        _ => false,
    }
}
