//! Tests of the owner, turn by turn, on a real `ovsdb-server`. Its writes to the API server are read from the channel.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use kit::endpoint::Readiness;
use ovn::LogicalSwitch;
use ovn::fence::EPOCH_KEY;
use ovsdb::testing::OvsdbServer;
use ovsdb::{Client, Config, Datum, Op, Row, Where};
use prometheus::Registry;
use serde_json::{Value, json};
use sync::Writer;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use super::{Outputs, Owner, Witness};
use crate::cluster::{Cluster, Event, Object};
use crate::election::Standing;
use crate::engine::tests::{bare_cluster, install, pod};
use crate::metrics::Metrics;
use crate::notices::{Notice, Notices};
use crate::publish::{Done, Outcome, Part, Publisher, Target, Write};
use crate::watch::WatchEvent;

/// An owner with its database, and the writes that it has sent to the publisher.
struct Scene {
    owner: Owner,
    server: OvsdbServer,
    writes: Arc<Mutex<Vec<mpsc::UnboundedReceiver<Write>>>>,
    notices: mpsc::Receiver<Notice>,
    readiness: Readiness,
    registry: Registry,
}

impl Scene {
    /// An owner of an empty cluster.
    async fn new() -> Self {
        Self::on(&schema(Some("tier")).to_string()).await
    }

    /// The same with a database of this schema.
    async fn on(schema: &str) -> Self {
        let server = OvsdbServer::start(schema).unwrap();
        // One receiver per term.
        let writes = Arc::new(Mutex::new(Vec::new()));
        let terms = Arc::clone(&writes);
        let (notices_in, notices) = mpsc::channel(1 << 10);
        let notices_in = Notices::new(notices_in, false);
        let registry = Registry::new();
        let metrics = Metrics::new(&registry).unwrap();
        let readiness = Readiness::waiting_for("the test");
        let nodes = watch::channel(None).0;
        let publisher = move || {
            let (publisher, writes) = Publisher::for_test();
            terms.lock().unwrap().push(writes);
            publisher
        };
        let outputs = Outputs {
            northbound: client(&server).await,
            publisher: Box::new(publisher),
            witness: Witness::of_nothing(),
            notices: notices_in,
            metrics,
            readiness: readiness.clone(),
            nodes,
        };
        let owner = Owner::new(install(), outputs);
        let mut scene = Self { owner, server, writes, notices, readiness, registry };
        scene.observe(bare_cluster());
        scene
    }

    fn observe(&mut self, events: impl IntoIterator<Item = Event>) {
        self.owner.observe(&mut events.into_iter().collect());
    }

    fn observe_pod(&mut self, path: &str) {
        self.observe([Event::Pods(WatchEvent::Apply(pod(path, "uid-1", json!({}))))]);
    }

    /// Takes a turn as a leader whose last renewal was requested at this time.
    async fn turn(&mut self, asked: Instant) {
        let until = asked + Duration::from_secs(15);
        self.owner.turn(Standing::Leading { asked, until }).await;
    }

    /// Lets time pass, does what is due, and takes a turn.
    async fn advance(&mut self, time: Duration) {
        tokio::time::pause();
        tokio::time::advance(time).await;
        tokio::time::resume();
        self.owner.timer();
        self.turn(Instant::now()).await;
    }

    /// The writes that were sent since the last call.
    fn writes(&mut self) -> Vec<Write> {
        let mut terms = self.writes.lock().unwrap();
        terms.iter_mut().flat_map(|writes| std::iter::from_fn(|| writes.try_recv().ok())).collect()
    }

    /// The Subnet statuses that are written now.
    fn statuses(&mut self) -> BTreeMap<String, Value> {
        self.owner.timer();
        let statuses = self.writes().into_iter().filter_map(|write| match write.target {
            Target { object: Object::Subnet(name), part: Part::Status } => {
                Some((name.to_string(), write.action?.patch()["status"].clone()))
            }
            _ => None,
        });
        statuses.collect()
    }

    /// The writes to pods since the last call.
    fn annotations(&mut self) -> Vec<Write> {
        let mut writes = self.writes();
        writes.retain(|write| matches!(write.target.object, Object::Pod(_)));
        writes
    }

    /// The Kubernetes events since the last call.
    fn events(&mut self) -> Vec<String> {
        std::iter::from_fn(|| self.notices.try_recv().ok()).map(|notice| notice.to_string()).collect()
    }

    fn gauge(&self, name: &str) -> Option<f64> {
        let families = self.registry.gather();
        let family = families.iter().find(|family| family.name() == name)?;
        Some(family.get_metric().first()?.get_gauge().get_value())
    }

    fn leads(&self) -> bool {
        self.owner.term.is_some()
    }

    fn epoch(&self) -> Option<u64> {
        self.owner.out.northbound.read(|nb| {
            let (_, row) = nb.rows("NB_Global").next()?;
            row.get("external_ids")?.get(EPOCH_KEY)?.parse().ok()
        })
    }
}

/// The installed schema with or without the column that OVN 23.03 lacks. The installed version can be either.
fn schema(tier: Option<&str>) -> Value {
    let text = std::fs::read("/usr/share/ovn/ovn-nb.ovsschema")
        .unwrap_or_else(|error| panic!("{error}; install it with: apt-get install ovn-central"));
    let mut schema: Value = serde_json::from_slice(&text).unwrap();
    let columns = schema["tables"]["ACL"]["columns"].as_object_mut().unwrap();
    columns.remove("tier");
    if let Some(name) = tier {
        let integer = json!({ "type": "integer", "minInteger": 0, "maxInteger": 3 });
        columns.insert(name.to_owned(), json!({ "type": { "key": integer } }));
    }
    schema["version"] = json!(if tier.is_some() { "7.3.0" } else { "7.0.0" });
    schema.as_object_mut().unwrap().remove("cksum");
    schema
}

async fn client(server: &OvsdbServer) -> Client {
    let (client, changes) = Client::spawn(Config::new(vec![server.endpoint()], "OVN_Northbound", ovn::northbound()));
    drop(changes);
    client.synced().await;
    client
}

#[tokio::test]
async fn a_fenced_leader_leads_again_after_a_renewal_that_it_requested_later() {
    let mut scene = Scene::new().await;
    scene.turn(Instant::now()).await;
    assert_eq!((scene.leads(), scene.epoch()), (true, Some(1)));

    // It renews the Lease and is suspended. Meanwhile another replica takes over.
    let before_the_pause = Instant::now();
    assert_eq!(Writer::new(client(&scene.server).await).raise_epoch().await, Ok(2));
    scene.observe_pod("default/a");
    scene.turn(before_the_pause).await;
    assert!(!scene.leads(), "the database refused it");

    scene.turn(before_the_pause).await;
    assert_eq!((scene.leads(), scene.epoch()), (false, Some(2)), "an earlier renewal does not count");

    scene.turn(Instant::now()).await;
    assert_eq!((scene.leads(), scene.epoch()), (true, Some(3)));
}

#[tokio::test]
async fn a_database_with_an_old_schema_is_reported_and_used_after_its_conversion() {
    let mut scene = Scene::on(&schema(None).to_string()).await;
    scene.observe_pod("default/a");
    scene.turn(Instant::now()).await;
    let why =
        "the northbound database is too old: its schema 7.0.0 lacks ACL.tier; OVN 24.03 is the oldest that will do";
    assert_eq!((scene.leads(), scene.epoch(), scene.readiness.state()), (false, None, Err(why.to_owned())));
    // northd stores its version in the database.
    let northd = Client::spawn(Config::new(vec![scene.server.endpoint()], "OVN_Northbound", ovn::northbound())).0;
    northd.synced().await;
    let options = Datum::map([("northd_internal_version", "23.03.1-20.27.0-70.6")]);
    let row = Row::from([("options", options)]);
    northd.transact(&[Op::Insert { table: "NB_Global", uuid: None, row }]).await.unwrap();
    while scene.owner.out.northbound.read(|nb| nb.is_empty("NB_Global")) {
        tokio::task::yield_now().await;
    }
    scene.turn(Instant::now()).await;
    let why = scene.readiness.state().unwrap_err();
    assert!(why.contains("its schema 7.0.0 (northd 23.03.1-20.27.0-70.6) lacks ACL.tier"), "{why}");

    // The running database is converted.
    let mut connected = scene.owner.out.northbound.connected();
    connected.mark_unchanged();
    scene.server.convert(&schema(Some("tier")).to_string()).unwrap();
    connected.changed().await.unwrap();
    connected.wait_for(|connected| *connected).await.unwrap();
    scene.turn(Instant::now()).await;
    assert_eq!((scene.leads(), scene.epoch(), scene.readiness.state()), (true, Some(1), Ok(())));
    assert_eq!(scene.annotations().len(), 1);

    // A downgrade converts it back.
    connected.mark_unchanged();
    scene.server.convert(&schema(None).to_string()).unwrap();
    connected.changed().await.unwrap();
    connected.wait_for(|connected| *connected).await.unwrap();
    scene.turn(Instant::now()).await;
    assert_eq!((scene.leads(), scene.readiness.state().is_err()), (false, true));
}

#[tokio::test]
async fn an_owner_without_the_database_is_not_ready_and_names_the_reason() {
    let mut scene = Scene::new().await;
    let mut connected = scene.owner.out.northbound.connected();
    scene.server.kill().unwrap();
    connected.wait_for(|connected| !*connected).await.unwrap();
    let mut failure = scene.owner.out.northbound.failure();
    failure.wait_for(|failure| failure.as_ref().is_some_and(|why| why.contains("refused"))).await.unwrap();
    scene.turn(Instant::now()).await;
    let why = scene.readiness.state().unwrap_err();
    let expected = format!("waiting for the northbound database: {}: connection: ", scene.server.endpoint());
    assert!(why.starts_with(&expected), "{why}");
}

#[tokio::test]
async fn an_owner_without_the_api_server_is_not_ready_and_names_the_missing_kinds() {
    let mut scene = Scene::new().await;
    scene.owner.cluster = Cluster::default();
    scene.observe(bare_cluster().into_iter().filter(|event| !matches!(event, Event::Ips(_) | Event::Subnets(_))));
    scene.turn(Instant::now()).await;
    let why = "waiting for the API server to list subnets, ips";
    assert_eq!((scene.leads(), scene.readiness.state()), (false, Err(why.to_owned())));
}

#[tokio::test]
async fn a_wrong_service_range_is_an_event_of_the_default_subnet() {
    let mut scene = Scene::new().await;
    scene.turn(Instant::now()).await;
    scene.observe([Event::Services(Some("it differs".into()))]);
    scene.turn(Instant::now()).await;
    scene.turn(Instant::now()).await;
    assert_eq!(scene.events(), ["Warning ServiceRangeDiffers on kubeovn.io/v1 Subnet ovn-default: it differs"]);
    scene.observe([Event::Services(None)]);
    scene.turn(Instant::now()).await;
    scene.observe([Event::Services(Some("it differs again".into()))]);
    scene.turn(Instant::now()).await;
    assert_eq!(scene.events().len(), 1);
}

/// The database has room for one more port.
#[tokio::test]
async fn what_the_database_refuses_is_withheld_and_written_when_it_can_be() {
    let mut schema = schema(Some("tier"));
    schema["tables"]["Logical_Switch_Port"]["maxRows"] = json!(3);
    let mut scene = Scene::on(&schema.to_string()).await;
    scene.turn(Instant::now()).await;
    scene.writes();
    scene.observe_pod("default/a");
    scene.observe_pod("default/b");
    scene.turn(Instant::now()).await;
    let written = scene.annotations();
    assert_eq!(written.len(), 1, "{written:?}");
    let Object::Pod(first) = &written[0].target.object else { panic!("{written:?}") };
    let (first, second) = if &**first == "a.default" { ("a", "b") } else { ("b", "a") };
    let events = scene.events();
    let expected =
        format!("Warning WriteRefused on v1 Pod {second}: the northbound database refuses it: {second}.default: ");
    assert!(matches!(events.as_slice(), [one] if one.starts_with(&expected)), "{events:?}");

    // A change that has nothing to do with it does not show the pod, and does not repeat the attempt.
    scene.observe([Event::Services(Some("it differs".into()))]);
    scene.turn(Instant::now()).await;
    assert_eq!(scene.annotations(), []);

    scene.advance(Duration::from_secs(1)).await;
    assert_eq!(scene.annotations(), [], "there is no room yet");
    scene.observe([Event::Pods(WatchEvent::Delete(pod(&format!("default/{first}"), "uid-1", json!({}))))]);
    scene.turn(Instant::now()).await;
    scene.writes();
    scene.advance(Duration::from_secs(1)).await;
    assert_eq!(scene.annotations(), [], "the wait is longer after each attempt");
    scene.advance(Duration::from_secs(1)).await;
    let written = scene.annotations();
    let objects: Vec<&Object> = written.iter().map(|write| &write.target.object).collect();
    assert_eq!(objects, [&Object::Pod(format!("{second}.default").into())]);
}

/// The database has room for no more switch.
#[tokio::test]
async fn a_subnet_that_the_database_refuses_is_not_shown_in_force() {
    let mut schema = schema(Some("tier"));
    schema["tables"]["Logical_Switch"]["maxRows"] = json!(2);
    let mut scene = Scene::on(&schema.to_string()).await;
    scene.turn(Instant::now()).await;
    scene.writes();
    let net = json!({
        "apiVersion": "kubeovn.io/v1", "kind": "Subnet", "metadata": { "name": "net", "uid": "1" },
        "spec": { "cidrBlock": "10.33.0.0/24" },
    });
    scene.observe([Event::Subnets(WatchEvent::Apply(serde_json::from_value(net).unwrap()))]);
    scene.turn(Instant::now()).await;
    scene.advance(Duration::from_secs(2)).await;
    assert!(!scene.statuses().contains_key("net"));
    let events = scene.events();
    let expected = "Warning WriteRefused on kubeovn.io/v1 Subnet net: the northbound database refuses it: subnet/net: ";
    assert!(matches!(events.as_slice(), [one] if one.starts_with(expected)), "{events:?}");
    scene.writes();
    // Its next attempt is some time off. It is deleted before.
    let deleted = json!({
        "apiVersion": "kubeovn.io/v1", "kind": "Subnet",
        "metadata": {
            "name": "net", "uid": "1", "resourceVersion": "2", "deletionTimestamp": "2026-01-01T00:00:00Z",
            "finalizers": [api::FINALIZER],
        },
        "spec": { "cidrBlock": "10.33.0.0/24" },
    });
    scene.observe([Event::Subnets(WatchEvent::Apply(serde_json::from_value(deleted).unwrap()))]);
    scene.turn(Instant::now()).await;
    let writes = scene.writes();
    assert!(writes.iter().any(|write| write.target == Target::main(Object::Subnet("net".into()))), "{writes:?}");
}

/// Another client replaces a value of a set. The set has as many as before, so only the comparison of everything finds it.
#[tokio::test]
async fn everything_is_compared_every_five_minutes() {
    let mut scene = Scene::new().await;
    scene.turn(Instant::now()).await;
    let addresses = |scene: &Scene| {
        scene.owner.out.northbound.read(|nb| {
            let sets = nb.rows("Address_Set").map(|(id, row)| (id, row["addresses"].clone()));
            sets.filter(|(_, addresses)| !addresses.is_empty()).min_by_key(|(id, _)| *id).unwrap()
        })
    };
    let (id, before) = addresses(&scene);
    let other = client(&scene.server).await;
    let row = Row::from([("addresses", Datum::from("192.0.2.0/24"))]);
    other.transact(&[Op::Update { table: "Address_Set", on: Where::Row(id), row }]).await.unwrap();
    while addresses(&scene).1 == before {
        tokio::task::yield_now().await;
    }
    scene.turn(Instant::now()).await;
    assert_ne!(addresses(&scene).1, before);
    scene.advance(Duration::from_mins(5)).await;
    assert_eq!(addresses(&scene).1, before);
}

/// The engine does not let two objects want the same row, so the test adds the second wish.
#[tokio::test]
async fn rows_that_two_objects_want_differently_are_counted() {
    let mut scene = Scene::new().await;
    scene.turn(Instant::now()).await;
    assert_eq!(scene.gauge("kube_ovn_nb_fact_conflicts"), Some(0.0));
    let other = LogicalSwitch { name: "join".into(), seed: "other".into(), ..LogicalSwitch::default() };
    scene.owner.term.as_mut().unwrap().engine.facts().add(other.fact());
    scene.turn(Instant::now()).await;
    assert_eq!(scene.gauge("kube_ovn_nb_fact_conflicts"), Some(1.0));
    scene.owner.stop_leading();
    assert_eq!(scene.gauge("kube_ovn_nb_fact_conflicts"), Some(0.0), "a follower has no facts");
}

#[tokio::test]
async fn a_refused_write_is_retried_later() {
    let mut scene = Scene::new().await;
    scene.observe_pod("default/a");
    scene.turn(Instant::now()).await;
    let write = scene.annotations().pop().unwrap();
    scene.owner.written(Done {
        id: write.id,
        target: write.target.clone(),
        outcome: Outcome::Refused("forbidden".to_owned()),
    });
    scene.turn(Instant::now()).await;
    assert_eq!(scene.annotations(), [], "nothing has changed that would have it taken now");
    let event = "Warning WriteRefused on v1 Pod a: the API server does not take a write: forbidden";
    assert_eq!(scene.events(), [event]);
    scene.advance(Duration::from_secs(2)).await;
    let again = scene.annotations().pop().unwrap();
    assert_eq!((again.target, again.action), (write.target, write.action));
}

#[tokio::test]
async fn a_refused_status_is_written_again_later() {
    let mut scene = Scene::new().await;
    scene.turn(Instant::now()).await;
    scene.owner.timer();
    let written = scene.writes();
    let target = Target::status(Object::Subnet("join".into()));
    let id = written.iter().find(|write| write.target == target).unwrap().id;
    scene.owner.written(Done { id, target, outcome: Outcome::Refused("forbidden".to_owned()) });
    scene.advance(Duration::from_secs(2)).await;
    assert!(scene.statuses().contains_key("join"));
}

#[tokio::test]
async fn a_subnets_status_is_written_once_and_again_after_another_writer_changed_it() {
    let mut scene = Scene::new().await;
    scene.turn(Instant::now()).await;
    let mut status = scene.statuses().remove("join").unwrap();
    assert_eq!(status["conditions"][0]["status"], "True");

    let echo = |status: &Value| {
        let subnet = json!({
            "apiVersion": "kubeovn.io/v1", "kind": "Subnet",
            "metadata": {
                "name": "join", "uid": "uid-of-join", "resourceVersion": "7", "finalizers": [api::FINALIZER],
            },
            "spec": { "cidrBlock": "100.64.0.0/16" }, "status": status,
        });
        Event::Subnets(WatchEvent::Apply(serde_json::from_value(subnet).unwrap()))
    };
    scene.observe([echo(&status)]);
    scene.turn(Instant::now()).await;
    assert_eq!(scene.statuses(), BTreeMap::new(), "that was ours come back");

    status["v4usingIPs"] = json!(77);
    scene.observe([echo(&status)]);
    scene.turn(Instant::now()).await;
    assert_eq!(scene.statuses(), BTreeMap::new(), "it was written less than a second ago");
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(1)).await;
    assert_eq!(scene.statuses().remove("join").unwrap()["v4usingIPs"], 0);
    tokio::time::resume();
}
