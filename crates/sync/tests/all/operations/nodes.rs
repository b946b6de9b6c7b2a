//! Tests nodes: their port on the join switch, their route and their policies.

use expect_test::expect;
use plan::testing::Event;
use serde_json::json;

use super::{cluster, gone, node, subnet};
use crate::scene::Scene;

#[test]
fn a_node() {
    let mut scene = Scene::after([subnet("join", "100.64.0.0/16", json!({}))]);
    scene.check([node("100.64.0.2", &["172.30.0.1"])], &expect![[r#"
        insert Logical_Switch_Port node-n1 addresses=["0a:00:00:00:00:02 100.64.0.2"] external_ids={node=n1, owner=kube-ovn-rs, vendor=kube-ovn} options={requested-chassis=n1} port_security=[] type=""
        insert Logical_Router_Policy 29000/ip4.src == $distributed_ip4 && is_chassis_resident("node-n1") action=reroute external_ids={owner=kube-ovn-rs, vendor=kube-ovn} match="ip4.src == $distributed_ip4 && is_chassis_resident(\"node-n1\")" nexthop=[] nexthops=["100.64.0.2"] priority=29000
        insert Logical_Router_Policy 30000/ip4.dst == 172.30.0.1 action=reroute external_ids={owner=kube-ovn-rs, vendor=kube-ovn} match="ip4.dst == 172.30.0.1" nexthop=[] nexthops=["100.64.0.2"] priority=30000
        mutate Logical_Switch join ports += node-n1
        mutate Logical_Router ovn-cluster policies += 30000/ip4.dst == 172.30.0.1, 29000/ip4.src == $distributed_ip4 && is_chassis_resident("node-n1")
        mutate Address_Set nodes_ip4 addresses += ["172.30.0.1"]
    "#]]);
    scene.check([node("100.64.0.2", &["172.30.0.9"])], &expect![[r#"
        insert Logical_Router_Policy 30000/ip4.dst == 172.30.0.9 action=reroute external_ids={owner=kube-ovn-rs, vendor=kube-ovn} match="ip4.dst == 172.30.0.9" nexthop=[] nexthops=["100.64.0.2"] priority=30000
        mutate Logical_Router ovn-cluster policies += 30000/ip4.dst == 172.30.0.9
        mutate Address_Set nodes_ip4 addresses += ["172.30.0.9"]
        mutate Logical_Router ovn-cluster policies -= 30000/ip4.dst == 172.30.0.1
        mutate Address_Set nodes_ip4 addresses -= ["172.30.0.1"]
    "#]]);
    scene.check([node("100.64.0.7", &["172.30.0.9"])], &expect![[r#"
        update Logical_Switch_Port node-n1 addresses=["0a:00:00:00:00:02 100.64.0.7"]
        update Logical_Router_Policy 29000/ip4.src == $distributed_ip4 && is_chassis_resident("node-n1") nexthops=["100.64.0.7"]
        update Logical_Router_Policy 30000/ip4.dst == 172.30.0.9 nexthops=["100.64.0.7"]
    "#]]);
    scene.check([Event::NodeGone("n1".into())], &expect![[r#"
        mutate Logical_Switch join ports -= node-n1
        mutate Logical_Router ovn-cluster policies -= 30000/ip4.dst == 172.30.0.9, 29000/ip4.src == $distributed_ip4 && is_chassis_resident("node-n1")
        mutate Address_Set nodes_ip4 addresses -= ["172.30.0.9"]
    "#]]);
}

#[test]
fn a_node_of_both_families() {
    let mut scene = Scene::after([subnet("join", "100.64.0.0/16,fd00:100:64::/112", json!({}))]);
    scene.check([node("100.64.0.2,fd00:100:64::2", &["172.30.0.1", "fd00:30::1"])], &expect![[r#"
        insert Logical_Switch_Port node-n1 addresses=["0a:00:00:00:00:02 100.64.0.2 fd00:100:64::2"] external_ids={node=n1, owner=kube-ovn-rs, vendor=kube-ovn} options={requested-chassis=n1} port_security=[] type=""
        insert Logical_Router_Policy 29000/ip4.src == $distributed_ip4 && is_chassis_resident("node-n1") action=reroute external_ids={owner=kube-ovn-rs, vendor=kube-ovn} match="ip4.src == $distributed_ip4 && is_chassis_resident(\"node-n1\")" nexthop=[] nexthops=["100.64.0.2"] priority=29000
        insert Logical_Router_Policy 29000/ip6.src == $distributed_ip6 && is_chassis_resident("node-n1") action=reroute external_ids={owner=kube-ovn-rs, vendor=kube-ovn} match="ip6.src == $distributed_ip6 && is_chassis_resident(\"node-n1\")" nexthop=[] nexthops=["fd00:100:64::2"] priority=29000
        insert Logical_Router_Policy 30000/ip4.dst == 172.30.0.1 action=reroute external_ids={owner=kube-ovn-rs, vendor=kube-ovn} match="ip4.dst == 172.30.0.1" nexthop=[] nexthops=["100.64.0.2"] priority=30000
        insert Logical_Router_Policy 30000/ip6.dst == fd00:30::1 action=reroute external_ids={owner=kube-ovn-rs, vendor=kube-ovn} match="ip6.dst == fd00:30::1" nexthop=[] nexthops=["fd00:100:64::2"] priority=30000
        mutate Logical_Switch join ports += node-n1
        mutate Logical_Router ovn-cluster policies += 30000/ip4.dst == 172.30.0.1, 29000/ip6.src == $distributed_ip6 && is_chassis_resident("node-n1"), 29000/ip4.src == $distributed_ip4 && is_chassis_resident("node-n1"), 30000/ip6.dst == fd00:30::1
        mutate Address_Set nodes_ip4 addresses += ["172.30.0.1"]
        mutate Address_Set nodes_ip6 addresses += ["fd00:30::1"]
    "#]]);
    scene.check([Event::NodeGone("n1".into())], &expect![[r#"
        mutate Logical_Switch join ports -= node-n1
        mutate Logical_Router ovn-cluster policies -= 30000/ip4.dst == 172.30.0.1, 29000/ip6.src == $distributed_ip6 && is_chassis_resident("node-n1"), 29000/ip4.src == $distributed_ip4 && is_chassis_resident("node-n1"), 30000/ip6.dst == fd00:30::1
        mutate Address_Set nodes_ip4 addresses -= ["172.30.0.1"]
        mutate Address_Set nodes_ip6 addresses -= ["fd00:30::1"]
    "#]]);
}

#[test]
fn without_the_join_subnet_a_node_has_nothing() {
    let mut scene = Scene::after(cluster());
    scene.check([gone("join")], &expect![[r#"
        mutate Logical_Router ovn-cluster policies -= 30000/ip4.dst == 172.30.0.1, 31000/ip4.dst == 100.64.0.0/16, 29000/ip4.src == $distributed_ip4 && is_chassis_resident("node-n1")
        mutate Logical_Router ovn-cluster ports -= ovn-cluster-join
        mutate Logical_Router ovn-cluster static_routes -= dst-ip/0.0.0.0/0/100.64.0.1
        mutate Address_Set nodes_ip4 addresses -= ["172.30.0.1"]
        delete Logical_Switch join
    "#]]);
    scene.check([subnet("join", "100.64.0.0/16", json!({}))], &expect![[r#"
        insert Logical_Switch join external_ids={in_force="{\"cidrBlock\":\"100.64.0.0/16\",\"gateway\":\"100.64.0.1\"}", owner=kube-ovn-rs, vendor=kube-ovn} other_config={}
        insert Logical_Switch_Port join-ovn-cluster addresses=[router] external_ids={owner=kube-ovn-rs, vendor=kube-ovn} options={router-port=ovn-cluster-join} port_security=[] type=router
        insert Logical_Switch_Port node-n1 addresses=["0a:00:00:00:00:02 100.64.0.2"] external_ids={node=n1, owner=kube-ovn-rs, vendor=kube-ovn} options={requested-chassis=n1} port_security=[] type=""
        insert Logical_Router_Policy 29000/ip4.src == $distributed_ip4 && is_chassis_resident("node-n1") action=reroute external_ids={owner=kube-ovn-rs, vendor=kube-ovn} match="ip4.src == $distributed_ip4 && is_chassis_resident(\"node-n1\")" nexthop=[] nexthops=["100.64.0.2"] priority=29000
        insert Logical_Router_Policy 30000/ip4.dst == 172.30.0.1 action=reroute external_ids={owner=kube-ovn-rs, vendor=kube-ovn} match="ip4.dst == 172.30.0.1" nexthop=[] nexthops=["100.64.0.2"] priority=30000
        insert Logical_Router_Policy 31000/ip4.dst == 100.64.0.0/16 action=allow external_ids={owner=kube-ovn-rs, vendor=kube-ovn} match="ip4.dst == 100.64.0.0/16" nexthop=[] nexthops=[] priority=31000
        insert Logical_Router_Port ovn-cluster-join external_ids={owner=kube-ovn-rs, vendor=kube-ovn} ipv6_ra_configs={} mac="0e:22:45:ae:3f:a9" networks=["100.64.0.1/16"] options={}
        insert Logical_Router_Static_Route dst-ip/0.0.0.0/0/100.64.0.1 external_ids={owner=kube-ovn-rs, vendor=kube-ovn} ip_prefix="0.0.0.0/0" nexthop="100.64.0.1" policy=dst-ip
        mutate Logical_Switch join ports += join-ovn-cluster, node-n1
        mutate Logical_Router ovn-cluster policies += 30000/ip4.dst == 172.30.0.1, 31000/ip4.dst == 100.64.0.0/16, 29000/ip4.src == $distributed_ip4 && is_chassis_resident("node-n1")
        mutate Logical_Router ovn-cluster ports += ovn-cluster-join
        mutate Logical_Router ovn-cluster static_routes += dst-ip/0.0.0.0/0/100.64.0.1
        mutate Address_Set nodes_ip4 addresses += ["172.30.0.1"]
    "#]]);
}
