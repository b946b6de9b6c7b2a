//! Invariants under random histories of a small cluster. The engine, the outbox and the queue are real. The API server
//! answers late and in any order, with conflicts, refusals and lost responses, and its watch is delayed.
//!
//! 1. Deciding about all objects again changes nothing: no change is missed, and no pod waits that could be served.
//! 2. Every pod that needs a network has an address or a reason why not.
//! 3. The writes end, and then the API server shows the wanted state.
//! 4. A new leader keeps all addresses and compiles the same rows.

mod server;

use std::collections::BTreeSet;
use std::time::Duration;

use proptest::prelude::*;
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::*;
use crate::cluster::{ExternalHost, StatefulSet};
use crate::publish::queue::Queue;
use crate::publish::{Done, Outbox, Outcome, Started, Target, Write};
use server::ApiServer;

/// A step of a history.
#[derive(Debug, Clone)]
enum Step {
    /// A user creates or replaces an object.
    Put(&'static str, String, Value),
    /// A user deletes an object. It stays while it has finalizers.
    Delete(&'static str, String),
    /// A user removes the finalizers and deletes the object.
    Force(&'static str, String),
    /// The watch reports this many events.
    Watch(usize),
    /// The leader decides and publishes.
    Turn,
    /// This many writes start.
    Start(usize),
    /// The API server answers a write in flight.
    Answer(prop::sample::Index, Response),
    /// The southbound database has chassis of these nodes.
    Chassis(Vec<&'static str>),
    /// The chassis of this node is active for this subnet.
    Active(&'static str, &'static str),
    /// Another replica becomes the leader.
    Lead,
}

/// The result of a write.
#[derive(Debug, Clone, Copy)]
enum Response {
    /// The API server accepts it or reports a conflict.
    Served,
    /// The same, but the response is lost.
    ReplyLost,
    /// The API server does not get the request.
    Unreachable,
    /// An admission rule refuses it.
    Refused,
}

/// The API server, the leader, and its writes.
struct Simulation {
    server: ApiServer,
    scene: Scene,
    outbox: Outbox,
    publisher: mpsc::UnboundedSender<Write>,
    handed_over: mpsc::UnboundedReceiver<Write>,
    queue: Queue,
    in_flight: Vec<Started>,
    /// Writes of former leaders that may still arrive.
    late: Vec<Started>,
    now: Instant,
}

impl Simulation {
    fn new() -> Self {
        let (publisher, handed_over) = mpsc::unbounded_channel();
        let mut simulation = Self {
            server: ApiServer::default(),
            scene: Scene::new(),
            outbox: Outbox::default(),
            publisher,
            handed_over,
            queue: Queue::default(),
            in_flight: Vec::new(),
            late: Vec::new(),
            now: Instant::now(),
        };
        for (name, cidr) in [("ovn-default", "10.16.0.0/29"), ("join", "100.64.0.0/29")] {
            simulation.server.put("Subnet", name, &json!({ "spec": { "cidrBlock": cidr } }));
        }
        simulation.server.put("Namespace", "default", &json!({}));
        simulation.watch(usize::MAX);
        simulation
    }

    fn step(&mut self, step: &Step) {
        match step {
            Step::Put(kind, name, value) => self.server.put(kind, name, value),
            Step::Delete(kind, name) => self.server.delete((kind, name.clone())),
            Step::Force(kind, name) => self.server.delete_by_force((kind, name.clone())),
            Step::Watch(count) => self.watch(*count),
            Step::Turn => drop(self.turn()),
            Step::Start(count) => self.start(*count),
            Step::Answer(which, response) => self.answer(*which, *response),
            Step::Lead => self.lead(),
            Step::Chassis(nodes) => self.scene.apply(chassis_of(nodes)),
            Step::Active(subnet, node) => self.scene.apply(active(subnet, node)),
        }
    }

    fn watch(&mut self, count: usize) {
        for _ in 0..count {
            let Some(server::LoggedEvent { kind, object, gone }) = self.server.log.pop_front() else { break };
            let Some(event) = event(kind, object, gone) else { continue };
            for observed in self.scene.cluster.observe(event) {
                if let Some(object) = self.outbox.observed(&observed) {
                    self.scene.engine.mark_unpublished([object]);
                }
                match observed.change {
                    Change::Decides => self.scene.engine.mark(observed.object),
                    Change::Status => self.scene.engine.mark_unpublished([observed.object]),
                    Change::Nothing => {}
                }
            }
            self.scene.engine.decide(&self.scene.cluster);
        }
    }

    /// Returns whether a write was sent.
    fn turn(&mut self) -> bool {
        let due = self.outbox.take_due(self.now);
        self.scene.engine.mark_unpublished(due);
        let objects = self.scene.engine.take_unpublished();
        let Scene { cluster, engine } = &self.scene;
        for object in objects {
            let write = crate::visible::write(engine, cluster, &object);
            self.outbox.put(Target::main(object.clone()), write, &self.publisher);
            let status = crate::visible::status(engine, cluster, &object, jiff::Timestamp::UNIX_EPOCH);
            self.outbox.put(Target::status(object), status, &self.publisher);
        }
        let mut any = false;
        while let Ok(write) = self.handed_over.try_recv() {
            any = true;
            self.queue.put(write);
        }
        any
    }

    fn start(&mut self, count: usize) {
        let queue = &mut self.queue;
        self.in_flight.extend(std::iter::from_fn(|| queue.take()).take(count));
    }

    fn answer(&mut self, which: prop::sample::Index, response: Response) {
        if !self.late.is_empty() && matches!(response, Response::ReplyLost) {
            let write = self.late.swap_remove(which.index(self.late.len()));
            let _ = self.server.write(&write.target, &write.action);
            return;
        }
        if self.in_flight.is_empty() {
            return;
        }
        let write = self.in_flight.swap_remove(which.index(self.in_flight.len()));
        let outcome = match response {
            Response::Served => self.server.write(&write.target, &write.action),
            Response::ReplyLost => {
                let _ = self.server.write(&write.target, &write.action);
                return self.queue.retry(write);
            }
            Response::Unreachable => return self.queue.retry(write),
            Response::Refused => Outcome::Refused("no".to_owned()),
        };
        self.ended(write, outcome);
    }

    fn ended(&mut self, write: Started, outcome: Outcome) {
        self.queue.ended(&write.target);
        if let Some(object) = self.outbox.ended(Done { id: write.id, target: write.target, outcome }, self.now) {
            self.scene.engine.mark_unpublished([object]);
        }
    }

    fn answer_first(&mut self) {
        let write = self.in_flight.remove(0);
        let outcome = self.server.write(&write.target, &write.action);
        self.ended(write, outcome);
    }

    fn lead(&mut self) {
        let replica = recovery::written(&self.scene);
        self.scene.engine = Engine::recover(install(), &self.scene.cluster, &replica);
        self.outbox = Outbox::default();
        self.queue = Queue::default();
        self.late.append(&mut self.in_flight);
    }

    /// The differences that remain when all events have arrived.
    fn unwritten(&self) -> Vec<String> {
        let Scene { cluster, engine } = &self.scene;
        let main = |object: &Object| crate::visible::write(engine, cluster, object);
        let status = |object: &Object| crate::visible::status(engine, cluster, object, jiff::Timestamp::UNIX_EPOCH);
        let objects: BTreeSet<Object> = cluster.objects().chain(cluster.pods.keys().cloned().map(Object::Ip)).collect();
        let differs = objects.iter().filter_map(|object| Some((object, main(object).or_else(|| status(object))?)));
        differs.map(|(object, action)| format!("{object:?}: {action:?}")).collect()
    }

    /// The visible decisions, one line each. If there are several reasons for a refusal, any of them may be reported,
    /// so reasons are left out.
    fn decisions(&mut self) -> BTreeSet<String> {
        let Scene { cluster, engine } = &self.scene;
        let mut lines = BTreeSet::new();
        let nodes = cluster.machines().map(|machine| machine.port());
        for port in cluster.pods.keys().cloned().chain(nodes).chain(cluster.ips.keys().cloned()) {
            lines.insert(format!("{port}: {:?}, {}", engine.lease(&port), engine.is_reserved(&port)));
        }
        let refused = cluster.objects().filter_map(|object| engine.no_address(&object).map(|_| format!("{object:?}")));
        lines.extend(refused);
        lines.extend(cluster.subnets.keys().map(|name| format!("{name}: {:?}", engine.verdict(name))));
        lines.extend(cluster.pools.keys().map(|name| format!("{name}: {:?}", engine.pool(name))));
        for name in cluster.namespaces.keys() {
            lines.insert(format!("{name}: {:?}, {:?}", engine.subnet_of(cluster, name), engine.pools_that_list(name)));
        }
        lines.extend(self.scene.facts_about(""));
        // The message may name any of the conflicting addresses.
        let lasting = |line: String| match line.split_once("AddressesInConflict").or(line.split_once(" is in use by "))
        {
            Some((before, _)) => before.to_owned(),
            None => line,
        };
        lines.into_iter().map(lasting).collect()
    }

    /// The holders of addresses.
    fn leases(&self) -> BTreeSet<String> {
        let Scene { cluster, engine } = &self.scene;
        let ports = cluster.pods.keys().cloned().chain(cluster.machines().map(|machine| machine.port()));
        ports
            .chain(cluster.ips.keys().cloned())
            .filter_map(|port| Some(format!("{port}: {:?}", engine.lease(&port)?)))
            .collect()
    }

    fn every_pod_has_an_address_or_a_reason(&self) {
        let Scene { cluster, engine } = &self.scene;
        for (port, pod) in cluster.pods.iter() {
            let (served, refused) =
                (engine.lease_of(pod).is_some(), engine.no_address(&Object::Pod(port.clone())).is_some());
            assert!(pod.done || served != refused, "{port}: served {served}, refused {refused}");
        }
    }

    fn nothing_was_missed(&mut self) {
        let before = self.decisions();
        for object in self.scene.cluster.objects().collect::<Vec<_>>() {
            self.scene.engine.mark(object);
        }
        self.scene.engine.decide(&self.scene.cluster);
        same(&before, &self.decisions());
    }

    fn writes_end_in_the_wanted_state(&mut self) {
        let mut rounds = 0;
        loop {
            self.now += Duration::from_mins(10);
            self.watch(usize::MAX);
            let mut busy = self.turn();
            self.start(usize::MAX);
            while !self.in_flight.is_empty() {
                busy = true;
                self.answer_first();
            }
            if !busy && self.server.log.is_empty() {
                break;
            }
            rounds += 1;
            assert!(rounds < 40, "still writing: {:?}", self.unwritten());
        }
        assert_eq!(self.unwritten(), [""; 0]);
    }

    fn a_new_leader_decides_the_same(&mut self) {
        let (before, leases) = (self.decisions(), self.leases());
        self.lead();
        same(&before, &self.decisions());
        let now = self.leases();
        assert!(leases.is_subset(&now), "lost: {:#?}", leases.difference(&now));
    }
}

fn same(before: &BTreeSet<String>, now: &BTreeSet<String>) {
    let (gone, new): (Vec<_>, Vec<_>) = (before.difference(now).collect(), now.difference(before).collect());
    assert!(gone.is_empty() && new.is_empty(), "was {gone:#?}, is {new:#?}");
}

/// The watch event for an object; `None` for a pod that needs no network.
fn event(kind: &str, mut value: Value, gone: bool) -> Option<Event> {
    if value["spec"].is_null() {
        value.as_object_mut()?.remove("spec");
    }
    Some(match kind {
        "Pod" => Event::Pods(watch_event(Pod::from_view(&object(value))?, gone)),
        "Node" => Event::Nodes(watch_event(Node::from_view(&object(value)), gone)),
        "Namespace" => Event::Namespaces(watch_event(Namespace::from_view(&object(value)), gone)),
        "ExternalHost" => Event::ExternalHosts(watch_event(ExternalHost::from_object(object(value)), gone)),
        "StatefulSet" => Event::StatefulSets(watch_event(StatefulSet::from_view(&object(value)), gone)),
        "Subnet" => Event::Subnets(watch_event(object(value), gone)),
        "IPPool" => Event::IpPools(watch_event(object(value), gone)),
        "IP" => Event::Ips(watch_event(IpRecord::from_object(object(value)), gone)),
        other => panic!("{other} is no kind of ours"),
    })
}

fn watch_event<T>(object: T, gone: bool) -> WatchEvent<T> {
    if gone { WatchEvent::Delete(object) } else { WatchEvent::Apply(object) }
}

fn one_of(all: &'static [&'static str]) -> impl Strategy<Value = &'static str> {
    prop::sample::select(all)
}

/// One of the values or, mostly, none.
fn rarely(all: &'static [&'static str]) -> impl Strategy<Value = Option<&'static str>> {
    prop::option::weighted(0.3, one_of(all))
}

const NODES: &[&str] = &["n1", "n2", "n1.default"];
const NAMESPACES: &[&str] = &["default", "blue"];
const NETS: &[&str] = &["net", "other"];
/// One is in the service range; the last two are invalid.
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
/// The last one cannot be read.
const RATES: &[&str] = &["0", "1", "2", "fast"];
const MACS: &[&str] = &["00:00:00:00:00:01", "0a:58:0a:21:00:03", "m"];

fn annotations(pairs: impl IntoIterator<Item = (&'static str, Option<&'static str>)>) -> Value {
    let annotations =
        pairs.into_iter().filter_map(|(key, value)| Some((format!("ovn.kubernetes.io/{key}"), json!(value?))));
    Value::Object(annotations.collect())
}

fn pod_step() -> impl Strategy<Value = Step> {
    let wishes =
        (rarely(NETS), rarely(ADDRESSES), rarely(&["p", "q", "10.33.0.3,10.33.0.9", "10.16.0.3"]), rarely(MACS));
    let pod = (one_of(NAMESPACES), one_of(&["a", "b", "c", "db-0", "db-1", "node-n1"]), any::<prop::sample::Index>());
    let more = (rarely(RATES), rarely(&["true", "false", "maybe"]), rarely(&["10.16.0.9", "u"]));
    let mirror = rarely(&["true", "false", "u"]);
    (pod, wishes, more, mirror).prop_map(|((namespace, name, phase), (net, ip, pool, mac), (rate, security, north), mirror)| {
        let owner =
            json!([{ "apiVersion": "apps/v1", "kind": "StatefulSet", "name": "db", "uid": "s", "controller": true }]);
        let owners = if name.starts_with("db-") { owner } else { Value::Null };
        let annotations = annotations([
            ("logical_switch", net),
            ("ip_address", ip),
            ("ip_pool", pool),
            ("mac_address", mac),
            ("ingress_rate", rate),
            ("port_security", security),
            ("north_gateway", north),
            ("mirror", mirror),
        ]);
        let value = json!({
            "metadata": { "annotations": annotations, "ownerReferences": owners },
            "spec": { "nodeName": "n1" }, "status": { "phase": *phase.get(&["Running", "Pending", "Succeeded"]) },
        });
        Step::Put("Pod", format!("{namespace}/{name}"), value)
    })
}

fn subnet_step() -> impl Strategy<Value = Step> {
    let name = prop_oneof![8 => one_of(NETS), 1 => one_of(&["ovn-default", "join"])];
    let spec = (
        one_of(CIDRS),
        rarely(PARTS),
        rarely(&["10.33.0.3", "10.33.0.6", "10.34.0.2", "w"]),
        rarely(NAMESPACES),
        rarely(&["red"]),
    );
    let others = prop::option::weighted(0.1, Just("else"));
    let exit = (any::<bool>(), rarely(&["n1", "n2,n1", "n1,n9", "n9"]), any::<bool>());
    (name, spec, any::<bool>(), others, exit, rarely(RATES)).prop_map(
        |(name, (cidr, exclude, gateway, namespace, label), private, provider, (centralized, nodes, ecmp), rate)| {
            let annotations = annotations([("ingress_rate", rate)]);
            let acls = match rate {
                None => json!([]),
                Some("fast") => json!([{ "direction": "in", "priority": 1, "match": "ip4", "action": "drop" }]),
                Some(rate) => json!([{ "direction": "to-lport", "priority": 1, "match": format!("ip.ttl == {rate}"), "action": "drop" }]),
            };
            let mirror = gateway.map(|_| json!({ "to": "192.0.2.9", "pods": if private { "All" } else { "Annotated" } }));
            let selectors = label.map(|label| json!([{ "matchLabels": { "team": label } }]));
            let value = json!({ "metadata": { "annotations": annotations }, "spec": {
            "cidrBlock": cidr, "excludeIps": Vec::from_iter(exclude), "gateway": gateway.unwrap_or_default(),
            "acls": acls, "remoteMirror": mirror, "namespaces": Vec::from_iter(namespace), "namespaceSelectors": selectors.unwrap_or_else(|| json!([])),
            "private": private, "provider": provider, "enableEcmp": ecmp, "gatewayNode": nodes.unwrap_or_default(),
            "gatewayType": if centralized { "centralized" } else { "distributed" },
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
    let labels = rarely(&["red", "green"]);
    (one_of(NAMESPACES), rarely(NETS), rarely(CIDRS), rarely(&["p", "q", "p,q"]), labels, rarely(RATES)).prop_map(
        |(name, net, cidr, pool, team, rate)| {
            let annotations =
                annotations([("logical_switch", net), ("cidr", cidr), ("ip_pool", pool), ("ingress_rate", rate)]);
            Step::Put(
                "Namespace",
                name.to_owned(),
                json!({ "metadata": { "annotations": annotations, "labels": { "team": team } } }),
            )
        },
    )
}

fn node_step() -> impl Strategy<Value = Step> {
    let label = one_of(&["true", "false"]);
    (one_of(NODES), one_of(&["172.31.0.1", "10.33.0.4", "10.34.0.6"]), label).prop_map(|(name, address, gateway)| {
        let addresses = json!([{ "type": "InternalIP", "address": address }]);
        let labels = json!({ "ovn.kubernetes.io/gateway-node": gateway });
        let value = json!({ "metadata": { "labels": labels }, "status": { "addresses": addresses } });
        Step::Put("Node", name.to_owned(), value)
    })
}

/// One has the name of a Node.
const HOSTS: &[&str] = &["n1", "lb1"];

fn host_step() -> impl Strategy<Value = Step> {
    (one_of(HOSTS), one_of(&["172.31.0.1", "10.33.0.4", "v"])).prop_map(|(name, address)| {
        Step::Put("ExternalHost", name.to_owned(), json!({ "spec": { "addresses": [address] } }))
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
        1 => one_of(NETS).prop_map(|name| Step::Force("Subnet", name.to_owned())),
        1 => one_of(&["p", "q"]).prop_map(|name| Step::Delete("IPPool", name.to_owned())),
        1 => one_of(&["n1", "n2", "n1.default"]).prop_map(|name| Step::Delete("Node", name.to_owned())),
        1 => one_of(HOSTS).prop_map(|name| Step::Delete("ExternalHost", name.to_owned())),
        1 => one_of(NAMESPACES).prop_map(|name| Step::Delete("StatefulSet", format!("{name}/db"))),
        2 => ips.prop_map(|(name, namespace)| Step::Delete("IP", format!("{name}.{namespace}"))),
        1 => Just(Step::Delete("Namespace", "blue".to_owned())),
    ]
}

fn response() -> impl Strategy<Value = Response> {
    prop_oneof![6 => Just(Response::Served), 2 => Just(Response::ReplyLost), 1 => Just(Response::Unreachable), 1 => Just(Response::Refused)]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => pod_step(),
        4 => subnet_step(),
        3 => pool_step(),
        2 => namespace_step(),
        1 => node_step(),
        1 => host_step(),
        2 => set_step(),
        6 => deletion(),
        8 => (1..6_usize).prop_map(Step::Watch),
        6 => Just(Step::Turn),
        6 => (1..6_usize).prop_map(Step::Start),
        8 => (any::<prop::sample::Index>(), response()).prop_map(|(which, response)| Step::Answer(which, response)),
        1 => prop::sample::subsequence(NODES.to_vec(), 0..=NODES.len()).prop_map(Step::Chassis),
        1 => (one_of(NETS), one_of(NODES)).prop_map(|(subnet, node)| Step::Active(subnet, node)),
        1 => Just(Step::Lead),
    ]
}

proptest! {
    #[test]
    fn under_random_histories(steps in prop::collection::vec(step(), 1..60)) {
        let mut simulation = Simulation::new();
        for step in &steps {
            simulation.step(step);
            simulation.every_pod_has_an_address_or_a_reason();
            simulation.nothing_was_missed();
        }
        simulation.writes_end_in_the_wanted_state();
        simulation.a_new_leader_decides_the_same();
    }

    /// Namespaces that ask for one subnet at the same time are all bound, regardless of the order of writes and events.
    #[test]
    fn twelve_namespaces_that_ask_at_once_are_bound(
        steps in prop::collection::vec(concurrency(), 0..80), made_by_them in any::<bool>(), at in 0..12_usize,
    ) {
        let mut simulation = Simulation::new();
        if !made_by_them {
            simulation.server.put("Subnet", "net", &json!({ "spec": { "cidrBlock": "10.33.0.0/24" } }));
        }
        let names: Vec<String> = (0..12).map(|number| format!("team-{number}")).collect();
        let wish = annotations([("logical_switch", Some("net")), ("cidr", made_by_them.then_some("10.33.0.0/24"))]);
        let mut steps = steps.into_iter();
        for (number, name) in names.iter().enumerate() {
            simulation.server.put("Namespace", name, &json!({ "metadata": { "annotations": wish } }));
            if number == at {
                simulation.lead();
            }
            steps.by_ref().take(5).for_each(|step| simulation.step(&step));
        }
        steps.for_each(|step| simulation.step(&step));
        simulation.writes_end_in_the_wanted_state();
        let subnet = &simulation.scene.cluster.subnets["net"];
        let bound: BTreeSet<&String> = subnet.spec.namespaces.iter().collect();
        prop_assert_eq!(bound, names.iter().collect());
        prop_assert_eq!(subnet.spec.namespaces.len(), 12, "each once");
        for name in &names {
            let annotations = &simulation.scene.cluster.namespaces[name.as_str()].annotations;
            prop_assert_eq!(&annotations["ovn.kubernetes.io/bound_subnet"], "net");
        }
    }
}

/// Steps of the controller and the API server only.
fn concurrency() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (1..6_usize).prop_map(Step::Watch),
        3 => Just(Step::Turn),
        3 => (1..4_usize).prop_map(Step::Start),
        4 => (any::<prop::sample::Index>(), response()).prop_map(|(which, response)| Step::Answer(which, response)),
    ]
}
