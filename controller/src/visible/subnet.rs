//! A Subnet: what the controller fills in, the finalizer that holds it while addresses are in use, and its status.

use std::sync::Arc;

use api::{FINALIZER, GROUP, Subnet, SubnetSpec, SubnetStatus};
use serde_json::{Map, Value, json};

use super::{conditions, counts};
use crate::cluster::Cluster;
use crate::engine::{Engine, NewSubnet, Verdict};
use crate::publish::{Action, Target, Write};

/// The writes to a Subnet's metadata and spec.
pub(super) fn write(engine: &Engine, cluster: &Cluster, name: &Arc<str>) -> Vec<Write> {
    let action = match cluster.subnets.get(name) {
        None => missing(engine, name).map(|object| Action::create(&object)),
        Some(subnet) => amend(engine, subnet).map(|patch| Action::merge(&patch)),
    };
    action.map(|action| Write { target: Target::Subnet(Arc::clone(name)), action }).into_iter().collect()
}

/// The default and the join subnet are made when they are missing.
fn missing(engine: &Engine, name: &str) -> Option<Value> {
    let install = engine.install();
    let (net, default) = if *name == *install.default_subnet {
        (&install.default_net, true)
    } else if *name == *install.settings.node_switch {
        (&install.join_net, false)
    } else {
        return None;
    };
    tracing::info!(subnet = name, cidr = %net.cidrs, "making the subnet, which is missing");
    Some(json!({
        "apiVersion": format!("{GROUP}/v1"), "kind": "Subnet",
        "metadata": { "name": name, "finalizers": [FINALIZER] }, "spec": spec_of(net, default),
    }))
}

fn spec_of(net: &NewSubnet, default: bool) -> SubnetSpec {
    SubnetSpec {
        default: Some(default),
        protocol: Some(net.cidrs.protocol().to_owned()),
        cidr_block: net.cidrs.to_string(),
        gateway: net.gateway.map(|gateway| gateway.to_string()),
        exclude_ips: net.exclude.iter().map(ToString::to_string).collect(),
        gateway_type: Some("distributed".to_owned()),
        nat_outgoing: Some(default),
        private: Some(false),
        ..SubnetSpec::default()
    }
}

/// The finalizer, put on or taken off, and the fields of the spec that its author left open.
fn amend(engine: &Engine, subnet: &Subnet) -> Option<Value> {
    let name = subnet.metadata.name.as_deref()?;
    let finalizers = subnet.metadata.finalizers.clone().unwrap_or_default();
    let ours = finalizers.iter().any(|finalizer| finalizer == FINALIZER);
    let mut metadata = Map::new();
    let mut spec = Map::new();
    match engine.verdict(name)? {
        Verdict::Released if ours => {
            let others: Vec<&String> = finalizers.iter().filter(|finalizer| *finalizer != FINALIZER).collect();
            metadata.insert("finalizers".into(), json!(others));
        }
        Verdict::Foreign | Verdict::Held { .. } | Verdict::Released => return None,
        Verdict::Valid | Verdict::Invalid { .. } => {
            if !ours {
                metadata.insert("finalizers".into(), json!([finalizers, vec![FINALIZER.to_owned()]].concat()));
            }
            if let Some(def) = engine.subnet(name).filter(|_| engine.verdict(name) == Some(&Verdict::Valid)) {
                fill(&mut spec, "protocol", subnet.spec.protocol.as_deref(), def.cidrs.protocol());
                fill(&mut spec, "gateway", subnet.spec.gateway.as_deref(), &def.gateway.to_string());
                fill(&mut spec, "gatewayType", subnet.spec.gateway_type.as_deref(), &def.gateway_type.to_string());
                fill(&mut spec, "provider", subnet.spec.provider.as_deref(), &def.provider);
                fill(&mut spec, "vpc", subnet.spec.vpc.as_deref(), &def.vpc);
                for (field, written, value) in [
                    ("default", subnet.spec.default, def.default),
                    ("natOutgoing", subnet.spec.nat_outgoing, def.nat_outgoing),
                    ("private", subnet.spec.private, def.private),
                ] {
                    if written.is_none() {
                        spec.insert(field.to_owned(), json!(value));
                    }
                }
            }
        }
    }
    if metadata.is_empty() && spec.is_empty() {
        return None;
    }
    if metadata.contains_key("finalizers") {
        metadata.insert("resourceVersion".into(), json!(subnet.metadata.resource_version));
    }
    Some(json!({ "metadata": metadata, "spec": spec }))
}

/// Sets a field that is empty; what its author wrote stays.
fn fill(spec: &mut Map<String, Value>, field: &str, written: Option<&str>, value: &str) {
    if written.is_none_or(str::is_empty) {
        spec.insert(field.to_owned(), json!(value));
    }
}

/// The write that brings a Subnet's status up to date, if it is not.
pub(super) fn status(engine: &Engine, cluster: &Cluster, name: &str, now: jiff::Timestamp) -> Option<Write> {
    let subnet = cluster.subnets.get(name)?;
    let verdict = engine.verdict(name).filter(|verdict| **verdict != Verdict::Foreign)?;
    let before = subnet.status.clone().unwrap_or_default();
    let mut status = SubnetStatus {
        conditions: conditions::of_subnet(verdict, &before.conditions, now),
        activate_gateway: before.activate_gateway.clone(),
        ..SubnetStatus::default()
    };
    counts::fill!(status, engine.usage(name));
    if status == before {
        return None;
    }
    let patch = json!({ "status": status });
    Some(Write { target: Target::SubnetStatus(name.into()), action: Action::merge(&patch) })
}
