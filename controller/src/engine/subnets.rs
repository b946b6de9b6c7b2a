//! Subnets: which are in force, which namespaces they are bound to, and when they may go.

use std::collections::BTreeSet;
use std::sync::Arc;

use api::{FieldError, Subnet, SubnetDef};
use ipam::Network;

use super::Engine;
use crate::cluster::{Cluster, Object};

/// What was found about a Subnet; its conditions say it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// In force as written.
    Valid,
    /// Not usable as written. What was in force before stays so.
    Invalid {
        /// One word, for the condition's reason.
        reason: &'static str,
        /// What is wrong, naming the field.
        message: String,
    },
    /// It is being deleted, and these hold addresses in it.
    Held {
        /// Some of the holders, for the condition's message.
        message: String,
    },
    /// It is being deleted and nothing holds it any more.
    Released,
    /// It belongs to something that we do not serve, such as another provider; we leave it alone.
    Foreign,
}

impl Engine {
    pub(super) fn decide_subnet(&mut self, cluster: &Cluster, name: &Arc<str>) {
        let Some(subnet) = cluster.subnets.get(name) else {
            self.bind(name, &[]);
            self.verdicts.remove(name);
            if let Err(holders) = self.retire_subnet(name) {
                tracing::warn!(
                    subnet = &**name,
                    holders,
                    "the subnet vanished while in use; its pods keep their network"
                );
            }
            return;
        };
        if is_foreign(subnet) {
            self.verdicts.insert(Arc::clone(name), Verdict::Foreign);
            return;
        }
        self.bind(name, &subnet.spec.namespaces);
        let verdict = if subnet.metadata.deletion_timestamp.is_some() {
            match self.retire_subnet(name) {
                Ok(()) => Verdict::Released,
                Err(holders) => Verdict::Held { message: holders },
            }
        } else {
            match self.enforce(subnet) {
                Ok(()) => Verdict::Valid,
                Err((reason, message)) => {
                    tracing::warn!(subnet = &**name, reason, message, "the subnet cannot be used as written");
                    Verdict::Invalid { reason, message }
                }
            }
        };
        self.verdicts.insert(Arc::clone(name), verdict);
        self.wake(name);
    }

    /// Puts a subnet in force, as far as it agrees with itself and with the others.
    pub(super) fn enforce(&mut self, subnet: &Subnet) -> Result<(), (&'static str, String)> {
        let invalid = |error: FieldError| ("ValidateSubnetFailed", error.to_string());
        let def = SubnetDef::parse(subnet).map_err(invalid)?;
        for cidr in def.cidrs.iter() {
            if let Some(services) = self.install.services.iter().find(|services| services.overlaps(cidr)) {
                let why = format!("{cidr} overlaps the service range {services}");
                return Err(invalid(FieldError::new(subnet.object(), "spec.cidrBlock", why)));
            }
        }
        self.ipam
            .set_subnet(&def.name, &Network::from(&def))
            .map_err(|refusal| ("AddressesInConflict", refusal.to_string()))?;
        if self.world.subnet(&def.name) != Some(&def) {
            self.tell_those_inside(&def.name);
            tracing::info!(subnet = def.name, cidr = %def.cidrs, gateway = %def.gateway, "subnet in force");
            self.world.set_subnet(def);
        }
        Ok(())
    }

    /// Takes a subnet out of force once nothing holds an address in it; else says who does.
    fn retire_subnet(&mut self, name: &str) -> Result<(), String> {
        if self.world.subnet(name).is_none() {
            return Ok(());
        }
        match self.ipam.remove_subnet(name) {
            Ok(()) => {
                tracing::info!(subnet = name, "subnet removed");
                self.world.remove_subnet(name);
                Ok(())
            }
            Err(refusal) => Err(refusal.to_string()),
        }
    }

    /// Remembers which namespaces a subnet lists, and has those decided that gained or lost it.
    fn bind(&mut self, subnet: &Arc<str>, namespaces: &[String]) {
        let wanted: BTreeSet<&str> = namespaces.iter().map(String::as_str).collect();
        let lost: Vec<Arc<str>> = self
            .bound
            .iter()
            .filter(|(namespace, subnets)| subnets.contains(subnet) && !wanted.contains(&***namespace))
            .map(|(namespace, _)| Arc::clone(namespace))
            .collect();
        for namespace in lost {
            if let Some(subnets) = self.bound.get_mut(&namespace) {
                subnets.remove(subnet);
                if subnets.is_empty() {
                    self.bound.remove(&namespace);
                }
            }
            self.undecided.insert(Object::Namespace(namespace));
        }
        for namespace in wanted {
            if self.bound.entry(namespace.into()).or_default().insert(Arc::clone(subnet)) {
                self.undecided.insert(Object::Namespace(namespace.into()));
            }
        }
    }

    /// The annotations of pods and nodes name the subnet's gateway and CIDR, so they are looked at again when those change.
    fn tell_those_inside(&mut self, subnet: &str) {
        if *subnet == *self.install.settings.node_switch {
            self.undecided.extend(self.world.node_names().map(Object::Node));
        }
        self.decided.extend(self.world.ports_of(subnet).cloned().map(Object::Pod));
        self.undecided.extend(
            self.bound
                .iter()
                .filter(|(_, subnets)| subnets.contains(subnet))
                .map(|(ns, _)| Object::Namespace(ns.clone())),
        );
    }
}

/// Subnets of another provider (underlay, another NIC) or of a VPC of its own are none of ours.
pub(super) fn is_foreign(subnet: &Subnet) -> bool {
    let other = |value: &Option<String>, ours: &str| value.as_deref().is_some_and(|v| !v.is_empty() && v != ours);
    other(&subnet.spec.provider, "ovn") || other(&subnet.spec.vpc, "ovn-cluster")
}
