//! Subnets: which subnets are in force, which namespaces they are bound to, and when they can be removed.

use std::collections::BTreeMap;
use std::sync::Arc;

use api::annotations::{Limits, bound_to};
use api::{Cidrs, FieldError, Subnet, SubnetDef, selected};
use ipam::Network;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;

use super::bindings::BoundBy;
use super::{Engine, Install};
use crate::cluster::{Cluster, Object};

/// The verdict on a Subnet, shown by its conditions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// In force as specified.
    Valid,
    /// Invalid. The previous definition stays in force.
    Invalid {
        /// The reason of the condition, one word.
        reason: &'static str,
        /// The error, naming the field.
        message: String,
    },
    /// Being deleted, while addresses of it are assigned.
    Held {
        /// Some of the holders, for the condition's message.
        message: String,
    },
    /// Being deleted, without assigned addresses.
    Released,
    /// Not served by this controller, for example because of another provider. It is not changed.
    Foreign,
}

/// The reason and the message of a condition.
pub(super) type Problem = (&'static str, String);

/// The reason for a subnet that was given to another provider, VPC or VLAN while its addresses are assigned.
pub(super) const LEAVING: &str = "ForeignInUse";

impl Engine {
    pub(super) fn decide_subnet(&mut self, cluster: &Cluster, name: &Arc<str>) {
        let subnet = cluster.subnets.get(name);
        let node_switch = *name == self.install.settings.node_switch;
        let ours = subnet.filter(|subnet| !is_foreign(subnet) && !node_switch).map(|subnet| &subnet.spec);
        self.bind(
            cluster,
            name,
            ours.map_or(&[], |spec| &spec.namespaces),
            ours.map_or(&[], |spec| &spec.namespace_selectors),
        );
        let verdict = subnet.map(|subnet| {
            if let Some(field) = foreign(subnet) {
                self.retire_subnet(name).map_or_else(
                    |holders| {
                        let message = FieldError::new(subnet.object(), field, holders).to_string();
                        Verdict::Invalid { reason: LEAVING, message }
                    },
                    |()| Verdict::Foreign,
                )
            } else if subnet.metadata.deletion_timestamp.is_some() {
                self.retire_subnet(name)
                    .map_or_else(|holders| Verdict::Held { message: holders }, |()| Verdict::Released)
            } else {
                self.enforce(cluster, subnet, false).map_or_else(
                    |(reason, message)| {
                        let verdict = Verdict::Invalid { reason, message };
                        if self.verdicts.get(name) != Some(&verdict) {
                            tracing::warn!(subnet = &**name, ?verdict, "the subnet cannot be used as written");
                        }
                        verdict
                    },
                    |()| Verdict::Valid,
                )
            }
        });
        if verdict.is_none()
            && let Err(holders) = self.retire_subnet(name)
        {
            tracing::warn!(subnet = &**name, holders, "the subnet vanished while in use; its pods keep their network");
        }
        self.set_subnet_limits(name, subnet.map(Limits::of_subnet).as_ref());
        self.mark_exit(name);
        // The annotations of namespaces without a binding show the default subnet.
        if *name == self.install.default_subnet {
            let shown = self.world.subnet(name).map(|subnet| bound_to(&[subnet]));
            if std::mem::replace(&mut self.default_annotations, shown.clone()) != shown {
                self.undecided.extend(cluster.namespaces.keys().cloned().map(Object::Namespace));
            }
        }
        let before = match verdict.clone() {
            Some(verdict) => self.verdicts.insert(Arc::clone(name), verdict),
            None => self.verdicts.remove(name),
        };
        if before != verdict {
            self.undecided.extend(self.pools_of.of(name).cloned().map(Object::IpPool));
            self.reconsider_wishers(name);
        }
        self.wake_waiting(&Object::Subnet(Arc::clone(name)));
    }

    /// Puts a subnet in force if it is valid and does not conflict with other networks. `on_record`: the subnet was in
    /// force before, according to the database or its status.
    pub(super) fn enforce(&mut self, cluster: &Cluster, subnet: &Subnet, on_record: bool) -> Result<(), Problem> {
        let invalid = |error: FieldError| ("ValidateSubnetFailed", error.to_string());
        let def = SubnetDef::parse(subnet).map_err(invalid)?;
        // Running pods keep their network even if it overlaps a changed service range.
        let in_force = self.world.subnet(&def.name).is_some_and(|now| now.cidrs == def.cidrs);
        for cidr in def.cidrs.iter().filter(|_| !on_record && !in_force) {
            if let Some(services) = self.install.services.iter().find(|services| services.overlaps(cidr)) {
                let why = format!("{cidr} overlaps the service range {services}");
                return Err(invalid(FieldError::new(subnet.object(), "spec.cidrBlock", why)));
            }
        }
        if let Some(why) = self.overlap_of_new_networks(cluster, &def).filter(|_| !on_record) {
            return Err(("NodeNetworkConflict", FieldError::new(subnet.object(), "spec.cidrBlock", why).to_string()));
        }
        let router_port = self.router_port(&def.name);
        // A new leader has the lease of a pod before it has decided about the pod.
        if self.ipam.lease(&router_port).is_some() {
            let pod = cluster.pods.get(&*router_port).map(|pod| format!("pod {}", pod.path()));
            let owner = pod.or_else(|| Some(format!("node {}", api::node_of_port(&router_port)?))).unwrap_or_default();
            let why = format!("its port to the router would be called {router_port}, as that of {owner} is");
            return Err(invalid(FieldError::new(subnet.object(), "metadata.name", why)));
        }
        // Running pods may still use the current gateway and network boundaries.
        let mut retired = self.kept_for_running_pods(&def.name);
        if let Some(now) = self.world.subnet(&def.name).filter(|_| self.world.ports_of(&def.name).next().is_some()) {
            let changed = now.cidrs.iter().filter(|cidr| !def.cidrs.iter().any(|new| new == *cidr));
            retired.extend(
                now.gateway.iter().copied().chain(changed.flat_map(|cidr| cidr.kept_back().collect::<Vec<_>>())),
            );
        }
        retired.retain(|ip| !def.gateway.iter().any(|gateway| gateway == ip));
        retired.sort();
        retired.dedup();
        let network = Network { retired_gateways: retired, ..Network::from(&def) };
        self.ipam.set_subnet(&def.name, &network).map_err(|refusal| ("AddressesInConflict", refusal.to_string()))?;
        if self.world.subnet(&def.name) != Some(&def) {
            self.revisit_objects_in(&def.name);
            if let Some(before) = self.world.subnet(&def.name).cloned() {
                self.republish_nodes_inside(cluster, &before);
            }
            self.republish_nodes_inside(cluster, &def);
            tracing::info!(subnet = def.name, cidr = %def.cidrs, gateway = %def.gateway, "subnet in force");
            self.undecided.extend(self.pools_of.of(&def.name).cloned().map(Object::IpPool));
            self.reconsider_refused();
            self.keep_given_networks(&def);
            let name: Arc<str> = def.name.as_str().into();
            self.world.set_subnet(def);
            self.update_retired_gateways(&name);
        }
        if let (Some(name), Some(generation)) = (&subnet.metadata.name, subnet.metadata.generation) {
            self.generations.insert(name.as_str().into(), generation);
        }
        Ok(())
    }

    /// The name of a subnet's port to the router.
    pub(super) fn router_port(&self, subnet: &str) -> String {
        format!("{subnet}-{}", self.install.settings.router)
    }

    /// The name of the subnet whose port to the router would have this name.
    pub(super) fn subnet_with_port<'a>(&self, router_port: &'a str) -> Option<&'a str> {
        router_port.strip_suffix(&*self.install.settings.router)?.strip_suffix('-')
    }

    /// The flags that have no effect because the subnet already exists with other networks.
    pub(super) fn ineffective_flags(&self, cluster: &Cluster) -> Vec<String> {
        let Install { settings, default_subnet, default_net, join_net, .. } = &self.install;
        let made =
            [("--default-cidr", default_subnet, default_net), ("--node-switch-cidr", &settings.node_switch, join_net)];
        let idle = made.into_iter().filter_map(|(flag, name, net)| {
            let has: Cidrs = cluster.subnets.get(name)?.spec.cidr_block.parse().ok()?;
            let cidrs = net.cidrs;
            (has != cidrs).then(|| {
                format!("{flag} {cidrs} does nothing: Subnet {name} is there already, and has {has}; its object is what counts")
            })
        });
        idle.collect()
    }

    /// Takes a subnet out of force if no address of it is assigned. The error names the holders.
    fn retire_subnet(&mut self, name: &str) -> Result<(), String> {
        if self.world.subnet(name).is_none() {
            return Ok(());
        }
        match self.ipam.remove_subnet(name) {
            Ok(()) => {
                tracing::info!(subnet = name, "subnet removed");
                self.reconsider_refused();
                self.world.remove_subnet(name);
                self.generations.remove(name);
                self.undecided.extend(self.pools_of.of(name).cloned().map(Object::IpPool));
                Ok(())
            }
            Err(refusal) => Err(refusal.to_string()),
        }
    }

    /// Decides again about invalid subnets: a subnet that conflicted with them may have changed.
    pub(super) fn reconsider_refused(&mut self) {
        self.reconsider = true;
    }

    /// Updates the namespaces that a subnet lists and selects, and decides again about those whose binding changed.
    fn bind(&mut self, cluster: &Cluster, subnet: &Arc<str>, namespaces: &[String], selectors: &[LabelSelector]) {
        let before = if selectors.is_empty() {
            self.selectors.remove(subnet)
        } else {
            self.selectors.insert(Arc::clone(subnet), selectors.to_vec())
        };
        let picked = |name: &Arc<str>| {
            let labels = cluster.namespaces.get(name).map(|namespace| &namespace.labels);
            labels.is_some_and(|labels| selected(selectors, labels))
        };
        // With unchanged selectors, only namespaces that are already bound can match.
        let mut wanted: BTreeMap<Arc<str>, BoundBy> = if before.as_deref().unwrap_or_default() == selectors {
            self.bindings
                .namespaces(subnet)
                .filter(|name| picked(name))
                .map(|name| (Arc::clone(name), BoundBy::Label))
                .collect()
        } else {
            cluster
                .namespaces
                .keys()
                .filter(|name| picked(name))
                .map(|name| (Arc::clone(name), BoundBy::Label))
                .collect()
        };
        wanted.extend(namespaces.iter().map(|namespace| (namespace.as_str().into(), BoundBy::Name)));
        let changed = self.bindings.bind(subnet, wanted);
        self.undecided.extend(changed.into_iter().map(Object::Namespace));
    }

    /// Updates the objects whose annotations contain the gateway and the CIDR of a subnet: its pods, its namespaces,
    /// and for the join subnet the nodes.
    fn revisit_objects_in(&mut self, subnet: &str) {
        if *subnet == *self.install.settings.node_switch {
            self.undecided.extend(self.world.node_names().map(Object::Node));
        }
        self.unpublished.extend(self.world.ports_of(subnet).cloned().map(Object::Pod));
        self.undecided.extend(self.bindings.namespaces(subnet).cloned().map(Object::Namespace));
    }
}

/// Whether a subnet is not served: it has another provider, a VLAN or another VPC.
pub(super) fn is_foreign(subnet: &Subnet) -> bool {
    foreign(subnet).is_some()
}

/// The field because of which a subnet is not served.
fn foreign(subnet: &Subnet) -> Option<&'static str> {
    let other = |value: &Option<String>, ours: &str| value.as_deref().is_some_and(|v| !v.is_empty() && v != ours);
    if other(&subnet.spec.provider, "ovn") {
        return Some("spec.provider");
    }
    if subnet.spec.vlan.as_deref().is_some_and(|vlan| !vlan.trim().is_empty()) {
        return Some("spec.vlan");
    }
    other(&subnet.spec.vpc, "ovn-cluster").then_some("spec.vpc")
}
