//! Tests subnets: the two default ones, then one that is created, changed and deleted.

use expect_test::expect;
use serde_json::json;

use super::{cluster, gone, subnet};
use crate::model::empty;
use crate::scene::Scene;

#[test]
fn a_new_cluster_is_written_into_an_empty_database() {
    Scene::beside(empty()).check(cluster(), &expect![[r#"
        insert Logical_Switch join external_ids={in_force="{\"cidrBlock\":\"100.64.0.0/16\",\"gateway\":\"100.64.0.1\"}", owner=kube-ovn-rs, vendor=kube-ovn} other_config={}
        insert Logical_Switch ovn-default external_ids={in_force="{\"cidrBlock\":\"10.16.0.0/16\",\"gateway\":\"10.16.0.1\"}", owner=kube-ovn-rs, vendor=kube-ovn} other_config={}
        insert Logical_Router ovn-cluster external_ids={owner=kube-ovn-rs, vendor=kube-ovn} options={}
        insert Address_Set distributed_ip4 addresses=["10.16.0.0/16"] external_ids={owner=kube-ovn-rs, vendor=kube-ovn}
        insert Address_Set distributed_ip6 external_ids={owner=kube-ovn-rs, vendor=kube-ovn}
        insert Address_Set external_hosts_ip4 external_ids={owner=kube-ovn-rs, vendor=kube-ovn}
        insert Address_Set external_hosts_ip6 external_ids={owner=kube-ovn-rs, vendor=kube-ovn}
        insert Address_Set nodes_ip4 addresses=["172.30.0.1"] external_ids={owner=kube-ovn-rs, vendor=kube-ovn}
        insert Address_Set nodes_ip6 external_ids={owner=kube-ovn-rs, vendor=kube-ovn}
        insert Port_Group port_security external_ids={owner=kube-ovn-rs, vendor=kube-ovn}
        insert Logical_Switch_Port join-ovn-cluster addresses=[router] external_ids={owner=kube-ovn-rs, vendor=kube-ovn} options={router-port=ovn-cluster-join} port_security=[] type=router
        insert Logical_Switch_Port node-n1 addresses=["0a:00:00:00:00:02 100.64.0.2"] external_ids={node=n1, owner=kube-ovn-rs, vendor=kube-ovn} options={requested-chassis=n1} port_security=[] type=""
        insert Logical_Switch_Port ovn-default-ovn-cluster addresses=[router] external_ids={owner=kube-ovn-rs, vendor=kube-ovn} options={router-port=ovn-cluster-ovn-default} port_security=[] type=router
        insert Logical_Router_Policy 29000/ip4.src == $distributed_ip4 && is_chassis_resident("node-n1") action=reroute external_ids={owner=kube-ovn-rs, vendor=kube-ovn} match="ip4.src == $distributed_ip4 && is_chassis_resident(\"node-n1\")" nexthop=[] nexthops=["100.64.0.2"] priority=29000
        insert Logical_Router_Policy 30000/ip4.dst == 172.30.0.1 action=reroute external_ids={owner=kube-ovn-rs, vendor=kube-ovn} match="ip4.dst == 172.30.0.1" nexthop=[] nexthops=["100.64.0.2"] priority=30000
        insert Logical_Router_Policy 31000/ip4.dst == 10.16.0.0/16 action=allow external_ids={owner=kube-ovn-rs, vendor=kube-ovn} match="ip4.dst == 10.16.0.0/16" nexthop=[] nexthops=[] priority=31000
        insert Logical_Router_Policy 31000/ip4.dst == 100.64.0.0/16 action=allow external_ids={owner=kube-ovn-rs, vendor=kube-ovn} match="ip4.dst == 100.64.0.0/16" nexthop=[] nexthops=[] priority=31000
        insert Logical_Router_Port ovn-cluster-join external_ids={owner=kube-ovn-rs, vendor=kube-ovn} ipv6_ra_configs={} mac="0e:22:45:ae:3f:a9" networks=["100.64.0.1/16"] options={}
        insert Logical_Router_Port ovn-cluster-ovn-default external_ids={owner=kube-ovn-rs, vendor=kube-ovn} ipv6_ra_configs={} mac="0e:02:a6:e0:5d:e4" networks=["10.16.0.1/16"] options={}
        insert Logical_Router_Static_Route dst-ip/0.0.0.0/0/100.64.0.1 external_ids={owner=kube-ovn-rs, vendor=kube-ovn} ip_prefix="0.0.0.0/0" nexthop="100.64.0.1" policy=dst-ip
        insert ACL 0/from-lport/32000/inport == @port_security && ((ip4 && udp.dst == 68) || (ip6 && udp.dst == 546)) action=drop direction=from-lport external_ids={owner=kube-ovn-rs, vendor=kube-ovn} log=false match="inport == @port_security && ((ip4 && udp.dst == 68) || (ip6 && udp.dst == 546))" options={} priority=32000 severity=[] tier=0
        mutate Logical_Switch join ports += join-ovn-cluster, node-n1
        mutate Logical_Switch ovn-default ports += ovn-default-ovn-cluster
        mutate Logical_Router ovn-cluster policies += 30000/ip4.dst == 172.30.0.1, 31000/ip4.dst == 100.64.0.0/16, 31000/ip4.dst == 10.16.0.0/16, 29000/ip4.src == $distributed_ip4 && is_chassis_resident("node-n1")
        mutate Logical_Router ovn-cluster ports += ovn-cluster-join, ovn-cluster-ovn-default
        mutate Logical_Router ovn-cluster static_routes += dst-ip/0.0.0.0/0/100.64.0.1
        mutate Port_Group port_security acls += 0/from-lport/32000/inport == @port_security && ((ip4 && udp.dst == 68) || (ip6 && udp.dst == 546))
    "#]]);
}

#[test]
fn a_subnet_with_its_router_port() {
    let mut scene = Scene::after(cluster());
    scene.check([subnet("shop", "10.20.0.0/24", json!({}))], &expect![[r#"
        insert Logical_Switch shop external_ids={in_force="{\"cidrBlock\":\"10.20.0.0/24\",\"gateway\":\"10.20.0.1\"}", owner=kube-ovn-rs, vendor=kube-ovn} other_config={}
        insert Logical_Switch_Port shop-ovn-cluster addresses=[router] external_ids={owner=kube-ovn-rs, vendor=kube-ovn} options={router-port=ovn-cluster-shop} port_security=[] type=router
        insert Logical_Router_Policy 31000/ip4.dst == 10.20.0.0/24 action=allow external_ids={owner=kube-ovn-rs, vendor=kube-ovn} match="ip4.dst == 10.20.0.0/24" nexthop=[] nexthops=[] priority=31000
        insert Logical_Router_Port ovn-cluster-shop external_ids={owner=kube-ovn-rs, vendor=kube-ovn} ipv6_ra_configs={} mac="0e:b8:0f:69:b5:64" networks=["10.20.0.1/24"] options={}
        mutate Logical_Switch shop ports += shop-ovn-cluster
        mutate Logical_Router ovn-cluster policies += 31000/ip4.dst == 10.20.0.0/24
        mutate Logical_Router ovn-cluster ports += ovn-cluster-shop
        mutate Address_Set distributed_ip4 addresses += ["10.20.0.0/24"]
    "#]]);
    scene.check([subnet("shop", "10.20.0.0/24", json!({"gateway": "10.20.0.254"}))], &expect![[r#"
        mutate Logical_Switch shop external_ids -= [in_force] external_ids += {in_force="{\"cidrBlock\":\"10.20.0.0/24\",\"gateway\":\"10.20.0.254\"}"}
        update Logical_Router_Port ovn-cluster-shop networks=["10.20.0.254/24"]
    "#]]);
    scene.check(
        [gone("shop")],
        &expect![[r#"
        mutate Logical_Router ovn-cluster policies -= 31000/ip4.dst == 10.20.0.0/24
        mutate Logical_Router ovn-cluster ports -= ovn-cluster-shop
        mutate Address_Set distributed_ip4 addresses -= ["10.20.0.0/24"]
        delete Logical_Switch shop
    "#]],
    );
}

#[test]
fn a_dual_stack_subnet() {
    let mut scene = Scene::after(cluster());
    scene.check([subnet("shop", "10.20.0.0/24,fd00:20::/64", json!({}))], &expect![[r#"
        insert Logical_Switch shop external_ids={in_force="{\"cidrBlock\":\"10.20.0.0/24,fd00:20::/64\",\"gateway\":\"10.20.0.1,fd00:20::1\"}", owner=kube-ovn-rs, vendor=kube-ovn} other_config={}
        insert Logical_Switch_Port shop-ovn-cluster addresses=[router] external_ids={owner=kube-ovn-rs, vendor=kube-ovn} options={router-port=ovn-cluster-shop} port_security=[] type=router
        insert Logical_Router_Policy 31000/ip4.dst == 10.20.0.0/24 action=allow external_ids={owner=kube-ovn-rs, vendor=kube-ovn} match="ip4.dst == 10.20.0.0/24" nexthop=[] nexthops=[] priority=31000
        insert Logical_Router_Policy 31000/ip6.dst == fd00:20::/64 action=allow external_ids={owner=kube-ovn-rs, vendor=kube-ovn} match="ip6.dst == fd00:20::/64" nexthop=[] nexthops=[] priority=31000
        insert Logical_Router_Port ovn-cluster-shop external_ids={owner=kube-ovn-rs, vendor=kube-ovn} ipv6_ra_configs={} mac="0e:b8:0f:69:b5:64" networks=["10.20.0.1/24", "fd00:20::1/64"] options={}
        mutate Logical_Switch shop ports += shop-ovn-cluster
        mutate Logical_Router ovn-cluster policies += 31000/ip4.dst == 10.20.0.0/24, 31000/ip6.dst == fd00:20::/64
        mutate Logical_Router ovn-cluster ports += ovn-cluster-shop
        mutate Address_Set distributed_ip6 addresses += ["fd00:20::/64"]
        mutate Address_Set distributed_ip4 addresses += ["10.20.0.0/24"]
    "#]]);
    scene.check([subnet("shop", "10.20.0.0/24", json!({}))], &expect![[r#"
        mutate Logical_Switch shop external_ids -= [in_force] external_ids += {in_force="{\"cidrBlock\":\"10.20.0.0/24\",\"gateway\":\"10.20.0.1\"}"}
        update Logical_Router_Port ovn-cluster-shop networks=["10.20.0.1/24"]
        mutate Logical_Router ovn-cluster policies -= 31000/ip6.dst == fd00:20::/64
        mutate Address_Set distributed_ip6 addresses -= ["fd00:20::/64"]
    "#]]);
    scene.check([subnet("shop", "10.20.0.0/24,fd00:20::/64", json!({}))], &expect![[r#"
        mutate Logical_Switch shop external_ids -= [in_force] external_ids += {in_force="{\"cidrBlock\":\"10.20.0.0/24,fd00:20::/64\",\"gateway\":\"10.20.0.1,fd00:20::1\"}"}
        update Logical_Router_Port ovn-cluster-shop networks=["10.20.0.1/24", "fd00:20::1/64"]
        insert Logical_Router_Policy 31000/ip6.dst == fd00:20::/64 action=allow external_ids={owner=kube-ovn-rs, vendor=kube-ovn} match="ip6.dst == fd00:20::/64" nexthop=[] nexthops=[] priority=31000
        mutate Logical_Router ovn-cluster policies += 31000/ip6.dst == fd00:20::/64
        mutate Address_Set distributed_ip6 addresses += ["fd00:20::/64"]
    "#]]);
    scene.check(
        [gone("shop")],
        &expect![[r#"
        mutate Logical_Router ovn-cluster policies -= 31000/ip4.dst == 10.20.0.0/24, 31000/ip6.dst == fd00:20::/64
        mutate Logical_Router ovn-cluster ports -= ovn-cluster-shop
        mutate Address_Set distributed_ip6 addresses -= ["fd00:20::/64"]
        mutate Address_Set distributed_ip4 addresses -= ["10.20.0.0/24"]
        delete Logical_Switch shop
    "#]],
    );
}

#[test]
fn a_subnet_that_leaves_by_one_node_or_by_each() {
    let mut scene = Scene::after(cluster());
    let kind = |kind| [subnet("shop", "10.20.0.0/24", json!({"gatewayType": kind, "gatewayNode": "n1"}))];
    scene.check(kind("centralized"), &expect![[r#"
        insert Logical_Switch shop external_ids={in_force="{\"cidrBlock\":\"10.20.0.0/24\",\"gateway\":\"10.20.0.1\",\"gatewayType\":\"centralized\",\"gatewayNode\":\"n1\"}", owner=kube-ovn-rs, vendor=kube-ovn} other_config={}
        insert Logical_Switch_Port shop-ovn-cluster addresses=[router] external_ids={owner=kube-ovn-rs, vendor=kube-ovn} options={router-port=ovn-cluster-shop} port_security=[] type=router
        insert Logical_Router_Policy 31000/ip4.dst == 10.20.0.0/24 action=allow external_ids={owner=kube-ovn-rs, vendor=kube-ovn} match="ip4.dst == 10.20.0.0/24" nexthop=[] nexthops=[] priority=31000
        insert Logical_Router_Port ovn-cluster-shop external_ids={owner=kube-ovn-rs, vendor=kube-ovn} ipv6_ra_configs={} mac="0e:b8:0f:69:b5:64" networks=["10.20.0.1/24"] options={}
        mutate Logical_Switch shop ports += shop-ovn-cluster
        mutate Logical_Router ovn-cluster policies += 31000/ip4.dst == 10.20.0.0/24
        mutate Logical_Router ovn-cluster ports += ovn-cluster-shop
    "#]]);
    scene.check(kind("distributed"), &expect![[r#"
        mutate Logical_Switch shop external_ids -= [in_force] external_ids += {in_force="{\"cidrBlock\":\"10.20.0.0/24\",\"gateway\":\"10.20.0.1\",\"gatewayNode\":\"n1\"}"}
        mutate Address_Set distributed_ip4 addresses += ["10.20.0.0/24"]
    "#]]);
    scene.check(kind("centralized"), &expect![[r#"
        mutate Logical_Switch shop external_ids -= [in_force] external_ids += {in_force="{\"cidrBlock\":\"10.20.0.0/24\",\"gateway\":\"10.20.0.1\",\"gatewayType\":\"centralized\",\"gatewayNode\":\"n1\"}"}
        mutate Address_Set distributed_ip4 addresses -= ["10.20.0.0/24"]
    "#]]);
    scene.check(
        [gone("shop")],
        &expect![[r#"
            mutate Logical_Router ovn-cluster policies -= 31000/ip4.dst == 10.20.0.0/24
            mutate Logical_Router ovn-cluster ports -= ovn-cluster-shop
            delete Logical_Switch shop
        "#]],
    );
}

#[test]
fn router_advertisements() {
    let mut scene = Scene::after(cluster());
    let with = |more| [subnet("slaac", "fd00:24::/64", more)];
    scene.check(with(json!({"enableIPv6RA": true})), &expect![[r#"
        insert Logical_Switch slaac external_ids={in_force="{\"cidrBlock\":\"fd00:24::/64\",\"gateway\":\"fd00:24::1\",\"enableIPv6RA\":true,\"ipv6RAConfigs\":\"address_mode=dhcpv6_stateful,max_interval=30,min_interval=5,send_periodic=true\"}", owner=kube-ovn-rs, vendor=kube-ovn} other_config={}
        insert Logical_Switch_Port slaac-ovn-cluster addresses=[router] external_ids={owner=kube-ovn-rs, vendor=kube-ovn} options={router-port=ovn-cluster-slaac} port_security=[] type=router
        insert Logical_Router_Policy 31000/ip6.dst == fd00:24::/64 action=allow external_ids={owner=kube-ovn-rs, vendor=kube-ovn} match="ip6.dst == fd00:24::/64" nexthop=[] nexthops=[] priority=31000
        insert Logical_Router_Port ovn-cluster-slaac external_ids={owner=kube-ovn-rs, vendor=kube-ovn} ipv6_ra_configs={address_mode=dhcpv6_stateful, max_interval="30", min_interval="5", send_periodic="true"} mac="0e:66:25:86:f2:b7" networks=["fd00:24::1/64"] options={}
        mutate Logical_Switch slaac ports += slaac-ovn-cluster
        mutate Logical_Router ovn-cluster policies += 31000/ip6.dst == fd00:24::/64
        mutate Logical_Router ovn-cluster ports += ovn-cluster-slaac
        mutate Address_Set distributed_ip6 addresses += ["fd00:24::/64"]
    "#]]);
    scene.check(with(json!({"enableIPv6RA": true, "ipv6RAConfigs": "address_mode=slaac"})), &expect![[r#"
        mutate Logical_Switch slaac external_ids -= [in_force] external_ids += {in_force="{\"cidrBlock\":\"fd00:24::/64\",\"gateway\":\"fd00:24::1\",\"enableIPv6RA\":true,\"ipv6RAConfigs\":\"address_mode=slaac\"}"}
        update Logical_Router_Port ovn-cluster-slaac ipv6_ra_configs={address_mode=slaac}
    "#]]);
    scene.check(with(json!({})), &expect![[r#"
        mutate Logical_Switch slaac external_ids -= [in_force] external_ids += {in_force="{\"cidrBlock\":\"fd00:24::/64\",\"gateway\":\"fd00:24::1\"}"}
        update Logical_Router_Port ovn-cluster-slaac ipv6_ra_configs={}
    "#]]);
    scene.check(with(json!({"enableIPv6RA": true})), &expect![[r#"
        mutate Logical_Switch slaac external_ids -= [in_force] external_ids += {in_force="{\"cidrBlock\":\"fd00:24::/64\",\"gateway\":\"fd00:24::1\",\"enableIPv6RA\":true,\"ipv6RAConfigs\":\"address_mode=dhcpv6_stateful,max_interval=30,min_interval=5,send_periodic=true\"}"}
        update Logical_Router_Port ovn-cluster-slaac ipv6_ra_configs={address_mode=dhcpv6_stateful, max_interval="30", min_interval="5", send_periodic="true"}
    "#]]);
    scene.check(
        [gone("slaac")],
        &expect![[r#"
        mutate Logical_Router ovn-cluster policies -= 31000/ip6.dst == fd00:24::/64
        mutate Logical_Router ovn-cluster ports -= ovn-cluster-slaac
        mutate Address_Set distributed_ip6 addresses -= ["fd00:24::/64"]
        delete Logical_Switch slaac
    "#]],
    );
}
