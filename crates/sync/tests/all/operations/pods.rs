//! Tests pods: their ports, with and without port security.

use expect_test::expect;
use plan::testing::{Event, port};
use serde_json::json;

use super::{cluster, gone, subnet};
use crate::scene::Scene;

/// Returns the pod `shop/web-0`.
fn pod(subnet: &str, address: &str, port_security: bool) -> Event {
    Event::Port(plan::Port { port_security, ..port("shop/web-0", subnet, address, "00:00:00:20:00:51") })
}

fn shop() -> Event {
    subnet("shop", "10.20.0.0/24", json!({}))
}

#[test]
fn a_pod() {
    let mut scene = Scene::after(cluster());
    scene.check([pod("ovn-default", "10.16.0.5", false)], &expect![[r#"
        insert Logical_Switch_Port web-0.shop addresses=["00:00:00:20:00:51 10.16.0.5"] external_ids={ls=ovn-default, owner=kube-ovn-rs, pod="shop/web-0", vendor=kube-ovn} options={requested-chassis=n1} port_security=[] type=""
        mutate Logical_Switch ovn-default ports += web-0.shop
    "#]]);
    scene.check(
        [pod("ovn-default", "10.16.0.6", false)],
        &expect![[r#"
        update Logical_Switch_Port web-0.shop addresses=["00:00:00:20:00:51 10.16.0.6"]
    "#]],
    );
    scene.check(
        [Event::PortGone("web-0.shop".into())],
        &expect![[r#"
        mutate Logical_Switch ovn-default ports -= web-0.shop
    "#]],
    );
}

#[test]
fn a_pod_that_had_a_gateway_of_its_own() {
    let mut scene = Scene::after(cluster());
    let pod = |gateway: Option<&str>| {
        let port = port("shop/web-0", "ovn-default", "10.16.0.5", "00:00:00:20:00:51");
        [Event::Port(plan::Port { gateway: gateway.map(|gateway| gateway.parse().unwrap()), ..port })]
    };
    let touched = scene.happen(pod(Some("10.16.0.9")));
    let ops = sync::diff(&scene.facts, &touched, &scene.db).ops();
    crate::model::apply(&mut scene.db, &ops);
    scene.check(
        pod(None),
        &expect![[r#"
        mutate Logical_Switch_Port web-0.shop external_ids -= [gateway]
        update Logical_Router_Port ovn-cluster-ovn-default networks=["10.16.0.1/16"]
    "#]],
    );
}

#[test]
fn a_pod_with_port_security() {
    let mut scene = Scene::after(cluster());
    scene.check([pod("ovn-default", "10.16.0.5", true)], &expect![[r#"
        insert Logical_Switch_Port web-0.shop addresses=["00:00:00:20:00:51 10.16.0.5"] external_ids={ls=ovn-default, owner=kube-ovn-rs, pod="shop/web-0", vendor=kube-ovn} options={requested-chassis=n1} port_security=["00:00:00:20:00:51 10.16.0.5"] type=""
        mutate Logical_Switch ovn-default ports += web-0.shop
        mutate Port_Group port_security ports += web-0.shop
    "#]]);
    scene.check([pod("ovn-default", "10.16.0.6", true)], &expect![[r#"
        update Logical_Switch_Port web-0.shop addresses=["00:00:00:20:00:51 10.16.0.6"] port_security=["00:00:00:20:00:51 10.16.0.6"]
    "#]]);
    scene.check(
        [pod("ovn-default", "10.16.0.6", false)],
        &expect![[r#"
            update Logical_Switch_Port web-0.shop port_security=[]
            mutate Port_Group port_security ports -= web-0.shop
        "#]],
    );
    scene.check(
        [pod("ovn-default", "10.16.0.6", true)],
        &expect![[r#"
            update Logical_Switch_Port web-0.shop port_security=["00:00:00:20:00:51 10.16.0.6"]
            mutate Port_Group port_security ports += web-0.shop
        "#]],
    );
    scene.check(
        [Event::PortGone("web-0.shop".into())],
        &expect![[r#"
            mutate Logical_Switch ovn-default ports -= web-0.shop
            mutate Port_Group port_security ports -= web-0.shop
        "#]],
    );
}

#[test]
fn a_pod_moved_to_another_subnet() {
    let mut scene = Scene::after(cluster().into_iter().chain([shop(), pod("ovn-default", "10.16.0.5", true)]));
    scene.check([pod("shop", "10.20.0.7", true)], &expect![[r#"
        mutate Logical_Switch_Port web-0.shop external_ids -= [ls] external_ids += {ls=shop}
        update Logical_Switch_Port web-0.shop addresses=["00:00:00:20:00:51 10.20.0.7"] port_security=["00:00:00:20:00:51 10.20.0.7"]
        mutate Logical_Switch shop ports += web-0.shop
        mutate Logical_Switch ovn-default ports -= web-0.shop
    "#]]);
}

#[test]
fn a_pod_of_the_same_name_on_another_day() {
    let mut scene = Scene::after(cluster().into_iter().chain([pod("ovn-default", "10.16.0.5", false)]));
    let Event::Port(mut again) = pod("ovn-default", "10.16.0.5", false) else { unreachable!() };
    again.uid = "another".into();
    // The row keeps its UUID, which only the database uses.
    scene.check([Event::Port(again)], &expect![[""]]);
}

#[test]
fn a_pod_whose_subnet_goes_and_comes_back() {
    let mut scene = Scene::after(cluster().into_iter().chain([shop(), pod("shop", "10.20.0.7", false)]));
    scene.check(
        [gone("shop")],
        &expect![[r#"
        mutate Logical_Router ovn-cluster policies -= 31000/ip4.dst == 10.20.0.0/24
        mutate Logical_Router ovn-cluster ports -= ovn-cluster-shop
        mutate Address_Set distributed_ip4 addresses -= ["10.20.0.0/24"]
        delete Logical_Switch shop
    "#]],
    );
    scene.check([shop()], &expect![[r#"
        insert Logical_Switch shop external_ids={in_force="{\"cidrBlock\":\"10.20.0.0/24\",\"gateway\":\"10.20.0.1\"}", owner=kube-ovn-rs, vendor=kube-ovn} other_config={}
        insert Logical_Switch_Port shop-ovn-cluster addresses=[router] external_ids={owner=kube-ovn-rs, vendor=kube-ovn} options={router-port=ovn-cluster-shop} port_security=[] type=router
        insert Logical_Switch_Port web-0.shop addresses=["00:00:00:20:00:51 10.20.0.7"] external_ids={ls=shop, owner=kube-ovn-rs, pod="shop/web-0", vendor=kube-ovn} options={requested-chassis=n1} port_security=[] type=""
        insert Logical_Router_Policy 31000/ip4.dst == 10.20.0.0/24 action=allow external_ids={owner=kube-ovn-rs, vendor=kube-ovn} match="ip4.dst == 10.20.0.0/24" nexthop=[] nexthops=[] priority=31000
        insert Logical_Router_Port ovn-cluster-shop external_ids={owner=kube-ovn-rs, vendor=kube-ovn} ipv6_ra_configs={} mac="0e:b8:0f:69:b5:64" networks=["10.20.0.1/24"] options={}
        mutate Logical_Switch shop ports += web-0.shop, shop-ovn-cluster
        mutate Logical_Router ovn-cluster policies += 31000/ip4.dst == 10.20.0.0/24
        mutate Logical_Router ovn-cluster ports += ovn-cluster-shop
        mutate Address_Set distributed_ip4 addresses += ["10.20.0.0/24"]
    "#]]);
}
