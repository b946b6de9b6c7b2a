//! Tests of a change of leaders: recorded addresses are restored, the most trusted record first.

use std::collections::BTreeMap;

use super::*;
use crate::visible;
use ovsdb::Datum;

/// A cluster with these pods and IP objects, and a database with these ports.
fn recovered(pods: Vec<Pod>, ips: Vec<IpRecord>, ports: &[(&str, &str)]) -> Scene {
    let mut scene = Scene::new();
    for event in listed(Event::Pods, pods).into_iter().chain(listed(Event::Ips, ips)) {
        scene.cluster.observe(event);
    }
    let mut replica = Replica::new(ovn::northbound());
    for (index, (name, addresses)) in ports.iter().enumerate() {
        let ids = Datum::map([("vendor", "kube-ovn"), ("ls", "ovn-default")]);
        let row = [("name", Datum::from(*name)), ("addresses", Datum::from(*addresses)), ("external_ids", ids)];
        replica.insert("Logical_Switch_Port", ovsdb::Uuid::from_u128(index as u128 + 1), row.into());
    }
    scene.engine = Engine::recover(install(), &scene.cluster, &replica);
    scene
}

fn allocated(address: &str) -> Value {
    json!({
        "ovn.kubernetes.io/allocated": "true", "ovn.kubernetes.io/ip_address": address,
        "ovn.kubernetes.io/mac_address": "0a:00:00:00:00:0a", "ovn.kubernetes.io/cidr": "10.16.0.0/16",
        "ovn.kubernetes.io/gateway": "10.16.0.1", "ovn.kubernetes.io/logical_switch": "ovn-default",
    })
}

/// A pod that kubelet reports as running with the address in its annotations.
fn running(path: &str, uid: &str, address: &str) -> Pod {
    let pod = pod(path, uid, allocated(address));
    Pod { reported: Some(address.parse().unwrap()), ..pod }
}

#[test]
fn a_new_pod_does_not_get_the_recorded_address_of_a_deleted_pod_of_the_same_name() {
    let mut record = ip("a.default", "a", "default", "ovn-default", "10.16.0.10", "0a:00:00:00:00:0b");
    record.spec.pod_uid = "uid-1".to_owned();
    let ports: &[(&str, &str)] = &[("a.default", "0a:00:00:00:00:0c 10.16.0.10")];
    let at =
        |uid: &str| recovered(vec![pod("default/a", uid, json!({}))], vec![record.clone()], ports).outcome("default/a");
    assert_eq!(at("uid-1"), "10.16.0.10 of ovn-default");
    assert_eq!(at("uid-2"), "10.16.0.2 of ovn-default");
}

#[test]
fn a_pod_that_runs_keeps_its_address_although_the_database_was_restored_to_an_older_one() {
    let mut record = ip("a.default", "a", "default", "ovn-default", "10.16.0.10", "0a:00:00:00:00:0b");
    record.spec.pod_uid = "uid-1".to_owned();
    let other = ip("b.default", "b", "default", "ovn-default", "10.16.0.9", "0a:00:00:00:00:0d");
    // The database has another address of it, and its own one as that of another pod.
    let ports = &[("a.default", "0a:00:00:00:00:0c 10.16.0.5"), ("b.default", "0a:00:00:00:00:0e 10.16.0.10")];
    let pods = || vec![running("default/a", "uid-1", "10.16.0.10"), pod("default/b", "uid-2", json!({}))];
    let scene = recovered(pods(), vec![record.clone(), other.clone()], ports);
    assert_eq!(scene.outcome("default/a"), "10.16.0.10 of ovn-default");
    assert_ne!(scene.outcome("default/b"), "10.16.0.10 of ovn-default");
    // The object of another pod says nothing of this one.
    record.spec.pod_uid = "uid-0".to_owned();
    assert_ne!(recovered(pods(), vec![record, other], ports).outcome("default/b"), scene.outcome("default/b"));
}

#[test]
fn annotations_alone_restore_no_address() {
    // A copy of a pod has its annotations, and any user can write them.
    let pods = vec![
        pod("default/copy", "uid-1", allocated("10.16.0.30")),
        pod("default/forged", "uid-2", allocated("10.16.0.1")),
    ];
    let scene = recovered(pods, vec![], &[]);
    assert_eq!(scene.outcome("default/copy"), "10.16.0.2 of ovn-default");
    assert_eq!(scene.outcome("default/forged"), "10.16.0.3 of ovn-default");
    let elsewhere =
        Pod { reported: Some("10.16.0.7".parse().unwrap()), ..pod("default/a", "uid-1", allocated("10.16.0.30")) };
    assert_eq!(recovered(vec![elsewhere], vec![], &[]).outcome("default/a"), "10.16.0.2 of ovn-default");
}

#[test]
fn the_database_counts_first_then_the_ip_object_then_the_annotations() {
    let pods = || vec![running("default/a", "uid-1", "10.16.0.30")];
    let ips = || vec![ip("a.default", "a", "default", "ovn-default", "10.16.0.20", "0a:00:00:00:00:0b")];
    let ports: &[(&str, &str)] = &[("a.default", "0a:00:00:00:00:0c 10.16.0.10")];
    assert_eq!(recovered(pods(), ips(), ports).outcome("default/a"), "10.16.0.10 of ovn-default");
    assert_eq!(recovered(pods(), ips(), &[]).outcome("default/a"), "10.16.0.20 of ovn-default");
    assert_eq!(recovered(pods(), vec![], &[]).outcome("default/a"), "10.16.0.30 of ovn-default");
}

#[test]
fn an_address_on_two_records_has_one_holder() {
    let pods = vec![running("default/a", "uid-1", "10.16.0.30"), running("default/b", "uid-2", "10.16.0.30")];
    let scene = recovered(pods, vec![], &[]);
    assert_eq!(scene.outcome("default/a"), "10.16.0.30 of ovn-default");
    assert_eq!(scene.outcome("default/b"), "10.16.0.2 of ovn-default");
}

#[test]
fn a_new_pod_does_not_get_a_recorded_address() {
    let pods = vec![pod("default/a", "uid-1", json!({})), running("default/z", "uid-2", "10.16.0.2")];
    let scene = recovered(pods, vec![], &[]);
    assert_eq!(scene.outcome("default/a"), "10.16.0.3 of ovn-default");
    assert_eq!(scene.outcome("default/z"), "10.16.0.2 of ovn-default");
}

#[test]
fn the_recorded_address_of_a_deleted_pod_is_free() {
    let ips = vec![ip("gone.default", "gone", "default", "ovn-default", "10.16.0.2", "0a:00:00:00:00:0b")];
    let scene =
        recovered(vec![pod("default/a", "uid-1", json!({}))], ips, &[("gone.default", "0a:00:00:00:00:0b 10.16.0.2")]);
    assert_eq!(scene.outcome("default/a"), "10.16.0.2 of ovn-default");
    let write = crate::visible::write(&scene.engine, &scene.cluster, &Object::Ip("gone.default".into()));
    assert!(matches!(write, Some(crate::publish::Action::Delete(_))), "{write:?}");
}

/// A database with the rows that the engine of a scene has compiled.
pub(super) fn written(scene: &Scene) -> Replica {
    let mut rows = BTreeMap::new();
    for fact in scene.engine.compiled.values().flatten() {
        if let ovn::Fact::Row { key, seed, columns } = fact {
            rows.insert(key.clone(), (ovn::row_id(key, seed), columns.clone()));
        }
    }
    let ids: BTreeMap<_, _> = rows.iter().map(|(key, (id, _))| (key.clone(), *id)).collect();
    for fact in scene.engine.compiled.values().flatten() {
        let ovn::Fact::Member { of, column, element } = fact else { continue };
        let element = match element {
            ovn::Element::Row(key) => ovsdb::Atom::from(ids[key]),
            ovn::Element::Value(value) => value.clone(),
        };
        let (_, columns) = rows.get_mut(of).unwrap();
        let before = columns.get(column).cloned().unwrap_or_else(Datum::empty);
        columns.insert(column, Datum::set(before.atoms().cloned().chain([element])));
    }
    let mut replica = Replica::new(ovn::northbound());
    for (key, (id, columns)) in rows {
        replica.insert(key.table.name(), id, columns);
    }
    replica
}

#[test]
fn after_a_change_of_leaders_a_subnet_with_an_invalid_edit_stays_in_force() {
    let mut scene = Scene::new();
    let mut spec = json!({
        "cidrBlock": "10.33.0.0/24", "gateway": "10.33.0.9", "excludeIps": ["10.33.0.1..10.33.0.4"],
        "private": true, "allowSubnets": ["10.16.0.0/16"], "gatewayType": "centralized", "gatewayNode": "n1",
    });
    scene.subnet("net", spec.clone());
    let on_it = json!({ "ovn.kubernetes.io/logical_switch": "net" });
    assert_eq!(scene.pod("default/a", on_it.clone()), "10.33.0.5 of net");
    let replica = written(&scene);
    let before = scene.facts_about("net");
    assert!(before.iter().any(|fact| fact.contains("action=drop")), "{before:#?}");
    spec["cidrBlock"] = json!("10.16.0.0/24");
    spec["excludeIps"] = json!([]);
    spec["private"] = json!(false);
    scene.subnet("net", spec);
    scene.engine = Engine::recover(install(), &scene.cluster, &replica);
    assert_eq!(scene.outcome("default/a"), "10.33.0.5 of net");
    assert_eq!(scene.facts_about("net"), before);
    assert!(
        matches!(scene.engine.verdict("net"), Some(crate::engine::Verdict::Invalid { .. })),
        "its condition still reports the error"
    );
    for (index, expected) in ["6", "7", "8", "10"].into_iter().enumerate() {
        assert_eq!(scene.pod(&format!("default/b{index}"), on_it.clone()), format!("10.33.0.{expected} of net"));
    }
}

#[test]
fn the_networks_of_a_subnet_without_a_recorded_definition_stay() {
    let mut scene = Scene::new();
    scene.subnet("net", json!({ "cidrBlock": "10.33.0.0/24" }));
    let on_it = json!({ "ovn.kubernetes.io/logical_switch": "net" });
    assert_eq!(scene.pod("default/a", on_it.clone()), "10.33.0.2 of net");
    let mut replica = written(&scene);
    let switch = replica.find("Logical_Switch", "net").next().unwrap();
    let mut row = replica.get("Logical_Switch", switch).unwrap().clone();
    row.insert("external_ids", Datum::map([("vendor", "kube-ovn")]));
    replica.insert("Logical_Switch", switch, row);
    scene.subnet("net", json!({ "cidrBlock": "10.16.0.0/24", "private": true }));
    scene.engine = Engine::recover(install(), &scene.cluster, &replica);
    assert_eq!(scene.outcome("default/a"), "10.33.0.2 of net");
    assert!(scene.facts_about("net").iter().any(|fact| fact.contains("action=drop")), "it is private, as in its spec");
}

#[test]
fn after_a_change_of_leaders_a_subnet_with_refused_networks_keeps_its_pods() {
    for (cidr, what) in [
        ("10.16.0.0/24", "another subnet's"),
        ("10.34.0.0/24", "without the pod's address"),
        ("10.33.0.0/31", "narrower"),
    ] {
        let mut scene = Scene::new();
        scene.subnet("net", json!({ "cidrBlock": "10.33.0.0/24" }));
        let on_it = json!({ "ovn.kubernetes.io/logical_switch": "net" });
        assert_eq!(scene.pod("default/a", on_it), "10.33.0.2 of net");
        let (replica, before) = (written(&scene), scene.facts_about("net"));
        scene.subnet("net", json!({ "cidrBlock": cidr }));
        scene.engine = Engine::recover(install(), &scene.cluster, &replica);
        assert_eq!(scene.outcome("default/a"), "10.33.0.2 of net", "{what}");
        assert_eq!(scene.facts_about("net"), before, "{what}");
        let verdict = scene.engine.verdict("net");
        assert!(
            matches!(verdict, Some(crate::engine::Verdict::Invalid { .. })),
            "{what}: the condition still reports the error"
        );
    }
}

#[test]
fn after_a_change_of_leaders_a_subnet_that_is_being_deleted_is_still_held() {
    let mut scene = Scene::new();
    let on_it = json!({
        "ovn.kubernetes.io/allocated": "true", "ovn.kubernetes.io/ip_address": "10.33.0.7",
        "ovn.kubernetes.io/mac_address": "0a:00:00:00:00:0a", "ovn.kubernetes.io/cidr": "10.33.0.0/24",
        "ovn.kubernetes.io/gateway": "10.33.0.1", "ovn.kubernetes.io/logical_switch": "net",
    });
    scene.cluster.observe(Event::Subnets(WatchEvent::Apply(deleting("net", json!({ "cidrBlock": "10.33.0.0/24" })))));
    let pod = Pod { reported: Some("10.33.0.7".parse().unwrap()), ..pod("default/a", "uid-1", on_it) };
    scene.cluster.observe(Event::Pods(WatchEvent::Apply(pod)));
    scene.engine = Engine::recover(install(), &scene.cluster, &Replica::new(ovn::northbound()));
    assert_eq!(scene.outcome("default/a"), "10.33.0.7 of net");
    assert!(matches!(scene.engine.verdict("net"), Some(crate::engine::Verdict::Held { .. })));
}

#[test]
fn after_a_change_of_leaders_a_subnet_deleted_by_force_stays_until_its_last_pod_is_gone() {
    let mut scene = Scene::new();
    scene.subnet("net", json!({ "cidrBlock": "10.33.0.0/24" }));
    assert_eq!(scene.pod("default/a", json!({ "ovn.kubernetes.io/logical_switch": "net" })), "10.33.0.2 of net");
    scene.apply(Event::Subnets(WatchEvent::Delete(subnet("net", json!({ "cidrBlock": "10.33.0.0/24" })))));
    let before = scene.facts_about("net");
    let replica = written(&scene);
    scene.engine = Engine::recover(install(), &scene.cluster, &replica);
    assert_eq!(scene.outcome("default/a"), "10.33.0.2 of net");
    assert_eq!(scene.facts_about("net"), before);
    scene.pod_gone("default/a");
    assert!(scene.facts_about("10.33.0").is_empty(), "and goes with the last of them");
}

#[test]
fn a_subnet_in_use_that_is_given_to_another_provider_stays_in_force_and_is_reported() {
    let mut scene = Scene::new();
    scene.apply(Event::Nodes(WatchEvent::Apply(node("n1", "172.30.0.1"))));
    let before = scene.facts_about("join");
    scene.subnet("join", json!({ "cidrBlock": "100.64.0.0/16", "provider": "else" }));
    for _ in 0..2 {
        assert_eq!(scene.facts_about("join"), before);
        let Some(crate::engine::Verdict::Invalid { message, .. }) = scene.engine.verdict("join") else { panic!() };
        assert!(message.starts_with("subnet join: spec.provider: ") && message.contains("node-n1"), "{message}");
        let replica = written(&scene);
        scene.engine = Engine::recover(install(), &scene.cluster, &replica);
    }
    scene.apply(Event::Nodes(WatchEvent::Delete(node("n1", "172.30.0.1"))));
    assert_eq!(scene.engine.verdict("join"), Some(&crate::engine::Verdict::Foreign));
    assert!(scene.facts_about("100.64.0").is_empty());
}

#[test]
fn an_annotation_does_not_take_an_address_that_the_database_has_given_to_another_pod() {
    let pods = || vec![pod("default/a", "uid-1", allocated("10.16.0.30")), pod("default/b", "uid-2", json!({}))];
    let scene = recovered(pods(), vec![], &[("b.default", "0a:00:00:00:00:0c 10.16.0.30")]);
    assert_eq!(scene.outcome("default/b"), "10.16.0.30 of ovn-default");
    assert_eq!(scene.outcome("default/a"), "10.16.0.2 of ovn-default");
    let ips = vec![ip("b.default", "b", "default", "ovn-default", "10.16.0.30", "0a:00:00:00:00:0b")];
    let scene = recovered(pods(), ips, &[]);
    assert_eq!(scene.outcome("default/b"), "10.16.0.30 of ovn-default");
    assert_eq!(scene.outcome("default/a"), "10.16.0.2 of ovn-default");
}

/// The Subnet as its watch reports it after the controller has written its status.
fn with_status(scene: &Scene, name: &str, generation: i64, spec: Value) -> Subnet {
    let status =
        visible::status(&scene.engine, &scene.cluster, &Object::Subnet(name.into()), jiff::Timestamp::UNIX_EPOCH);
    let mut written = subnet(name, spec);
    written.status = Some(serde_json::from_value(status.unwrap().patch()["status"].clone()).unwrap());
    written.metadata.generation = Some(generation);
    written
}

fn applied(scene: &mut Scene, name: &str, generation: i64, spec: &Value) {
    let mut edited = subnet(name, spec.clone());
    edited.metadata.generation = Some(generation);
    edited.status = scene.cluster.subnets.get(name).and_then(|subnet| subnet.status.clone());
    scene.apply(Event::Subnets(WatchEvent::Apply(edited)));
    let shown = with_status(scene, name, generation, spec.clone());
    scene.apply(Event::Subnets(WatchEvent::Apply(shown)));
}

#[test]
fn what_the_status_shows_in_force_counts_more_than_an_older_database() {
    let mut scene = Scene::new();
    let (small, large) = (json!({ "cidrBlock": "10.33.0.0/24" }), json!({ "cidrBlock": "10.33.0.0/23" }));
    applied(&mut scene, "net", 1, &small);
    let backup = written(&scene);
    applied(&mut scene, "net", 2, &large);
    let on_it = json!({ "ovn.kubernetes.io/logical_switch": "net", "ovn.kubernetes.io/ip_address": "10.33.1.9" });
    assert_eq!(scene.pod("default/a", on_it), "10.33.1.9 of net");
    scene.engine = Engine::recover(install(), &scene.cluster, &backup);
    assert_eq!(scene.outcome("default/a"), "10.33.1.9 of net");
    assert_eq!(scene.engine.verdict("net"), Some(&crate::engine::Verdict::Valid));
}

#[test]
fn networks_move_from_one_subnet_to_another_and_stay_there_with_an_older_database() {
    let mut scene = Scene::new();
    applied(&mut scene, "a", 1, &json!({ "cidrBlock": "10.33.0.0/23" }));
    let backup = written(&scene);
    applied(&mut scene, "a", 2, &json!({ "cidrBlock": "10.33.0.0/24" }));
    applied(&mut scene, "b", 1, &json!({ "cidrBlock": "10.33.1.0/24" }));
    assert_eq!(scene.pod("default/x", json!({ "ovn.kubernetes.io/logical_switch": "b" })), "10.33.1.2 of b");
    let pod = Pod { reported: Some("10.33.1.2".parse().unwrap()), ..scene.cluster.pods["x.default"].clone() };
    scene.cluster.observe(Event::Pods(WatchEvent::Apply(pod)));
    scene.cluster.observe(Event::Ips(WatchEvent::Apply(ip(
        "x.default",
        "x",
        "default",
        "b",
        "10.33.1.2",
        "0a:00:00:00:00:0a",
    ))));
    scene.engine = Engine::recover(install(), &scene.cluster, &backup);
    assert_eq!(scene.outcome("default/x"), "10.33.1.2 of b");
}

#[test]
fn a_subnet_whose_spec_is_refused_keeps_its_networks_without_a_database() {
    let mut scene = Scene::new();
    applied(&mut scene, "net", 1, &json!({ "cidrBlock": "10.33.0.7/24" }));
    let on_it = json!({ "ovn.kubernetes.io/logical_switch": "net", "ovn.kubernetes.io/ip_address": "10.33.0.9" });
    assert_eq!(scene.pod("default/a", on_it), "10.33.0.9 of net");
    let mut edited = scene.cluster.subnets["net"].clone();
    edited.metadata.generation = Some(2);
    edited.spec.cidr_block = "10.16.0.0/24".to_owned();
    scene.apply(Event::Subnets(WatchEvent::Apply(edited)));
    scene.engine = Engine::recover(install(), &scene.cluster, &Replica::new(ovn::northbound()));
    assert_eq!(scene.outcome("default/a"), "10.33.0.9 of net");
    let verdict = scene.engine.verdict("net");
    assert!(matches!(verdict, Some(crate::engine::Verdict::Invalid { .. })), "{verdict:?}");
}
