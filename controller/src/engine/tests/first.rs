//! Precedence: the first pool, node or port that claims something keeps it, also after a change of leaders. The same
//! holds for the order of waiting pods.

use super::*;

/// Another replica becomes the leader.
fn change_of_leaders(scene: &mut Scene) {
    let replica = recovery::written(scene);
    scene.engine = Engine::recover(install(), &scene.cluster, &replica);
}

/// The watch reports the status that the controller writes to a pool.
fn status_arrives(scene: &mut Scene, name: &str) {
    let object = Object::IpPool(name.into());
    let status = crate::visible::status(&scene.engine, &scene.cluster, &object, jiff::Timestamp::UNIX_EPOCH).unwrap();
    let mut pool = scene.cluster.pools[name].clone();
    pool.status = Some(serde_json::from_value(status.patch()["status"].clone()).unwrap());
    scene.apply(Event::IpPools(WatchEvent::Apply(pool)));
}

#[test]
fn a_pool_edited_to_overlap_another_does_not_win_by_a_change_of_leaders() {
    let mut scene = Scene::new();
    scene.pool("a", "ovn-default", &["10.16.0.10"], &[]);
    scene.pool("b", "ovn-default", &["10.16.0.20..10.16.0.29"], &[]);
    for name in ["a", "b"] {
        status_arrives(&mut scene, name);
    }
    let status = scene.cluster.pools["a"].status.clone();
    let mut edited = pool("a", "ovn-default", &["10.16.0.10", "10.16.0.20"], &[]);
    edited.status = status;
    scene.apply(Event::IpPools(WatchEvent::Apply(edited)));
    let verdicts = |scene: &Scene| ["a", "b"].map(|name| format!("{:?}", scene.engine.pool(name).unwrap().verdict));
    let before = verdicts(&scene);
    assert!(before[0].starts_with("Invalid") && before[1] == "Valid", "{before:?}");
    change_of_leaders(&mut scene);
    assert_eq!(verdicts(&scene), before);
    assert_eq!(scene.pod("default/x", json!({ "ovn.kubernetes.io/ip_pool": "b" })), "10.16.0.20 of ovn-default");
    assert_eq!(scene.pod("default/y", json!({ "ovn.kubernetes.io/ip_pool": "a" })), "10.16.0.10 of ovn-default");
}

#[test]
fn ports_that_an_agent_has_added_again_are_an_event_of_the_node() {
    let mut scene = Scene::new();
    scene.apply(Event::Nodes(WatchEvent::Apply(node("n1", "172.30.0.1"))));
    let remarks = |scene: &Scene| scene.engine.remarks(&scene.cluster, &Object::Node("n1".into()));
    let report = |restored| {
        let report = ovn::southbound::NodeReport { restored, ..Default::default() };
        Event::Reports([("n1".into(), crate::chassis::NodeChassis { id: "id".into(), report, shares: None })].into())
    };
    scene.apply(report(0));
    assert_eq!(remarks(&scene), []);
    scene.apply(report(3));
    let [remark] = remarks(&scene).try_into().unwrap();
    assert_eq!(remark.reason, "PortsRestored");
    assert!(remark.message.contains("the ports of 3 running pods"), "{remark:?}");
}

#[test]
fn a_tunnel_address_of_two_nodes_is_an_event_of_both() {
    let mut scene = Scene::new();
    for (name, ip) in [("n1", "172.30.0.1"), ("n2", "172.30.0.2")] {
        scene.apply(Event::Nodes(WatchEvent::Apply(node(name, ip))));
    }
    let with = |other: &str| crate::chassis::NodeChassis {
        id: "id".into(),
        shares: Some(("172.31.0.1".parse().unwrap(), other.into())),
        ..Default::default()
    };
    scene.apply(Event::Reports([("n1".into(), with("n2")), ("n2".into(), with("n1"))].into()));
    for (name, other) in [("n1", "n2"), ("n2", "n1")] {
        let [remark] = scene.engine.remarks(&scene.cluster, &Object::Node(name.into())).try_into().unwrap();
        assert_eq!(remark.reason, "NodeAddressConflict");
        let said = format!("node {name}: its tunnel address 172.31.0.1 is that of {other} as well");
        assert!(remark.message.starts_with(&said), "{remark:?}");
    }
}

#[test]
fn of_two_nodes_with_one_address_the_first_owns_it_and_the_other_is_reported() {
    let mut scene = Scene::new();
    scene.apply(Event::Nodes(WatchEvent::Apply(node("n2", "172.30.0.1"))));
    scene.apply(Event::Nodes(WatchEvent::Apply(node("n1", "172.30.0.1"))));
    let leads_to = |scene: &mut Scene| {
        let policies = scene.facts_about("ip4.dst == 172.30.0.1").into_iter();
        policies.filter(|fact| fact.contains("nexthops")).collect::<Vec<_>>()
    };
    let remarks = |scene: &Scene, name: &str| scene.engine.remarks(&scene.cluster, &Object::Node(name.into()));
    let published = |scene: &Scene, name: &str| {
        let write = crate::visible::write(&scene.engine, &scene.cluster, &Object::Ip(format!("node-{name}").into()));
        let Some(crate::publish::Action::Create(body)) = write else { panic!("{write:?}") };
        body.parse::<Value>().unwrap()["spec"]["nodeAddresses"].to_string()
    };
    let before = leads_to(&mut scene);
    assert!(before.len() == 1 && before[0].contains("100.64.0.2"), "{before:?}");
    assert_eq!((published(&scene, "n2"), published(&scene, "n1")), (r#"["172.30.0.1"]"#.to_owned(), "[]".to_owned()));
    assert_eq!(remarks(&scene, "n2"), []);
    let [remark] = remarks(&scene, "n1").try_into().unwrap();
    assert_eq!(remark.reason, "NodeAddressConflict");
    assert!(
        remark.message.starts_with("node n1: its address 172.30.0.1 is node n2's, which had it first"),
        "{remark:?}"
    );
    change_of_leaders(&mut scene);
    assert_eq!(leads_to(&mut scene), before);
    scene.apply(Event::Nodes(WatchEvent::Apply(node("n2", "172.30.0.2"))));
    assert!(leads_to(&mut scene)[0].contains("100.64.0.3"), "the other has it now");
    assert_eq!(published(&scene, "n1"), r#"["172.30.0.1"]"#);
    assert_eq!(remarks(&scene, "n1"), []);
}

#[test]
fn waiting_pods_are_served_in_order_of_creation() {
    let mut scene = Scene::new();
    scene.subnet("net", json!({ "cidrBlock": "10.33.0.0/30" }));
    let named = json!({ "ovn.kubernetes.io/logical_switch": "net" });
    let made = |path: &str, made: i64| Pod { made, ..pod(path, "uid-1", named.clone()) };
    scene.apply(Event::Pods(WatchEvent::Apply(made("default/first", 1))));
    for (path, at) in [("default/z", 10), ("default/m", 20), ("default/a", 30)] {
        scene.apply(Event::Pods(WatchEvent::Apply(made(path, at))));
        assert!(scene.outcome(path).starts_with("refused: "));
    }
    scene.pod_gone("default/first");
    assert_eq!(scene.outcome("default/z"), "10.33.0.2 of net");
    change_of_leaders(&mut scene);
    scene.pod_gone("default/z");
    assert_eq!(scene.outcome("default/m"), "10.33.0.2 of net");
    assert!(scene.outcome("default/a").starts_with("refused: "));
}

#[test]
fn a_port_name_has_one_owner() {
    let mut scene = Scene::new();
    let port = "foo.bar-ovn-cluster";
    scene.namespace("bar-ovn-cluster", json!({}));
    scene.subnet("foo.bar", json!({ "cidrBlock": "10.33.0.0/24" }));
    let refused = scene.pod("bar-ovn-cluster/foo", json!({}));
    assert!(
        refused.contains("its port would be called foo.bar-ovn-cluster, as that of subnet foo.bar to the router is"),
        "{refused}"
    );
    assert_eq!(scene.facts_about(port).iter().filter(|fact| fact.starts_with("Logical_Switch_Port")).count(), 1);
    scene.apply(Event::Subnets(WatchEvent::Delete(subnet("foo.bar", json!({ "cidrBlock": "10.33.0.0/24" })))));
    assert_eq!(scene.outcome("bar-ovn-cluster/foo"), "10.16.0.2 of ovn-default");
    // The same in the other order.
    scene.subnet("foo.bar", json!({ "cidrBlock": "10.33.0.0/24" }));
    for _ in 0..2 {
        let verdict = format!("{:?}", scene.engine.verdict("foo.bar"));
        assert!(verdict.contains("as that of pod bar-ovn-cluster/foo is"), "{verdict}");
        assert_eq!(scene.outcome("bar-ovn-cluster/foo"), "10.16.0.2 of ovn-default");
        change_of_leaders(&mut scene);
    }
    scene.pod_gone("bar-ovn-cluster/foo");
    assert_eq!(scene.engine.verdict("foo.bar"), Some(&crate::engine::Verdict::Valid));
}

#[test]
fn a_subnet_does_not_take_the_name_of_a_nodes_port() {
    let mut scene = Scene::new();
    scene.apply(Event::Nodes(WatchEvent::Apply(node("x-ovn-cluster", "172.30.0.1"))));
    scene.subnet("node-x", json!({ "cidrBlock": "10.33.0.0/24" }));
    let verdict = format!("{:?}", scene.engine.verdict("node-x"));
    assert!(verdict.contains("as that of node x-ovn-cluster is"), "{verdict}");
    change_of_leaders(&mut scene);
    assert!(scene.engine.subnet("node-x").is_none());
}

#[test]
fn names_that_are_too_long_for_an_ip_object_are_refused() {
    let mut scene = Scene::new();
    scene.namespace(&"n".repeat(60), json!({}));
    let path = format!("{}/{}", "n".repeat(60), "p".repeat(192));
    assert!(scene.pod(&path, json!({})).starts_with("10.16."), "253 characters");
    let path = format!("{}/{}", "n".repeat(60), "p".repeat(193));
    let refused = scene.pod(&path, json!({}));
    assert!(refused.contains("metadata.name: with the namespace's it is longer than 253 characters"), "{refused}");
    let long = "s".repeat(70);
    scene.subnet(&long, json!({ "cidrBlock": "10.34.0.0/24" }));
    let on_it = json!({ "ovn.kubernetes.io/logical_switch": long });
    assert_eq!(scene.pod("default/a", on_it), format!("10.34.0.2 of {long}"));
    let writes = scene.writes_for("a.default");
    let Some(crate::publish::Action::Create(body)) = writes.first() else { panic!("{writes:?}") };
    let ip: Value = body.parse().unwrap();
    for (key, value) in ip["metadata"]["labels"].as_object().unwrap() {
        let name = key.rsplit('/').next().unwrap();
        assert!(name.len() <= 63 && value.as_str().unwrap().len() <= 63, "{key}: {value}");
    }
}

#[test]
fn a_node_is_said_to_have_a_network_when_the_router_has_answered_there() {
    let mut scene = Scene::new();
    let status = |scene: &Scene| {
        let now = jiff::Timestamp::UNIX_EPOCH;
        crate::visible::status(&scene.engine, &scene.cluster, &Object::Node("n1".into()), now)
    };
    scene.apply(Event::Nodes(WatchEvent::Apply(node("n1", "172.31.0.1"))));
    assert_eq!(status(&scene), None);
    scene.apply(chassis_of(&["n1"]));
    let patch = status(&scene).unwrap().patch();
    let condition = &patch["status"]["conditions"][0];
    assert_eq!((&condition["type"], &condition["status"]), (&json!("NetworkUnavailable"), &json!("False")));
    assert_eq!(condition["lastTransitionTime"], "1970-01-01T00:00:00Z");
    // Whoever has set it since then was not told that it works.
    let mut has = node("n1", "172.31.0.1");
    has.has_network = true;
    scene.apply(Event::Nodes(WatchEvent::Apply(has)));
    assert_eq!(status(&scene), None);
    scene.apply(Event::Nodes(WatchEvent::Apply(node("n1", "172.31.0.1"))));
    assert!(status(&scene).is_some());
}

#[test]
fn of_two_pools_with_one_address_set_the_first_keeps_it_over_a_change_of_leaders() {
    let mut scene = Scene::new();
    for (name, address) in [("b.a", "10.16.0.10"), ("b-a", "10.16.0.20")] {
        let mut made = pool(name, "ovn-default", &[address], &[]);
        made.spec.enable_address_set = Some(true);
        scene.apply(Event::IpPools(WatchEvent::Apply(made)));
        status_arrives(&mut scene, name);
    }
    let of_set = |scene: &mut Scene| scene.facts_about("Address_Set").concat();
    let before = of_set(&mut scene);
    assert!(before.contains("10.16.0.10") && !before.contains("10.16.0.20"), "{before}");
    change_of_leaders(&mut scene);
    assert_eq!(of_set(&mut scene), before);
}

#[test]
fn a_pool_that_is_being_deleted_does_not_come_back_with_a_new_leader() {
    let mut scene = Scene::new();
    scene.pool("a", "ovn-default", &["10.16.0.2..10.16.255.254"], &[]);
    status_arrives(&mut scene, "a");
    let mut deleted = scene.cluster.pools["a"].clone();
    deleted.metadata.deletion_timestamp = Some(object(json!("2026-01-01T00:00:00Z")));
    scene.apply(Event::IpPools(WatchEvent::Apply(deleted)));
    change_of_leaders(&mut scene);
    assert_eq!(scene.engine.pool_in_force("a"), None);
    assert_eq!(scene.pod("default/x", json!({})), "10.16.0.2 of ovn-default");
}

#[test]
fn a_family_that_the_join_subnet_gets_reaches_nodes_that_are_there() {
    let mut scene = Scene::new();
    scene.apply(Event::Nodes(WatchEvent::Apply(node("n1", "172.30.0.1"))));
    scene.subnet("join", json!({ "cidrBlock": "100.64.0.0/16" }));
    let addresses = |scene: &Scene| scene.engine.lease("node-n1").unwrap().1;
    let before = addresses(&scene);
    scene.subnet("join", json!({ "cidrBlock": "100.64.0.0/16,fd00:100:64::/112" }));
    assert_eq!(addresses(&scene).ips.to_string(), "100.64.0.2,fd00:100:64::2");
    assert_eq!(addresses(&scene).mac, before.mac);
    change_of_leaders(&mut scene);
    assert_eq!(addresses(&scene).ips.to_string(), "100.64.0.2,fd00:100:64::2");
}
