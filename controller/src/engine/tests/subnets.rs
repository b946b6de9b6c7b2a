//! Tests of the verdicts on subnets, their bindings, and of nodes on the join subnet.

use super::*;
use crate::engine::Verdict;

fn problem(scene: &Scene, subnet: &str) -> String {
    match scene.engine.verdict(subnet) {
        Some(Verdict::Invalid { message, .. } | Verdict::Held { message }) => message.clone(),
        other => format!("{other:?}"),
    }
}

#[test]
fn an_invalid_subnet_names_the_wrong_field() {
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
        let problem = problem(&scene, "odd");
        assert!(problem.contains("odd") && problem.contains(expected), "{spec}: {problem}");
        assert!(scene.facts_about("odd").is_empty(), "{spec}: nothing of it reaches the database");
    }
}

#[test]
fn a_flag_that_differs_from_an_existing_subnet_is_reported() {
    let mut scene = Scene::new();
    assert_eq!(scene.engine.ineffective_flags(&scene.cluster), [""; 0]);
    scene.subnet("ovn-default", json!({ "cidrBlock": "10.17.0.0/16", "default": true }));
    let idle = "--default-cidr 10.16.0.0/16 does nothing: Subnet ovn-default is there already, and has 10.17.0.0/16; its object is \
        what counts";
    assert_eq!(scene.engine.ineffective_flags(&scene.cluster), [idle]);
}

#[test]
fn a_node_with_an_address_inside_a_subnet_is_reported() {
    let mut scene = Scene::new();
    scene.subnet("over", json!({ "cidrBlock": "172.31.0.0/24" }));
    scene.apply(Event::Nodes(WatchEvent::Apply(node("n2", "172.30.0.1"))));
    assert_eq!(scene.engine.node_inside(&scene.cluster, "n2"), None);
    scene.apply(Event::Nodes(WatchEvent::Apply(node("n1", "172.31.0.1"))));
    assert!(scene.engine.take_unpublished().contains(&Object::Node("n1".into())));
    let why = "node n1: its address 172.31.0.1 is inside subnet over, 172.31.0.0/24: pods do not reach it; one of the two must change";
    assert_eq!(scene.engine.node_inside(&scene.cluster, "n1").as_deref(), Some(why));
    scene.subnet("over", json!({ "cidrBlock": "172.31.1.0/24" }));
    assert!(scene.engine.take_unpublished().contains(&Object::Node("n1".into())), "its event is updated");
    scene.subnet("net", json!({ "cidrBlock": "172.31.0.0/24" }));
    assert_eq!(problem(&scene, "net"), "subnet net: spec.cidrBlock: 172.31.0.0/24 contains 172.31.0.1 of node n1");
}

#[test]
fn two_namespaces_that_want_one_cidr_under_different_names_do_not_both_get_it() {
    let mut scene = Scene::new();
    let wish =
        |name: &str| json!({ "ovn.kubernetes.io/logical_switch": name, "ovn.kubernetes.io/cidr": "10.33.0.0/24" });
    for (namespace, subnet) in [("red", "red-net"), ("blue", "blue-net")] {
        scene.namespace(namespace, wish(subnet));
        let asked = scene.engine.open_wish(&scene.cluster.namespaces[namespace]).unwrap();
        let mut spec = serde_json::to_value(asked.spec.unwrap()).unwrap();
        spec["namespaces"] = json!([namespace]);
        scene.subnet(&asked.subnet, spec);
    }
    assert_eq!(scene.pod("red/a", json!({})), "10.33.0.2 of red-net");
    assert!(problem(&scene, "blue-net").contains("overlaps 10.33.0.0/24 of subnet red-net"));
    let refused = scene.pod("blue/a", json!({}));
    assert!(refused.contains("blue-net") && refused.contains("red-net"), "{refused}");
    assert_eq!(scene.pod("red/b", json!({})), "10.33.0.3 of red-net", "the next pod is served");
    scene.pod_gone("red/a");
    scene.pod_gone("red/b");
    scene.apply(Event::Subnets(WatchEvent::Delete(subnet("red-net", json!({ "cidrBlock": "10.33.0.0/24" })))));
    assert_eq!(scene.engine.verdict("blue-net"), Some(&Verdict::Valid), "the conflict is gone");
    assert_eq!(scene.outcome("blue/a"), "10.33.0.2 of blue-net");
}

#[test]
fn pods_of_an_invalid_subnet_get_the_reason_and_are_served_once_it_is_valid() {
    let mut scene = Scene::new();
    scene.namespace("shop", json!({}));
    scene.subnet("odd", json!({ "cidrBlock": "10.33.0.0/33", "namespaces": ["shop"] }));
    assert!(scene.pod("shop/a", json!({})).contains("spec.cidrBlock"));
    scene.subnet("odd", json!({ "cidrBlock": "10.33.0.0/24", "namespaces": ["shop"] }));
    assert_eq!(scene.outcome("shop/a"), "10.33.0.2 of odd");
}

#[test]
fn an_invalid_edit_leaves_the_previous_definition_in_force() {
    let mut scene = Scene::new();
    scene.subnet("net", json!({ "cidrBlock": "10.33.0.0/24" }));
    let named = json!({ "ovn.kubernetes.io/logical_switch": "net" });
    assert_eq!(scene.pod("default/a", named.clone()), "10.33.0.2 of net");
    let before = scene.facts_about("net");
    scene.subnet("net", json!({ "cidrBlock": "10.33.0.0/24", "gateway": "10.99.0.1" }));
    assert!(problem(&scene, "net").contains("spec.gateway"));
    assert_eq!(scene.facts_about("net"), before);
    assert_eq!(scene.pod("default/b", named), "10.33.0.3 of net");
}

#[test]
fn a_deleted_subnet_in_use_names_the_holders_and_is_released_with_the_last_one() {
    let mut scene = Scene::new();
    let spec = json!({ "cidrBlock": "10.33.0.0/24" });
    scene.subnet("net", spec.clone());
    let named = json!({ "ovn.kubernetes.io/logical_switch": "net" });
    scene.pod("default/a", named.clone());
    scene.apply(Event::Subnets(WatchEvent::Apply(deleting("net", spec.clone()))));
    assert!(problem(&scene, "net").contains("a.default"), "{}", problem(&scene, "net"));
    assert!(scene.pod("default/b", named).contains("it is being deleted"), "no new pod gets an address");
    scene.pod_gone("default/a");
    assert_eq!(scene.engine.verdict("net"), Some(&Verdict::Released));
    assert!(scene.facts_about("net-ovn-cluster").is_empty());
    scene.apply(Event::Subnets(WatchEvent::Delete(deleting("net", spec))));
    assert_eq!(scene.engine.verdict("net"), None);
}

#[test]
fn a_node_gets_an_address_of_the_join_subnet_and_releases_it_when_it_is_deleted() {
    let mut scene = Scene::new();
    scene.apply(Event::Nodes(WatchEvent::Apply(node("n1", "172.30.0.1"))));
    scene.apply(Event::Nodes(WatchEvent::Apply(node("n2", "172.30.0.2"))));
    assert_eq!(scene.engine.lease("node-n2").map(|(_, lease)| lease.ips.to_string()), Some("100.64.0.3".into()));
    assert!(scene.facts_about("ip4.dst == 172.30.0.2").len() == 2, "the way to the node, and its place in the router");
    scene.apply(Event::Nodes(WatchEvent::Delete(node("n2", "172.30.0.2"))));
    assert_eq!(scene.engine.lease("node-n2"), None);
    assert!(scene.facts_about("node-n2").is_empty());
}

impl Scene {
    fn labelled(&mut self, name: &str, labels: Value) {
        self.apply(Event::Namespaces(WatchEvent::Apply(labelled(name, labels, json!({})))));
    }

    /// The subnet of the namespace's next pod.
    fn subnet_of(&self, namespace: &str) -> String {
        self.engine.subnet_of(&self.cluster, namespace).unwrap().to_string()
    }
}

#[test]
fn a_namespace_is_bound_by_its_labels_and_follows_them() {
    let mut scene = Scene::new();
    scene.labelled("early", json!({ "team": "red", "stage": "test" }));
    let select = |selectors: Value| json!({ "cidrBlock": "10.35.0.0/24", "namespaceSelectors": selectors });
    let red = json!([{ "matchLabels": { "team": "red" } }]);
    scene.subnet("red", select(red.clone()));
    scene.labelled("late", json!({ "team": "red" }));
    scene.labelled("other", json!({ "team": "blue" }));
    assert_eq!(["early", "late", "other"].map(|name| scene.subnet_of(name)), ["red", "red", "ovn-default"]);
    assert_eq!(scene.pod("late/a", json!({})), "10.35.0.2 of red");

    scene.labelled("late", json!({ "team": "blue" }));
    scene.labelled("other", json!({ "team": "red" }));
    assert_eq!(["early", "late", "other"].map(|name| scene.subnet_of(name)), ["red", "ovn-default", "red"]);
    assert_eq!(scene.outcome("late/a"), "10.35.0.2 of red", "a running pod keeps its address");

    let expressions = json!([
        { "matchExpressions": [{ "key": "team", "operator": "In", "values": ["blue"] }] },
        { "matchLabels": { "team": "red" }, "matchExpressions": [{ "key": "stage", "operator": "Exists" }] },
    ]);
    scene.subnet("red", select(expressions));
    assert_eq!(["early", "late", "other"].map(|name| scene.subnet_of(name)), ["red", "red", "ovn-default"]);

    let gone = labelled("late", json!({}), json!({}));
    scene.apply(Event::Namespaces(WatchEvent::Delete(gone)));
    scene.labelled("late", json!({}));
    assert_eq!(scene.subnet_of("late"), "ovn-default");
    scene.subnet("red", select(red.clone()));
    scene.apply(Event::Subnets(WatchEvent::Delete(subnet("red", select(red)))));
    assert_eq!(["early", "other"].map(|name| scene.subnet_of(name)), ["ovn-default", "ovn-default"]);
}

#[test]
fn a_list_takes_precedence_over_a_wish_and_a_wish_over_labels() {
    let mut scene = Scene::new();
    let labels = json!({ "team": "red" });
    scene.labelled("shop", labels.clone());
    scene.subnet("a-labels", json!({ "cidrBlock": "10.35.0.0/24", "namespaceSelectors": [{ "matchLabels": labels }] }));
    scene.subnet("b-wished", json!({ "cidrBlock": "10.36.0.0/24" }));
    scene.subnet("c-listed", json!({ "cidrBlock": "10.37.0.0/24", "namespaces": ["shop"] }));
    let wish = json!({ "ovn.kubernetes.io/logical_switch": "b-wished" });
    scene.apply(Event::Namespaces(WatchEvent::Apply(labelled("shop", labels.clone(), wish))));
    assert_eq!(scene.subnet_of("shop"), "c-listed");
    scene.subnet("c-listed", json!({ "cidrBlock": "10.37.0.0/24" }));
    assert_eq!(scene.subnet_of("shop"), "b-wished");
    assert!(scene.engine.open_wish(&scene.cluster.namespaces["shop"]).is_some(), "labels do not grant it");
    scene.labelled("shop", labels.clone());
    assert_eq!(scene.subnet_of("shop"), "a-labels");
    // A namespace that is both listed and selected stays selected when it is no longer listed.
    let both = |names: Value| json!({ "cidrBlock": "10.35.0.0/24", "namespaces": names, "namespaceSelectors": [{ "matchLabels": labels }] });
    scene.subnet("a-labels", both(json!(["shop"])));
    scene.subnet("a-labels", both(json!([])));
    assert_eq!(scene.subnet_of("shop"), "a-labels");
    scene.labelled("shop", json!({}));
    assert_eq!(scene.subnet_of("shop"), "ovn-default");
}

#[test]
fn a_waiting_pod_is_served_when_its_namespaces_labels_change() {
    let mut scene = Scene::new();
    scene.labelled("shop", json!({}));
    scene.subnet("tiny", json!({ "cidrBlock": "10.23.0.0/30", "namespaces": ["shop"] }));
    assert_eq!(scene.pod("shop/a", json!({})), "10.23.0.2 of tiny");
    assert!(scene.pod("shop/b", json!({})).starts_with("refused"));
    scene.subnet(
        "tiny",
        json!({ "cidrBlock": "10.23.0.0/30", "namespaceSelectors": [{ "matchLabels": { "size": "s" } }] }),
    );
    assert_eq!(scene.outcome("shop/b"), "10.16.0.2 of ovn-default");
    scene.subnet(
        "wide",
        json!({ "cidrBlock": "10.24.0.0/24", "namespaceSelectors": [{ "matchLabels": { "size": "l" } }] }),
    );
    scene.labelled("shop", json!({ "size": "s" }));
    assert!(scene.pod("shop/c", json!({})).contains("subnet tiny"));
    scene.labelled("shop", json!({ "size": "l" }));
    assert_eq!(scene.outcome("shop/c"), "10.24.0.2 of wide");
}

#[test]
fn a_network_moves_only_if_all_addresses_in_use_lie_inside() {
    for (to, left_outside) in [
        ("10.34.0.0/24", "10.34.0.0/24 leaves 10.33.0.2 outside, which a.default holds"),
        ("10.33.0.128/25", "10.33.0.128/25 leaves 10.33.0.2 outside, which a.default holds"),
        ("fd00:33::/64", "leaves 10.33.0.2 outside, which a.default holds"),
    ] {
        let mut scene = Scene::new();
        scene.subnet("net", json!({ "cidrBlock": "10.33.0.0/24" }));
        let named = json!({ "ovn.kubernetes.io/logical_switch": "net" });
        scene.pod("default/a", named.clone());
        let before = scene.facts_about("net");
        scene.subnet("net", json!({ "cidrBlock": to }));
        assert!(problem(&scene, "net").contains(left_outside), "{}", problem(&scene, "net"));
        assert_eq!(scene.facts_about("net"), before, "{to}");
        scene.pod_gone("default/a");
        assert_eq!(scene.engine.verdict("net"), Some(&Verdict::Valid), "{to}: with the last one gone it is in force");
        assert_ne!(scene.facts_about("net"), before);
    }
}

#[test]
fn a_network_grows_under_running_pods_and_new_pods_use_all_of_it() {
    let mut scene = Scene::new();
    scene.subnet("net", json!({ "cidrBlock": "10.33.0.0/30" }));
    let named = json!({ "ovn.kubernetes.io/logical_switch": "net" });
    assert_eq!(scene.pod("default/a", named.clone()), "10.33.0.2 of net");
    assert!(scene.pod("default/b", named.clone()).starts_with("refused: "));
    scene.subnet("net", json!({ "cidrBlock": "10.33.0.0/24,fd00:33::/64" }));
    assert_eq!(scene.outcome("default/a"), "10.33.0.2 of net");
    assert_eq!(scene.outcome("default/b"), "10.33.0.4,fd00:33::2 of net", "a takes 10.33.0.3 for a broadcast address");
    let replica = recovery::written(&scene);
    scene.engine = Engine::recover(install(), &scene.cluster, &replica);
    let exactly = json!({ "ovn.kubernetes.io/logical_switch": "net", "ovn.kubernetes.io/ip_address": "10.33.0.3" });
    assert!(scene.pod("default/c", exactly).starts_with("refused: "), "also for the next leader");
    scene.pod_gone("default/a");
    assert!(scene.outcome("default/c").starts_with("10.33.0.3,"), "{}", scene.outcome("default/c"));
    assert!(scene.facts_about("Logical_Router_Port").iter().any(|fact| fact.contains("10.33.0.1/24")));
}

/// The addresses of the router's port in `net`.
fn router_addresses(scene: &mut Scene) -> String {
    let port =
        scene.facts_about("Logical_Router_Port ovn-cluster-net").into_iter().find(|fact| fact.contains("networks="));
    let port = port.unwrap();
    let (_, networks) = port.split_once("networks=[").unwrap();
    networks.split_once(']').unwrap().0.replace('"', "")
}

#[test]
fn a_gateway_moves_and_the_router_answers_for_the_old_one() {
    let mut scene = Scene::new();
    let spec = |gateway: &str| json!({ "cidrBlock": "10.33.0.0/29", "gateway": gateway });
    scene.subnet("net", spec("10.33.0.1"));
    let named = json!({ "ovn.kubernetes.io/logical_switch": "net" });
    assert_eq!(scene.pod("default/a", named.clone()), "10.33.0.2 of net");
    scene.subnet("net", spec("10.33.0.2"));
    assert_eq!(problem(&scene, "net"), "subnet net: spec.gateway: 10.33.0.2 is held by a.default");
    scene.subnet("net", spec("10.33.0.6"));
    assert_eq!(router_addresses(&mut scene), "10.33.0.1/29, 10.33.0.6/29");
    assert_eq!(scene.pod("default/b", named.clone()), "10.33.0.3 of net", "the old gateway is not assigned");
    let exactly = json!({ "ovn.kubernetes.io/logical_switch": "net", "ovn.kubernetes.io/ip_address": "10.33.0.1" });
    let refused = scene.pod("default/c", exactly.clone());
    assert!(refused.contains("10.33.0.1 is kept for the network itself"), "{refused}");
    let gateway = |scene: &Scene, port: &str| {
        let write = crate::visible::write(&scene.engine, &scene.cluster, &Object::Pod(port.into())).unwrap();
        write.patch()["metadata"]["annotations"]["ovn.kubernetes.io/gateway"].clone()
    };
    assert_eq!((gateway(&scene, "a.default"), gateway(&scene, "b.default")), (json!("10.33.0.1"), json!("10.33.0.6")));

    // It moves again, and another replica becomes the leader.
    scene.subnet("net", spec("10.33.0.5"));
    let replica = recovery::written(&scene);
    scene.engine = Engine::recover(install(), &scene.cluster, &replica);
    assert_eq!(router_addresses(&mut scene), "10.33.0.1/29, 10.33.0.5/29, 10.33.0.6/29");
    scene.pod_gone("default/b");
    assert_eq!(router_addresses(&mut scene), "10.33.0.1/29, 10.33.0.5/29");
    scene.pod_gone("default/a");
    assert_eq!(router_addresses(&mut scene), "10.33.0.5/29");
    assert_eq!(scene.outcome("default/c"), "10.33.0.1 of net", "it waited for that address");
}

#[test]
fn a_network_that_overlaps_a_nodes_is_refused_and_a_later_overlap_is_reported() {
    let mut scene = Scene::new();
    scene.apply(Event::Nodes(WatchEvent::Apply(node("n1", "172.30.0.2"))));
    let report = |networks: &str| {
        let options = format!("kube-ovn,kube-ovn-networks={networks},kube-ovn-mtu=1442");
        let report = ovn::southbound::NodeReport::parse(&options);
        Event::Reports([("n1".into(), crate::chassis::NodeChassis { id: "id".into(), report, shares: None })].into())
    };
    scene.apply(report("eth0@172.30.0.0/24;eth1@fd99::/64"));
    scene.apply(Event::ApiServers(["192.0.2.9".parse().unwrap()].into()));
    for (cidr, why) in [
        ("172.30.0.128/25", "172.30.0.128/25 overlaps 172.30.0.0/24 of interface eth0 of node n1"),
        ("10.33.0.0/24,fd99::/80", "fd99::/80 overlaps fd99::/64 of interface eth1 of node n1"),
        ("192.0.2.0/24", "192.0.2.0/24 contains 192.0.2.9 of the API server"),
    ] {
        scene.subnet("lan", json!({ "cidrBlock": cidr }));
        assert_eq!(problem(&scene, "lan"), format!("subnet lan: spec.cidrBlock: {why}"));
        assert!(scene.facts_about("lan").is_empty());
    }
    // The interface disappears, and returns when the subnet has pods.
    scene.subnet("net", json!({ "cidrBlock": "10.40.0.0/24", "mtu": 9000 }));
    scene.apply(report("eth0@10.40.0.0/16"));
    assert_eq!(scene.engine.verdict("net"), Some(&Verdict::Valid), "what is in force stays");
    let message = scene.engine.node_inside(&scene.cluster, "n1").unwrap();
    assert!(
        message.starts_with("node n1: its network 10.40.0.0/16 of interface eth0 is inside subnet net, 10.40.0.0/24"),
        "{message}"
    );
    let shortfall = "spec.mtu: 9000 is more than the tunnels of node n1 carry, pods get 1442 there";
    assert_eq!(scene.engine.mtu_shortfall(&scene.cluster, "net").as_deref(), Some(shortfall));
    scene.subnet("other", json!({ "cidrBlock": "10.40.1.0/24" }));
    assert!(problem(&scene, "other").contains("overlaps 10.40.0.0/16"));
    scene.apply(report(""));
    assert_eq!(scene.engine.verdict("other"), Some(&Verdict::Valid), "as soon as the interface is gone");
}

#[test]
fn no_new_network_is_accepted_before_the_nodes_networks_are_known() {
    let mut scene = Scene::new();
    scene.subnet("old", json!({ "cidrBlock": "10.33.0.0/24" }));
    assert!(scene.pod("default/a", json!({ "ovn.kubernetes.io/logical_switch": "old" })).starts_with("10.33."));
    let replica = recovery::written(&scene);
    scene.cluster.reported = false;
    scene.cluster.observe(Event::Subnets(WatchEvent::Apply(subnet("new", json!({ "cidrBlock": "172.30.0.0/24" })))));
    // The service range has changed as well.
    let install = Install { services: "10.33.0.0/16".parse().unwrap(), ..install() };
    scene.engine = Engine::recover(install, &scene.cluster, &replica);
    assert_eq!(scene.engine.verdict("old"), Some(&Verdict::Valid));
    assert_eq!(scene.outcome("default/a"), "10.33.0.2 of old");
    assert!(problem(&scene, "new").contains("waiting for the southbound database"), "{}", problem(&scene, "new"));
    scene.apply(Event::Reports([].into()));
    assert_eq!(scene.engine.verdict("new"), Some(&Verdict::Valid));
}

/// Agents need the addresses of all nodes. A change of them alone waits for the pace of the status.
#[test]
fn the_status_of_the_join_subnet_lists_the_nodes() {
    let mut scene = Scene::new();
    let join = Object::Subnet("join".into());
    let status = |scene: &Scene| {
        let status = crate::visible::status(&scene.engine, &scene.cluster, &join, jiff::Timestamp::UNIX_EPOCH);
        status.map(|action| action.patch()["status"].clone())
    };
    scene.apply(Event::Nodes(WatchEvent::Apply(node("n2", "172.30.0.2"))));
    scene.apply(Event::Nodes(WatchEvent::Apply(node("n1", "172.30.0.1"))));
    let written = status(&scene).unwrap();
    assert_eq!(written["inForce"]["nodes"], json!(["172.30.0.1", "172.30.0.2"]));
    let mut arrived = scene.cluster.subnets["join"].clone();
    arrived.status = Some(serde_json::from_value(written).unwrap());
    scene.apply(Event::Subnets(WatchEvent::Apply(arrived)));
    assert_eq!(status(&scene), None);

    scene.apply(Event::Nodes(WatchEvent::Delete(node("n2", "172.30.0.2"))));
    assert!(!crate::visible::in_force_differs(&scene.engine, &scene.cluster, &join));
    assert_eq!(status(&scene).unwrap()["inForce"]["nodes"], json!(["172.30.0.1"]));
    let other = Object::Subnet("ovn-default".into());
    let status = crate::visible::status(&scene.engine, &scene.cluster, &other, jiff::Timestamp::UNIX_EPOCH).unwrap();
    assert_eq!(status.patch()["status"]["inForce"]["nodes"], json!(null));
}
