//! External hosts: machines that are no nodes.

use super::*;
use crate::cluster::ExternalHost;

fn host(name: &str, address: &str) -> ExternalHost {
    let value = json!({
        "metadata": { "name": name, "uid": name }, "spec": { "addresses": [address] },
    });
    ExternalHost::from_object(object(value))
}

/// The address and the condition that the controller writes.
fn status(scene: &Scene, name: &str) -> String {
    let now = jiff::Timestamp::UNIX_EPOCH;
    let action = crate::visible::status(&scene.engine, &scene.cluster, &Object::ExternalHost(name.into()), now);
    let Some(action) = action else { return "nothing".to_owned() };
    let status = &action.patch()["status"];
    let ready = &status["conditions"][0];
    let word = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    format!(
        "{} {}={} {} {}",
        word(&status["ipAddress"]),
        word(&ready["type"]),
        word(&ready["status"]),
        word(&ready["reason"]),
        word(&ready["message"])
    )
}

#[test]
fn an_external_host_is_told_what_it_waits_for() {
    let mut scene = Scene::new();
    scene.apply(Event::ExternalHosts(WatchEvent::Apply(host("lb1", "192.0.2.9"))));
    let wait = "no agent there has reported that its ovn0 works: run `kube-ovn-cni external-host lb1`";
    assert_eq!(status(&scene, "lb1"), format!("100.64.0.2 Ready=False NotJoined {wait}"));
    scene.apply(chassis_of(&["lb1"]));
    assert_eq!(status(&scene, "lb1"), "100.64.0.2 Ready=True Joined ");
    // It is no gateway, and no pod reaches its own address through it.
    let facts = scene.facts_about("lb1");
    assert!(!facts.is_empty() && facts.iter().all(|fact| !fact.contains("Logical_Router")), "{facts:?}");
    assert_eq!(scene.facts_about("192.0.2.9"), [""; 0]);

    scene.apply(Event::ExternalHosts(WatchEvent::Apply(host("lb2", "lb2.example.com"))));
    assert!(status(&scene, "lb2").contains("Ready=False InvalidAddresses external host lb2: spec.addresses: "));

    scene.apply(Event::ExternalHosts(WatchEvent::Delete(host("lb1", "192.0.2.9"))));
    assert_eq!(scene.facts_about("lb1"), [""; 0]);
}

#[test]
fn a_node_keeps_its_name() {
    let mut scene = Scene::new();
    scene.apply(Event::ExternalHosts(WatchEvent::Apply(host("n7", "192.0.2.9"))));
    scene.apply(Event::Nodes(WatchEvent::Apply(node("n7", "172.31.0.7"))));
    assert_eq!(status(&scene, "n7"), " Ready=False NodeExists external host n7: a Node has this name, and it keeps it");
    assert!(!scene.facts_about("172.31.0.7").is_empty());
    scene.apply(Event::Nodes(WatchEvent::Delete(node("n7", "172.31.0.7"))));
    assert!(status(&scene, "n7").starts_with("100.64.0.2 Ready=False NotJoined"), "{}", status(&scene, "n7"));
    assert_eq!(scene.facts_about("172.31.0.7"), [""; 0]);
}

#[test]
fn a_subnet_that_contains_an_external_host_is_refused() {
    let mut scene = Scene::new();
    scene.apply(Event::ExternalHosts(WatchEvent::Apply(host("lb1", "10.33.0.9"))));
    scene.subnet("net", json!({ "cidrBlock": "10.33.0.0/24" }));
    let verdict = format!("{:?}", scene.engine.verdict("net"));
    assert!(verdict.contains("10.33.0.0/24 contains 10.33.0.9 of external host lb1"), "{verdict}");
}

#[test]
fn no_pod_leaves_by_an_external_host() {
    let mut scene = Scene::new();
    scene.apply(Event::ExternalHosts(WatchEvent::Apply(host("lb1", "192.0.2.9"))));
    scene.apply(chassis_of(&["lb1"]));
    scene.subnet("net", json!({ "cidrBlock": "10.33.0.0/24", "gatewayType": "centralized", "gatewayNode": "lb1" }));
    assert_eq!(scene.engine.world.gateway_nodes("net"), []);
    assert!(scene.engine.gateway_state("net").unwrap().problem().unwrap().contains("there is no node lb1"));
}
