//! IPPools: which are in force, which namespaces they are bound to, and what a pod has of them.
//!
//! `spec.namespaces` of an IPPool binds, and so does the namespace's annotation `ip_pool`. As with subnets, the controller
//! writes the answer back to that annotation, and remembers in [`BOUND_IP_POOL`] what it wrote.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use api::annotations::{BOUND_IP_POOL, IP_POOL};
use api::{AddressWant, FieldError, IpPool, IpRange, PodIps, PoolDef};
use ipam::{Lease, WantIps};
use plan::{PoolSet, address_set_of_pool};

use super::bindings::BoundBy;
use super::pods::AssignError;
use super::{Engine, Verdict};
use crate::cluster::{Cluster, Namespace, Object, Pod};

/// An IPPool as it was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pool {
    /// The subnet that it says it is of.
    pub subnet: Arc<str>,
    /// What was found about it.
    pub verdict: PoolVerdict,
}

/// What was found about an IPPool; its conditions say it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PoolVerdict {
    /// In force as written.
    Valid,
    /// In force, but not all that is written.
    Partly {
        /// One word, for the condition's reason.
        reason: &'static str,
        /// What is not in force and why, naming the field.
        message: String,
    },
    /// Not usable as written. What was in force before stays so.
    Invalid {
        /// One word, for the condition's reason.
        reason: &'static str,
        /// What is wrong, naming the field.
        message: String,
    },
}

/// A condition's reason and its message.
type Problem = (&'static str, String);

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

    /// Leaves a pool's addresses to others again; whoever has one keeps it.
    fn retire_pool(&mut self, name: &Arc<str>) {
        if let Some(before) = self.pools.remove(name) {
            self.pools_of.remove(&before.subnet, name);
            self.ipam.remove_pool(name);
            self.drop_address_set(name);
            self.pool_changed(&before.subnet);
            tracing::info!(pool = &**name, subnet = &*before.subnet, "pool removed");
        }
    }

    /// Puts the pools in force as they were, by their statuses, and then those that were not, the oldest first: of two that
    /// claim one address, a change of leaders lets the same one have it.
    pub(super) fn restore_pools(&mut self, cluster: &Cluster) {
        for (name, pool) in cluster.pools.iter() {
            let Some(before) = pool.status.as_ref().and_then(|status| status.in_force.as_ref()) else { continue };
            let ranges: Vec<IpRange> = before.ips.iter().filter_map(|range| range.parse().ok()).collect();
            if let Err(refusal) = self.ipam.set_pool(&before.subnet, name, &ranges) {
                tracing::warn!(pool = &**name, %refusal, "what was in force of the pool is not taken over");
            }
        }
        let mut others: Vec<&IpPool> =
            cluster.pools.iter().filter(|(name, _)| self.ipam.pool(name).is_none()).map(|(_, pool)| pool).collect();
        others.sort_by_key(|pool| pool.metadata.creation_timestamp.as_ref().map(|time| time.0));
        for pool in others {
            // What is wrong with it is found again when it is decided about.
            let _ = self.enforce_pool(pool);
        }
    }

    /// What is in force of a pool: its subnet and its addresses.
    pub fn pool_in_force(&self, name: &str) -> Option<(&str, &[IpRange])> {
        self.ipam.pool(name)
    }

    /// Puts a pool in force; says what of it is not, such as addresses that are not the subnet's.
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

    /// Takes a pool's address set away; another pool may have waited for its name.
    fn drop_address_set(&mut self, name: &str) {
        if self.world.remove_pool(name) {
            let set = address_set_of_pool(name);
            let others = self.pools.keys().filter(|other| ***other != *name && address_set_of_pool(other) == set);
            self.undecided.extend(others.cloned().map(Object::IpPool));
        }
    }

    /// Makes the pool's address set, or takes it away; says why it is not made, if so. Of two pools whose sets would have one
    /// name, the first one has it.
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

    /// An IPPool as it was found.
    pub fn pool(&self, name: &str) -> Option<&Pool> {
        self.pools.get(name)
    }

    /// How full a pool is, in numbers and in ranges; takes time by the number of its addresses in use.
    pub fn pool_usage(&self, name: &str) -> Option<(ipam::Usage, ipam::Ranges)> {
        Some((self.ipam.pool_usage(name)?, self.ipam.pool_ranges(name)?))
    }

    /// The pools that list a namespace, with commas between; `None` for none.
    pub fn pools_that_list(&self, namespace: &str) -> Option<String> {
        let names: Vec<&str> = self.pool_bindings.owners(namespace).map(|(_, pool)| &**pool).collect();
        (!names.is_empty()).then(|| names.join(","))
    }

    /// Where a pod's addresses can come from, in order of preference: the subnet, and what to ask of it.
    pub(super) fn sources(
        &self,
        cluster: &Cluster,
        pod: &Pod,
        want: &AddressWant,
    ) -> Result<Vec<(Arc<str>, WantIps)>, AssignError> {
        let named: Option<Arc<str>> = want.switch.as_deref().map(Into::into);
        let home = || named.clone().map_or_else(|| self.subnet_of(cluster, &pod.namespace), Ok);
        match &want.ips {
            PodIps::Exact(ips) => Ok(vec![(home()?, WantIps::Exact(*ips))]),
            PodIps::FirstFree(list) => Ok(vec![(home()?, WantIps::FirstFree(list.clone()))]),
            PodIps::Pool(name) => {
                let name: Arc<str> = name.as_str().into();
                let subnet = self.subnet_of_pool(&name).map_err(|error| error.about_pod(pod))?;
                match named.filter(|named| *named != subnet) {
                    None => Ok(vec![(subnet, WantIps::Pools(vec![name]))]),
                    Some(other) => {
                        let why = format!("IPPool {name} is of subnet {subnet}, not of {other}");
                        Err(AssignError::until(Object::IpPool(name), why).about_pod(pod))
                    }
                }
            }
            PodIps::Any => {
                let subnets = match &named {
                    Some(named) => vec![Arc::clone(named)],
                    None => self.subnets_of(cluster, &pod.namespace)?,
                };
                self.sources_of_namespace(cluster, &pod.namespace, subnets, named.is_some())
            }
        }
    }

    /// The pools of a namespace in these subnets; without pools, the subnets.
    fn sources_of_namespace(
        &self,
        cluster: &Cluster,
        namespace: &str,
        subnets: Vec<Arc<str>>,
        named: bool,
    ) -> Result<Vec<(Arc<str>, WantIps)>, AssignError> {
        let pools = self.pools_for(cluster, namespace)?;
        let Some(first) = pools.first() else {
            return Ok(subnets.into_iter().map(|subnet| (subnet, WantIps::Any)).collect());
        };
        let here = |subnet: &Arc<str>| -> Vec<Arc<str>> {
            let of_subnet = |pool: &&Arc<str>| self.subnet_of_pool(pool).is_ok_and(|of| of == *subnet);
            pools.iter().filter(of_subnet).cloned().collect()
        };
        let sources: Vec<_> = subnets
            .iter()
            .map(|subnet| (Arc::clone(subnet), here(subnet)))
            .filter(|(_, pools)| !pools.is_empty())
            .map(|(subnet, pools)| (subnet, WantIps::Pools(pools)))
            .collect();
        // A pod that names another subnet than the pools' does not ask for them.
        if named && sources.is_empty() {
            return Ok(subnets.into_iter().map(|subnet| (subnet, WantIps::Any)).collect());
        }
        if !sources.is_empty() {
            return Ok(sources);
        }
        let why = match self.subnet_of_pool(first) {
            Err(error) => error.message,
            Ok(of) => {
                let subnet = subnets.first().map_or("", |subnet| &**subnet);
                format!("IPPool {first} is of subnet {of}, and the namespace's pods are of {subnet}")
            }
        };
        let message = format!("namespace {namespace}: annotation {IP_POOL}: {why}");
        Err(AssignError::until_any(pools.into_iter().map(Object::IpPool), message))
    }

    /// The addresses of a lease may be a pool's, whose counts are shown.
    pub(super) fn republish_pools_of(&mut self, lease: Lease) {
        let pools = lease.ips.iter().filter_map(|ip| self.ipam.pool_of(*ip));
        self.unpublished.extend(pools.map(|pool| Object::IpPool(pool.into())));
    }

    /// The subnet of a pool in force; else why there is none.
    fn subnet_of_pool(&self, name: &Arc<str>) -> Result<Arc<str>, AssignError> {
        let why = match self.pools.get(name) {
            Some(pool) if self.ipam.pool_usage(name).is_some() => return Ok(Arc::clone(&pool.subnet)),
            Some(Pool { verdict: PoolVerdict::Invalid { message, .. }, .. }) => message.clone(),
            _ => format!("there is no IPPool {name}"),
        };
        Err(AssignError::until(Object::IpPool(Arc::clone(name)), why))
    }

    /// The pools that a namespace is bound to: those that list it, and those that its annotation names.
    fn pools_for(&self, cluster: &Cluster, namespace: &str) -> Result<BTreeSet<Arc<str>>, FieldError> {
        let mut pools: BTreeSet<Arc<str>> =
            self.pool_bindings.owners(namespace).map(|(_, pool)| Arc::clone(pool)).collect();
        if let Some(seen) = cluster.namespaces.get(namespace).filter(|seen| wishes_for_pools(seen)) {
            // Names that cannot be read leave the namespace with the pools that it was bound to.
            let bound = seen.annotations.get(BOUND_IP_POOL);
            match (&seen.net.pools, bound) {
                (Ok(named), _) => pools.extend(named.iter().map(|pool| pool.as_str().into())),
                (Err(_), Some(bound)) => pools.extend(bound.split(',').filter(|name| !name.is_empty()).map(Into::into)),
                (Err(error), None) => return Err(error.clone()),
            }
        }
        Ok(pools)
    }

    fn bind_pool(&mut self, name: &Arc<str>, namespaces: &[String]) {
        let wanted: BTreeMap<Arc<str>, BoundBy> =
            namespaces.iter().map(|namespace| (namespace.as_str().into(), BoundBy::Name)).collect();
        let changed = self.pool_bindings.bind(name, wanted);
        self.undecided.extend(changed.into_iter().map(Object::Namespace));
    }

    /// The addresses that pools leave to others are not what they were, and those that one pool leaves to another.
    fn pool_changed(&mut self, subnet: &str) {
        self.wake_waiting(&Object::Subnet(subnet.into()));
        let invalid = |pool: &&Arc<str>| {
            self.pools.get(*pool).is_some_and(|pool| matches!(pool.verdict, PoolVerdict::Invalid { .. }))
        };
        let pools = self.pools_of.of(subnet).filter(invalid);
        self.undecided.extend(pools.cloned().map(Object::IpPool));
    }
}

/// Whether a namespace's `ip_pool` is its author's, and not only what was written back.
pub fn wishes_for_pools(namespace: &Namespace) -> bool {
    let written = |name: &str| namespace.annotations.get(name).filter(|value| !value.trim().is_empty());
    written(IP_POOL).is_some() && written(IP_POOL) != written(BOUND_IP_POOL)
}
