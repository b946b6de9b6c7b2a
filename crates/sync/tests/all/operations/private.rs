//! Tests private subnets: the ACLs of their switches are added, changed and removed.

use expect_test::expect;
use plan::testing::Event;
use serde_json::{Value, json};

use super::{cluster, gone, subnet};
use crate::scene::Scene;

fn vault(more: Value) -> [Event; 1] {
    [subnet("vault", "10.23.0.0/24", more)]
}

#[test]
fn a_private_subnet_with_whom_it_allows() {
    let mut scene = Scene::after(cluster());
    scene.check(vault(json!({"private": true, "allowSubnets": ["10.16.0.0/16"]})), &expect![[r#"
        insert Logical_Switch vault external_ids={in_force="{\"cidrBlock\":\"10.23.0.0/24\",\"gateway\":\"10.23.0.1\",\"private\":true,\"allowSubnets\":[\"10.16.0.0/16\"]}", owner=kube-ovn-rs, vendor=kube-ovn} other_config={}
        insert ACL 0/to-lport/1000/ip action=drop direction=to-lport external_ids={owner=kube-ovn-rs, vendor=kube-ovn} log=false match=ip options={} priority=1000 severity=[] tier=0
        insert ACL 0/to-lport/1001/(ip4.src == 10.23.0.0/24 && ip4.dst == 10.16.0.0/16) || (ip4.src == 10.16.0.0/16 && ip4.dst == 10.23.0.0/24) action=allow-related direction=to-lport external_ids={owner=kube-ovn-rs, vendor=kube-ovn} log=false match="(ip4.src == 10.23.0.0/24 && ip4.dst == 10.16.0.0/16) || (ip4.src == 10.16.0.0/16 && ip4.dst == 10.23.0.0/24)" options={} priority=1001 severity=[] tier=0
        insert ACL 0/to-lport/1001/ip4.src == 10.23.0.0/24 && ip4.dst == 10.23.0.0/24 action=allow-related direction=to-lport external_ids={owner=kube-ovn-rs, vendor=kube-ovn} log=false match="ip4.src == 10.23.0.0/24 && ip4.dst == 10.23.0.0/24" options={} priority=1001 severity=[] tier=0
        insert ACL 0/to-lport/3000/ip4.src == $nodes_ip4 action=allow-related direction=to-lport external_ids={owner=kube-ovn-rs, vendor=kube-ovn} log=false match="ip4.src == $nodes_ip4" options={} priority=3000 severity=[] tier=0
        insert ACL 0/to-lport/3000/ip4.src == 100.64.0.0/16 action=allow-related direction=to-lport external_ids={owner=kube-ovn-rs, vendor=kube-ovn} log=false match="ip4.src == 100.64.0.0/16" options={} priority=3000 severity=[] tier=0
        insert ACL 0/to-lport/3001/ip4.src == $external_hosts_ip4 action=drop direction=to-lport external_ids={owner=kube-ovn-rs, vendor=kube-ovn} log=false match="ip4.src == $external_hosts_ip4" options={} priority=3001 severity=[] tier=0
        insert ACL 0/to-lport/3002/ip4.src == $external_hosts_ip4 && ip4.src == 10.16.0.0/16 action=allow-related direction=to-lport external_ids={owner=kube-ovn-rs, vendor=kube-ovn} log=false match="ip4.src == $external_hosts_ip4 && ip4.src == 10.16.0.0/16" options={} priority=3002 severity=[] tier=0
        insert Logical_Switch_Port vault-ovn-cluster addresses=[router] external_ids={owner=kube-ovn-rs, vendor=kube-ovn} options={router-port=ovn-cluster-vault} port_security=[] type=router
        insert Logical_Router_Policy 31000/ip4.dst == 10.23.0.0/24 action=allow external_ids={owner=kube-ovn-rs, vendor=kube-ovn} match="ip4.dst == 10.23.0.0/24" nexthop=[] nexthops=[] priority=31000
        insert Logical_Router_Port ovn-cluster-vault external_ids={owner=kube-ovn-rs, vendor=kube-ovn} ipv6_ra_configs={} mac="0e:f1:02:51:02:8b" networks=["10.23.0.1/24"] options={}
        mutate Logical_Switch vault acls += 0/to-lport/3001/ip4.src == $external_hosts_ip4, 0/to-lport/3000/ip4.src == $nodes_ip4, 0/to-lport/3002/ip4.src == $external_hosts_ip4 && ip4.src == 10.16.0.0/16, 0/to-lport/1000/ip, 0/to-lport/1001/(ip4.src == 10.23.0.0/24 && ip4.dst == 10.16.0.0/16) || (ip4.src == 10.16.0.0/16 && ip4.dst == 10.23.0.0/24), 0/to-lport/3000/ip4.src == 100.64.0.0/16, 0/to-lport/1001/ip4.src == 10.23.0.0/24 && ip4.dst == 10.23.0.0/24
        mutate Logical_Switch vault ports += vault-ovn-cluster
        mutate Logical_Router ovn-cluster policies += 31000/ip4.dst == 10.23.0.0/24
        mutate Logical_Router ovn-cluster ports += ovn-cluster-vault
        mutate Address_Set distributed_ip4 addresses += ["10.23.0.0/24"]
    "#]]);
    scene.check(vault(json!({"private": true, "allowSubnets": ["10.20.0.0/24"]})), &expect![[r#"
        mutate Logical_Switch vault external_ids -= [in_force] external_ids += {in_force="{\"cidrBlock\":\"10.23.0.0/24\",\"gateway\":\"10.23.0.1\",\"private\":true,\"allowSubnets\":[\"10.20.0.0/24\"]}"}
        insert ACL 0/to-lport/1001/(ip4.src == 10.23.0.0/24 && ip4.dst == 10.20.0.0/24) || (ip4.src == 10.20.0.0/24 && ip4.dst == 10.23.0.0/24) action=allow-related direction=to-lport external_ids={owner=kube-ovn-rs, vendor=kube-ovn} log=false match="(ip4.src == 10.23.0.0/24 && ip4.dst == 10.20.0.0/24) || (ip4.src == 10.20.0.0/24 && ip4.dst == 10.23.0.0/24)" options={} priority=1001 severity=[] tier=0
        insert ACL 0/to-lport/3002/ip4.src == $external_hosts_ip4 && ip4.src == 10.20.0.0/24 action=allow-related direction=to-lport external_ids={owner=kube-ovn-rs, vendor=kube-ovn} log=false match="ip4.src == $external_hosts_ip4 && ip4.src == 10.20.0.0/24" options={} priority=3002 severity=[] tier=0
        mutate Logical_Switch vault acls += 0/to-lport/1001/(ip4.src == 10.23.0.0/24 && ip4.dst == 10.20.0.0/24) || (ip4.src == 10.20.0.0/24 && ip4.dst == 10.23.0.0/24), 0/to-lport/3002/ip4.src == $external_hosts_ip4 && ip4.src == 10.20.0.0/24
        mutate Logical_Switch vault acls -= 0/to-lport/3002/ip4.src == $external_hosts_ip4 && ip4.src == 10.16.0.0/16, 0/to-lport/1001/(ip4.src == 10.23.0.0/24 && ip4.dst == 10.16.0.0/16) || (ip4.src == 10.16.0.0/16 && ip4.dst == 10.23.0.0/24)
    "#]]);
    scene.check(vault(json!({"private": true})), &expect![[r#"
        mutate Logical_Switch vault external_ids -= [in_force] external_ids += {in_force="{\"cidrBlock\":\"10.23.0.0/24\",\"gateway\":\"10.23.0.1\",\"private\":true}"}
        mutate Logical_Switch vault acls -= 0/to-lport/1001/(ip4.src == 10.23.0.0/24 && ip4.dst == 10.20.0.0/24) || (ip4.src == 10.20.0.0/24 && ip4.dst == 10.23.0.0/24), 0/to-lport/3002/ip4.src == $external_hosts_ip4 && ip4.src == 10.20.0.0/24
    "#]]);
    scene.check(
        [gone("vault")],
        &expect![[r#"
        mutate Logical_Router ovn-cluster policies -= 31000/ip4.dst == 10.23.0.0/24
        mutate Logical_Router ovn-cluster ports -= ovn-cluster-vault
        mutate Address_Set distributed_ip4 addresses -= ["10.23.0.0/24"]
        delete Logical_Switch vault
    "#]],
    );
}

#[test]
fn a_subnet_that_becomes_private_and_ceases_to_be() {
    let mut scene = Scene::after(cluster().into_iter().chain(vault(json!({}))));
    scene.check(vault(json!({"private": true})), &expect![[r#"
        mutate Logical_Switch vault external_ids -= [in_force] external_ids += {in_force="{\"cidrBlock\":\"10.23.0.0/24\",\"gateway\":\"10.23.0.1\",\"private\":true}"}
        insert ACL 0/to-lport/1000/ip action=drop direction=to-lport external_ids={owner=kube-ovn-rs, vendor=kube-ovn} log=false match=ip options={} priority=1000 severity=[] tier=0
        insert ACL 0/to-lport/1001/ip4.src == 10.23.0.0/24 && ip4.dst == 10.23.0.0/24 action=allow-related direction=to-lport external_ids={owner=kube-ovn-rs, vendor=kube-ovn} log=false match="ip4.src == 10.23.0.0/24 && ip4.dst == 10.23.0.0/24" options={} priority=1001 severity=[] tier=0
        insert ACL 0/to-lport/3000/ip4.src == $nodes_ip4 action=allow-related direction=to-lport external_ids={owner=kube-ovn-rs, vendor=kube-ovn} log=false match="ip4.src == $nodes_ip4" options={} priority=3000 severity=[] tier=0
        insert ACL 0/to-lport/3000/ip4.src == 100.64.0.0/16 action=allow-related direction=to-lport external_ids={owner=kube-ovn-rs, vendor=kube-ovn} log=false match="ip4.src == 100.64.0.0/16" options={} priority=3000 severity=[] tier=0
        insert ACL 0/to-lport/3001/ip4.src == $external_hosts_ip4 action=drop direction=to-lport external_ids={owner=kube-ovn-rs, vendor=kube-ovn} log=false match="ip4.src == $external_hosts_ip4" options={} priority=3001 severity=[] tier=0
        mutate Logical_Switch vault acls += 0/to-lport/3001/ip4.src == $external_hosts_ip4, 0/to-lport/3000/ip4.src == $nodes_ip4, 0/to-lport/1000/ip, 0/to-lport/3000/ip4.src == 100.64.0.0/16, 0/to-lport/1001/ip4.src == 10.23.0.0/24 && ip4.dst == 10.23.0.0/24
    "#]]);
    scene.check(vault(json!({})), &expect![[r#"
        mutate Logical_Switch vault external_ids -= [in_force] external_ids += {in_force="{\"cidrBlock\":\"10.23.0.0/24\",\"gateway\":\"10.23.0.1\"}"}
        mutate Logical_Switch vault acls -= 0/to-lport/3001/ip4.src == $external_hosts_ip4, 0/to-lport/3000/ip4.src == $nodes_ip4, 0/to-lport/1000/ip, 0/to-lport/3000/ip4.src == 100.64.0.0/16, 0/to-lport/1001/ip4.src == 10.23.0.0/24 && ip4.dst == 10.23.0.0/24
    "#]]);
}

#[test]
fn a_private_subnet_lets_the_nodes_in_wherever_they_are() {
    let mut scene = Scene::after(cluster().into_iter().chain(vault(json!({"private": true}))));
    scene.check([subnet("join", "100.65.0.0/16", json!({}))], &expect![[r#"
        mutate Logical_Switch join external_ids -= [in_force] external_ids += {in_force="{\"cidrBlock\":\"100.65.0.0/16\",\"gateway\":\"100.65.0.1\"}"}
        update Logical_Router_Port ovn-cluster-join networks=["100.65.0.1/16"]
        insert ACL 0/to-lport/3000/ip4.src == 100.65.0.0/16 action=allow-related direction=to-lport external_ids={owner=kube-ovn-rs, vendor=kube-ovn} log=false match="ip4.src == 100.65.0.0/16" options={} priority=3000 severity=[] tier=0
        insert Logical_Router_Policy 31000/ip4.dst == 100.65.0.0/16 action=allow external_ids={owner=kube-ovn-rs, vendor=kube-ovn} match="ip4.dst == 100.65.0.0/16" nexthop=[] nexthops=[] priority=31000
        insert Logical_Router_Static_Route dst-ip/0.0.0.0/0/100.65.0.1 external_ids={owner=kube-ovn-rs, vendor=kube-ovn} ip_prefix="0.0.0.0/0" nexthop="100.65.0.1" policy=dst-ip
        mutate Logical_Switch vault acls += 0/to-lport/3000/ip4.src == 100.65.0.0/16
        mutate Logical_Router ovn-cluster policies += 31000/ip4.dst == 100.65.0.0/16
        mutate Logical_Router ovn-cluster static_routes += dst-ip/0.0.0.0/0/100.65.0.1
        mutate Logical_Switch vault acls -= 0/to-lport/3000/ip4.src == 100.64.0.0/16
        mutate Logical_Router ovn-cluster policies -= 31000/ip4.dst == 100.64.0.0/16
        mutate Logical_Router ovn-cluster static_routes -= dst-ip/0.0.0.0/0/100.64.0.1
    "#]]);
}
