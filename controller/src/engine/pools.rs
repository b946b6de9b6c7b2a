//! IPPools: which pools are in force, and which namespaces they are bound to.
//!
//! A pool is bound to a namespace by the pool's `spec.namespaces` or by the namespace's annotation `ip_pool`. As with
//! subnets, the controller writes the binding to that annotation and records in [`BOUND_IP_POOL`] what it wrote.

use std::collections::BTreeMap;
use std::sync::Arc;

use api::annotations::{BOUND_IP_POOL, IP_POOL};
use api::{FieldError, IpPool, IpRange, PoolDef};
use ipam::Lease;
use ovn::TableId;
use ovsdb::Replica;
use plan::{PoolSet, address_set_of_pool};

use super::bindings::BoundBy;
use super::subnets::Problem;
use super::{Engine, Verdict};
use crate::cluster::{Cluster, Namespace, Object};

/// The decision about an IPPool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pool {
    /// The subnet in its spec.
    pub subnet: Arc<str>,
    /// The verdict, shown by its conditions.
    pub verdict: PoolVerdict,
}

/// The verdict on an IPPool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PoolVerdict {
    /// In force as specified.
    Valid,
    /// In force in part.
    Partly {
        /// The reason of the condition, one word.
        reason: &'static str,
        /// The part that is not in force and why, naming the field.
        message: String,
    },
    /// Invalid. The previous definition stays in force.
    Invalid {
        /// The reason of the condition, one word.
        reason: &'static str,
        /// The error, naming the field.
        message: String,
    },
}

impl Engine {
    pub(super) fn decide_pool(&mut self, cluster: &Cluster, name: &Arc<str>) {
        let Some(pool) = cluster.pools.get(name).filter(|pool| pool.metadata.deletion_timestamp.is_none()) else {
            self.bind_pool(name, &[]);
            self.retire_pool(name);
            self.wake_waiting(&Object::IpPool(Arc::clone(name)));
            return;
        };
        self.bind_pool(name, &pool.spec.namespaces);
        let subnet: Arc<str> = pool.spec.subnet.trim().into();
        if self.pools.get(name).is_some_and(|before| before.subnet != subnet) {
            self.retire_pool(name);
        }
        let verdict = match self.enforce_pool(pool) {
            Ok(None) => PoolVerdict::Valid,
            Ok(Some((reason, message))) => PoolVerdict::Partly { reason, message },
            Err((reason, message)) => {
                tracing::warn!(pool = &**name, reason, message, "the pool cannot be used as written");
                PoolVerdict::Invalid { reason, message }
            }
        };
        self.pools_of.insert(&subnet, Arc::clone(name));
        self.pools.insert(Arc::clone(name), Pool { subnet, verdict });
        self.wake_waiting(&Object::IpPool(Arc::clone(name)));
    }

    /// Takes a pool out of force. Its addresses become available to all pods; pods that have one keep it.
    fn retire_pool(&mut self, name: &Arc<str>) {
        if let Some(before) = self.pools.remove(name) {
            self.pools_of.remove(&before.subnet, name);
            self.ipam.remove_pool(name);
            self.drop_address_set(name);
            self.pool_changed(&before.subnet);
            tracing::info!(pool = &**name, subnet = &*before.subnet, "pool removed");
        }
    }

    /// Puts the pools in force that were in force before, according to their statuses; then the others, the oldest
    /// first. So a new leader gives a disputed address to the same pool as its predecessor.
    pub(super) fn restore_pools(&mut self, cluster: &Cluster, replica: &Replica) {
        // One that is being deleted is out of force already.
        let kept = || cluster.pools.iter().filter(|(_, pool)| pool.metadata.deletion_timestamp.is_none());
        for (name, pool) in kept() {
            let Some(before) = pool.status.as_ref().and_then(|status| status.in_force.as_ref()) else { continue };
            let ranges: Vec<IpRange> = before.ips.iter().filter_map(|range| range.parse().ok()).collect();
            if let Err(refusal) = self.ipam.set_pool(&before.subnet, name, &ranges) {
                tracing::warn!(pool = &**name, %refusal, "what was in force of the pool is not taken over");
            }
        }
        // Of two pools that would have one address set, that one keeps it whose name the row has.
        for row in replica.rows(TableId::AddressSet.name()).map(|(_, row)| row).filter(|row| ovn::ours(row)) {
            let name = row.get("external_ids").and_then(|ids| ids.get("ippool"));
            let pool = name.and_then(|name| cluster.pools.get(name).filter(|_| self.ipam.pool(name).is_some()));
            if let Some((pool, mut def)) = pool.and_then(|pool| Some((pool, PoolDef::parse(pool).ok()?))) {
                // What is in force, and not what an edit asks for.
                def.ranges = self.ipam.pool(&def.name).map(|(_, ranges)| ranges.to_vec()).unwrap_or_default();
                // It is the first with this name.
                let _ = self.address_set(pool, &def);
            }
        }
        let mut others: Vec<&IpPool> =
            kept().filter(|(name, _)| self.ipam.pool(name).is_none()).map(|(_, pool)| pool).collect();
        others.sort_by_key(|pool| pool.metadata.creation_timestamp.as_ref().map(|time| time.0));
        for pool in others {
            // Its decision reports the error.
            let _ = self.enforce_pool(pool);
        }
    }

    /// The subnet and ranges of a pool in force.
    pub fn pool_in_force(&self, name: &str) -> Option<(&str, &[IpRange])> {
        self.ipam.pool(name)
    }

    /// Puts a pool in force. Returns the part that is not in force, for example addresses outside of the subnet.
    fn enforce_pool(&mut self, pool: &IpPool) -> Result<Option<Problem>, Problem> {
        let invalid = |field: &str, why: &dyn std::fmt::Display| FieldError::new(pool.object(), field, why).to_string();
        let def = PoolDef::parse(pool).map_err(|error| ("ValidateIPPoolFailed", error.to_string()))?;
        let Some(cidrs) = self.world.subnet(&def.subnet).map(|subnet| subnet.cidrs) else {
            let why = match self.verdicts.get(def.subnet.as_str()) {
                None => format!("there is no subnet {}", def.subnet),
                Some(Verdict::Foreign) => format!("subnet {} is not served here", def.subnet),
                Some(_) => format!("subnet {} is not in force", def.subnet),
            };
            return Err(("SubnetNotInForce", invalid("spec.subnet", &why)));
        };
        match self.ipam.set_pool(&def.subnet, &def.name, &def.ranges) {
            Ok(false) => {}
            Ok(true) => {
                tracing::info!(pool = def.name, subnet = def.subnet, "pool in force");
                self.pool_changed(&def.subnet);
            }
            Err(refusal) => return Err(("AddressesInConflict", invalid("spec.ips", &refusal))),
        }
        let why = |range| format!("{range} is not inside {cidrs} of subnet {}; the rest is in force", def.subnet);
        let outside = def.outside(&cidrs).map(|range| ("AddressesOutside", invalid("spec.ips", &why(range))));
        let set = self.address_set(pool, &def).map(|why| ("AddressSetNotMade", invalid("spec.enableAddressSet", &why)));
        Ok(outside.or(set))
    }

    /// Removes the address set of a pool. Decides again about pools that wait for its name.
    fn drop_address_set(&mut self, name: &str) {
        if self.world.remove_pool(name) {
            let set = address_set_of_pool(name);
            let others = self.pools.keys().filter(|other| ***other != *name && address_set_of_pool(other) == set);
            self.undecided.extend(others.cloned().map(Object::IpPool));
        }
    }

    /// Creates or removes the address set of a pool. Returns why it cannot be created, if so. If two pools would have
    /// address sets of the same name, the first one gets it.
    fn address_set(&mut self, pool: &IpPool, def: &PoolDef) -> Option<String> {
        if !pool.spec.enable_address_set.unwrap_or_default() {
            self.drop_address_set(&def.name);
            return None;
        }
        let set = address_set_of_pool(&def.name);
        let other = self.world.pool_names().find(|name| ***name != *def.name && address_set_of_pool(name) == set);
        if let Some(other) = other {
            return Some(format!(
                "its address set would be called {set}, as that of ippool {other} is; all else is in force"
            ));
        }
        self.world.set_pool(PoolSet {
            name: def.name.as_str().into(),
            uid: pool.metadata.uid.as_deref().unwrap_or_default().into(),
            ranges: def.ranges.clone(),
        });
        None
    }

    /// The decision about an IPPool.
    pub fn pool(&self, name: &str) -> Option<&Pool> {
        self.pools.get(name)
    }

    /// The usage of a pool as counts and ranges. Takes time proportional to the number of its assigned addresses.
    pub fn pool_usage(&self, name: &str) -> Option<(ipam::Usage, ipam::Ranges)> {
        Some((self.ipam.pool_usage(name)?, self.ipam.pool_ranges(name)?))
    }

    /// The pools that list a namespace, separated by commas; `None` if there are none.
    pub fn pools_that_list(&self, namespace: &str) -> Option<String> {
        let names: Vec<&str> = self.pool_bindings.owners(namespace).map(|(_, pool)| &**pool).collect();
        (!names.is_empty()).then(|| names.join(","))
    }

    /// Publishes the pools that contain the addresses of a lease again, because their counts change.
    pub(super) fn republish_pools_of(&mut self, lease: Lease) {
        let pools = lease.ips.iter().filter_map(|ip| self.ipam.pool_of(*ip));
        self.unpublished.extend(pools.map(|pool| Object::IpPool(pool.into())));
    }

    fn bind_pool(&mut self, name: &Arc<str>, namespaces: &[String]) {
        let wanted: BTreeMap<Arc<str>, BoundBy> =
            namespaces.iter().map(|namespace| (namespace.as_str().into(), BoundBy::Name)).collect();
        let changed = self.pool_bindings.bind(name, wanted);
        self.undecided.extend(changed.into_iter().map(Object::Namespace));
    }

    /// Wakes the pods that wait for the subnet, and decides again about its invalid pools, after the ranges of a pool
    /// changed.
    fn pool_changed(&mut self, subnet: &str) {
        self.wake_waiting(&Object::Subnet(subnet.into()));
        let invalid = |pool: &&Arc<str>| {
            self.pools.get(*pool).is_some_and(|pool| matches!(pool.verdict, PoolVerdict::Invalid { .. }))
        };
        let pools = self.pools_of.of(subnet).filter(invalid);
        self.undecided.extend(pools.cloned().map(Object::IpPool));
    }
}

/// Whether the annotation `ip_pool` was written by a user, not by the controller.
pub fn wishes_for_pools(namespace: &Namespace) -> bool {
    let written = |name: &str| namespace.annotations.get(name).filter(|value| !value.trim().is_empty());
    written(IP_POOL).is_some() && written(IP_POOL) != written(BOUND_IP_POOL)
}
