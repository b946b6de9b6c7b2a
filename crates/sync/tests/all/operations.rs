//! Tests the operations that events lead to. The submodules cover events of subnets, nodes and pods. This file covers
//! changes by other clients. The rows themselves are in the snapshots of `plan` (`tests/facts.rs`).

mod nodes;
mod pods;
mod private;
mod subnets;

use expect_test::expect;
use ovsdb::{Atom, Datum, Uuid};
use plan::testing::{Event, port};
use serde_json::{Value, json};

use crate::scene::Scene;

fn subnet(name: &str, cidr: &str, more: Value) -> Event {
    Event::Subnet(Box::new(plan::testing::subnet(name, cidr, more)))
}

fn gone(subnet: &str) -> Event {
    Event::SubnetGone(subnet.into())
}

/// The node `n1`.
fn node(join: &str, internal: &[&str]) -> Event {
    Event::Node(plan::testing::node("n1", join, "0a:00:00:00:00:02", internal))
}

/// Returns the two default subnets and a node.
fn cluster() -> [Event; 3] {
    [
        subnet("join", "100.64.0.0/16", json!({})),
        subnet("ovn-default", "10.16.0.0/16", json!({})),
        node("100.64.0.2", &["172.30.0.1"]),
    ]
}

#[test]
fn a_pod_whose_rows_others_wrote_is_taken_over() {
    let pod = Event::Port(port("shop/web-0", "shop", "10.20.0.2", "00:00:00:20:00:51"));
    let mut scene = Scene::after(cluster().into_iter().chain([subnet("shop", "10.20.0.0/24", json!({})), pod]));
    for (table, name) in [("Logical_Switch", "shop"), ("Logical_Switch_Port", "web-0.shop")] {
        let id = scene.db.find(table, name).next().unwrap();
        let mut row = scene.db.get(table, id).unwrap().clone();
        row.insert("external_ids", Datum::map([("owner", "somebody"), ("pod", "stale")]));
        scene.db.insert(table, id, row);
    }
    scene.check_all(&expect![[r#"
        mutate Logical_Switch shop external_ids -= [owner] external_ids += {in_force="{\"cidrBlock\":\"10.20.0.0/24\",\"gateway\":\"10.20.0.1\"}", owner=kube-ovn-rs, vendor=kube-ovn}
        mutate Logical_Switch_Port web-0.shop external_ids -= [owner, pod] external_ids += {ls=shop, owner=kube-ovn-rs, pod="shop/web-0", vendor=kube-ovn}
    "#]]);
}

#[test]
fn a_subnet_goes_and_leaves_what_others_hung_on_our_router() {
    let mut scene = Scene::after(cluster().into_iter().chain([subnet("shop", "10.20.0.0/24", json!({}))]));
    let theirs = Uuid::from_u128(7);
    scene.db.insert("Logical_Router_Policy", theirs, [("priority", 5_i64.into()), ("match", "ip4".into())].into());
    let (router, mut row) = scene.db.rows("Logical_Router").next().map(|(id, row)| (id, row.clone())).unwrap();
    let policies: Vec<Atom> = row["policies"].atoms().cloned().chain([theirs.into()]).collect();
    row.insert("policies", Datum::set(policies));
    scene.db.insert("Logical_Router", router, row);
    scene.check(
        [gone("shop")],
        &expect![[r#"
        mutate Logical_Router ovn-cluster policies -= 31000/ip4.dst == 10.20.0.0/24
        mutate Logical_Router ovn-cluster ports -= ovn-cluster-shop
        mutate Address_Set distributed_ip4 addresses -= ["10.20.0.0/24"]
        delete Logical_Switch shop
    "#]],
    );
    scene.check_all(&expect![[""]]);
    assert!(scene.db.get("Logical_Router_Policy", theirs).is_some());
}
