//! Where a pod's address can come from: subnets, and the pools of its namespace.

use std::collections::BTreeSet;
use std::sync::Arc;

use api::annotations::{BOUND_IP_POOL, IP_POOL};
use api::{AddressWant, FieldError, PodIps};
use ipam::WantIps;

use super::Engine;
use super::pods::AssignError;
use super::pools::{Pool, PoolVerdict, wishes_for_pools};
use crate::cluster::{Cluster, Object, Pod};

impl Engine {
    /// The possible sources of a pod's address in order of preference: a subnet and the request to its allocator.
    pub(super) fn sources(
        &self,
        cluster: &Cluster,
        pod: &Pod,
        want: &AddressWant,
    ) -> Result<Vec<(Arc<str>, WantIps)>, AssignError> {
        let named: Option<Arc<str>> = want.switch.as_deref().map(Into::into);
        let subnet = || named.clone().map_or_else(|| self.subnet_of(cluster, &pod.namespace), Ok);
        match &want.ips {
            PodIps::Exact(ips) => Ok(vec![(subnet()?, WantIps::Exact(*ips))]),
            PodIps::FirstFree(list) => Ok(vec![(subnet()?, WantIps::FirstFree(list.clone()))]),
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

    /// The sources for a namespace: its pools in these subnets, or the subnets if it has no pools.
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
        // A pod that names a subnet without the namespace's pools does not use them.
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

    /// The subnet of a pool in force.
    fn subnet_of_pool(&self, name: &Arc<str>) -> Result<Arc<str>, AssignError> {
        let why = match self.pools.get(name) {
            Some(pool) if self.ipam.pool_usage(name).is_some() => return Ok(Arc::clone(&pool.subnet)),
            Some(Pool { verdict: PoolVerdict::Invalid { message, .. }, .. }) => message.clone(),
            _ => format!("there is no IPPool {name}"),
        };
        Err(AssignError::until(Object::IpPool(Arc::clone(name)), why))
    }

    /// The pools of a namespace: those that list it and those in its annotation.
    fn pools_for(&self, cluster: &Cluster, namespace: &str) -> Result<BTreeSet<Arc<str>>, FieldError> {
        let mut pools: BTreeSet<Arc<str>> =
            self.pool_bindings.owners(namespace).map(|(_, pool)| Arc::clone(pool)).collect();
        if let Some(found) = cluster.namespaces.get(namespace).filter(|found| wishes_for_pools(found)) {
            // If the annotation cannot be read, the namespace keeps its previous pools.
            let bound = found.annotations.get(BOUND_IP_POOL);
            match (&found.net.pools, bound) {
                (Ok(named), _) => pools.extend(named.iter().map(|pool| pool.as_str().into())),
                (Err(_), Some(bound)) => pools.extend(bound.split(',').filter(|name| !name.is_empty()).map(Into::into)),
                (Err(error), None) => return Err(error.clone()),
            }
        }
        Ok(pools)
    }
}
