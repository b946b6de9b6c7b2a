//! The gateway nodes of centralized subnets.

use super::*;

/// Nodes with chassis, and a centralized subnet `net` with these fields.
fn scene(nodes: &[&str], fields: Value) -> Scene {
    let mut scene = Scene::new();
    for node in nodes {
        scene.apply(Event::Nodes(WatchEvent::Apply(labelled_node(node, json!({ "gw": node })))));
    }
    scene.apply(chassis_of(nodes));
    spec(&mut scene, fields);
    scene
}

fn spec(scene: &mut Scene, fields: Value) {
    let mut spec = json!({ "cidrBlock": "10.33.0.0/24", "gatewayType": "centralized" });
    spec.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    scene.subnet("net", spec);
}

/// The nodes in order, what is shown as the active one, and what is wrong.
fn shown(scene: &Scene) -> String {
    let nodes = scene.engine.world.gateway_nodes("net").join(",");
    let problem = scene.engine.gateway_state("net").and_then(|state| state.problem()).unwrap_or_default();
    format!("{nodes} active {} {problem}", scene.engine.active_gateways("net").join(","))
}

fn events(scene: &Scene) -> Vec<String> {
    let remarks = scene.engine.remarks(&scene.cluster, &Object::Subnet("net".into())).into_iter();
    remarks.map(|remark| format!("{} {}", remark.reason, remark.message)).collect()
}

#[test]
fn gateway_nodes_are_listed_selected_or_labelled() {
    let mut scene = scene(&["n1", "n2", "n3"], json!({ "gatewayNode": "n3, n1,n3" }));
    assert_eq!(shown(&scene), "n3,n1 active n3 ");
    let selectors = json!([{ "matchExpressions": [{ "key": "gw", "operator": "In", "values": ["n1", "n2"] }] }]);
    spec(&mut scene, json!({ "gatewayNodeSelectors": selectors }));
    assert_eq!(shown(&scene), "n1,n2 active n1 ");
    spec(&mut scene, json!({}));
    let none = "spec.gatewayType: no node has the label ovn.kubernetes.io/gateway-node=true, and the subnet names no gateway node";
    assert_eq!(shown(&scene), format!(" active  {none}: no pod of it leaves the cluster"));
    spec(&mut scene, json!({ "gatewayNode": "n9" }));
    let none =
        "spec.gatewayNode: there is no node n9, or it is not ready, or it has no chassis: no pod of the subnet leaves";
    assert_eq!(shown(&scene), format!(" active  {none} the cluster"));
    spec(&mut scene, json!({}));
    let labels = json!({ "ovn.kubernetes.io/gateway-node": "true" });
    scene.apply(Event::Nodes(WatchEvent::Apply(labelled_node("n2", labels))));
    assert_eq!(shown(&scene), "n2 active n2 ");
    scene.apply(Event::Nodes(WatchEvent::Apply(labelled_node("n2", json!({})))));
    assert!(shown(&scene).starts_with(" active  spec.gatewayType"), "{}", shown(&scene));
    scene.subnet("net", json!({ "cidrBlock": "10.33.0.0/24" }));
    assert_eq!(shown(&scene), " active  ");
    assert!(scene.facts_about("exit").is_empty(), "{:?}", scene.facts_about("exit"));
}

#[test]
fn a_gateway_that_comes_back_does_not_take_the_traffic_back() {
    let mut scene = scene(&["n1", "n2"], json!({ "gatewayNode": "n1,n2" }));
    assert_eq!((shown(&scene), events(&scene)), ("n1,n2 active n1 ".to_owned(), vec![]));
    scene.apply(active("net", "n1"));
    scene.apply(active("net", "n2"));
    assert_eq!(shown(&scene), "n2,n1 active n2 ");
    assert_eq!(events(&scene), ["SubnetGatewayNodeChanged subnet net: its pods leave by node n2 now, no longer by n1"]);
    // A new leader, before it has seen the southbound database.
    scene.cluster.exits.clear();
    let replica = recovery::written(&scene);
    scene.engine = Engine::recover(install(), &scene.cluster, &replica);
    assert_eq!((shown(&scene), events(&scene)), ("n2,n1 active n2 ".to_owned(), vec![]));
    // One that has not even connected to it keeps the ways out, too.
    let reports = std::mem::take(&mut scene.cluster.reports);
    scene.cluster.reported = false;
    let replica = recovery::written(&scene);
    scene.engine = Engine::recover(install(), &scene.cluster, &replica);
    assert_eq!((shown(&scene), events(&scene)), ("n2,n1 active n2 ".to_owned(), vec![]));
    // What the database says then counts.
    scene.apply(chassis_of(&["n2"]));
    assert!(shown(&scene).starts_with("n2 active n2 "), "{}", shown(&scene));
    scene.apply(Event::Reports(reports));
    assert_eq!(shown(&scene), "n2,n1 active n2 ");
    // Its node is gone, and comes back.
    scene.apply(Event::Nodes(WatchEvent::Delete(labelled_node("n2", json!({})))));
    let missing = "spec.gatewayNode: there is no node n2, or it is not ready, or it has no chassis: it is left out";
    assert_eq!(shown(&scene), format!("n1 active n1 {missing}"));
    scene.apply(Event::Nodes(WatchEvent::Apply(labelled_node("n2", json!({})))));
    assert_eq!(shown(&scene), "n1,n2 active n1 ");
}

#[test]
fn the_active_node_stays_while_it_is_listed() {
    let mut scene = scene(&["n1", "n2", "n3"], json!({ "gatewayNode": "n1,n2" }));
    scene.apply(active("net", "n2"));
    spec(&mut scene, json!({ "gatewayNode": "n3,n2" }));
    assert_eq!(shown(&scene), "n2,n3 active n2 ");
    spec(&mut scene, json!({ "gatewayNode": "n1,n3" }));
    assert_eq!(shown(&scene), "n1,n3 active n1 ", "the southbound database still has the former one");
    spec(&mut scene, json!({ "gatewayNode": "n1,n3", "enableEcmp": true }));
    assert_eq!(shown(&scene), "n1,n3 active n1,n3 ");
}

#[test]
fn without_a_chassis_a_node_is_no_gateway() {
    let mut scene = scene(&["n1"], json!({ "gatewayNode": "n1,n9" }));
    scene.apply(Event::Reports([].into()));
    let none = "spec.gatewayNode: there is no node n1, n9, or it is not ready, or it has no chassis: no pod of the subnet leaves the cluster";
    assert_eq!(shown(&scene), format!(" active  {none}"));
    scene.apply(chassis_of(&["n1"]));
    assert!(shown(&scene).starts_with("n1 active n1 "), "{}", shown(&scene));
}

#[test]
fn a_node_that_is_not_ready_is_a_gateway_only_if_no_other_one_is() {
    let mut scene = scene(&["n1", "n2"], json!({ "gatewayNode": "n1,n2" }));
    let mut ready = |name: &str, ready: bool| {
        scene.apply(Event::Nodes(WatchEvent::Apply(Node { ready, ..labelled_node(name, json!({})) })));
        shown(&scene)
    };
    let missing = |node: &str| {
        format!("spec.gatewayNode: there is no node {node}, or it is not ready, or it has no chassis: it is left out")
    };
    assert_eq!(ready("n1", false), format!("n2 active n2 {}", missing("n1")));
    let none = "spec.gatewayNode: no gateway node is ready: pods leave by n2, if it still works";
    assert_eq!(ready("n2", false), format!("n2,n1 active n2 {none}"));
    assert_eq!(ready("n2", true), format!("n2 active n2 {}", missing("n1")));
    assert_eq!(ready("n1", true), "n2,n1 active n2 ");
}
