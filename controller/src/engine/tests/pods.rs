//! Tests of the addresses of pods.

use super::*;

#[test]
fn a_namespace_with_a_cidr_gets_its_subnet_and_the_first_pods_get_11_and_12() {
    let mut scene = Scene::new();
    let wish = json!({
        "ovn.kubernetes.io/logical_switch": "test-ns-subnet", "ovn.kubernetes.io/cidr": "10.17.0.0/24",
        "ovn.kubernetes.io/gateway": "10.17.0.1", "ovn.kubernetes.io/exclude_ips": "10.17.0.1..10.17.0.10",
    });
    scene.namespace("test-ns", wish);
    assert!(
        scene.pod("test-ns/a", json!({})).contains("there is no such subnet"),
        "it waits, it does not go elsewhere"
    );
    let asked = scene.engine.open_wish(&scene.cluster.namespaces["test-ns"]).unwrap();
    let made = serde_json::to_value(asked.spec.unwrap()).unwrap();
    scene.subnet(&asked.subnet, made);
    assert_eq!(scene.outcome("test-ns/a"), "10.17.0.11 of test-ns-subnet");
    assert_eq!(scene.pod("test-ns/b", json!({})), "10.17.0.12 of test-ns-subnet");
    assert_eq!(scene.pod("default/c", json!({})), "10.16.0.2 of ovn-default");
}

#[test]
fn a_pod_waits_for_an_unknown_namespace() {
    let mut scene = Scene::new();
    assert!(scene.pod("late/a", json!({})).starts_with("refused: namespace late: metadata"));
    scene.namespace("late", json!({}));
    assert_eq!(scene.outcome("late/a"), "10.16.0.2 of ovn-default");
}

#[test]
fn a_rebound_namespace_moves_new_pods_only() {
    let mut scene = Scene::new();
    scene.namespace("shop", json!({}));
    scene.subnet("one", json!({ "cidrBlock": "10.21.0.0/24", "namespaces": ["shop", "default"] }));
    assert_eq!(scene.pod("shop/old", json!({})), "10.21.0.2 of one");
    scene.subnet("one", json!({ "cidrBlock": "10.21.0.0/24", "namespaces": ["default"] }));
    scene.subnet("two", json!({ "cidrBlock": "10.22.0.0/24", "namespaces": ["shop"] }));
    assert_eq!(scene.outcome("shop/old"), "10.21.0.2 of one");
    assert_eq!(scene.pod("shop/new", json!({})), "10.22.0.2 of two");
    assert_eq!(scene.pod("default/other", json!({})), "10.21.0.3 of one");
}

#[test]
fn an_annotation_written_by_the_controller_is_not_a_wish() {
    let mut scene = Scene::new();
    let written = json!({
        "ovn.kubernetes.io/logical_switch": "gone", "ovn.kubernetes.io/cidr": "10.30.0.0/24",
        "ovn.kubernetes.io/bound_subnet": "gone",
    });
    scene.namespace("shop", written);
    assert_eq!(scene.engine.open_wish(&scene.cluster.namespaces["shop"]), None);
    assert_eq!(scene.pod("shop/a", json!({})), "10.16.0.2 of ovn-default");
}

#[test]
fn a_full_subnet_refuses_a_pod_and_a_released_address_goes_to_it() {
    let mut scene = Scene::new();
    scene.namespace("tiny", json!({}));
    scene.subnet("tiny-net", json!({ "cidrBlock": "10.23.0.0/30", "namespaces": ["tiny"] }));
    assert_eq!(scene.pod("tiny/a", json!({})), "10.23.0.2 of tiny-net");
    let refused = scene.pod("tiny/b", json!({}));
    assert!(refused.contains("subnet tiny-net") && refused.contains("IPv4"), "{refused}");
    assert_eq!(scene.pod("default/c", json!({})), "10.16.0.2 of ovn-default", "others are served");
    scene.pod_gone("tiny/a");
    assert_eq!(scene.outcome("tiny/b"), "10.23.0.2 of tiny-net");
}

#[test]
fn a_completed_pod_releases_its_address_and_its_port() {
    let mut scene = Scene::new();
    scene.pod("default/job", json!({}));
    assert!(!scene.facts_about("job.default").is_empty());
    scene.apply(Event::Pods(WatchEvent::Apply(pod_on("default/job", "uid-1", json!({}), "Succeeded"))));
    assert_eq!(scene.outcome("default/job"), "nothing");
    assert!(scene.facts_about("job.default").is_empty());
}

#[test]
fn a_new_pod_of_the_same_name_is_another_pod() {
    let mut scene = Scene::new();
    scene.pod("default/db", json!({}));
    scene.apply(Event::Pods(WatchEvent::Apply(pod("default/db", "uid-2", json!({})))));
    assert_eq!(scene.outcome("default/db"), "10.16.0.3 of ovn-default", "the first one's address is reused last");
}

#[test]
fn a_pod_that_is_deleted_before_it_is_published_leaves_nothing() {
    let mut scene = Scene::new();
    let born = Event::Pods(WatchEvent::Apply(pod("default/a", "uid-1", json!({}))));
    let dies = || Event::Pods(WatchEvent::Delete(pod("default/a", "uid-1", json!({}))));
    // Both events are observed before the decision.
    for event in [born, dies()] {
        for observed in scene.cluster.observe(event) {
            scene.engine.mark(observed.object);
        }
    }
    scene.engine.decide(&scene.cluster);
    assert_eq!(scene.outcome("default/a"), "nothing");
    // The pod gets an address and is deleted before that is published.
    assert_eq!(scene.pod("default/a", json!({})), "10.16.0.2 of ovn-default");
    for observed in scene.cluster.observe(dies()) {
        scene.engine.mark(observed.object);
    }
    assert_eq!(scene.writes_for("a.default"), [], "an address without a holder is not published");
    scene.engine.decide(&scene.cluster);
    assert_eq!(scene.outcome("default/a"), "nothing");
    assert!(scene.facts_about("a.default").is_empty());
    assert_eq!(scene.writes_for("a.default"), []);
}

#[test]
fn a_new_pod_of_the_same_name_gets_its_own_address_despite_the_old_record() {
    let mut scene = Scene::new();
    assert_eq!(scene.pod("default/db", json!({})), "10.16.0.2 of ovn-default");
    let record = || ip("db.default", "db", "default", "ovn-default", "10.16.0.2", "0a:58:0a:10:00:02");
    scene.apply(Event::Ips(WatchEvent::Apply(record())));
    scene.subnet("net", json!({ "cidrBlock": "10.33.0.0/24" }));
    // In another subnet and without a deletion event, as after a relist.
    let moved = json!({ "ovn.kubernetes.io/logical_switch": "net" });
    scene.apply(Event::Pods(WatchEvent::Apply(pod("default/db", "uid-2", moved.clone()))));
    assert_eq!(scene.outcome("default/db"), "10.33.0.2 of net");
    let writes = scene.writes_for("db.default");
    let [ip, pod] = writes.as_slice() else { panic!("{writes:?}") };
    let (ip, pod) = (ip.patch(), pod.patch());
    assert_eq!((&ip["spec"]["subnet"], &ip["spec"]["ipAddress"]), (&json!("net"), &json!("10.33.0.2")));
    assert_eq!(pod["metadata"]["uid"], "uid-2");
    assert_eq!(scene.pod("default/other", json!({})), "10.16.0.3 of ovn-default");
    // The record is outdated when a new leader reads it. The pod's own subnet counts.
    scene.engine = Engine::recover(install(), &scene.cluster, &Replica::new(ovn::northbound()));
    assert_eq!(scene.outcome("default/db"), "10.33.0.2 of net");
}

#[test]
fn a_malformed_annotation_is_named_and_does_not_affect_other_pods() {
    let mut scene = Scene::new();
    let refused = scene.pod("default/bad", json!({ "ovn.kubernetes.io/ip_address": "10.16.0.300" }));
    assert!(refused.contains("pod default/bad") && refused.contains("ovn.kubernetes.io/ip_address"), "{refused}");
    assert_eq!(scene.pod("default/good", json!({})), "10.16.0.2 of ovn-default");
}

#[test]
fn a_pod_waits_for_an_unknown_subnet() {
    let mut scene = Scene::new();
    let refused = scene.pod("default/a", json!({ "ovn.kubernetes.io/logical_switch": "nowhere" }));
    assert_eq!(refused, "refused: subnet nowhere: metadata.name: there is no such subnet");
    scene.subnet("nowhere", json!({ "cidrBlock": "10.24.0.0/24" }));
    assert_eq!(scene.outcome("default/a"), "10.24.0.2 of nowhere");
}

#[test]
fn a_pod_cannot_take_the_port_of_a_node() {
    let mut scene = Scene::new();
    scene.apply(Event::Nodes(WatchEvent::Apply(node("n1.com", "172.30.0.1"))));
    scene.namespace("com", json!({}));
    scene.apply(Event::Pods(WatchEvent::Apply(pod("com/node-n1", "uid-1", json!({})))));
    let refused = scene.refused(&Object::Pod("node-n1.com".into()));
    assert!(refused.contains("pod com/node-n1: metadata.name"), "{refused}");
    let write = crate::visible::write(&scene.engine, &scene.cluster, &Object::Pod("node-n1.com".into()));
    assert!(write.is_none(), "the node keeps its address: {write:?}");
    scene.pod_gone("com/node-n1");
    assert_eq!(scene.engine.lease("node-n1.com").map(|(subnet, _)| subnet.to_owned()), Some("join".to_owned()));
    scene.apply(Event::Pods(WatchEvent::Apply(pod("com/node-n1", "uid-2", json!({})))));
    scene.apply(Event::Nodes(WatchEvent::Delete(node("n1.com", "172.30.0.1"))));
    assert_eq!(scene.outcome("com/node-n1"), "10.16.0.2 of ovn-default", "the name is free");
}

#[test]
fn a_node_takes_its_port_from_an_older_pod() {
    let mut scene = Scene::new();
    scene.namespace("com", json!({}));
    assert_eq!(scene.pod("com/node-n1", json!({})), "10.16.0.2 of ovn-default");
    scene.apply(Event::Nodes(WatchEvent::Apply(node("n1.com", "172.30.0.1"))));
    let held = |scene: &Scene| scene.engine.lease("node-n1.com").map(|(subnet, _)| subnet.to_owned());
    assert_eq!(held(&scene).as_deref(), Some("join"));
    assert_eq!(scene.refused(&Object::Node("n1.com".into())), "");
    let refused = scene.refused(&Object::Pod("node-n1.com".into()));
    assert!(refused.contains("pod com/node-n1: metadata.name"), "{refused}");
    scene.pod_gone("com/node-n1");
    assert_eq!(held(&scene).as_deref(), Some("join"));
}

#[test]
fn a_chassis_of_no_node_takes_no_address_from_a_pod() {
    let mut scene = Scene::new();
    // The port of a node `n1.default` would have the name of this pod's.
    assert_eq!(scene.pod("default/node-n1", json!({})), "10.16.0.2 of ovn-default");
    scene.apply(chassis_of(&["n1.default"]));
    scene.apply(chassis_of(&[]));
    assert_eq!(scene.outcome("default/node-n1"), "10.16.0.2 of ovn-default");
}

#[test]
fn limits_follow_the_annotations_of_a_running_pod() {
    let mut scene = Scene::new();
    let mut limits = |annotations: Value| {
        scene.pod("default/a", annotations);
        let port = scene.engine.world.port("a.default").unwrap();
        let show = |limit: Option<api::annotations::Limit>| {
            limit.map_or_else(|| "-".to_owned(), |limit| format!("{}/{}", limit.rate, limit.burst))
        };
        let replica = recovery::written(&scene);
        let shown = format!("{} {}", show(port.ingress), show(port.egress));
        let remarks = scene.engine.remarks(&scene.cluster, &Object::Pod("a.default".into()));
        // A new leader has the same limits.
        scene.engine = Engine::recover(install(), &scene.cluster, &replica);
        let port = scene.engine.world.port("a.default").unwrap();
        assert_eq!(format!("{} {}", show(port.ingress), show(port.egress)), shown);
        (shown, remarks.into_iter().map(|remark| remark.message).collect::<Vec<_>>().join("; "))
    };
    let said = |shown: &str| (shown.to_owned(), String::new());
    assert_eq!(limits(json!({})), said("- -"));
    assert_eq!(limits(json!({ "ovn.kubernetes.io/ingress_rate": "10" })), said("10000/8000 -"));
    let both = json!({ "ovn.kubernetes.io/ingress_rate": "3", "ovn.kubernetes.io/egress_rate": "7" });
    assert_eq!(limits(both), said("3000/2400 7000/5600"));
    let quantities = json!({ "kubernetes.io/ingress-bandwidth": "10M", "kubernetes.io/egress-bandwidth": "1" });
    assert_eq!(limits(quantities), said("10000/8000 1/1"));
    let burst = json!({ "ovn.kubernetes.io/ingress_rate": "3", "ovn.kubernetes.io/ingress_burst": "9" });
    assert_eq!(limits(burst), said("3000/9000 -"));
    let (kept, why) = limits(json!({ "ovn.kubernetes.io/ingress_rate": "fast" }));
    assert_eq!(kept, "3000/9000 -");
    assert!(why.starts_with("pod default/a: annotation ovn.kubernetes.io/ingress_rate: "), "{why}");
    // Ours comes before that of Kubernetes, also to say that there is no limit.
    let none = json!({ "ovn.kubernetes.io/ingress_rate": "0", "kubernetes.io/ingress-bandwidth": "10M" });
    assert_eq!(limits(none), said("- -"));
}

#[test]
fn a_pod_stays_mirrored_while_its_annotation_cannot_be_read() {
    let mut scene = Scene::new();
    let pod = |value: &str| json!({ "ovn.kubernetes.io/mirror": value });
    let copied = |scene: &mut Scene| scene.facts_about("mirror_rules").len();
    let collector = json!({ "to": "192.0.2.9", "pods": "Annotated" });
    scene.subnet("net", json!({ "cidrBlock": "10.33.0.0/24", "remoteMirror": collector, "namespaces": ["default"] }));
    scene.namespace("default", json!({}));
    scene.pod("default/a", pod("true"));
    assert_eq!(copied(&mut scene), 1);
    scene.pod("default/a", pod("yes"));
    assert_eq!(copied(&mut scene), 1);
    let replica = recovery::written(&scene);
    scene.engine = Engine::recover(install(), &scene.cluster, &replica);
    scene.engine.decide(&scene.cluster);
    assert_eq!(copied(&mut scene), 1);
    scene.pod("default/a", pod("false"));
    assert_eq!(copied(&mut scene), 0);
}

#[test]
fn fields_for_pods_are_ignored_on_the_join_subnet() {
    let mut scene = Scene::new();
    scene.subnet("join", json!({ "cidrBlock": "100.64.0.0/16", "nodeNetwork": "storage" }));
    let remarks = scene.engine.remarks(&scene.cluster, &Object::Subnet("join".into()));
    let said: Vec<_> = remarks.iter().map(|remark| format!("{}: {}", remark.reason, remark.message)).collect();
    let expected = "FieldIgnored: subnet join: spec.nodeNetwork: it is for pods, and this subnet is the nodes' own; the field is ignored";
    assert_eq!(said, [expected]);
}

#[test]
fn a_pod_leaves_by_the_next_hop_that_it_names() {
    let mut scene = Scene::new();
    let pod = |gateway: &str| json!({ "ovn.kubernetes.io/north_gateway": gateway });
    let way = |scene: &mut Scene| {
        let facts = scene.facts_about("29250");
        let rows = facts.iter().filter(|fact| fact.contains("nexthops"));
        rows.map(|row| row.split("nexthops=").nth(1).unwrap().split(' ').next().unwrap().to_owned()).collect::<String>()
    };
    let events = |scene: &Scene| {
        let remarks = scene.engine.remarks(&scene.cluster, &Object::Pod("a.default".into()));
        remarks.iter().map(|remark| format!("{}: {}", remark.reason, remark.message)).collect::<Vec<_>>()
    };
    scene.pod("default/a", pod("10.16.0.9"));
    assert_eq!(way(&mut scene), r#"["10.16.0.9"]"#);
    assert_eq!(events(&scene), [""; 0]);
    // The last one stays, over a change of the leader, too.
    scene.pod("default/a", pod("10.16.0.900"));
    assert_eq!(way(&mut scene), r#"["10.16.0.9"]"#);
    let replica = recovery::written(&scene);
    scene.engine = Engine::recover(install(), &scene.cluster, &replica);
    scene.engine.decide(&scene.cluster);
    assert_eq!(way(&mut scene), r#"["10.16.0.9"]"#);
    // No subnet has it, and the pod has no address of the other family.
    scene.pod("default/a", pod("192.0.2.1,fd00::9"));
    assert_eq!(way(&mut scene), r#"["192.0.2.1"]"#);
    let lost = "NorthGatewayUnreachable: pod default/a: annotation ovn.kubernetes.io/north_gateway: 192.0.2.1 is in no subnet: \
                the router cannot reach it";
    assert_eq!(events(&scene), [lost]);
    // Not past the gateway of a centralized subnet, even if that has none.
    let spec = |kind: &str| json!({ "cidrBlock": "10.16.0.0/16", "gatewayType": kind });
    scene.subnet("ovn-default", spec("centralized"));
    assert_eq!(way(&mut scene), "");
    scene.subnet("ovn-default", spec("distributed"));
    assert_eq!(way(&mut scene), r#"["192.0.2.1"]"#);
    scene.pod("default/a", json!({}));
    assert_eq!(way(&mut scene), "");
}
