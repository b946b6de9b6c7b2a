//! Tests of static addresses, and of addresses that are reserved for the pods of a stateful set.

use super::*;
use crate::cluster::StatefulSet;

fn set(replicas: usize) -> Event {
    Event::StatefulSets(WatchEvent::Apply(StatefulSet { path: "default/db".into(), ordinals: 0..replicas }))
}

/// A pod of the stateful set `default/db`.
fn member(ordinal: usize, uid: &str, annotations: Value) -> Event {
    member_in(ordinal, uid, annotations, "Pending")
}

fn member_in(ordinal: usize, uid: &str, annotations: Value, phase: &str) -> Event {
    let view: PodView = object(json!({
        "metadata": {
            "name": format!("db-{ordinal}"), "namespace": "default", "uid": uid, "annotations": annotations,
            "ownerReferences": [{ "apiVersion": "apps/v1", "kind": "StatefulSet", "name": "db", "uid": "s", "controller": true }],
        },
        "spec": { "nodeName": "n1" }, "status": { "phase": phase },
    }));
    Event::Pods(WatchEvent::Apply(Pod::from_view(&view).unwrap()))
}

fn gone(event: Event) -> Event {
    let Event::Pods(WatchEvent::Apply(pod)) = event else { panic!("not a pod") };
    Event::Pods(WatchEvent::Delete(pod))
}

#[test]
fn a_static_address_has_one_holder_and_the_refusal_names_it() {
    let mut scene = Scene::new();
    let fixed =
        json!({ "ovn.kubernetes.io/ip_address": "10.16.0.77", "ovn.kubernetes.io/mac_address": "00:00:00:AA:BB:CC" });
    assert_eq!(scene.pod("default/a", fixed.clone()), "10.16.0.77 of ovn-default");
    assert_eq!(
        scene.engine.lease("a.default").map(|(_, lease)| lease.mac.to_string()),
        Some("00:00:00:aa:bb:cc".into())
    );
    let other = json!({ "ovn.kubernetes.io/ip_address": "10.16.0.77" });
    let refused = scene.pod("default/b", other);
    assert!(refused.contains("10.16.0.77") && refused.contains("a.default"), "{refused}");
    scene.pod_gone("default/a");
    assert_eq!(scene.outcome("default/b"), "10.16.0.77 of ovn-default", "it waited for just this one");
    assert!(scene.pod("default/a", fixed).contains("b.default"));
}

#[test]
fn an_unavailable_static_address_is_refused_with_its_reason() {
    let mut scene = Scene::new();
    scene.subnet("net", json!({ "cidrBlock": "10.33.0.0/24", "excludeIps": ["10.33.0.100..10.33.0.110"] }));
    for (index, (address, expected)) in [
        ("10.34.0.5", "outside"),
        ("10.33.0.1", "gateway"),
        ("10.33.0.0", "network"),
        ("10.33.0.255", "broadcast"),
        ("fd00::5", "outside"),
    ]
    .into_iter()
    .enumerate()
    {
        let asked = json!({ "ovn.kubernetes.io/logical_switch": "net", "ovn.kubernetes.io/ip_address": address });
        let refused = scene.pod(&format!("default/p{index}"), asked);
        assert!(
            refused.contains("net") && refused.contains(address) && refused.contains(expected),
            "{address}: {refused}"
        );
    }
    let excluded = json!({ "ovn.kubernetes.io/logical_switch": "net", "ovn.kubernetes.io/ip_address": "10.33.0.105" });
    assert_eq!(scene.pod("default/excluded", excluded), "10.33.0.105 of net", "a pod can name an excluded address");
    assert_eq!(scene.pod("default/b", json!({ "ovn.kubernetes.io/logical_switch": "net" })), "10.33.0.2 of net");
}

#[test]
fn a_static_address_that_is_reserved_for_a_stateful_sets_pod_is_refused() {
    let mut scene = Scene::new();
    scene.apply(set(1));
    scene.apply(member(0, "uid-1", json!({})));
    scene.apply(gone(member(0, "uid-1", json!({}))));
    let refused = scene.pod("default/b", json!({ "ovn.kubernetes.io/ip_address": "10.16.0.2" }));
    assert!(refused.contains("10.16.0.2") && refused.contains("db-0.default"), "{refused}");
    scene.apply(set(0));
    assert_eq!(scene.outcome("default/b"), "10.16.0.2 of ovn-default");
}

#[test]
fn a_list_gives_a_pod_any_free_address_and_a_stateful_sets_pod_the_one_of_its_ordinal() {
    let mut scene = Scene::new();
    let list = json!({ "ovn.kubernetes.io/ip_pool": "10.16.0.60,10.16.0.61" });
    assert_eq!(scene.pod("default/a", list.clone()), "10.16.0.60 of ovn-default");
    assert_eq!(scene.pod("default/b", list.clone()), "10.16.0.61 of ovn-default");
    assert!(scene.pod("default/c", list).starts_with("refused"));
    scene.apply(member(1, "uid-1", json!({ "ovn.kubernetes.io/ip_pool": "10.16.0.70,10.16.0.71" })));
    assert_eq!(scene.outcome("default/db-1"), "10.16.0.71 of ovn-default");
}

#[test]
fn only_the_stateful_sets_pod_gets_its_address_back() {
    let mut scene = Scene::new();
    scene.apply(set(2));
    scene.apply(member(0, "uid-1", json!({})));
    assert_eq!(scene.outcome("default/db-0"), "10.16.0.2 of ovn-default");
    scene.apply(gone(member(0, "uid-1", json!({}))));
    assert!(scene.facts_about("db-0.default").is_empty(), "the port goes with the pod");
    assert!(scene.engine.is_reserved("db-0.default"));
    assert_eq!(scene.pod("default/other", json!({})), "10.16.0.3 of ovn-default");
    scene.apply(member(0, "uid-2", json!({})));
    assert_eq!(scene.outcome("default/db-0"), "10.16.0.2 of ovn-default");
    // Without a deletion event, as after a relist.
    scene.apply(member(0, "uid-3", json!({})));
    assert_eq!(scene.outcome("default/db-0"), "10.16.0.2 of ovn-default");
}

#[test]
fn scaling_down_deleting_the_set_and_deleting_the_ip_release_a_reserved_address() {
    for free in [
        |scene: &mut Scene| scene.apply(set(0)),
        |scene: &mut Scene| {
            let set = StatefulSet { path: "default/db".into(), ordinals: 0..1 };
            scene.apply(Event::StatefulSets(WatchEvent::Delete(set)));
        },
        |scene: &mut Scene| {
            let record = || ip("db-0.default", "db-0", "default", "ovn-default", "10.16.0.2", "0a:58:0a:10:00:02");
            scene.apply(Event::Ips(WatchEvent::Apply(record())));
            assert!(scene.engine.is_reserved("db-0.default"));
            scene.apply(Event::Ips(WatchEvent::Delete(record())));
        },
    ] {
        let mut scene = Scene::new();
        scene.apply(set(1));
        scene.apply(member(0, "uid-1", json!({})));
        scene.apply(gone(member(0, "uid-1", json!({}))));
        assert!(scene.engine.is_reserved("db-0.default"));
        free(&mut scene);
        assert_eq!(scene.engine.lease("db-0.default"), None);
    }
}

#[test]
fn a_reserved_address_is_kept_over_a_change_of_leaders() {
    let mut scene = Scene::new();
    scene.cluster.observe(set(1));
    let mut record = ip("db-0.default", "db-0", "default", "ovn-default", "10.16.0.9", "0a:58:0a:10:00:09");
    record.spec.pod_type = "StatefulSet".to_owned();
    scene.cluster.observe(Event::Ips(WatchEvent::Apply(record)));
    scene.engine = Engine::recover(install(), &scene.cluster, &Replica::new(ovn::northbound()));
    assert!(scene.engine.is_reserved("db-0.default"));
    let write = crate::visible::write(&scene.engine, &scene.cluster, &Object::Ip("db-0.default".into()));
    assert!(!matches!(write, Some(crate::publish::Action::Delete(_))), "the record stays: {write:?}");
    scene.apply(member(0, "uid-2", json!({})));
    assert_eq!(scene.outcome("default/db-0"), "10.16.0.9 of ovn-default");
}

#[test]
fn a_terminated_pod_of_a_stateful_set_keeps_its_address_over_a_change_of_leaders() {
    let mut scene = Scene::new();
    scene.apply(set(1));
    scene.apply(member(0, "uid-1", json!({})));
    let mut record = ip("db-0.default", "db-0", "default", "ovn-default", "10.16.0.2", "0a:58:0a:10:00:02");
    record.spec.pod_type = "StatefulSet".to_owned();
    scene.apply(Event::Ips(WatchEvent::Apply(record)));
    scene.apply(member_in(0, "uid-1", json!({}), "Failed"));
    let kept = |scene: &mut Scene| {
        assert!(scene.engine.is_reserved("db-0.default"));
        assert!(scene.facts_about("db-0.default").is_empty(), "it has no port any more");
    };
    kept(&mut scene);
    scene.engine = Engine::recover(install(), &scene.cluster, &Replica::new(ovn::northbound()));
    kept(&mut scene);
    assert_eq!(scene.pod("default/other", json!({})), "10.16.0.3 of ovn-default");
    scene.apply(member(0, "uid-2", json!({})));
    assert_eq!(scene.outcome("default/db-0"), "10.16.0.2 of ovn-default");
}

#[test]
fn a_new_wish_replaces_a_reserved_address() {
    let mut scene = Scene::new();
    scene.apply(set(1));
    scene.apply(member(0, "uid-1", json!({})));
    scene.apply(gone(member(0, "uid-1", json!({}))));
    scene.apply(member(0, "uid-2", json!({ "ovn.kubernetes.io/ip_pool": "10.16.0.70,10.16.0.71" })));
    assert_eq!(scene.outcome("default/db-0"), "10.16.0.70 of ovn-default");
}

#[test]
fn an_ip_object_is_created_for_a_reserved_address_without_one() {
    let mut scene = Scene::new();
    scene.apply(set(1));
    scene.apply(member(0, "uid-1", json!({})));
    scene.apply(gone(member(0, "uid-1", json!({}))));
    let writes = scene.writes_for("db-0.default");
    let [crate::publish::Action::Create(body)] = writes.as_slice() else { panic!("{writes:?}") };
    let record: Ip = body.parse().unwrap();
    scene.apply(Event::Ips(WatchEvent::Apply(IpRecord::from_object(record))));
    assert_eq!(scene.writes_for("db-0.default"), []);
    scene.engine = Engine::recover(install(), &scene.cluster, &Replica::new(ovn::northbound()));
    assert!(scene.engine.is_reserved("db-0.default"));
}

#[test]
fn a_deleted_ip_object_of_a_reserved_address_loses_only_our_finalizer() {
    let mut scene = Scene::new();
    scene.apply(set(1));
    scene.apply(member(0, "uid-1", json!({})));
    scene.apply(gone(member(0, "uid-1", json!({}))));
    let mut record = ip("db-0.default", "db-0", "default", "ovn-default", "10.16.0.2", "0a:58:0a:10:00:02");
    (record.finalizers, record.terminating) = (vec!["kube-ovn-controller".to_owned(), "other/one".to_owned()], true);
    scene.apply(Event::Ips(WatchEvent::Apply(record.clone())));
    let writes = scene.writes_for("db-0.default");
    let [action] = writes.as_slice() else { panic!("{writes:?}") };
    assert_eq!(action.patch()["metadata"]["finalizers"], json!(["other/one"]), "another finalizer stays");
    scene.apply(Event::Ips(WatchEvent::Delete(record)));
    assert_eq!(scene.engine.lease("db-0.default"), None);
}

#[test]
fn a_member_that_starts_again_gets_the_family_that_its_subnet_has_got_since() {
    let mut scene = Scene::new();
    scene.subnet("net", json!({ "cidrBlock": "10.33.0.0/24" }));
    let on_it = json!({ "ovn.kubernetes.io/logical_switch": "net" });
    scene.apply(set(1));
    scene.apply(member(0, "uid-1", on_it.clone()));
    scene.subnet("net", json!({ "cidrBlock": "10.33.0.0/24,fd00:33::/112" }));
    assert_eq!(scene.outcome("default/db-0"), "10.33.0.2 of net", "it runs");
    scene.apply(gone(member(0, "uid-1", on_it.clone())));
    scene.apply(member(0, "uid-2", on_it));
    assert_eq!(scene.outcome("default/db-0"), "10.33.0.2,fd00:33::2 of net");
}
