//! Kubernetes events on objects with problems, shown by `kubectl describe`. With `--allocation-events` also on each pod
//! that gets its address.
//!
//! The controller sends a notice once per message.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Event, EventSource, ObjectReference};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::api::{ObjectMeta, PostParams};
use kube::{Api, Client};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, timeout};

use crate::cluster::{Cluster, Object};
use crate::election::Standing;
use crate::engine::{Engine, PoolVerdict, Verdict};

/// The reason of the event on a node whose address lies inside a subnet or the service range.
const INSIDE: &str = "NodeAddressInsideNetwork";

/// The reason of the event that a pod has its address.
const ALLOCATED: &str = "PodNetworkAllocated";

/// The reasons of events that report no problem.
const NORMAL: [&str; 2] = [ALLOCATED, "SubnetGatewayNodeChanged"];

/// The actions of events: what the controller was doing.
const ALLOCATING: &str = "Allocating";
const CHECKING: &str = "Checking";
const WRITING: &str = "Writing";

/// How many notices may wait for the API server.
pub const WAITING: usize = 1 << 14;

/// The time limit for an event: those that are behind it wait.
const PATIENCE: Duration = Duration::from_secs(5);

/// An event to send.
#[derive(Debug)]
pub struct Notice {
    about: ObjectReference,
    reason: &'static str,
    message: String,
    action: &'static str,
}

/// One line, for tests.
#[cfg(test)]
impl std::fmt::Display for Notice {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { about, reason, message, .. } = self;
        let type_ = if NORMAL.contains(reason) { "Normal" } else { "Warning" };
        let word = |word: &Option<String>| word.clone().unwrap_or_default();
        let (version, kind, name) = (word(&about.api_version), word(&about.kind), word(&about.name));
        write!(f, "{type_} {reason} on {version} {kind} {name}: {message}")
    }
}

/// What was said: the uid of the object, which another one of its name does not have, the reason and the message.
type Said = (Option<String>, &'static str, String);

/// The sender of notices, used by the owner. It remembers the messages that it has sent.
#[derive(Debug)]
pub struct Notices {
    sent: HashMap<Object, Vec<Said>>,
    allocations: bool,
    sender: mpsc::Sender<Notice>,
}

impl Notices {
    /// A sender that has sent nothing yet. `allocations`: whether to send an event for each pod that gets its address.
    pub fn new(sender: mpsc::Sender<Notice>, allocations: bool) -> Self {
        Self { sent: HashMap::new(), allocations, sender }
    }

    /// Forgets what was sent, when a term begins: what was not said when the last one ended was dropped.
    pub fn begin(&mut self) {
        self.sent.clear();
    }

    /// Sends the events that are due for an object, each once until its message changes. `refusal`: why what was decided
    /// about the object is not written, if so.
    pub fn about(&mut self, engine: &Engine, cluster: &Cluster, object: &Object, refusal: Option<String>) {
        let mut notices = problems(engine, cluster, object, refusal);
        if notices.is_empty() && self.allocations {
            notices.extend(allocation(engine, cluster, object));
        }
        if notices.is_empty() {
            self.sent.remove(object);
            return;
        }
        let before = self.sent.remove(object).unwrap_or_default();
        let mut sent = Vec::new();
        for notice in notices {
            let said = (notice.about.uid.clone(), notice.reason, notice.message.clone());
            if !before.contains(&said) {
                // All other problems are logged when they are decided.
                if notice.reason == INSIDE {
                    tracing::error!("{}", notice.message);
                }
                // While too many wait for a slow API server, it is left to the next look at the object.
                if self.sender.try_send(notice).is_err() {
                    continue;
                }
            }
            sent.push(said);
        }
        self.sent.insert(object.clone(), sent);
    }
}

/// The event that a pod has its address, until the pod's annotations show it.
fn allocation(engine: &Engine, cluster: &Cluster, object: &Object) -> Option<Notice> {
    let Object::Pod(port) = object else { return None };
    let pod = cluster.pods.get(port).filter(|pod| !pod.done && !matches!(pod.net, Ok(Some(_))))?;
    let (subnet, lease) = engine.lease_of(pod)?;
    Some(Notice {
        about: reference("Pod", &pod.name, Some(&pod.namespace), &pod.uid),
        reason: ALLOCATED,
        action: ALLOCATING,
        message: format!("{} of subnet {subnet}, MAC {}", lease.ips, lease.mac),
    })
}

/// The problems of an object, and of configuration that belongs to it.
fn problems(engine: &Engine, cluster: &Cluster, object: &Object, refusal: Option<String>) -> Vec<Notice> {
    let Some(about) = subject(cluster, object) else { return Vec::new() };
    let mut found: Vec<(&'static str, &'static str, String)> = Vec::new();
    let refused = engine.no_address(object);
    match object {
        Object::Pod(_) | Object::Node(_) => {
            found.extend(refused.map(|refused| (refused.reason, ALLOCATING, refused.message.clone())));
            if let Object::Node(name) = object
                && found.is_empty()
            {
                found.extend(engine.node_inside(cluster, name).map(|message| (INSIDE, CHECKING, message)));
            }
        }
        Object::Namespace(_) => {
            found.extend(refused.map(|refused| ("ValidateNamespaceFailed", ALLOCATING, refused.message.clone())));
        }
        Object::Subnet(name) => {
            if let Some(Verdict::Invalid { reason, message }) = engine.verdict(name) {
                found.push((*reason, CHECKING, message.clone()));
            }
            let wrong = cluster.services.as_ref().filter(|_| *name == engine.install().default_subnet);
            found.extend(wrong.map(|wrong| ("ServiceRangeDiffers", CHECKING, wrong.to_string())));
        }
        Object::IpPool(name) => {
            if let Some(PoolVerdict::Invalid { reason, message }) = engine.pool(name).map(|pool| &pool.verdict) {
                found.push((*reason, CHECKING, message.clone()));
            }
        }
        Object::ExternalHost(_) | Object::StatefulSet(_) | Object::Ip(_) => {}
    }
    found.extend(engine.remarks(cluster, object).into_iter().map(|remark| (remark.reason, CHECKING, remark.message)));
    found.extend(refusal.map(|why| ("WriteRefused", WRITING, why)));
    let notice = |(reason, action, message)| Notice { about: about.clone(), reason, message, action };
    found.into_iter().map(notice).collect()
}

/// The object that carries the events. Events about an IP are attached to its pod or node.
fn subject(cluster: &Cluster, object: &Object) -> Option<ObjectReference> {
    let ours =
        |reference: ObjectReference| ObjectReference { api_version: Some(format!("{}/v1", api::GROUP)), ..reference };
    Some(match object {
        Object::Pod(port) => {
            let pod = cluster.pods.get(port)?;
            reference("Pod", &pod.name, Some(&pod.namespace), &pod.uid)
        }
        Object::Ip(port) => {
            let node = || Some(Object::Node(api::node_of_port(port)?.into()));
            let pod = cluster.pods.contains_key(port).then(|| Object::Pod(Arc::clone(port)));
            return subject(cluster, &pod.or_else(node)?);
        }
        Object::Node(name) if !cluster.nodes.contains_key(name) && cluster.external_hosts.contains_key(name) => {
            return subject(cluster, &Object::ExternalHost(Arc::clone(name)));
        }
        Object::ExternalHost(name) => {
            ours(reference("ExternalHost", name, None, &cluster.external_hosts.get(name)?.uid))
        }
        // Like kubelet, the controller uses the name of a Node as the uid in events.
        Object::Node(name) => reference("Node", name, None, name),
        Object::Namespace(name) => reference("Namespace", name, None, &cluster.namespaces.get(name)?.uid),
        Object::Subnet(name) => {
            ours(reference("Subnet", name, None, cluster.subnets.get(name)?.metadata.uid.as_deref()?))
        }
        Object::IpPool(name) => {
            ours(reference("IPPool", name, None, cluster.pools.get(name)?.metadata.uid.as_deref()?))
        }
        Object::StatefulSet(_) => return None,
    })
}

fn reference(kind: &str, name: &str, namespace: Option<&str>, uid: &str) -> ObjectReference {
    ObjectReference {
        api_version: Some("v1".to_owned()),
        kind: Some(kind.to_owned()),
        name: Some(name.to_owned()),
        namespace: namespace.map(ToOwned::to_owned),
        uid: Some(uid.to_owned()),
        ..ObjectReference::default()
    }
}

/// Sends notices to the API server until the owner is gone. If the API server does not accept an event, the notice is
/// logged and dropped; conditions and logs still show the problem. Those that are left when the replica does not lead any more are
/// dropped: the next leader says what is wrong.
pub async fn run(
    client: Client,
    identity: Arc<str>,
    mut notices: mpsc::Receiver<Notice>,
    standing: watch::Receiver<Standing>,
) {
    while let Some(notice) = notices.recv().await {
        if !standing.borrow().holds(Instant::now()) {
            continue;
        }
        let event = event(notice, &identity, jiff::Timestamp::now());
        let api = Api::<Event>::namespaced(client.clone(), event.metadata.namespace.as_deref().unwrap_or_default());
        let error = match timeout(PATIENCE, api.create(&PostParams::default(), &event)).await {
            Ok(Ok(_)) => continue,
            Ok(Err(error)) => error.to_string(),
            Err(_) => format!("no answer within {PATIENCE:?}"),
        };
        let about = event.involved_object;
        tracing::warn!(error, kind = about.kind, name = about.name, "an event was not taken");
    }
}

/// The controller's name in events.
const REPORTER: &str = "kube-ovn-controller";
/// Limits of the API server for the message and the name of an event. The name leaves space for a suffix.
const LONGEST_NOTE: usize = 1000;
const LONGEST_NAME: usize = 230;

/// Builds a core/v1 event, because only that version has the `source` field that kube-ovn tools read. The API server
/// also serves it as an event of events.k8s.io.
fn event(notice: Notice, identity: &str, now: jiff::Timestamp) -> Event {
    let Notice { about, reason, message, action } = notice;
    let name = cut(about.name.as_deref().unwrap_or_default(), LONGEST_NAME);
    Event {
        metadata: ObjectMeta {
            name: Some(format!("{name}.{:x}", now.as_nanosecond())),
            namespace: Some(about.namespace.clone().unwrap_or_else(|| "default".to_owned())),
            ..ObjectMeta::default()
        },
        action: Some(action.to_owned()),
        count: Some(1),
        event_time: None,
        first_timestamp: Some(Time(now)),
        last_timestamp: Some(Time(now)),
        involved_object: about,
        message: Some(cut(&message, LONGEST_NOTE).to_owned()),
        reason: Some(reason.to_owned()),
        related: None,
        reporting_component: Some(REPORTER.to_owned()),
        reporting_instance: Some(cut(identity, 128).to_owned()),
        series: None,
        source: Some(EventSource { component: Some(REPORTER.to_owned()), host: None }),
        type_: Some(if NORMAL.contains(&reason) { "Normal" } else { "Warning" }.to_owned()),
    }
}

/// The longest prefix of a text that has at most this many bytes.
fn cut(text: &str, bytes: usize) -> &str {
    &text[..text.floor_char_boundary(bytes)]
}

#[cfg(test)]
mod tests {
    use ovsdb::Replica;
    use serde_json::json;

    use super::*;
    use crate::cluster::Event as ClusterEvent;
    use crate::engine::tests::{bare_cluster, install, node, pod};
    use crate::watch::WatchEvent;

    /// The first event of a node with this address.
    fn event_of_node(address: &str) -> Option<String> {
        let mut cluster = Cluster::default();
        let node = ClusterEvent::Nodes(WatchEvent::Apply(node("n1", address)));
        for event in bare_cluster().into_iter().chain([node]) {
            cluster.observe(event);
        }
        let engine = Engine::recover(install(), &cluster, &Replica::new(ovn::northbound()));
        let events = problems(&engine, &cluster, &Object::Node("n1".into()), None);
        events.first().map(ToString::to_string)
    }

    #[test]
    fn a_node_address_inside_a_network_is_reported_with_that_network() {
        assert_eq!(event_of_node("172.31.0.1"), None);
        let event = |address: &str| event_of_node(address).unwrap();
        assert_eq!(
            event("10.16.0.5"),
            "Warning NodeAddressInsideNetwork on v1 Node n1: node n1: its address 10.16.0.5 is inside subnet ovn-default \
             (--default-cidr), 10.16.0.0/16: pods do not reach it; one of the two must change"
        );
        assert!(event("100.64.7.7").contains("subnet join (--node-switch-cidr), 100.64.0.0/16"));
        let services =
            "its address 10.96.0.10 is inside --service-cluster-ip-range, 10.96.0.0/12: one of the two must change";
        assert!(event("10.96.0.10").ends_with(services));
    }

    /// The events of a pod with these annotations. The pod is published twice.
    fn events_of_pod(annotations: serde_json::Value, allocations: bool) -> Vec<String> {
        let mut cluster = Cluster::default();
        let observed = ClusterEvent::Pods(WatchEvent::Apply(pod("default/a", "uid-1", annotations)));
        for event in bare_cluster().into_iter().chain([observed]) {
            cluster.observe(event);
        }
        let engine = Engine::recover(install(), &cluster, &Replica::new(ovn::northbound()));
        let (sender, mut receiver) = mpsc::channel(16);
        let mut notices = Notices::new(sender, allocations);
        let object = Object::Pod("a.default".into());
        notices.about(&engine, &cluster, &object, None);
        notices.about(&engine, &cluster, &object, None);
        let mut lines = Vec::new();
        while let Ok(notice) = receiver.try_recv() {
            let Event { type_, reason, message, .. } = event(notice, "id", jiff::Timestamp::UNIX_EPOCH);
            lines.push(format!("{} {}: {}", type_.unwrap(), reason.unwrap(), message.unwrap()));
        }
        lines
    }

    #[test]
    fn an_event_names_its_source_in_both_fields_and_stays_within_the_limits() {
        let about = reference("Pod", &"p".repeat(253), Some("shop"), "1");
        let notice = Notice { about, reason: "AcquireAddressFailed", message: "ä".repeat(600), action: ALLOCATING };
        let event = event(notice, "controller-0", jiff::Timestamp::UNIX_EPOCH);
        assert_eq!(event.reporting_component, event.source.and_then(|source| source.component));
        assert_eq!(event.metadata.namespace.as_deref(), Some("shop"));
        assert!(event.metadata.name.unwrap().len() <= 253);
        assert_eq!(event.message.unwrap().len(), 1000);
    }

    #[test]
    fn an_allocation_event_is_sent_once_if_enabled_and_problems_always() {
        let expected = "Normal PodNetworkAllocated: 10.16.0.2 of subnet ovn-default, MAC 0a:58:0a:10:00:02";
        assert_eq!(events_of_pod(json!({}), true), [expected]);
        assert_eq!(events_of_pod(json!({}), false), [""; 0]);
        let annotated = json!({
            "ovn.kubernetes.io/allocated": "true", "ovn.kubernetes.io/ip_address": "10.16.0.2",
            "ovn.kubernetes.io/mac_address": "0a:58:0a:10:00:02", "ovn.kubernetes.io/cidr": "10.16.0.0/16",
            "ovn.kubernetes.io/gateway": "10.16.0.1", "ovn.kubernetes.io/logical_switch": "ovn-default",
        });
        assert_eq!(events_of_pod(annotated, true), [""; 0], "an earlier leader has sent it");
        let refused = json!({ "ovn.kubernetes.io/ip_address": "10.99.0.2" });
        for allocations in [true, false] {
            let events = events_of_pod(refused.clone(), allocations);
            assert!(
                matches!(events.as_slice(), [one] if one.starts_with("Warning AcquireAddressFailed: ")),
                "{events:?}"
            );
        }
    }
}
