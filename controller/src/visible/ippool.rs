//! An IPPool: its status, and the removal of kube-ovn's finalizer. This controller needs no finalizer, because a
//! deleted pool does not affect the pods that have its addresses.

use api::{FINALIZER, IpPoolStatus, PoolInForce};
use serde_json::json;

use super::{conditions, counts};
use crate::cluster::Cluster;
use crate::engine::Engine;
use crate::publish::Action;

pub(super) fn write(cluster: &Cluster, name: &str) -> Option<Action> {
    let metadata = &cluster.pools.get(name)?.metadata;
    let finalizers = metadata.finalizers.as_deref().unwrap_or_default();
    let others: Vec<&String> = finalizers.iter().filter(|finalizer| *finalizer != FINALIZER).collect();
    if metadata.deletion_timestamp.is_none() || others.len() == finalizers.len() {
        return None;
    }
    let patch = json!({ "metadata": { "resourceVersion": metadata.resource_version, "finalizers": others } });
    Some(Action::merge(&patch))
}

fn in_force(engine: &Engine, name: &str) -> Option<PoolInForce> {
    let (subnet, ranges) = engine.pool_in_force(name)?;
    Some(PoolInForce { subnet: subnet.to_owned(), ips: ranges.iter().map(ToString::to_string).collect() })
}

pub(super) fn in_force_differs(engine: &Engine, cluster: &Cluster, name: &str) -> bool {
    let Some(pool) = cluster.pools.get(name) else { return false };
    pool.status.as_ref().and_then(|status| status.in_force.as_ref()) != in_force(engine, name).as_ref()
}

pub(super) fn status(engine: &Engine, cluster: &Cluster, name: &str, now: jiff::Timestamp) -> Option<Action> {
    let (pool, decided) = (cluster.pools.get(name)?, engine.pool(name)?);
    let before = pool.status.clone().unwrap_or_default();
    let mut status = IpPoolStatus {
        conditions: conditions::of_pool(&decided.verdict, &before.conditions, now),
        in_force: in_force(engine, name),
        ..IpPoolStatus::default()
    };
    counts::fill!(status, engine.pool_usage(name));
    if status == before {
        return None;
    }
    let patch = json!({ "metadata": { "uid": pool.metadata.uid }, "status": status });
    Some(Action::merge(&patch))
}
