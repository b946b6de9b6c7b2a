//! The owner, turn by turn, on a real `ovsdb-server`; what it tells the API server is read from the channel.

use std::collections::BTreeMap;
use std::time::Duration;

use kit::endpoint::Readiness;
use ovsdb::testing::OvsdbServer;
use ovsdb::{Client, Config};
use prometheus::Registry;
use serde_json::{Value, json};
use sync::{EPOCH_KEY, Writer};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use super::Owner;
use crate::cluster::Event;
use crate::election::Standing;
use crate::engine::tests::{bare_cluster, install, pod};
use crate::metrics::Metrics;
use crate::notices::Notices;
use crate::publish::{Done, Target, Write};
use crate::watch::Seen;

/// An owner with its database, and what it has handed to the publisher.
struct Scene {
    owner: Owner,
    server: OvsdbServer,
    writes: mpsc::UnboundedReceiver<Write>,
}

impl Scene {
    /// An owner that has seen a cluster with nothing in it.
    async fn new() -> Self {
        let schema = std::fs::read_to_string("/usr/share/ovn/ovn-nb.ovsschema")
            .unwrap_or_else(|error| panic!("{error}; install it with: apt-get install ovn-central"));
        let server = OvsdbServer::start(&schema).unwrap();
        let (writes_in, writes) = mpsc::unbounded_channel();
        let notices = Notices::new(mpsc::unbounded_channel().0, false);
        let metrics = Metrics::new(&Registry::new()).unwrap();
        let readiness = Readiness::waiting_for("the test");
        let nodes = watch::channel(None).0;
        let owner = Owner::new(install(), client(&server).await, writes_in, notices, metrics, readiness, nodes);
        let mut scene = Self { owner, server, writes };
        scene.sees(bare_cluster());
        scene
    }

    fn sees(&mut self, events: impl IntoIterator<Item = Event>) {
        self.owner.observe(&mut events.into_iter().collect());
    }

    fn sees_pod(&mut self, path: &str) {
        self.sees([Event::Pods(Seen::Apply(pod(path, "uid-1", json!({}))))]);
    }

    /// A turn of a leader that was confirmed when it asked then.
    async fn turn(&mut self, asked: Instant) {
        self.owner.turn(Standing::Leading { asked }).await;
    }

    /// The Subnets' statuses that it writes now.
    fn statuses(&mut self) -> BTreeMap<String, Value> {
        self.owner.tell_status();
        let mut statuses = BTreeMap::new();
        while let Ok(write) = self.writes.try_recv() {
            if let Target::SubnetStatus(name) = write.target {
                statuses.insert(name.to_string(), write.action.patch()["status"].clone());
            }
        }
        statuses
    }

    /// The writes to pods that it has made since the last call.
    fn annotations(&mut self) -> Vec<Write> {
        let mut writes = Vec::new();
        while let Ok(write) = self.writes.try_recv() {
            writes.push(write);
        }
        writes.retain(|write| matches!(write.target, Target::Pod { .. }));
        writes
    }

    fn leads(&self) -> bool {
        self.owner.engine.is_some()
    }

    fn epoch(&self) -> Option<u64> {
        self.owner.northbound.read(|nb| {
            let (_, row) = nb.rows("NB_Global").next()?;
            row.get("external_ids")?.get(EPOCH_KEY)?.parse().ok()
        })
    }
}

async fn client(server: &OvsdbServer) -> Client {
    let (client, changes) = Client::spawn(Config::new(vec![server.endpoint()], "OVN_Northbound", ovn::northbound()));
    drop(changes);
    client.synced().await;
    client
}

#[tokio::test]
async fn a_fenced_leader_leads_again_by_a_confirmation_that_it_asked_for_later() {
    let mut scene = Scene::new().await;
    scene.turn(Instant::now()).await;
    assert_eq!((scene.leads(), scene.epoch()), (true, Some(1)));

    // It renews the lease and is paused; another one takes over meanwhile.
    let before_the_pause = Instant::now();
    assert_eq!(Writer::new(client(&scene.server).await).raise_epoch().await, Ok(2));
    scene.sees_pod("default/a");
    scene.turn(before_the_pause).await;
    assert!(!scene.leads(), "the database refused it");

    scene.turn(before_the_pause).await;
    assert_eq!((scene.leads(), scene.epoch()), (false, Some(2)), "what it was told before says nothing of now");

    scene.turn(Instant::now()).await;
    assert_eq!((scene.leads(), scene.epoch()), (true, Some(3)));
}

#[tokio::test]
async fn a_write_that_was_refused_is_made_again_some_time_later() {
    let mut scene = Scene::new().await;
    scene.sees_pod("default/a");
    scene.turn(Instant::now()).await;
    let write = scene.annotations().pop().unwrap();
    scene.owner.ended(&Done { target: write.target.clone(), refused: Some("forbidden".to_owned()) });
    scene.turn(Instant::now()).await;
    assert_eq!(scene.annotations(), [], "nothing has changed that would have it taken now");
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(2)).await;
    scene.owner.look_again();
    tokio::time::resume();
    scene.turn(Instant::now()).await;
    assert_eq!(scene.annotations(), [write]);
}

#[tokio::test]
async fn a_status_that_was_refused_is_written_again_some_time_later() {
    let mut scene = Scene::new().await;
    scene.turn(Instant::now()).await;
    assert!(scene.statuses().contains_key("join"));
    scene.owner.ended(&Done { target: Target::SubnetStatus("join".into()), refused: Some("forbidden".to_owned()) });
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(2)).await;
    scene.owner.look_again();
    tokio::time::resume();
    scene.turn(Instant::now()).await;
    assert!(scene.statuses().contains_key("join"));
}

#[tokio::test]
async fn a_subnets_status_is_written_once_and_again_when_somebody_else_writes_it() {
    let mut scene = Scene::new().await;
    scene.turn(Instant::now()).await;
    let mut status = scene.statuses().remove("join").unwrap();
    assert_eq!(status["conditions"][0]["status"], "True");

    let echo = |status: &Value| {
        let subnet = json!({
            "apiVersion": "kubeovn.io/v1", "kind": "Subnet",
            "metadata": { "name": "join", "uid": "uid-of-join", "resourceVersion": "7" },
            "spec": { "cidrBlock": "100.64.0.0/16" }, "status": status,
        });
        Event::Subnets(Seen::Apply(serde_json::from_value(subnet).unwrap()))
    };
    scene.sees([echo(&status)]);
    scene.turn(Instant::now()).await;
    assert_eq!(scene.statuses(), BTreeMap::new(), "that was ours come back");

    status["v4usingIPs"] = json!(77);
    scene.sees([echo(&status)]);
    scene.turn(Instant::now()).await;
    assert_eq!(scene.statuses().remove("join").unwrap()["v4usingIPs"], 0);
}
