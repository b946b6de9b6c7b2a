//! Tests of IPPools: verdicts, the addresses of their pods, and their statuses.

use super::*;
use crate::cluster::StatefulSet;
use crate::engine::PoolVerdict;
use crate::visible;

fn asks(pool: &str) -> Value {
    json!({ "ovn.kubernetes.io/ip_pool": pool })
}

fn problem(scene: &Scene, pool: &str) -> String {
    match scene.engine.pool(pool).map(|pool| &pool.verdict) {
        Some(PoolVerdict::Invalid { message, .. } | PoolVerdict::Partly { message, .. }) => message.clone(),
        other => format!("{other:?}"),
    }
}

/// The status that would be written to a pool.
fn status(scene: &Scene, pool: &str) -> Value {
    let object = Object::IpPool(pool.into());
    let write = visible::status(&scene.engine, &scene.cluster, &object, jiff::Timestamp::UNIX_EPOCH).unwrap();
    write.patch()["status"].clone()
}

/// The annotations that would be written to a namespace.
fn annotated(scene: &Scene, namespace: &str) -> Value {
    let write = visible::write(&scene.engine, &scene.cluster, &Object::Namespace(namespace.into())).unwrap();
    write.patch()["metadata"]["annotations"].clone()
}

#[test]
fn pods_that_name_a_pool_get_its_addresses() {
    let mut scene = Scene::new();
    scene.pool("shop", "ovn-default", &["10.16.0.2..10.16.0.4"], &[]);
    assert_eq!(scene.pod("default/other", json!({})), "10.16.0.5 of ovn-default");
    assert_eq!(scene.pod("default/a", asks("shop")), "10.16.0.2 of ovn-default");
    assert_eq!(scene.pod("default/b", asks("shop")), "10.16.0.3 of ovn-default");
    assert_eq!(scene.pod("default/c", asks("shop")), "10.16.0.4 of ovn-default");
    let refused = scene.pod("default/d", asks("shop"));
    assert_eq!(refused, "refused: subnet ovn-default: no IPv4 address is left in pool shop (3 in use)");
    scene.pod_gone("default/b");
    assert_eq!(scene.outcome("default/d"), "10.16.0.3 of ovn-default");
}

#[test]
fn a_pool_has_an_address_set_while_its_spec_asks_for_one() {
    let mut scene = Scene::new();
    let mut asking = pool("shop-a", "ovn-default", &["10.16.0.7", "10.16.0.8..10.16.0.11", "10.16.0.20/30"], &[]);
    asking.spec.enable_address_set = Some(true);
    scene.apply(Event::IpPools(WatchEvent::Apply(asking.clone())));
    let set = |scene: &mut Scene, name: &str| {
        let facts = scene.facts_about(&format!("Address_Set {name} ")).into_iter();
        facts.filter_map(|fact| Some(fact.split_once("addresses += ")?.1.replace('"', ""))).collect::<Vec<_>>()
    };
    assert_eq!(set(&mut scene, "shop.a"), ["10.16.0.20/30", "10.16.0.7", "10.16.0.8/30"]);
    assert!(scene.facts_about("Address_Set shop.a ").iter().any(|fact| fact.contains("ippool=shop-a")));
    // This pool's address set would have the same name.
    let mut other = pool("shop.a", "ovn-default", &["10.16.0.30"], &[]);
    other.spec.enable_address_set = Some(true);
    scene.apply(Event::IpPools(WatchEvent::Apply(other)));
    assert!(problem(&scene, "shop.a").contains("its address set would be called shop.a, as that of ippool shop-a is"));
    asking.spec.enable_address_set = Some(false);
    scene.apply(Event::IpPools(WatchEvent::Apply(asking)));
    assert!(!scene.facts_about("Address_Set").iter().any(|fact| fact.contains("ippool=shop-a")));
    assert_eq!(set(&mut scene, "shop.a"), ["10.16.0.30"], "the other has the name now");
    assert_eq!(scene.pod("default/a", asks("shop.a")), "10.16.0.30 of ovn-default");
}

#[test]
fn a_pod_waits_for_its_pool_and_gets_an_address_in_the_pools_subnet() {
    let mut scene = Scene::new();
    let refused = scene.pod("default/a", asks("shop"));
    assert_eq!(refused, "refused: pod default/a: annotation ovn.kubernetes.io/ip_pool: there is no IPPool shop");
    scene.pool("shop", "net", &["10.20.0.7"], &[]);
    let refused = scene.outcome("default/a");
    assert!(refused.contains("ippool shop: spec.subnet: there is no subnet net"), "{refused}");
    scene.subnet("net", json!({ "cidrBlock": "10.20.0.0/24" }));
    assert_eq!(scene.outcome("default/a"), "10.20.0.7 of net");
    assert!(
        scene.pod("default/b", asks("shop")).starts_with("refused: subnet net: no IPv4 address is left in pool shop")
    );
    scene.pool("shop", "net", &["10.20.0.7", "10.20.0.9"], &[]);
    assert_eq!(scene.outcome("default/b"), "10.20.0.9 of net", "it was woken by the pool's change");
    let elsewhere = json!({ "ovn.kubernetes.io/ip_pool": "shop", "ovn.kubernetes.io/logical_switch": "ovn-default" });
    let refused = scene.pod("default/c", elsewhere);
    assert!(refused.contains("ip_pool: IPPool shop is of subnet net, not of ovn-default"), "{refused}");
}

#[test]
fn pods_of_a_bound_namespace_get_addresses_of_its_pools_only() {
    let mut scene = Scene::new();
    scene.namespace("shop", json!({}));
    scene.pool("one", "ovn-default", &["10.16.0.2"], &["shop"]);
    scene.pool("two", "ovn-default", &["10.16.0.9"], &["shop"]);
    assert_eq!(scene.pod("shop/a", json!({})), "10.16.0.2 of ovn-default");
    assert_eq!(scene.pod("shop/b", json!({})), "10.16.0.9 of ovn-default");
    assert!(scene.pod("shop/c", json!({})).contains("no IPv4 address is left in pool two"));
    assert_eq!(scene.pod("default/d", json!({})), "10.16.0.3 of ovn-default");
    // A static address need not be in a pool.
    let fixed = json!({ "ovn.kubernetes.io/ip_address": "10.16.0.77" });
    assert_eq!(scene.pod("shop/fixed", fixed), "10.16.0.77 of ovn-default");
    scene.subnet("net", json!({ "cidrBlock": "10.20.0.0/24" }));
    assert_eq!(scene.pod("shop/guest", json!({ "ovn.kubernetes.io/logical_switch": "net" })), "10.20.0.2 of net");
    scene.pool("one", "ovn-default", &["10.16.0.2"], &[]);
    scene.pool("two", "ovn-default", &["10.16.0.9"], &[]);
    assert_eq!(scene.outcome("shop/c"), "10.16.0.4 of ovn-default", "without a pool it can have any address");
    assert_eq!(scene.outcome("shop/a"), "10.16.0.2 of ovn-default", "a pod keeps its address");
}

#[test]
fn a_namespace_names_pools_by_annotation_and_its_annotations_show_the_binding() {
    let mut scene = Scene::new();
    scene.pool("one", "ovn-default", &["10.16.0.20"], &[]);
    scene.namespace("shop", asks("one, none"));
    assert_eq!(scene.pod("shop/a", json!({})), "10.16.0.20 of ovn-default");
    let written = annotated(&scene, "shop");
    assert_eq!(written.get("ovn.kubernetes.io/ip_pool"), None, "the wish of the user stays");

    scene.namespace("bank", asks("late"));
    let refused = scene.pod("bank/a", json!({}));
    assert_eq!(refused, "refused: namespace bank: annotation ovn.kubernetes.io/ip_pool: there is no IPPool late");
    scene.pool("late", "ovn-default", &["10.16.0.30"], &["bank", "listed"]);
    assert_eq!(scene.outcome("bank/a"), "10.16.0.30 of ovn-default");
    assert_eq!(annotated(&scene, "bank")["ovn.kubernetes.io/bound_ip_pool"], "late", "the wish is fulfilled");

    scene.namespace("listed", json!({}));
    assert_eq!(annotated(&scene, "listed")["ovn.kubernetes.io/ip_pool"], "late");
    let answer = json!({ "ovn.kubernetes.io/ip_pool": "late", "ovn.kubernetes.io/bound_ip_pool": "late" });
    scene.namespace("listed", answer);
    scene.pool("late", "ovn-default", &["10.16.0.30"], &[]);
    assert_eq!(
        scene.pod("listed/a", json!({})),
        "10.16.0.2 of ovn-default",
        "an annotation of the controller is not a wish"
    );
    let written = annotated(&scene, "listed");
    assert_eq!(
        (&written["ovn.kubernetes.io/ip_pool"], &written["ovn.kubernetes.io/bound_ip_pool"]),
        (&Value::Null, &Value::Null)
    );
}

#[test]
fn pools_of_another_subnet_than_the_namespaces_are_reported() {
    let mut scene = Scene::new();
    scene.namespace("shop", json!({}));
    scene.subnet("net", json!({ "cidrBlock": "10.20.0.0/24" }));
    scene.pool("far", "net", &["10.20.0.9"], &["shop"]);
    let refused = scene.pod("shop/a", json!({}));
    assert!(refused.contains("namespace shop") && refused.contains("IPPool far is of subnet net"), "{refused}");
    scene.subnet("net", json!({ "cidrBlock": "10.20.0.0/24", "namespaces": ["shop"] }));
    assert_eq!(scene.outcome("shop/a"), "10.20.0.9 of net");
}

#[test]
fn an_invalid_pool_names_the_wrong_field() {
    let mut scene = Scene::new();
    scene.subnet("odd", json!({ "cidrBlock": "10.33.0.0/33" }));
    scene.subnet("far", json!({ "cidrBlock": "10.34.0.0/24", "provider": "another" }));
    scene.pool("first", "ovn-default", &["10.16.0.20..10.16.0.29"], &[]);
    for (subnet, ip, expected) in [
        ("none", "10.16.0.40", "spec.subnet: there is no subnet none"),
        ("odd", "10.33.0.4", "spec.subnet: subnet odd is not in force"),
        ("far", "10.34.0.4", "spec.subnet: subnet far is not served here"),
        ("ovn-default", "10.16.0.4x", "spec.ips: \"10.16.0.4x\" is not"),
        ("ovn-default", "10.17.0.0/24", "spec.ips: pool second: none of its addresses is in 10.16.0.0/16"),
        ("ovn-default", "10.16.0.16/28", "spec.ips: pool second: 10.16.0.20 is in pool first of subnet ovn-default"),
    ] {
        scene.pool("second", subnet, &[ip], &[]);
        let problem = problem(&scene, "second");
        assert!(problem.starts_with("ippool second: ") && problem.contains(expected), "{ip}: {problem}");
        let conditions = &status(&scene, "second")["conditions"];
        let ready = conditions.as_array().unwrap().iter().find(|condition| condition["type"] == "Ready").unwrap();
        assert_eq!((&ready["status"], ready["message"].as_str()), (&json!("False"), Some(&*problem)));
    }
    scene.apply(Event::IpPools(WatchEvent::Delete(pool("first", "ovn-default", &["10.16.0.20..10.16.0.29"], &[]))));
    assert_eq!(
        scene.engine.pool("second").map(|pool| &pool.verdict),
        Some(&PoolVerdict::Valid),
        "the conflict is gone"
    );
}

#[test]
fn addresses_outside_of_the_subnet_are_reported_and_the_rest_is_used() {
    let mut scene = Scene::new();
    scene.pool("shop", "ovn-default", &["10.16.0.40", "10.17.0.0/30"], &[]);
    let problem = problem(&scene, "shop");
    assert!(problem.contains("spec.ips: 10.17.0.0..10.17.0.3 is not inside 10.16.0.0/16"), "{problem}");
    assert_eq!(scene.pod("default/a", asks("shop")), "10.16.0.40 of ovn-default");
    let status = status(&scene, "shop");
    let shown: Vec<_> = status["conditions"].as_array().unwrap().iter().map(|c| (&c["type"], &c["status"])).collect();
    let expected = [("Validated", "False"), ("Ready", "True"), ("Error", "False")].map(|(t, s)| (json!(t), json!(s)));
    assert_eq!(shown, expected.iter().map(|(t, s)| (t, s)).collect::<Vec<_>>());
}

#[test]
fn the_status_follows_the_pods() {
    let mut scene = Scene::new();
    scene.pool("shop", "ovn-default", &["10.16.0.40..10.16.0.44", "10.16.0.50"], &[]);
    scene.engine.take_unpublished();
    scene.pod("default/a", asks("shop"));
    scene.pod("default/b", asks("shop"));
    assert!(scene.engine.take_unpublished().contains(&Object::IpPool("shop".into())), "its status is looked at again");
    let written = status(&scene, "shop");
    assert_eq!((&written["v4UsingIPs"], &written["v4AvailableIPs"]), (&json!(2), &json!(4)));
    assert_eq!(written["v4UsingIPRange"], "10.16.0.40-10.16.0.41");
    assert_eq!(written["v4AvailableIPRange"], "10.16.0.42-10.16.0.44,10.16.0.50");
    scene.pod_gone("default/a");
    assert!(scene.engine.take_unpublished().contains(&Object::IpPool("shop".into())));
    assert_eq!(status(&scene, "shop")["v4UsingIPRange"], "10.16.0.41");
}

#[test]
fn the_addresses_of_a_deleted_pool_stay_with_their_holders() {
    let mut scene = Scene::new();
    scene.subnet("tiny", json!({ "cidrBlock": "10.23.0.0/29", "namespaces": ["default"] }));
    scene.pool("shop", "tiny", &["10.23.0.2..10.23.0.6"], &[]);
    assert_eq!(scene.pod("default/a", asks("shop")), "10.23.0.2 of tiny");
    let refused = scene.pod("default/b", json!({}));
    assert!(refused.contains("no IPv4 address is left in 10.23.0.0/29 outside of its pool"), "{refused}");
    let mut going = pool("shop", "tiny", &["10.23.0.2..10.23.0.6"], &[]);
    going.metadata.finalizers = Some(vec!["kubeovn.io/kube-ovn-controller".to_owned()]);
    going.metadata.deletion_timestamp = Some(object(json!("2026-01-01T00:00:00Z")));
    scene.apply(Event::IpPools(WatchEvent::Apply(going)));
    assert_eq!(scene.outcome("default/b"), "10.23.0.3 of tiny", "the rest is available to all pods");
    assert_eq!(scene.outcome("default/a"), "10.23.0.2 of tiny");
    let patch = visible::write(&scene.engine, &scene.cluster, &Object::IpPool("shop".into())).unwrap().patch();
    assert_eq!(patch["metadata"]["finalizers"], json!([]), "kube-ovn's finalizer does not hold it");
    assert!(scene.pod("default/c", asks("shop")).contains("there is no IPPool shop"));
}

#[test]
fn a_stateful_sets_pod_keeps_its_address_from_the_pool() {
    let mut scene = Scene::new();
    let set = StatefulSet { path: "default/db".into(), ordinals: 0..1 };
    scene.apply(Event::StatefulSets(WatchEvent::Apply(set)));
    scene.pool("shop", "ovn-default", &["10.16.0.40..10.16.0.44"], &[]);
    let member = |uid: &str| -> Pod {
        let owner =
            json!([{ "apiVersion": "apps/v1", "kind": "StatefulSet", "name": "db", "uid": "s", "controller": true }]);
        let metadata = json!({
            "name": "db-0", "namespace": "default", "uid": uid, "annotations": asks("shop"), "ownerReferences": owner,
        });
        let view: PodView = object(json!({ "metadata": metadata, "spec": { "nodeName": "n1" } }));
        Pod::from_view(&view).unwrap()
    };
    scene.apply(Event::Pods(WatchEvent::Apply(member("1"))));
    assert_eq!(scene.outcome("default/db-0"), "10.16.0.40 of ovn-default");
    scene.apply(Event::Pods(WatchEvent::Delete(member("1"))));
    assert_eq!(scene.pod("default/other", asks("shop")), "10.16.0.41 of ovn-default");
    scene.apply(Event::Pods(WatchEvent::Apply(member("2"))));
    assert_eq!(scene.outcome("default/db-0"), "10.16.0.40 of ovn-default");
    scene.apply(Event::Pods(WatchEvent::Delete(member("2"))));
    scene.pool("shop", "ovn-default", &["10.16.0.43..10.16.0.44"], &[]);
    scene.apply(Event::Pods(WatchEvent::Apply(member("3"))));
    assert_eq!(scene.outcome("default/db-0"), "10.16.0.43 of ovn-default", "the kept one is not in the pool any more");
}

#[test]
fn after_a_change_of_leaders_the_older_of_two_pools_has_the_address() {
    let mut scene = Scene::new();
    let aged = |name: &str, year: u16| {
        let mut pool = pool(name, "ovn-default", &["10.16.0.40..10.16.0.44"], &[]);
        pool.metadata.creation_timestamp = Some(object(json!(format!("{year}-01-01T00:00:00Z"))));
        pool
    };
    scene.apply(Event::IpPools(WatchEvent::Apply(aged("younger-by-age", 2026))));
    scene.apply(Event::IpPools(WatchEvent::Apply(aged("zz-older", 2025))));
    scene.engine = Engine::recover(install(), &scene.cluster, &Replica::new(ovn::northbound()));
    assert_eq!(scene.engine.pool("zz-older").map(|pool| &pool.verdict), Some(&PoolVerdict::Valid));
    assert!(problem(&scene, "younger-by-age").contains("in pool zz-older"));
    assert_eq!(scene.pod("default/other", json!({})), "10.16.0.2 of ovn-default");
}

#[test]
fn a_pod_can_have_one_family_of_a_dual_stack_subnet() {
    let mut scene = Scene::new();
    scene.subnet("dual", json!({ "cidrBlock": "10.20.0.0/24,fd00:20::/64", "namespaces": ["default"] }));
    let of = |family: &str| json!({ "ovn.kubernetes.io/ip_family": family });
    assert_eq!(scene.pod("default/four", of("ipv4")), "10.20.0.2 of dual");
    assert_eq!(scene.pod("default/six", of("ipv6")), "fd00:20::2 of dual");
    assert_eq!(scene.pod("default/both", of("dual")), "10.20.0.3,fd00:20::3 of dual");
    let patch = visible::write(&scene.engine, &scene.cluster, &Object::Pod("six.default".into())).unwrap().patch();
    let annotation = |name: &str| patch["metadata"]["annotations"][format!("ovn.kubernetes.io/{name}")].clone();
    assert_eq!(
        (annotation("cidr"), annotation("gateway")),
        (json!("10.20.0.0/24,fd00:20::/64"), json!("10.20.0.1,fd00:20::1"))
    );
    let elsewhere = json!({ "ovn.kubernetes.io/ip_family": "ipv6", "ovn.kubernetes.io/logical_switch": "ovn-default" });
    let refused = scene.pod("default/lost", elsewhere);
    assert_eq!(refused, "refused: subnet ovn-default: it has no IPv6 network, only 10.16.0.0/16");
}

#[test]
fn a_namespace_of_two_pools_is_served_by_either() {
    for which in ["first", "second"] {
        let mut scene = Scene::new();
        scene.namespace("default", json!({ "ovn.kubernetes.io/ip_pool": "first,second" }));
        let refused = scene.pod("default/a", json!({}));
        assert!(refused.contains("namespace default: annotation ovn.kubernetes.io/ip_pool"), "{refused}");
        scene.pool(which, "ovn-default", &["10.16.0.40"], &[]);
        assert_eq!(scene.outcome("default/a"), "10.16.0.40 of ovn-default");
    }
}

#[test]
fn a_pool_reports_the_state_of_its_subnet() {
    let mut scene = Scene::new();
    scene.subnet("net", json!({ "cidrBlock": "10.16.0.0/24" }));
    scene.pool("pool", "net", &["10.33.0.40"], &[]);
    assert!(problem(&scene, "pool").contains("spec.subnet: subnet net is not in force"));
    scene.subnet("net", json!({ "cidrBlock": "10.33.0.0/24", "provider": "else" }));
    assert!(problem(&scene, "pool").contains("spec.subnet: subnet net is not served here"));
    scene.apply(Event::Subnets(WatchEvent::Delete(subnet("net", json!({ "cidrBlock": "10.33.0.0/24" })))));
    assert!(problem(&scene, "pool").contains("spec.subnet: there is no subnet net"));
}

#[test]
fn a_pool_that_moves_to_another_subnet_releases_its_addresses() {
    let mut scene = Scene::new();
    scene.subnet("net", json!({ "cidrBlock": "10.33.0.0/24" }));
    scene.pool("pool", "ovn-default", &["10.16.0.40"], &[]);
    scene.pool("other", "ovn-default", &["10.16.0.40"], &[]);
    assert!(problem(&scene, "other").contains("in pool pool"));
    scene.pool("pool", "net", &["10.33.0.40"], &[]);
    assert_eq!(scene.engine.pool("other").map(|pool| &pool.verdict), Some(&PoolVerdict::Valid));
}

#[test]
fn a_namespace_of_two_subnets_uses_the_second_when_the_first_is_full() {
    let mut scene = Scene::new();
    scene.namespace("shop", json!({}));
    scene.subnet("a", json!({ "cidrBlock": "10.33.0.0/24", "namespaces": ["shop"] }));
    scene.subnet("b", json!({ "cidrBlock": "10.34.0.0/24", "namespaces": ["shop"] }));
    scene.pool("pool-a", "a", &["10.33.0.9"], &["shop"]);
    scene.pool("pool-b", "b", &["10.34.0.9"], &["shop"]);
    assert_eq!(scene.pod("shop/one", json!({})), "10.33.0.9 of a");
    assert_eq!(scene.pod("shop/two", json!({})), "10.34.0.9 of b");
    assert!(scene.pod("shop/three", json!({})).contains("no IPv4 address is left in pool pool-a"));
    scene.pod_gone("shop/two");
    assert_eq!(scene.outcome("shop/three"), "10.34.0.9 of b", "an address of either wakes it");
}
