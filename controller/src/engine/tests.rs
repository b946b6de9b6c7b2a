//! Tests of the engine on small clusters, without an API server or a database. Objects are given as JSON.

#![allow(clippy::needless_pass_by_value)] // `json!` values are easier to read in place

mod exits;
mod external_hosts;
mod first;
mod foreign;
mod laws;
mod limits;
mod pods;
mod pools;
mod recovery;
mod retention;
mod subnets;
mod wait_queues;

use api::{Ip, IpPool, NamespaceView, NodeView, PodView, Subnet};
use ovsdb::Replica;
use serde_json::{Value, json};

use super::{Engine, Install, NewSubnet};
use crate::chassis::NodeChassis;
use crate::cluster::{Change, Cluster, Event, IpRecord, Namespace, Node, Object, Pod};
use crate::watch::WatchEvent;

/// A cluster and its engine.
struct Scene {
    cluster: Cluster,
    engine: Engine,
}

impl Scene {
    /// A cluster with the default and the join subnet.
    fn new() -> Self {
        let mut cluster = Cluster::default();
        for event in bare_cluster() {
            cluster.observe(event);
        }
        let engine = Engine::recover(install(), &cluster, &Replica::new(ovn::northbound()));
        Self { cluster, engine }
    }

    /// Applies an event and decides.
    fn apply(&mut self, event: Event) {
        for observed in self.cluster.observe(event) {
            if observed.change == Change::Decides {
                self.engine.mark(observed.object);
            }
        }
        self.engine.decide(&self.cluster);
    }

    fn subnet(&mut self, name: &str, spec: Value) {
        self.apply(Event::Subnets(WatchEvent::Apply(subnet(name, spec))));
    }

    fn pool(&mut self, name: &str, subnet: &str, ips: &[&str], namespaces: &[&str]) {
        self.apply(Event::IpPools(WatchEvent::Apply(pool(name, subnet, ips, namespaces))));
    }

    fn namespace(&mut self, name: &str, annotations: Value) {
        self.apply(Event::Namespaces(WatchEvent::Apply(namespace(name, annotations))));
    }

    /// Creates the pod `namespace/name` on node n1. Returns its address or why it has none.
    fn pod(&mut self, path: &str, annotations: Value) -> String {
        self.apply(Event::Pods(WatchEvent::Apply(pod(path, "uid-1", annotations))));
        self.outcome(path)
    }

    fn pod_gone(&mut self, path: &str) {
        self.apply(Event::Pods(WatchEvent::Delete(pod(path, "uid-1", json!({})))));
    }

    fn outcome(&self, path: &str) -> String {
        let (namespace, name) = path.split_once('/').unwrap();
        let port = api::pod_port(name, namespace);
        match (self.engine.lease(&port), self.engine.no_address(&Object::Pod(port.as_str().into()))) {
            (Some((subnet, lease)), None) => format!("{} of {subnet}", lease.ips),
            (None, Some(refused)) => format!("refused: {}", refused.message),
            (None, None) => "nothing".to_owned(),
            (Some(_), Some(_)) => panic!("{path} has an address and is refused one"),
        }
    }

    /// Why a pod or a node has no address; empty if it has one.
    fn refused(&self, object: &Object) -> String {
        self.engine.no_address(object).map(|refused| refused.message.clone()).unwrap_or_default()
    }

    /// The pending writes to a port's IP object and pod.
    fn writes_for(&self, port: &str) -> Vec<crate::publish::Action> {
        let objects = [Object::Ip(port.into()), Object::Pod(port.into())];
        objects.iter().filter_map(|object| crate::visible::write(&self.engine, &self.cluster, object)).collect()
    }

    /// The facts that contain a word, as text.
    fn facts_about(&mut self, word: &str) -> Vec<String> {
        let compiled = self.engine.compiled.values().flatten();
        let mut lines: Vec<String> = compiled.map(ToString::to_string).filter(|line| line.contains(word)).collect();
        lines.sort();
        lines
    }
}

/// A list of every kind: the default and the join subnet, the namespace `default`, and nothing else.
pub(crate) fn bare_cluster() -> Vec<Event> {
    let subnets = vec![
        subnet("ovn-default", json!({ "cidrBlock": "10.16.0.0/16", "default": true })),
        subnet("join", json!({ "cidrBlock": "100.64.0.0/16" })),
    ];
    let mut events = listed(Event::Subnets, subnets);
    events.extend(listed(Event::IpPools, vec![]));
    events.extend(listed(Event::Namespaces, vec![namespace("default", json!({}))]));
    events.extend(listed(Event::Nodes, vec![]));
    events.extend(listed(Event::Pods, vec![]));
    events.extend(listed(Event::ExternalHosts, vec![]));
    events.extend(listed(Event::StatefulSets, vec![]));
    events.extend(listed(Event::Ips, vec![]));
    events.push(Event::ApiServers([].into()));
    events.push(Event::Reports([].into()));
    events
}

/// The events of a list.
pub(crate) fn listed<T>(wrap: impl Fn(WatchEvent<T>) -> Event, objects: Vec<T>) -> Vec<Event> {
    let objects = objects.into_iter().map(WatchEvent::Apply);
    [WatchEvent::Listing].into_iter().chain(objects).chain([WatchEvent::Listed]).map(wrap).collect()
}

pub(crate) fn install() -> Install {
    let net = |cidr: &str| NewSubnet { cidrs: cidr.parse().unwrap(), gateway: None, exclude: Vec::new() };
    Install {
        settings: plan::Settings::default(),
        southbound: true,
        port_security: false,
        default_subnet: "ovn-default".into(),
        services: "10.96.0.0/12".parse().unwrap(),
        default_net: net("10.16.0.0/16"),
        join_net: net("100.64.0.0/16"),
    }
}

fn object<T: serde::de::DeserializeOwned>(value: Value) -> T {
    serde_json::from_value(value).unwrap()
}

fn subnet(name: &str, spec: Value) -> Subnet {
    object(json!({
        "apiVersion": "kubeovn.io/v1", "kind": "Subnet",
        "metadata": { "name": name, "uid": format!("uid-of-{name}") }, "spec": spec,
    }))
}

fn pool(name: &str, subnet: &str, ips: &[&str], namespaces: &[&str]) -> IpPool {
    object(json!({
        "apiVersion": "kubeovn.io/v1", "kind": "IPPool", "metadata": { "name": name },
        "spec": { "subnet": subnet, "ips": ips, "namespaces": namespaces },
    }))
}

fn deleting(name: &str, spec: Value) -> Subnet {
    let mut subnet = subnet(name, spec);
    subnet.metadata.deletion_timestamp = Some(object(json!("2026-01-01T00:00:00Z")));
    subnet
}

fn namespace(name: &str, annotations: Value) -> Namespace {
    labelled(name, json!({}), annotations)
}

fn labelled(name: &str, labels: Value, annotations: Value) -> Namespace {
    let metadata = json!({ "name": name, "uid": name, "labels": labels, "annotations": annotations });
    let view: NamespaceView = object(json!({ "metadata": metadata }));
    Namespace::from_view(&view)
}

pub(crate) fn node(name: &str, address: &str) -> Node {
    let addresses = json!([{ "type": "InternalIP", "address": address }]);
    let view: NodeView =
        object(json!({ "metadata": { "name": name, "uid": name }, "status": { "addresses": addresses } }));
    Node::from_view(&view)
}

fn labelled_node(name: &str, labels: Value) -> Node {
    let status = json!({ "conditions": [{ "type": "Ready", "status": "True" }] });
    let annotations = json!({ "ovn.kubernetes.io/chassis": format!("chassis-{name}") });
    let metadata = json!({ "name": name, "uid": name, "labels": labels, "annotations": annotations });
    let view: NodeView = object(json!({ "metadata": metadata, "status": status }));
    Node::from_view(&view)
}

/// The event that these nodes have chassis, called `chassis-<node>`.
fn chassis_of(nodes: &[&str]) -> Event {
    let chassis = |node: &&str| {
        let up = Some((*node).to_owned());
        let report = ovn::southbound::NodeReport { up, external: node.starts_with("lb"), ..Default::default() };
        let chassis = NodeChassis { id: format!("chassis-{node}").into(), report, shares: None };
        ((*node).into(), chassis)
    };
    Event::Reports(nodes.iter().map(chassis).collect())
}

/// The event that this node's chassis is active for a subnet.
fn active(subnet: &str, node: &str) -> Event {
    Event::Exits([(subnet.into(), format!("chassis-{node}").into())].into())
}

pub(crate) fn pod_on(path: &str, uid: &str, annotations: Value, phase: &str) -> Pod {
    let (namespace, name) = path.split_once('/').unwrap();
    let view: PodView = object(json!({
        "metadata": { "name": name, "namespace": namespace, "uid": uid, "annotations": annotations },
        "spec": { "nodeName": "n1" }, "status": { "phase": phase },
    }));
    Pod::from_view(&view).unwrap()
}

pub(crate) fn pod(path: &str, uid: &str, annotations: Value) -> Pod {
    pod_on(path, uid, annotations, "Pending")
}

fn ip(name: &str, pod: &str, namespace: &str, subnet: &str, address: &str, mac: &str) -> IpRecord {
    let spec = json!({
        "podName": pod, "namespace": namespace, "subnet": subnet, "ipAddress": address, "macAddress": mac,
    });
    let ip: Ip = object(json!({
        "apiVersion": "kubeovn.io/v1", "kind": "IP", "metadata": { "name": name }, "spec": spec,
    }));
    IpRecord::from_object(ip)
}
