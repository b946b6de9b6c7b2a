//! What users see: for each object the writes that make the API server say what has been decided and committed.
//!
//! Each function compares what should be said with what the watch last saw, and answers only with the difference. So a
//! write that was lost, undone by hand, or left over by a crashed leader is found the same way as a new one.

mod conditions;
mod counts;
mod ip;
mod ippool;
mod namespace;
mod placement;
mod subnet;

use crate::cluster::{Cluster, Object};
use crate::engine::Engine;
use crate::publish::Write;

/// The write that brings the status of a Subnet or an IPPool up to date, if it is not. It changes with every pod and is told
/// at its own pace. `now` dates the conditions that change.
pub fn status(engine: &Engine, cluster: &Cluster, object: &Object, now: jiff::Timestamp) -> Option<Write> {
    match object {
        Object::Subnet(name) => subnet::status(engine, cluster, name, now),
        Object::IpPool(name) => ippool::status(engine, cluster, name, now),
        _ => None,
    }
}

/// The writes for one object, its status apart.
pub fn writes(engine: &Engine, cluster: &Cluster, object: &Object) -> Vec<Write> {
    match object {
        Object::Subnet(name) => subnet::write(engine, cluster, name),
        Object::IpPool(name) => ippool::write(cluster, name).into_iter().collect(),
        Object::Namespace(name) => namespace::writes(engine, cluster, name),
        Object::StatefulSet(_) => Vec::new(),
        Object::Node(name) => placement::of_node(engine, cluster, name).into_iter().collect(),
        Object::Pod(port) => placement::of_pod(engine, cluster, port).into_iter().collect(),
        Object::Ip(name) => ip::write(engine, cluster, name).into_iter().collect(),
    }
}
