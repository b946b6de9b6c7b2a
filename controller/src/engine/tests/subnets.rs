//! Subnets: in force, refused, held, released; and the nodes on the join subnet.

use super::*;
use crate::engine::Verdict;

fn complaint(scene: &Scene, subnet: &str) -> String {
    match scene.engine.verdict(subnet) {
        Some(Verdict::Invalid { message, .. } | Verdict::Held { message }) => message.clone(),
        other => format!("{other:?}"),
    }
}

#[test]
fn a_subnet_that_cannot_be_says_which_field_is_wrong() {
    for (spec, expected) in [
        (json!({ "cidrBlock": "10.16.8.0/24" }), "overlaps 10.16.0.0/16 of subnet ovn-default"),
        (json!({ "cidrBlock": "100.64.3.0/24" }), "overlaps 100.64.0.0/16 of subnet join"),
        (json!({ "cidrBlock": "10.96.3.0/24" }), "spec.cidrBlock: 10.96.3.0/24 overlaps the service range"),
        (json!({ "cidrBlock": "10.33.0.0/33" }), "spec.cidrBlock"),
        (json!({ "cidrBlock": "" }), "spec.cidrBlock"),
        (json!({ "cidrBlock": "10.33.0.0/24", "gateway": "10.34.0.1" }), "spec.gateway: 10.34.0.1 is outside"),
        (json!({ "cidrBlock": "10.33.0.0/24", "excludeIps": ["10.33.0.9..10.33.0.2"] }), "spec.excludeIps"),
        (json!({ "cidrBlock": "10.33.0.0/24", "gatewayType": "sideways" }), "spec.gatewayType"),
    ] {
        let mut scene = Scene::new();
        scene.subnet("odd", spec.clone());
        let complaint = complaint(&scene, "odd");
        assert!(complaint.contains("odd") && complaint.contains(expected), "{spec}: {complaint}");
        assert!(scene.facts_about("odd").is_empty(), "{spec}: nothing of it reaches the database");
    }
}

#[test]
fn pods_of_an_unusable_subnet_are_told_why_and_served_once_it_is_mended() {
    let mut scene = Scene::new();
    scene.namespace("shop", json!({}));
    scene.subnet("odd", json!({ "cidrBlock": "10.33.0.0/33", "namespaces": ["shop"] }));
    assert!(scene.pod("shop/a", json!({})).contains("spec.cidrBlock"));
    scene.subnet("odd", json!({ "cidrBlock": "10.33.0.0/24", "namespaces": ["shop"] }));
    assert_eq!(scene.outcome("shop/a"), "10.33.0.2 of odd");
}

#[test]
fn an_edit_that_makes_no_sense_leaves_in_force_what_was() {
    let mut scene = Scene::new();
    scene.subnet("net", json!({ "cidrBlock": "10.33.0.0/24" }));
    let named = json!({ "ovn.kubernetes.io/logical_switch": "net" });
    assert_eq!(scene.pod("default/a", named.clone()), "10.33.0.2 of net");
    let before = scene.facts_about("net");
    scene.subnet("net", json!({ "cidrBlock": "10.33.0.0/24", "gateway": "10.99.0.1" }));
    assert!(complaint(&scene, "net").contains("spec.gateway"));
    assert_eq!(scene.facts_about("net"), before);
    assert_eq!(scene.pod("default/b", named), "10.33.0.3 of net");
}

#[test]
fn a_subnet_in_use_says_who_holds_it_and_goes_with_the_last_one() {
    let mut scene = Scene::new();
    let spec = json!({ "cidrBlock": "10.33.0.0/24" });
    scene.subnet("net", spec.clone());
    let named = json!({ "ovn.kubernetes.io/logical_switch": "net" });
    scene.pod("default/a", named.clone());
    scene.happens(Event::Subnets(Seen::Apply(deleting("net", spec.clone()))));
    assert!(complaint(&scene, "net").contains("a.default"), "{}", complaint(&scene, "net"));
    assert!(scene.pod("default/b", named).contains("it is being deleted"), "no new pod gets in");
    scene.pod_gone("default/a");
    assert_eq!(scene.engine.verdict("net"), Some(&Verdict::Released));
    assert!(scene.facts_about("net-ovn-cluster").is_empty());
    scene.happens(Event::Subnets(Seen::Delete(deleting("net", spec))));
    assert_eq!(scene.engine.verdict("net"), None);
}

#[test]
fn a_node_gets_its_place_on_the_join_subnet_and_loses_it_when_it_goes() {
    let mut scene = Scene::new();
    scene.happens(Event::Nodes(Seen::Apply(node("n1", "172.30.0.1"))));
    scene.happens(Event::Nodes(Seen::Apply(node("n2", "172.30.0.2"))));
    assert_eq!(scene.engine.lease("node-n2").map(|(_, lease)| lease.ips.to_string()), Some("100.64.0.3".into()));
    assert!(scene.facts_about("ip4.dst == 172.30.0.2").len() == 2, "the way to the node, and its place in the router");
    scene.happens(Event::Nodes(Seen::Delete(node("n2", "172.30.0.2"))));
    assert_eq!(scene.engine.lease("node-n2"), None);
    assert!(scene.facts_about("node-n2").is_empty());
}
