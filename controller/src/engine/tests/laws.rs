//! The laws, under random histories of a small cluster, with what we write coming back from the API server sooner or later:
//!
//! 1. Deciding about everything once more changes nothing: no change is missed, and nobody stands who could be served.
//! 2. Every pod that wants a network has an address or is told why not.
//! 3. Our writes come to an end.
//! 4. A new leader lets everybody have what they hold, and wants the same rows.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;
use crate::cluster::StatefulSet;
use crate::engine::PoolVerdict;
use crate::publish::{Action, Target, Write};

/// Where an object is in the API server: its kind, and its name or `namespace/name`.
type Place = (&'static str, String);

/// What somebody does to the cluster.
#[derive(Debug, Clone)]
enum Step {
    /// An object is made, or becomes as it is here. Of what is there its finalizers and annotations stay, unless given.
    Put(&'static str, String, Value),
    /// It is deleted; with finalizers it stays until these are gone.
    Delete(&'static str, String),
    /// What we have written is seen by the watches.
    Echo,
    /// Another replica takes over.
    Lead,
}

/// The API server, our leader and the rows that it has written.
struct Life {
    objects: BTreeMap<Place, Value>,
    scene: Scene,
    version: u64,
}

impl Life {
    fn new() -> Self {
        let mut life = Self { objects: BTreeMap::new(), scene: Scene::new(), version: 0 };
        for (name, cidr) in [("ovn-default", "10.16.0.0/29"), ("join", "100.64.0.0/29")] {
            life.put("Subnet", name, json!({ "spec": { "cidrBlock": cidr } }));
        }
        life.put("Namespace", "default", json!({}));
        life
    }

    fn step(&mut self, step: &Step) {
        match step {
            Step::Put(kind, name, value) => self.put(kind, name, value.clone()),
            Step::Delete(kind, name) => self.delete(kind, name),
            Step::Echo => drop(self.echo()),
            Step::Lead => self.lead(),
        }
    }

    fn put(&mut self, kind: &'static str, name: &str, value: Value) {
        let place = (kind, name.to_owned());
        let before = self.objects.get(&place);
        let ended = |object: &Value| object["status"]["phase"] == "Succeeded";
        if before.is_some_and(|object| ended(object) || !object["metadata"]["deletionTimestamp"].is_null()) {
            return;
        }
        let mut object = before.cloned().unwrap_or_else(|| {
            let (namespace, name) = name.split_once('/').unwrap_or(("", name));
            json!({ "metadata": { "name": name, "namespace": namespace, "uid": format!("uid-{}", self.version) } })
        });
        // The author of an object writes it whole.
        object["spec"] = Value::Null;
        merge(&mut object, &value);
        self.apply(place, object);
    }

    fn delete(&mut self, kind: &'static str, name: &str) {
        let place = (kind, name.to_owned());
        if let Some(mut object) = self.objects.get(&place).cloned() {
            object["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
            self.apply(place, object);
        }
    }

    /// The object is so from now on, and the watch says it; one whose deletion has begun is gone with its last finalizer.
    fn apply(&mut self, place: Place, mut object: Value) {
        self.version += 1;
        let metadata = &mut object["metadata"];
        metadata["resourceVersion"] = json!(self.version.to_string());
        let held = metadata["finalizers"].as_array().is_some_and(|all| !all.is_empty());
        let gone = !metadata["deletionTimestamp"].is_null() && !held;
        let event = event(place.0, object.clone(), gone);
        if gone {
            self.objects.remove(&place);
        } else {
            self.objects.insert(place, object);
        }
        if let Some(event) = event {
            self.scene.happens(event);
        }
    }

    /// What we write about everything that was decided about reaches the API server; answers how much that was.
    fn echo(&mut self) -> usize {
        let decided = self.scene.engine.take_decided();
        let Scene { cluster, engine } = &self.scene;
        let writes: Vec<Write> =
            decided.iter().flat_map(|object| crate::visible::writes(engine, cluster, object)).collect();
        for write in &writes {
            self.written(write);
        }
        writes.len()
    }

    fn written(&mut self, write: &Write) {
        let place = match &write.target {
            Target::Pod { namespace, name } => ("Pod", format!("{namespace}/{name}")),
            Target::Node(name) => ("Node", name.to_string()),
            Target::Namespace(name) => ("Namespace", name.to_string()),
            Target::Subnet(name) => ("Subnet", name.to_string()),
            Target::IpPool(name) => ("IPPool", name.to_string()),
            Target::Ip(name) => ("IP", name.to_string()),
            Target::SubnetStatus(_) | Target::IpPoolStatus(_) => return,
        };
        match (&write.action, self.objects.get(&place)) {
            (Action::Create(body), None) => self.apply(place, body.parse().unwrap()),
            (Action::Merge(body), Some(object)) => {
                let patch: Value = body.parse().unwrap();
                let same = |field: &str| {
                    let asked = &patch["metadata"][field];
                    asked.is_null() || *asked == object["metadata"][field]
                };
                if same("uid") && same("resourceVersion") {
                    let mut object = object.clone();
                    merge(&mut object, &patch);
                    self.apply(place, object);
                } else {
                    self.look_again(write);
                }
            }
            (Action::Delete, Some(_)) => self.delete(place.0, &place.1),
            _ => self.look_again(write),
        }
    }

    /// The API server has refused a write, so that its object is looked at again.
    fn look_again(&mut self, write: &Write) {
        let object = match &write.target {
            Target::Pod { namespace, name } => Object::Pod(api::pod_port(name, namespace).into()),
            Target::Node(name) => Object::Node(name.clone()),
            Target::Namespace(name) => Object::Namespace(name.clone()),
            Target::Subnet(name) | Target::SubnetStatus(name) => Object::Subnet(name.clone()),
            Target::IpPool(name) | Target::IpPoolStatus(name) => Object::IpPool(name.clone()),
            Target::Ip(name) => Object::Ip(name.clone()),
        };
        self.scene.engine.put_back([object]);
    }

    fn lead(&mut self) {
        let replica = recovery::written(&self.scene);
        self.scene.engine = Engine::recover(install(), &self.scene.cluster, &replica);
    }

    /// Whatever can be seen of the decisions, a line for each. Of several reasons against a pod any may be told, and of those
    /// who hold what a subnet or a pool wants any may be named.
    fn seen(&mut self) -> BTreeSet<String> {
        let Scene { cluster, engine } = &self.scene;
        let mut lines = BTreeSet::new();
        let nodes = cluster.nodes.values().map(Node::port);
        for port in cluster.pods.keys().cloned().chain(nodes).chain(cluster.ips.keys().cloned()) {
            lines.insert(format!("{port}: {:?}, {}", engine.lease(&port), engine.is_reserved(&port)));
        }
        let refused = cluster.objects().filter_map(|object| engine.refused(&object).map(|_| format!("{object:?}")));
        lines.extend(refused);
        lines.extend(cluster.subnets.keys().map(|name| format!("{name}: {:?}", engine.verdict(name))));
        lines.extend(cluster.pools.keys().map(|name| format!("{name}: {:?}", engine.pool(name))));
        for name in cluster.namespaces.keys() {
            lines.insert(format!("{name}: {:?}, {:?}", engine.subnet_of(cluster, name), engine.pools_that_list(name)));
        }
        lines.extend(self.scene.facts_about(""));
        let lasting = |line: String| match line.split_once(" is in use by ") {
            Some((before, _)) => before.rsplit_once(' ').unwrap_or_default().0.to_owned(),
            None => line,
        };
        lines.into_iter().map(lasting).collect()
    }

    /// Who holds what.
    fn leases(&self) -> BTreeSet<String> {
        let Scene { cluster, engine } = &self.scene;
        let ports = cluster.pods.keys().cloned().chain(cluster.nodes.values().map(Node::port));
        ports
            .chain(cluster.ips.keys().cloned())
            .filter_map(|port| Some(format!("{port}: {:?}", engine.lease(&port)?)))
            .collect()
    }

    fn every_pod_has_an_address_or_a_reason(&self) {
        let Scene { cluster, engine } = &self.scene;
        for (port, pod) in &cluster.pods {
            let (served, refused) =
                (engine.lease_of(pod).is_some(), engine.refused(&Object::Pod(port.clone())).is_some());
            assert!(pod.done || served != refused, "{port}: served {served}, refused {refused}");
        }
    }

    fn nothing_was_missed(&mut self) {
        let before = self.seen();
        for object in self.scene.cluster.objects().collect::<Vec<_>>() {
            self.scene.engine.mark(object);
        }
        self.scene.engine.decide(&self.scene.cluster);
        same(&before, &self.seen());
    }

    fn writes_come_to_an_end(&mut self) {
        let rounds = (0..30).find(|_| self.echo() == 0);
        assert!(rounds.is_some(), "still writing: {:?}", self.scene.engine.take_decided());
    }

    fn a_new_leader_decides_the_same(&mut self) {
        let (before, leases) = (self.seen(), self.leases());
        let Scene { cluster, engine } = &self.scene;
        // What a pool that makes no sense was before is on no record.
        let certain = cluster
            .pools
            .keys()
            .all(|name| engine.pool(name).is_some_and(|pool| !matches!(pool.verdict, PoolVerdict::Invalid { .. })));
        self.lead();
        if certain {
            same(&before, &self.seen());
        } else {
            let now = self.leases();
            assert!(leases.is_subset(&now), "lost: {:#?}", leases.difference(&now));
        }
    }
}

fn same(before: &BTreeSet<String>, now: &BTreeSet<String>) {
    let (gone, new): (Vec<_>, Vec<_>) = (before.difference(now).collect(), now.difference(before).collect());
    assert!(gone.is_empty() && new.is_empty(), "was {gone:#?}, is {new:#?}");
}

/// What the watch says of an object; `None` for a pod that wants no network.
fn event(kind: &str, mut value: Value, gone: bool) -> Option<Event> {
    if value["spec"].is_null() {
        value.as_object_mut()?.remove("spec");
    }
    Some(match kind {
        "Pod" => Event::Pods(seen(Pod::from_view(&object(value))?, gone)),
        "Node" => Event::Nodes(seen(Node::from_view(&object(value)), gone)),
        "Namespace" => Event::Namespaces(seen(Namespace::from_view(&object(value)), gone)),
        "StatefulSet" => Event::StatefulSets(seen(StatefulSet::from_view(&object(value)), gone)),
        "Subnet" => Event::Subnets(seen(object(value), gone)),
        "IPPool" => Event::IpPools(seen(object(value), gone)),
        "IP" => Event::Ips(seen(IpRecord::from_object(object(value)), gone)),
        other => panic!("{other} is no kind of ours"),
    })
}

fn seen<T>(object: T, gone: bool) -> Seen<T> {
    if gone { Seen::Delete(object) } else { Seen::Apply(object) }
}

/// RFC 7386.
fn merge(target: &mut Value, patch: &Value) {
    let Value::Object(fields) = patch else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = json!({});
    }
    for (name, value) in fields {
        if value.is_null() {
            target.as_object_mut().unwrap().remove(name);
        } else {
            merge(&mut target[name.as_str()], value);
        }
    }
}

fn one_of(all: &'static [&'static str]) -> impl Strategy<Value = &'static str> {
    prop::sample::select(all)
}

/// One of them, mostly none.
fn rarely(all: &'static [&'static str]) -> impl Strategy<Value = Option<&'static str>> {
    prop::option::weighted(0.3, one_of(all))
}

const NAMESPACES: &[&str] = &["default", "blue"];
const NETS: &[&str] = &["net", "other"];
/// The third is in the service range, the last are no networks at all.
const CIDRS: &[&str] = &[
    "10.33.0.0/29",
    "10.33.0.0/28",
    "10.33.0.8/29",
    "10.16.0.0/28",
    "10.34.0.0/29,fd00:34::/125",
    "10.96.1.0/24",
    "x",
    "",
];
const ADDRESSES: &[&str] =
    &["10.33.0.3", "10.33.0.4", "10.33.0.9", "10.16.0.3", "10.34.0.3,fd00:34::3", "10.34.0.2", "y"];
const PARTS: &[&str] = &["10.33.0.3..10.33.0.4", "10.33.0.4", "10.33.0.9..10.33.0.10", "10.16.0.3", "fd00:34::3", "z"];
const MACS: &[&str] = &["00:00:00:00:00:01", "0a:58:0a:21:00:03", "m"];

fn annotations(pairs: impl IntoIterator<Item = (&'static str, Option<&'static str>)>) -> Value {
    let said = pairs.into_iter().filter_map(|(key, value)| Some((format!("ovn.kubernetes.io/{key}"), json!(value?))));
    Value::Object(said.collect())
}

fn pod_step() -> impl Strategy<Value = Step> {
    let wishes =
        (rarely(NETS), rarely(ADDRESSES), rarely(&["p", "q", "10.33.0.3,10.33.0.9", "10.16.0.3"]), rarely(MACS));
    let pod = (one_of(NAMESPACES), one_of(&["a", "b", "c", "db-0", "db-1", "node-n1"]), any::<prop::sample::Index>());
    (pod, wishes).prop_map(|((namespace, name, phase), (net, ip, pool, mac))| {
        let owner =
            json!([{ "apiVersion": "apps/v1", "kind": "StatefulSet", "name": "db", "uid": "s", "controller": true }]);
        let owners = if name.starts_with("db-") { owner } else { Value::Null };
        let said = annotations([("logical_switch", net), ("ip_address", ip), ("ip_pool", pool), ("mac_address", mac)]);
        let value = json!({
            "metadata": { "annotations": said, "ownerReferences": owners },
            "spec": { "nodeName": "n1" }, "status": { "phase": *phase.get(&["Running", "Pending", "Succeeded"]) },
        });
        Step::Put("Pod", format!("{namespace}/{name}"), value)
    })
}

fn subnet_step() -> impl Strategy<Value = Step> {
    let name = prop_oneof![8 => one_of(NETS), 1 => one_of(&["ovn-default", "join"])];
    let spec = (one_of(CIDRS), rarely(PARTS), rarely(&["10.33.0.3", "w"]), rarely(NAMESPACES), rarely(&["red"]));
    let others = prop::option::weighted(0.1, Just("else"));
    (name, spec, any::<bool>(), others).prop_map(
        |(name, (cidr, exclude, gateway, namespace, label), private, provider)| {
            let selectors = label.map(|label| json!([{ "matchLabels": { "team": label } }]));
            let value = json!({ "spec": {
            "cidrBlock": cidr, "excludeIps": Vec::from_iter(exclude), "gateway": gateway.unwrap_or_default(),
            "namespaces": Vec::from_iter(namespace), "namespaceSelectors": selectors.unwrap_or_else(|| json!([])),
            "private": private, "provider": provider,
        } });
            Step::Put("Subnet", name.to_owned(), value)
        },
    )
}

fn pool_step() -> impl Strategy<Value = Step> {
    let spec =
        (one_of(&["net", "other", "ovn-default"]), prop::collection::vec(one_of(PARTS), 0..3), rarely(NAMESPACES));
    (one_of(&["p", "q"]), spec).prop_map(|(name, (subnet, ips, namespace))| {
        let value = json!({ "spec": { "subnet": subnet, "ips": ips, "namespaces": Vec::from_iter(namespace) } });
        Step::Put("IPPool", name.to_owned(), value)
    })
}

fn namespace_step() -> impl Strategy<Value = Step> {
    (one_of(NAMESPACES), rarely(NETS), rarely(CIDRS), rarely(&["p", "q", "p,q"]), rarely(&["red", "green"])).prop_map(
        |(name, net, cidr, pool, team)| {
            let said = annotations([("logical_switch", net), ("cidr", cidr), ("ip_pool", pool)]);
            Step::Put(
                "Namespace",
                name.to_owned(),
                json!({ "metadata": { "annotations": said, "labels": { "team": team } } }),
            )
        },
    )
}

fn node_step() -> impl Strategy<Value = Step> {
    (one_of(&["n1", "n2", "n1.default"]), one_of(&["172.31.0.1", "10.33.0.4"])).prop_map(|(name, address)| {
        let addresses = json!([{ "type": "InternalIP", "address": address }]);
        Step::Put("Node", name.to_owned(), json!({ "status": { "addresses": addresses } }))
    })
}

fn set_step() -> impl Strategy<Value = Step> {
    (one_of(NAMESPACES), 0..3).prop_map(|(namespace, replicas)| {
        Step::Put("StatefulSet", format!("{namespace}/db"), json!({ "spec": { "replicas": replicas } }))
    })
}

fn deletion() -> impl Strategy<Value = Step> {
    let pods = (one_of(NAMESPACES), one_of(&["a", "b", "c", "db-0", "db-1", "node-n1"]));
    let ips = (one_of(&["a", "b", "db-0", "db-1"]), one_of(NAMESPACES));
    prop_oneof![
        6 => pods.prop_map(|(namespace, name)| Step::Delete("Pod", format!("{namespace}/{name}"))),
        2 => one_of(NETS).prop_map(|name| Step::Delete("Subnet", name.to_owned())),
        1 => one_of(&["p", "q"]).prop_map(|name| Step::Delete("IPPool", name.to_owned())),
        1 => one_of(&["n1", "n2", "n1.default"]).prop_map(|name| Step::Delete("Node", name.to_owned())),
        1 => one_of(NAMESPACES).prop_map(|name| Step::Delete("StatefulSet", format!("{name}/db"))),
        2 => ips.prop_map(|(name, namespace)| Step::Delete("IP", format!("{name}.{namespace}"))),
        1 => Just(Step::Delete("Namespace", "blue".to_owned())),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => pod_step(),
        4 => subnet_step(),
        3 => pool_step(),
        2 => namespace_step(),
        1 => node_step(),
        2 => set_step(),
        6 => deletion(),
        4 => Just(Step::Echo),
        1 => Just(Step::Lead),
    ]
}

proptest! {
    #[test]
    fn under_random_histories(steps in prop::collection::vec(step(), 1..40)) {
        let mut life = Life::new();
        for step in &steps {
            life.step(step);
            life.every_pod_has_an_address_or_a_reason();
            life.nothing_was_missed();
        }
        life.writes_come_to_an_end();
        life.a_new_leader_decides_the_same();
    }
}
