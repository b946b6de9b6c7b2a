//! A Subnet: its finalizer, its list of namespaces, the defaults in its spec, and its status.

use std::collections::BTreeSet;
use std::sync::Arc;

use api::annotations::Limits;
use api::{Addresses, FINALIZER, GROUP, InForce, IpRange, Subnet, SubnetDef, SubnetSpec, SubnetStatus};
use serde_json::{Map, Value, json};

use super::conditions::Pending;
use super::{conditions, counts};
use crate::cluster::Cluster;
use crate::engine::{Engine, IGNORED, NewSubnet, Verdict};
use crate::publish::{Action, FIELD_MANAGER};

/// The write to the metadata and spec of a Subnet.
pub(super) fn write(engine: &Engine, cluster: &Cluster, name: &Arc<str>) -> Option<Action> {
    let Some(subnet) = cluster.subnets.get(name) else {
        return new(engine, name).map(|spec| {
            tracing::info!(subnet = &**name, cidr = spec.cidr_block, "the subnet is made");
            Action::create(&json!({
                "apiVersion": format!("{GROUP}/v1"), "kind": "Subnet",
                "metadata": { "name": name, "finalizers": [FINALIZER] }, "spec": complete(spec),
            }))
        });
    };
    edit(engine, subnet).or_else(|| defaults(engine, subnet))
}

/// The spec of a missing Subnet that must be created: the default subnet, the join subnet, or one that namespaces ask
/// for. The latter has the spec of the first such namespace.
fn new(engine: &Engine, name: &str) -> Option<SubnetSpec> {
    let install = engine.install();
    if *name == *install.default_subnet {
        return Some(spec_of(&install.default_net, true));
    }
    if *name == *install.settings.node_switch {
        return Some(spec_of(&install.join_net, false));
    }
    let mut spec = engine.wishers(name).find_map(|(_, wish)| wish.spec.clone())?;
    spec.namespaces = engine.wishers(name).map(|(namespace, _)| namespace.to_string()).collect();
    Some(spec)
}

fn spec_of(net: &NewSubnet, default: bool) -> SubnetSpec {
    SubnetSpec {
        default: Some(default),
        cidr_block: net.cidrs.to_string(),
        gateway: net.gateway.map(|gateway| gateway.to_string()),
        exclude_ips: net.exclude.iter().map(ToString::to_string).collect(),
        nat_outgoing: Some(default),
        private: Some(false),
        ..SubnetSpec::default()
    }
}

/// Fills in the defaults of a spec, if it is valid.
fn complete(mut spec: SubnetSpec) -> SubnetSpec {
    let Ok(def) = SubnetDef::parse(&Subnet::new("", spec.clone())) else { return spec };
    spec.cidr_block = def.cidrs.to_string();
    spec.exclude_ips = excluded(&spec.exclude_ips, &def.gateway);
    spec.gateway = Some(def.gateway.to_string());
    spec.protocol = Some(def.cidrs.protocol().to_owned());
    spec.gateway_type = Some(def.gateway_type.to_string());
    spec.provider = Some(def.provider);
    spec.vpc = Some(def.vpc);
    spec
}

/// `excludeIps` with the gateways added, as in kube-ovn.
fn excluded(written: &[String], gateway: &Addresses) -> Vec<String> {
    let ranges: Vec<IpRange> =
        written.iter().flat_map(|entry| entry.split(',')).filter_map(|part| part.parse().ok()).collect();
    let open = |ip: &&std::net::IpAddr| !ranges.iter().any(|range| range.contains(**ip));
    written.iter().cloned().chain(gateway.iter().filter(open).map(ToString::to_string)).collect()
}

/// The patch of fields and lists that other clients also write: the finalizer and the list of namespaces. Together with
/// the finalizer, it once writes the networks in canonical form, adds the gateways to `excludeIps` and sets absent fields,
/// so that the Subnet is complete at once. It contains the resource version, so that it does not overwrite a concurrent
/// edit.
fn edit(engine: &Engine, subnet: &Subnet) -> Option<Action> {
    let name = subnet.metadata.name.as_deref()?;
    let verdict = engine.verdict(name)?;
    let finalizers = subnet.metadata.finalizers.clone().unwrap_or_default();
    let ours = has_finalizer(subnet);
    let (mut metadata, mut spec) = (Map::new(), Map::new());
    match verdict {
        // The finalizer is removed only after the status shows that nothing is in force. So an object that disappears
        // with something in force was deleted by force. A foreign subnet has our finalizer only if its status shows
        // something in force.
        Verdict::Released if ours && !shows_in_force(subnet) => {
            let others: Vec<&String> = finalizers.iter().filter(|finalizer| *finalizer != FINALIZER).collect();
            metadata.insert("finalizers".into(), json!(others));
        }
        Verdict::Foreign if ours && shows_in_force(subnet) => {
            let others: Vec<&String> = finalizers.iter().filter(|finalizer| *finalizer != FINALIZER).collect();
            metadata.insert("finalizers".into(), json!(others));
        }
        Verdict::Foreign | Verdict::Held { .. } | Verdict::Released => return None,
        Verdict::Valid | Verdict::Invalid { .. } => {
            if !ours {
                metadata.insert("finalizers".into(), json!([finalizers, vec![FINALIZER.to_owned()]].concat()));
                if let Some(def) = engine.subnet(name).filter(|_| *verdict == Verdict::Valid) {
                    adopt(&mut spec, &subnet.spec, def);
                }
            }
            if let Some(def) = engine.subnet(name).filter(|_| *verdict == Verdict::Valid) {
                for (field, written, default) in texts(&subnet.spec, def) {
                    // `protocol` is derived from the networks, so it follows their edits.
                    let follows = field == "protocol" && written.is_some_and(|text| *text != default);
                    if follows || written.is_some_and(|text| text.trim().is_empty()) {
                        spec.insert(field.to_owned(), json!(default));
                    }
                }
            }
            let listed: BTreeSet<&str> = subnet.spec.namespaces.iter().map(String::as_str).collect();
            let more: Vec<&str> =
                engine.wishers(name).map(|(wisher, _)| &**wisher).filter(|wisher| !listed.contains(wisher)).collect();
            if !more.is_empty() {
                let listed = subnet.spec.namespaces.iter().map(String::as_str);
                spec.insert("namespaces".into(), json!(listed.chain(more).collect::<Vec<_>>()));
            }
        }
    }
    if metadata.is_empty() && spec.is_empty() {
        return None;
    }
    metadata.insert("resourceVersion".into(), json!(subnet.metadata.resource_version));
    Some(Action::merge(&json!({ "metadata": metadata, "spec": spec })))
}

fn adopt(spec: &mut Map<String, Value>, written: &SubnetSpec, def: &SubnetDef) {
    let canonical = def.cidrs.to_string();
    if written.cidr_block != canonical {
        spec.insert("cidrBlock".into(), json!(canonical));
    }
    let exclude = excluded(&written.exclude_ips, &def.gateway);
    if written.exclude_ips != exclude {
        spec.insert("excludeIps".into(), json!(exclude));
    }
    let absent = fields(written, def).into_iter().filter(|(_, written, _)| written.is_none());
    spec.extend(absent.map(|(field, _, default)| (field.to_owned(), default)));
}

/// The fields with a default: name, current value, default.
fn fields(spec: &SubnetSpec, def: &SubnetDef) -> Vec<(&'static str, Option<Value>, Value)> {
    let texts = texts(spec, def);
    let texts =
        texts.into_iter().map(|(field, written, default)| (field, written.map(|text| json!(text)), json!(default)));
    let switches = [
        ("default", spec.default.map(Value::Bool), json!(def.default)),
        ("natOutgoing", spec.nat_outgoing.map(Value::Bool), json!(def.nat_outgoing)),
        ("private", spec.private.map(Value::Bool), json!(def.private)),
    ];
    texts.chain(switches).collect()
}

/// Whether every field with a default has a value. Readers of a Subnet that is Ready expect them.
fn is_complete(spec: &SubnetSpec, def: &SubnetDef) -> bool {
    fields(spec, def).iter().all(|(_, written, _)| written.as_ref().is_some_and(|value| *value != json!("")))
}

/// The text fields with a default: name, current value, default.
fn texts<'a>(spec: &'a SubnetSpec, def: &SubnetDef) -> [(&'static str, Option<&'a str>, String); 5] {
    [
        ("protocol", spec.protocol.as_deref(), def.cidrs.protocol().to_owned()),
        ("gateway", spec.gateway.as_deref(), def.gateway.to_string()),
        ("gatewayType", spec.gateway_type.as_deref(), def.gateway_type.to_string()),
        ("provider", spec.provider.as_deref(), def.provider.clone()),
        ("vpc", spec.vpc.as_deref(), def.vpc.clone()),
    ]
}

/// Server-side apply of defaults for fields that the user removed later, or that had none while the spec was refused, so
/// that `metadata.managedFields` shows the controller as their owner. Server-side apply removes an owned field that a
/// later apply leaves out, so each apply repeats all fields that the controller still owns. A field that is present but
/// empty, as Go clients write it, belongs to the user; [`edit`] fills it in.
fn defaults(engine: &Engine, subnet: &Subnet) -> Option<Action> {
    let name = subnet.metadata.name.as_deref()?;
    let def = engine.subnet(name).filter(|_| engine.verdict(name) == Some(&Verdict::Valid))?;
    let fields = fields(&subnet.spec, def);
    if fields.iter().all(|(_, written, _)| written.is_some()) {
        return None;
    }
    let ours = applied_fields(subnet);
    let apply: Map<String, Value> = fields
        .into_iter()
        .filter_map(|(field, written, default)| match written {
            None => Some((field.to_owned(), default)),
            Some(written) => ours.contains(field).then(|| (field.to_owned(), written)),
        })
        .collect();
    // The uid prevents a write to another object of the same name and the creation of a new one.
    let metadata = json!({ "name": name, "uid": subnet.metadata.uid });
    Some(Action::apply(&json!({
        "apiVersion": format!("{GROUP}/v1"), "kind": "Subnet", "metadata": metadata, "spec": apply,
    })))
}

/// The spec fields that the controller owns by server-side apply.
fn applied_fields(subnet: &Subnet) -> BTreeSet<String> {
    let entries = subnet.metadata.managed_fields.iter().flatten();
    let ours = entries
        .filter(|entry| entry.manager.as_deref() == Some(FIELD_MANAGER) && entry.operation.as_deref() == Some("Apply"));
    let fields = ours.filter_map(|entry| entry.fields_v1.as_ref()?.0.get("f:spec")?.as_object());
    fields.flat_map(Map::keys).filter_map(|field| field.strip_prefix("f:")).map(ToOwned::to_owned).collect()
}

fn has_finalizer(subnet: &Subnet) -> bool {
    subnet.metadata.finalizers.iter().flatten().any(|finalizer| finalizer == FINALIZER)
}

fn shows_in_force(subnet: &Subnet) -> bool {
    subnet.status.as_ref().is_some_and(SubnetStatus::is_in_force)
}

/// The value of `status.inForce` without the nodes. They change with each node that comes or goes, and are written at the
/// pace of the counts.
fn network_in_force(engine: &Engine, name: &str) -> Option<InForce> {
    Some(InForce::new(engine.subnet(name)?, engine.generation(name)))
}

/// The value of `status.inForce`.
fn in_force(engine: &Engine, name: &str) -> Option<InForce> {
    let mut in_force = network_in_force(engine, name)?;
    if *name == *engine.install().settings.node_switch {
        in_force.nodes = engine.all_node_addresses().map(ToString::to_string).collect();
    }
    Some(in_force)
}

pub(super) fn in_force_differs(engine: &Engine, cluster: &Cluster, name: &str) -> bool {
    let Some(subnet) = cluster.subnets.get(name) else { return false };
    let shown = subnet.status.as_ref().and_then(|status| status.in_force.as_ref());
    let foreign = engine.verdict(name) == Some(&Verdict::Foreign);
    let same = match (shown, network_in_force(engine, name)) {
        (Some(shown), Some(now)) => shown.has_network_of(&now),
        (shown, now) => shown.is_none() && now.is_none(),
    };
    !same && (!foreign || !has_finalizer(subnet))
}

/// The write that updates the status of a Subnet, if it differs.
pub(super) fn status(engine: &Engine, cluster: &Cluster, name: &str, now: jiff::Timestamp) -> Option<Action> {
    let subnet = cluster.subnets.get(name)?;
    let before = subnet.status.clone().unwrap_or_default();
    let uid = &subnet.metadata.uid;
    let verdict = engine.verdict(name)?;
    if *verdict == Verdict::Foreign {
        // Clears the status that the controller wrote before the subnet became foreign, after the finalizer is removed.
        let gone = !has_finalizer(subnet) && before.is_in_force();
        let nothing = SubnetStatus::default();
        return gone.then(|| Action::merge(&json!({ "metadata": { "uid": uid }, "status": nothing })));
    }
    let default = &engine.install().default_subnet;
    let not_default = (subnet.spec.default == Some(true) && *name != **default)
        .then(|| format!("spec.default: true does nothing, the default subnet is {default} (--default-ls)"));
    let unreadable = Limits::of_subnet(subnet).unreadable.into_iter();
    let unreadable = unreadable.map(|error| format!("{error}; {IGNORED}"));
    let fields = api::unserved(&subnet.spec)
        .into_iter()
        .chain(engine.mtu_shortfall(cluster, name))
        .chain(engine.port_shortage(cluster, name))
        .chain(not_default);
    let unserved: Vec<String> = fields.chain(unreadable).collect();
    let unserved = (!unserved.is_empty()).then(|| unserved.join("; "));
    let was_ready = before.conditions.iter().any(|condition| condition.type_ == "Ready" && condition.status == "True");
    let pending = if !has_finalizer(subnet) {
        Some(Pending::Finalizer)
    } else if !was_ready && engine.subnet(name).is_some_and(|def| !is_complete(&subnet.spec, def)) {
        Some(Pending::Defaults)
    } else {
        None
    };
    let mut status = SubnetStatus {
        conditions: conditions::of_subnet(
            verdict,
            pending,
            unserved,
            engine.gateway_state(name),
            &before.conditions,
            now,
        ),
        activate_gateway: engine.active_gateways(name).join(","),
        in_force: in_force(engine, name),
        ..SubnetStatus::default()
    };
    counts::fill!(status, engine.usage(name));
    if status == before {
        return None;
    }
    Some(Action::merge(&json!({ "metadata": { "uid": uid }, "status": status })))
}
