//! The facts of each kind of object, one row per line.

use std::sync::Arc;

use expect_test::{Expect, expect};
use ovn::{Fact, Kind, RowKey};
use ovsdb::Datum;
use plan::testing::{Event, node, port, subnet};
use plan::{GatewayNodes, Key, Settings, World};
use serde_json::{Value, json};

/// A world with the join subnet, a dual-stack default subnet, a node and a pod.
fn world() -> World {
    let mut world = World::new(Settings::default());
    world.set_subnet(subnet("join", "100.64.0.0/16,fd00:100:64::/112", json!({})));
    world.set_subnet(subnet("ovn-default", "10.16.0.0/16,fd00:10:16::/64", json!({})));
    world.set_node(node("n1", "100.64.0.2,fd00:100:64::2", "0a:00:00:00:00:02", &["172.30.0.1", "fd00:30::1"]));
    world.set_port(port("shop/web", "ovn-default", "10.16.0.5,fd00:10:16::5", "0a:00:00:00:00:05"));
    world
}

fn columns(fact: &Fact) -> impl Iterator<Item = (&RowKey, &'static str, &Datum)> {
    let Fact::Row { key, columns, .. } = fact else { return None.into_iter().flatten() };
    Some(columns.iter().map(move |(column, datum)| (key, *column, datum))).into_iter().flatten()
}

fn check(world: &World, key: &Key, expected: &Expect) {
    let facts = world.compile(key);
    // A key that is not listed would stay in the database when it is wanted no more.
    for (row, column, map) in facts.iter().flat_map(columns) {
        if let Kind::Keys(ours) = row.table.descriptor().kind(column) {
            let mut keys = map.pairs().filter_map(|(key, _)| key.as_str());
            assert!(keys.all(|key| ours.contains(&key)), "{row} {column}={map}");
        }
    }
    let facts: Vec<String> = facts.iter().map(ToString::to_string).collect();
    expected.assert_eq(&(facts.join("\n") + "\n"));
}

/// Checks the facts that a change removes and adds.
fn check_change(world: &mut World, event: &Event, expected: &Expect) {
    let wanted = |world: &World| -> Vec<String> {
        world.keys().flat_map(|key| world.compile(&key)).map(|fact| fact.to_string()).collect()
    };
    let before = wanted(world);
    event.apply(world);
    let after = wanted(world);
    let gone = before.iter().filter(|fact| !after.contains(fact)).map(|fact| format!("- {fact}\n"));
    let new = after.iter().filter(|fact| !before.contains(fact)).map(|fact| format!("+ {fact}\n"));
    expected.assert_eq(&gone.chain(new).collect::<String>());
}

#[test]
fn the_base_is_a_router_and_the_address_sets_of_the_distributed_gateway() {
    check(
        &world(),
        &Key::Base,
        &expect![[r#"
            Logical_Router ovn-cluster external_ids={owner=kube-ovn-rs, vendor=kube-ovn}
            Address_Set distributed_ip4 external_ids={owner=kube-ovn-rs, vendor=kube-ovn}
            Address_Set distributed_ip6 external_ids={owner=kube-ovn-rs, vendor=kube-ovn}
            Address_Set nodes_ip4 external_ids={owner=kube-ovn-rs, vendor=kube-ovn}
            Address_Set nodes_ip6 external_ids={owner=kube-ovn-rs, vendor=kube-ovn}
            Address_Set external_hosts_ip4 external_ids={owner=kube-ovn-rs, vendor=kube-ovn}
            Address_Set external_hosts_ip6 external_ids={owner=kube-ovn-rs, vendor=kube-ovn}
            Port_Group port_security external_ids={owner=kube-ovn-rs, vendor=kube-ovn}
            ACL Port_Group port_security/0/from-lport/32000/inport == @port_security && ((ip4 && udp.dst == 68) || (ip6 && udp.dst == 546)) action=drop direction=from-lport external_ids={owner=kube-ovn-rs, vendor=kube-ovn} log=false match="inport == @port_security && ((ip4 && udp.dst == 68) || (ip6 && udp.dst == 546))" priority=32000 tier=0
            Port_Group port_security acls += ACL Port_Group port_security/0/from-lport/32000/inport == @port_security && ((ip4 && udp.dst == 68) || (ip6 && udp.dst == 546))
        "#]],
    );
}

#[test]
fn a_subnet_is_a_switch_with_a_router_port() {
    check(
        &world(),
        &Key::Subnet("ovn-default".into()),
        &expect![[r#"
            Logical_Switch ovn-default external_ids={in_force="{\"cidrBlock\":\"10.16.0.0/16,fd00:10:16::/64\",\"gateway\":\"10.16.0.1,fd00:10:16::1\"}", owner=kube-ovn-rs, vendor=kube-ovn}
            Logical_Router_Port ovn-cluster-ovn-default external_ids={owner=kube-ovn-rs, vendor=kube-ovn} mac="0e:02:a6:e0:5d:e4" networks=["10.16.0.1/16", "fd00:10:16::1/64"]
            Logical_Router ovn-cluster ports += Logical_Router_Port ovn-cluster-ovn-default
            Logical_Switch_Port ovn-default-ovn-cluster addresses=[router] external_ids={owner=kube-ovn-rs, vendor=kube-ovn} options={router-port=ovn-cluster-ovn-default} type=router
            Logical_Switch ovn-default ports += Logical_Switch_Port ovn-default-ovn-cluster
            Logical_Router_Policy ovn-cluster/31000/ip4.dst == 10.16.0.0/16 action=allow external_ids={owner=kube-ovn-rs, vendor=kube-ovn} match="ip4.dst == 10.16.0.0/16" priority=31000
            Logical_Router ovn-cluster policies += Logical_Router_Policy ovn-cluster/31000/ip4.dst == 10.16.0.0/16
            Logical_Router_Policy ovn-cluster/31000/ip6.dst == fd00:10:16::/64 action=allow external_ids={owner=kube-ovn-rs, vendor=kube-ovn} match="ip6.dst == fd00:10:16::/64" priority=31000
            Logical_Router ovn-cluster policies += Logical_Router_Policy ovn-cluster/31000/ip6.dst == fd00:10:16::/64
            Address_Set distributed_ip4 addresses += "10.16.0.0/16"
            Address_Set distributed_ip6 addresses += "fd00:10:16::/64"
        "#]],
    );
}

#[test]
fn a_limited_pod_has_a_rule_for_each_direction() {
    let mut world = world();
    let limit = |rate, burst| Some(api::annotations::Limit { rate, burst });
    let pod = port("shop/web", "ovn-default", "10.16.0.5,fd00:10:16::5", "0a:00:00:00:00:05");
    let limited = plan::Port { ingress: limit(10_000, 8000), egress: limit(5000, 1), ..pod };
    check_change(
        &mut world,
        &Event::Port(limited),
        &expect![[r#"
        + QoS ovn-default/to-lport/1000/outport == "web.shop" bandwidth={burst=8000, rate=10000} direction=to-lport external_ids={owner=kube-ovn-rs, vendor=kube-ovn} match="outport == \"web.shop\"" priority=1000
        + Logical_Switch ovn-default qos_rules += QoS ovn-default/to-lport/1000/outport == "web.shop"
        + QoS ovn-default/from-lport/1000/inport == "web.shop" bandwidth={burst=1, rate=5000} direction=from-lport external_ids={owner=kube-ovn-rs, vendor=kube-ovn} match="inport == \"web.shop\"" priority=1000
        + Logical_Switch ovn-default qos_rules += QoS ovn-default/from-lport/1000/inport == "web.shop"
    "#]],
    );
}

#[test]
fn ports_are_copied_to_the_collector_of_their_subnet() {
    let mut world = world();
    let pod = port("shop/web", "net", "10.21.0.5", "0a:00:00:00:00:05");
    world.set_subnet(subnet("net", "10.21.0.0/24", json!({})));
    world.set_port(plan::Port { mirrored: true, ..pod });
    world.set_port(port("shop/db", "net", "10.21.0.6", "0a:00:00:00:00:06"));
    let with = |collector: serde_json::Value| {
        Event::Subnet(Box::new(subnet("net", "10.21.0.0/24", json!({ "remoteMirror": collector }))))
    };
    check_change(
        &mut world,
        &with(json!({ "to": "192.0.2.9", "key": 7, "pods": "Annotated" })),
        &expect![[r#"
        - Logical_Switch net external_ids={in_force="{\"cidrBlock\":\"10.21.0.0/24\",\"gateway\":\"10.21.0.1\"}", owner=kube-ovn-rs, vendor=kube-ovn}
        + Logical_Switch net external_ids={in_force="{\"cidrBlock\":\"10.21.0.0/24\",\"gateway\":\"10.21.0.1\",\"remoteMirror\":{\"to\":\"192.0.2.9\",\"key\":7,\"pods\":\"Annotated\"}}", owner=kube-ovn-rs, vendor=kube-ovn}
        + Mirror remote-gre-192.0.2.9-7 external_ids={owner=kube-ovn-rs, vendor=kube-ovn} filter=both index=7 sink="192.0.2.9" type=gre
        + Logical_Switch_Port web.shop mirror_rules += Mirror remote-gre-192.0.2.9-7
    "#]],
    );
    check_change(
        &mut world,
        &with(json!({ "to": "fd00::9", "type": "erspan" })),
        &expect![[r#"
        - Logical_Switch net external_ids={in_force="{\"cidrBlock\":\"10.21.0.0/24\",\"gateway\":\"10.21.0.1\",\"remoteMirror\":{\"to\":\"192.0.2.9\",\"key\":7,\"pods\":\"Annotated\"}}", owner=kube-ovn-rs, vendor=kube-ovn}
        - Mirror remote-gre-192.0.2.9-7 external_ids={owner=kube-ovn-rs, vendor=kube-ovn} filter=both index=7 sink="192.0.2.9" type=gre
        - Logical_Switch_Port web.shop mirror_rules += Mirror remote-gre-192.0.2.9-7
        + Logical_Switch net external_ids={in_force="{\"cidrBlock\":\"10.21.0.0/24\",\"gateway\":\"10.21.0.1\",\"remoteMirror\":{\"to\":\"fd00::9\",\"type\":\"erspan\"}}", owner=kube-ovn-rs, vendor=kube-ovn}
        + Mirror remote-erspan-fd00::9-0 external_ids={owner=kube-ovn-rs, vendor=kube-ovn} filter=both index=0 sink="fd00::9" type=erspan
        + Logical_Switch_Port db.shop mirror_rules += Mirror remote-erspan-fd00::9-0
        + Logical_Switch_Port web.shop mirror_rules += Mirror remote-erspan-fd00::9-0
    "#]],
    );
}

#[test]
fn the_rules_of_a_subnet_come_after_those_of_the_controller() {
    let acl = |direction: &str, priority: u16, match_: &str, action: &str| json!({ "direction": direction, "priority": priority, "match": match_, "action": action });
    let acls =
        [acl("to-lport", 32767, "ip4.src == 10.16.0.5", "reject"), acl("from-lport", 0, "udp", "allow-stateless")];
    let mut world = world();
    world.set_subnet(subnet("net", "10.21.0.0/24", json!({})));
    check_change(
        &mut world,
        &Event::Subnet(Box::new(subnet("net", "10.21.0.0/24", json!({ "acls": acls })))),
        &expect![[r#"
            - Logical_Switch net external_ids={in_force="{\"cidrBlock\":\"10.21.0.0/24\",\"gateway\":\"10.21.0.1\"}", owner=kube-ovn-rs, vendor=kube-ovn}
            + Logical_Switch net external_ids={in_force="{\"cidrBlock\":\"10.21.0.0/24\",\"gateway\":\"10.21.0.1\",\"acls\":[{\"direction\":\"to-lport\",\"priority\":32767,\"match\":\"ip4.src == 10.16.0.5\",\"action\":\"reject\"},{\"direction\":\"from-lport\",\"priority\":0,\"match\":\"udp\",\"action\":\"allow-stateless\"}]}", owner=kube-ovn-rs, vendor=kube-ovn}
            + ACL net/1/to-lport/32767/ip4.src == 10.16.0.5 action=reject direction=to-lport external_ids={owner=kube-ovn-rs, vendor=kube-ovn} log=false match="ip4.src == 10.16.0.5" priority=32767 tier=1
            + Logical_Switch net acls += ACL net/1/to-lport/32767/ip4.src == 10.16.0.5
            + ACL net/1/from-lport/0/udp action=allow-stateless direction=from-lport external_ids={owner=kube-ovn-rs, vendor=kube-ovn} log=false match=udp priority=0 tier=1
            + Logical_Switch net acls += ACL net/1/from-lport/0/udp
        "#]],
    );
}

#[test]
fn pods_of_a_centralized_subnet_leave_by_its_gateway_nodes() {
    let mut world = world();
    let centralized = json!({"gatewayType": "centralized", "gatewayNode": "n1,n2"});
    world.set_subnet(subnet("egress", "10.22.0.0/24,fd00:22::/64", centralized));
    world.set_node(node("n2", "100.64.0.3,fd00:100:64::3", "0a:00:00:00:00:03", &[]));
    let nodes = GatewayNodes { usable: vec!["n2".into(), "n1".into()], spread: Vec::new() };
    check_change(
        &mut world,
        &Event::GatewayNodes("egress".into(), nodes),
        &expect![[r#"
            + NB_Global . options={bfd-min-rx="250", bfd-min-tx="250", bfd-mult="3"}
            + Logical_Switch ovn-cluster:exits external_ids={owner=kube-ovn-rs, vendor=kube-ovn}
            + Logical_Router_Port exits:in external_ids={owner=kube-ovn-rs, vendor=kube-ovn} mac="0e:36:52:d1:d0:45" networks=["169.254.0.1/32", "fd6b:7562:6f76:6e01::1/128"]
            + Logical_Router ovn-cluster ports += Logical_Router_Port exits:in
            + Logical_Switch_Port to:exits:in addresses=[router] external_ids={owner=kube-ovn-rs, vendor=kube-ovn} options={router-port="exits:in"} type=router
            + Logical_Switch ovn-cluster:exits ports += Logical_Switch_Port to:exits:in
            + Logical_Router_Policy ovn-cluster/29400/inport == "exits:in" action=drop external_ids={owner=kube-ovn-rs, vendor=kube-ovn} match="inport == \"exits:in\"" priority=29400
            + Logical_Router ovn-cluster policies += Logical_Router_Policy ovn-cluster/29400/inport == "exits:in"
            + Logical_Router_Port exit:egress external_ids={owner=kube-ovn-rs, vendor=kube-ovn} mac="0e:c2:8d:84:25:e4" networks=["245.27.8.74/31", "fd6b:7562:6f76:6e00::51b:84a/127"]
            + Logical_Router ovn-cluster ports += Logical_Router_Port exit:egress
            + Logical_Switch_Port to:exit:egress addresses=[router] external_ids={owner=kube-ovn-rs, vendor=kube-ovn} options={router-port="exit:egress"} type=router
            + Logical_Switch ovn-cluster:exits ports += Logical_Switch_Port to:exit:egress
            + Gateway_Chassis exit:egress@chassis-n2 chassis_name=chassis-n2 external_ids={owner=kube-ovn-rs, vendor=kube-ovn} priority=32767
            + Logical_Router_Port exit:egress gateway_chassis += Gateway_Chassis exit:egress@chassis-n2
            + Gateway_Chassis exit:egress@chassis-n1 chassis_name=chassis-n1 external_ids={owner=kube-ovn-rs, vendor=kube-ovn} priority=32766
            + Logical_Router_Port exit:egress gateway_chassis += Gateway_Chassis exit:egress@chassis-n1
            + Static_MAC_Binding exit:egress/245.27.8.75 ip="245.27.8.75" logical_port="exit:egress" mac="0e:36:52:d1:d0:45" override_dynamic_mac=true
            + Static_MAC_Binding exit:egress/fd6b:7562:6f76:6e00::51b:84b ip="fd6b:7562:6f76:6e00::51b:84b" logical_port="exit:egress" mac="0e:36:52:d1:d0:45" override_dynamic_mac=true
            + Logical_Router_Policy ovn-cluster/29000/ip4.src == 10.22.0.0/24 action=reroute external_ids={owner=kube-ovn-rs, vendor=kube-ovn} match="ip4.src == 10.22.0.0/24" nexthops=["245.27.8.75"] priority=29000
            + Logical_Router ovn-cluster policies += Logical_Router_Policy ovn-cluster/29000/ip4.src == 10.22.0.0/24
            + Logical_Router_Policy ovn-cluster/29000/ip6.src == fd00:22::/64 action=reroute external_ids={owner=kube-ovn-rs, vendor=kube-ovn} match="ip6.src == fd00:22::/64" nexthops=["fd6b:7562:6f76:6e00::51b:84b"] priority=29000
            + Logical_Router ovn-cluster policies += Logical_Router_Policy ovn-cluster/29000/ip6.src == fd00:22::/64
            + Logical_Router_Policy ovn-cluster/29500/ip4 && inport == "exits:in" && is_chassis_resident("node-n1") action=reroute external_ids={owner=kube-ovn-rs, vendor=kube-ovn} match="ip4 && inport == \"exits:in\" && is_chassis_resident(\"node-n1\")" nexthops=["100.64.0.2"] priority=29500
            + Logical_Router ovn-cluster policies += Logical_Router_Policy ovn-cluster/29500/ip4 && inport == "exits:in" && is_chassis_resident("node-n1")
            + Logical_Router_Policy ovn-cluster/29500/ip6 && inport == "exits:in" && is_chassis_resident("node-n1") action=reroute external_ids={owner=kube-ovn-rs, vendor=kube-ovn} match="ip6 && inport == \"exits:in\" && is_chassis_resident(\"node-n1\")" nexthops=["fd00:100:64::2"] priority=29500
            + Logical_Router ovn-cluster policies += Logical_Router_Policy ovn-cluster/29500/ip6 && inport == "exits:in" && is_chassis_resident("node-n1")
            + Logical_Router_Policy ovn-cluster/29500/ip4 && inport == "exits:in" && is_chassis_resident("node-n2") action=reroute external_ids={owner=kube-ovn-rs, vendor=kube-ovn} match="ip4 && inport == \"exits:in\" && is_chassis_resident(\"node-n2\")" nexthops=["100.64.0.3"] priority=29500
            + Logical_Router ovn-cluster policies += Logical_Router_Policy ovn-cluster/29500/ip4 && inport == "exits:in" && is_chassis_resident("node-n2")
            + Logical_Router_Policy ovn-cluster/29500/ip6 && inport == "exits:in" && is_chassis_resident("node-n2") action=reroute external_ids={owner=kube-ovn-rs, vendor=kube-ovn} match="ip6 && inport == \"exits:in\" && is_chassis_resident(\"node-n2\")" nexthops=["fd00:100:64::3"] priority=29500
            + Logical_Router ovn-cluster policies += Logical_Router_Policy ovn-cluster/29500/ip6 && inport == "exits:in" && is_chassis_resident("node-n2")
        "#]],
    );
}

#[test]
fn with_ecmp_pods_of_a_centralized_subnet_leave_by_all_of_them() {
    let mut world = world();
    world.set_subnet(subnet("egress", "10.22.0.0/24", json!({"gatewayType": "centralized"})));
    world.set_node(node("n2", "100.64.0.3,fd00:100:64::3", "0a:00:00:00:00:03", &[]));
    let both: Vec<Arc<str>> = vec!["n1".into(), "n2".into()];
    let shown = |world: &mut World, usable: &[Arc<str>]| {
        let nodes = GatewayNodes { usable: usable.to_vec(), spread: both.clone() };
        world.set_gateway_nodes(&"egress".into(), &nodes);
        let facts = world.compile(&Key::Subnet("egress".into()));
        let facts = facts.iter().map(ToString::to_string);
        let shown = facts.filter(|fact| fact.starts_with("Gateway_Chassis") || fact.contains("reroute"));
        shown.collect::<Vec<_>>().join("\n")
    };
    let all = shown(&mut world, &both);
    expect![[r#"
        Gateway_Chassis exit:egress:n1@chassis-n1 chassis_name=chassis-n1 external_ids={owner=kube-ovn-rs, vendor=kube-ovn} priority=32767
        Gateway_Chassis exit:egress:n1@chassis-n2 chassis_name=chassis-n2 external_ids={owner=kube-ovn-rs, vendor=kube-ovn} priority=32766
        Gateway_Chassis exit:egress:n2@chassis-n2 chassis_name=chassis-n2 external_ids={owner=kube-ovn-rs, vendor=kube-ovn} priority=32767
        Gateway_Chassis exit:egress:n2@chassis-n1 chassis_name=chassis-n1 external_ids={owner=kube-ovn-rs, vendor=kube-ovn} priority=32766
        Logical_Router_Policy ovn-cluster/29000/ip4.src == 10.22.0.0/24 action=reroute external_ids={owner=kube-ovn-rs, vendor=kube-ovn} match="ip4.src == 10.22.0.0/24" nexthops=["243.98.138.177", "246.0.226.195"] priority=29000"#]].assert_eq(&all);
    // The next hops stay while one of them is not ready: connections by the others do not move.
    expect![[r#"
        Gateway_Chassis exit:egress:n1@chassis-n1 chassis_name=chassis-n1 external_ids={owner=kube-ovn-rs, vendor=kube-ovn} priority=32767
        Gateway_Chassis exit:egress:n2@chassis-n1 chassis_name=chassis-n1 external_ids={owner=kube-ovn-rs, vendor=kube-ovn} priority=32767
        Logical_Router_Policy ovn-cluster/29000/ip4.src == 10.22.0.0/24 action=reroute external_ids={owner=kube-ovn-rs, vendor=kube-ovn} match="ip4.src == 10.22.0.0/24" nexthops=["243.98.138.177", "246.0.226.195"] priority=29000"#]].assert_eq(&shown(&mut world, &both[..1]));
}

#[test]
fn without_a_gateway_node_pods_of_a_centralized_subnet_do_not_leave() {
    let mut world = world();
    world.set_subnet(subnet("egress", "10.22.0.0/24", json!({"gatewayType": "centralized", "gatewayNode": "n9"})));
    let facts = world.compile(&Key::Subnet("egress".into()));
    let facts: Vec<String> = facts.iter().map(ToString::to_string).collect();
    assert!(!facts.iter().any(|fact| fact.contains("reroute") || fact.contains("distributed_ip4")), "{facts:?}");
}

#[test]
fn a_private_subnet_allows_itself_nodes_and_the_allowed_networks() {
    let mut world = world();
    let allow = json!(["10.16.0.0/16", "fd00:10:16::/64"]);
    let private = json!({"private": true, "allowSubnets": allow, "gatewayType": "centralized", "gatewayNode": "n1"});
    world.set_subnet(subnet("vault", "10.23.0.0/24,fd00:23::/64", private));
    let facts = world.compile(&Key::Subnet("vault".into()));
    let rules: Vec<String> = facts.iter().map(ToString::to_string).filter(|fact| fact.contains("ACL")).collect();
    expect![[r#"
        ACL vault/0/to-lport/3000/ip4.src == 100.64.0.0/16 action=allow-related direction=to-lport external_ids={owner=kube-ovn-rs, vendor=kube-ovn} log=false match="ip4.src == 100.64.0.0/16" priority=3000 tier=0
        Logical_Switch vault acls += ACL vault/0/to-lport/3000/ip4.src == 100.64.0.0/16
        ACL vault/0/to-lport/3000/ip4.src == $nodes_ip4 action=allow-related direction=to-lport external_ids={owner=kube-ovn-rs, vendor=kube-ovn} log=false match="ip4.src == $nodes_ip4" priority=3000 tier=0
        Logical_Switch vault acls += ACL vault/0/to-lport/3000/ip4.src == $nodes_ip4
        ACL vault/0/to-lport/1001/ip4.src == 10.23.0.0/24 && ip4.dst == 10.23.0.0/24 action=allow-related direction=to-lport external_ids={owner=kube-ovn-rs, vendor=kube-ovn} log=false match="ip4.src == 10.23.0.0/24 && ip4.dst == 10.23.0.0/24" priority=1001 tier=0
        Logical_Switch vault acls += ACL vault/0/to-lport/1001/ip4.src == 10.23.0.0/24 && ip4.dst == 10.23.0.0/24
        ACL vault/0/to-lport/3001/ip4.src == $external_hosts_ip4 action=drop direction=to-lport external_ids={owner=kube-ovn-rs, vendor=kube-ovn} log=false match="ip4.src == $external_hosts_ip4" priority=3001 tier=0
        Logical_Switch vault acls += ACL vault/0/to-lport/3001/ip4.src == $external_hosts_ip4
        ACL vault/0/to-lport/3002/ip4.src == $external_hosts_ip4 && ip4.src == 10.16.0.0/16 action=allow-related direction=to-lport external_ids={owner=kube-ovn-rs, vendor=kube-ovn} log=false match="ip4.src == $external_hosts_ip4 && ip4.src == 10.16.0.0/16" priority=3002 tier=0
        Logical_Switch vault acls += ACL vault/0/to-lport/3002/ip4.src == $external_hosts_ip4 && ip4.src == 10.16.0.0/16
        ACL vault/0/to-lport/1001/(ip4.src == 10.23.0.0/24 && ip4.dst == 10.16.0.0/16) || (ip4.src == 10.16.0.0/16 && ip4.dst == 10.23.0.0/24) action=allow-related direction=to-lport external_ids={owner=kube-ovn-rs, vendor=kube-ovn} log=false match="(ip4.src == 10.23.0.0/24 && ip4.dst == 10.16.0.0/16) || (ip4.src == 10.16.0.0/16 && ip4.dst == 10.23.0.0/24)" priority=1001 tier=0
        Logical_Switch vault acls += ACL vault/0/to-lport/1001/(ip4.src == 10.23.0.0/24 && ip4.dst == 10.16.0.0/16) || (ip4.src == 10.16.0.0/16 && ip4.dst == 10.23.0.0/24)
        ACL vault/0/to-lport/3000/ip6.src == fd00:100:64::/112 action=allow-related direction=to-lport external_ids={owner=kube-ovn-rs, vendor=kube-ovn} log=false match="ip6.src == fd00:100:64::/112" priority=3000 tier=0
        Logical_Switch vault acls += ACL vault/0/to-lport/3000/ip6.src == fd00:100:64::/112
        ACL vault/0/to-lport/3000/ip6.src == $nodes_ip6 action=allow-related direction=to-lport external_ids={owner=kube-ovn-rs, vendor=kube-ovn} log=false match="ip6.src == $nodes_ip6" priority=3000 tier=0
        Logical_Switch vault acls += ACL vault/0/to-lport/3000/ip6.src == $nodes_ip6
        ACL vault/0/to-lport/1001/ip6.src == fd00:23::/64 && ip6.dst == fd00:23::/64 action=allow-related direction=to-lport external_ids={owner=kube-ovn-rs, vendor=kube-ovn} log=false match="ip6.src == fd00:23::/64 && ip6.dst == fd00:23::/64" priority=1001 tier=0
        Logical_Switch vault acls += ACL vault/0/to-lport/1001/ip6.src == fd00:23::/64 && ip6.dst == fd00:23::/64
        ACL vault/0/to-lport/3001/ip6.src == $external_hosts_ip6 action=drop direction=to-lport external_ids={owner=kube-ovn-rs, vendor=kube-ovn} log=false match="ip6.src == $external_hosts_ip6" priority=3001 tier=0
        Logical_Switch vault acls += ACL vault/0/to-lport/3001/ip6.src == $external_hosts_ip6
        ACL vault/0/to-lport/3002/ip6.src == $external_hosts_ip6 && ip6.src == fd00:10:16::/64 action=allow-related direction=to-lport external_ids={owner=kube-ovn-rs, vendor=kube-ovn} log=false match="ip6.src == $external_hosts_ip6 && ip6.src == fd00:10:16::/64" priority=3002 tier=0
        Logical_Switch vault acls += ACL vault/0/to-lport/3002/ip6.src == $external_hosts_ip6 && ip6.src == fd00:10:16::/64
        ACL vault/0/to-lport/1001/(ip6.src == fd00:23::/64 && ip6.dst == fd00:10:16::/64) || (ip6.src == fd00:10:16::/64 && ip6.dst == fd00:23::/64) action=allow-related direction=to-lport external_ids={owner=kube-ovn-rs, vendor=kube-ovn} log=false match="(ip6.src == fd00:23::/64 && ip6.dst == fd00:10:16::/64) || (ip6.src == fd00:10:16::/64 && ip6.dst == fd00:23::/64)" priority=1001 tier=0
        Logical_Switch vault acls += ACL vault/0/to-lport/1001/(ip6.src == fd00:23::/64 && ip6.dst == fd00:10:16::/64) || (ip6.src == fd00:10:16::/64 && ip6.dst == fd00:23::/64)
        ACL vault/0/to-lport/1000/ip action=drop direction=to-lport external_ids={owner=kube-ovn-rs, vendor=kube-ovn} log=false match=ip priority=1000 tier=0
        Logical_Switch vault acls += ACL vault/0/to-lport/1000/ip
    "#]].assert_eq(&(rules.join("\n") + "\n"));
}

#[test]
fn an_external_host_has_a_port_and_addresses_that_lead_to_it() {
    let mut host = node("lb1", "100.64.0.9,fd00:100:64::9", "0a:00:00:00:00:09", &["172.30.0.250"]);
    host.external = true;
    let mut world = world();
    check_change(
        &mut world,
        &Event::Node(host),
        &expect![[r#"
            + Logical_Switch_Port node-lb1 addresses=["0a:00:00:00:00:09 100.64.0.9 fd00:100:64::9"] external_ids={node=lb1, owner=kube-ovn-rs, vendor=kube-ovn} options={requested-chassis=lb1} port_security=["0a:00:00:00:00:09 100.64.0.9 fd00:100:64::9"]
            + Logical_Switch join ports += Logical_Switch_Port node-lb1
            + Address_Set external_hosts_ip4 addresses += "100.64.0.9"
            + Address_Set external_hosts_ip6 addresses += "fd00:100:64::9"
        "#]],
    );
}

#[test]
fn a_private_subnet_follows_the_join_subnet() {
    let mut world = world();
    world.set_subnet(subnet("vault", "10.23.0.0/24", json!({"private": true})));
    world.take_dirty();
    world.set_subnet(subnet("join", "100.65.0.0/16", json!({})));
    assert!(world.take_dirty().contains(&Key::Subnet("vault".into())));
    world.remove_subnet("join");
    assert!(world.take_dirty().contains(&Key::Subnet("vault".into())));
}

#[test]
fn the_join_subnet_has_the_default_routes() {
    check(
        &world(),
        &Key::Subnet("join".into()),
        &expect![[r#"
            Logical_Switch join external_ids={in_force="{\"cidrBlock\":\"100.64.0.0/16,fd00:100:64::/112\",\"gateway\":\"100.64.0.1,fd00:100:64::1\"}", owner=kube-ovn-rs, vendor=kube-ovn}
            Logical_Router_Port ovn-cluster-join external_ids={owner=kube-ovn-rs, vendor=kube-ovn} mac="0e:22:45:ae:3f:a9" networks=["100.64.0.1/16", "fd00:100:64::1/112"]
            Logical_Router ovn-cluster ports += Logical_Router_Port ovn-cluster-join
            Logical_Switch_Port join-ovn-cluster addresses=[router] external_ids={owner=kube-ovn-rs, vendor=kube-ovn} options={router-port=ovn-cluster-join} type=router
            Logical_Switch join ports += Logical_Switch_Port join-ovn-cluster
            Logical_Router_Policy ovn-cluster/31000/ip4.dst == 100.64.0.0/16 action=allow external_ids={owner=kube-ovn-rs, vendor=kube-ovn} match="ip4.dst == 100.64.0.0/16" priority=31000
            Logical_Router ovn-cluster policies += Logical_Router_Policy ovn-cluster/31000/ip4.dst == 100.64.0.0/16
            Logical_Router_Policy ovn-cluster/31000/ip6.dst == fd00:100:64::/112 action=allow external_ids={owner=kube-ovn-rs, vendor=kube-ovn} match="ip6.dst == fd00:100:64::/112" priority=31000
            Logical_Router ovn-cluster policies += Logical_Router_Policy ovn-cluster/31000/ip6.dst == fd00:100:64::/112
            Logical_Router_Static_Route ovn-cluster/dst-ip/0.0.0.0/0/100.64.0.1 external_ids={owner=kube-ovn-rs, vendor=kube-ovn} ip_prefix="0.0.0.0/0" nexthop="100.64.0.1" policy=dst-ip
            Logical_Router ovn-cluster static_routes += Logical_Router_Static_Route ovn-cluster/dst-ip/0.0.0.0/0/100.64.0.1
            Logical_Router_Static_Route ovn-cluster/dst-ip/::/0/fd00:100:64::1 external_ids={owner=kube-ovn-rs, vendor=kube-ovn} ip_prefix="::/0" nexthop="fd00:100:64::1" policy=dst-ip
            Logical_Router ovn-cluster static_routes += Logical_Router_Static_Route ovn-cluster/dst-ip/::/0/fd00:100:64::1
        "#]],
    );
}

#[test]
fn a_router_sends_advertisements_in_subnets_that_enable_them() {
    let leg = |cidr: &str, more: Value| {
        let mut world = world();
        world.set_subnet(subnet("slaac", cidr, more));
        let facts = world.compile(&Key::Subnet("slaac".into()));
        facts.iter().map(ToString::to_string).find(|fact| fact.starts_with("Logical_Router_Port ")).unwrap()
    };
    let dual = "10.24.0.0/24,fd00:24::/64";
    expect![[r#"Logical_Router_Port ovn-cluster-slaac external_ids={owner=kube-ovn-rs, vendor=kube-ovn} ipv6_ra_configs={address_mode=dhcpv6_stateful, max_interval="30", min_interval="5", send_periodic="true"} mac="0e:66:25:86:f2:b7" networks=["10.24.0.1/24", "fd00:24::1/64"]"#]].assert_eq(&leg(dual, json!({"enableIPv6RA": true})));
    expect![[r#"Logical_Router_Port ovn-cluster-slaac external_ids={owner=kube-ovn-rs, vendor=kube-ovn} ipv6_ra_configs={address_mode=slaac, send_periodic="true"} mac="0e:66:25:86:f2:b7" networks=["10.24.0.1/24", "fd00:24::1/64"]"#]]
        .assert_eq(&leg(dual, json!({"enableIPv6RA": true, "ipv6RAConfigs": "address_mode=slaac,send_periodic=true"})));
    expect![[r#"Logical_Router_Port ovn-cluster-slaac external_ids={owner=kube-ovn-rs, vendor=kube-ovn} mac="0e:66:25:86:f2:b7" networks=["10.24.0.1/24"]"#]]
        .assert_eq(&leg("10.24.0.0/24", json!({"enableIPv6RA": true})));
}

#[test]
fn a_node_is_a_port_and_policies_to_and_from_it() {
    check(
        &world(),
        &Key::Node("n1".into()),
        &expect![[r#"
            Logical_Switch_Port node-n1 addresses=["0a:00:00:00:00:02 100.64.0.2 fd00:100:64::2"] external_ids={node=n1, owner=kube-ovn-rs, vendor=kube-ovn} options={requested-chassis=n1}
            Logical_Switch join ports += Logical_Switch_Port node-n1
            Logical_Router_Policy ovn-cluster/30000/ip4.dst == 172.30.0.1 action=reroute external_ids={owner=kube-ovn-rs, vendor=kube-ovn} match="ip4.dst == 172.30.0.1" nexthops=["100.64.0.2"] priority=30000
            Logical_Router ovn-cluster policies += Logical_Router_Policy ovn-cluster/30000/ip4.dst == 172.30.0.1
            Address_Set nodes_ip4 addresses += "172.30.0.1"
            Logical_Router_Policy ovn-cluster/30000/ip6.dst == fd00:30::1 action=reroute external_ids={owner=kube-ovn-rs, vendor=kube-ovn} match="ip6.dst == fd00:30::1" nexthops=["fd00:100:64::2"] priority=30000
            Logical_Router ovn-cluster policies += Logical_Router_Policy ovn-cluster/30000/ip6.dst == fd00:30::1
            Address_Set nodes_ip6 addresses += "fd00:30::1"
            Logical_Router_Policy ovn-cluster/29000/ip4.src == $distributed_ip4 && is_chassis_resident("node-n1") action=reroute external_ids={owner=kube-ovn-rs, vendor=kube-ovn} match="ip4.src == $distributed_ip4 && is_chassis_resident(\"node-n1\")" nexthops=["100.64.0.2"] priority=29000
            Logical_Router ovn-cluster policies += Logical_Router_Policy ovn-cluster/29000/ip4.src == $distributed_ip4 && is_chassis_resident("node-n1")
            Logical_Router_Policy ovn-cluster/29000/ip6.src == $distributed_ip6 && is_chassis_resident("node-n1") action=reroute external_ids={owner=kube-ovn-rs, vendor=kube-ovn} match="ip6.src == $distributed_ip6 && is_chassis_resident(\"node-n1\")" nexthops=["fd00:100:64::2"] priority=29000
            Logical_Router ovn-cluster policies += Logical_Router_Policy ovn-cluster/29000/ip6.src == $distributed_ip6 && is_chassis_resident("node-n1")
        "#]],
    );
}

#[test]
fn a_pod_is_a_port_of_its_subnet() {
    check(
        &world(),
        &Key::Port("web.shop".into()),
        &expect![[r#"
            Logical_Switch_Port web.shop addresses=["0a:00:00:00:00:05 10.16.0.5 fd00:10:16::5"] external_ids={ls=ovn-default, owner=kube-ovn-rs, pod="shop/web", vendor=kube-ovn} options={requested-chassis=n1}
            Logical_Switch ovn-default ports += Logical_Switch_Port web.shop
        "#]],
    );
}

#[test]
fn port_security_restricts_a_port_to_its_own_addresses() {
    let mut world = world();
    let mut secured = port("shop/web", "ovn-default", "10.16.0.5", "0a:00:00:00:00:05");
    secured.port_security = true;
    world.set_port(secured);
    check(
        &world,
        &Key::Port("web.shop".into()),
        &expect![[r#"
            Logical_Switch_Port web.shop addresses=["0a:00:00:00:00:05 10.16.0.5"] external_ids={ls=ovn-default, owner=kube-ovn-rs, pod="shop/web", vendor=kube-ovn} options={requested-chassis=n1} port_security=["0a:00:00:00:00:05 10.16.0.5"]
            Logical_Switch ovn-default ports += Logical_Switch_Port web.shop
            Port_Group port_security ports += Logical_Switch_Port web.shop
        "#]],
    );
}

#[test]
fn a_port_has_no_rows_without_its_subnet() {
    let mut world = world();
    world.take_dirty();
    world.remove_subnet("ovn-default");
    assert!(world.take_dirty().contains(&Key::Port("web.shop".into())));
    assert!(world.compile(&Key::Port("web.shop".into())).is_empty());
    world.set_subnet(subnet("ovn-default", "10.16.0.0/16,fd00:10:16::/64", json!({})));
    assert!(world.take_dirty().contains(&Key::Port("web.shop".into())));
}

#[test]
fn setting_the_current_value_makes_nothing_dirty() {
    let mut world = world();
    world.take_dirty();
    let again = self::world();
    world.set_subnet(again.subnet("ovn-default").unwrap().clone());
    world.set_node(again.node("n1").unwrap().clone());
    world.set_port(again.port("web.shop").unwrap().clone());
    assert!(!world.is_dirty());
}

#[test]
fn a_pod_in_another_subnet_has_another_switch_and_address() {
    let mut world = world();
    world.set_subnet(subnet("shop", "10.20.0.0/24", json!({})));
    let moved = port("shop/web", "shop", "10.20.0.7", "0a:00:00:00:00:05");
    check_change(
        &mut world,
        &Event::Port(moved),
        &expect![[r#"
            - Logical_Switch_Port web.shop addresses=["0a:00:00:00:00:05 10.16.0.5 fd00:10:16::5"] external_ids={ls=ovn-default, owner=kube-ovn-rs, pod="shop/web", vendor=kube-ovn} options={requested-chassis=n1}
            - Logical_Switch ovn-default ports += Logical_Switch_Port web.shop
            + Logical_Switch_Port web.shop addresses=["0a:00:00:00:00:05 10.20.0.7"] external_ids={ls=shop, owner=kube-ovn-rs, pod="shop/web", vendor=kube-ovn} options={requested-chassis=n1}
            + Logical_Switch shop ports += Logical_Switch_Port web.shop
        "#]],
    );
}

#[test]
fn removing_the_join_subnet_removes_the_nodes_rows_and_their_acls() {
    let mut world = World::new(Settings::default());
    world.set_subnet(subnet("join", "100.64.0.0/16", json!({})));
    world.set_subnet(subnet("vault", "10.23.0.0/24", json!({"private": true})));
    world.set_node(node("n1", "100.64.0.2", "0a:00:00:00:00:02", &[]));
    check_change(
        &mut world,
        &Event::SubnetGone("join".into()),
        &expect![[r#"
            - Logical_Switch join external_ids={in_force="{\"cidrBlock\":\"100.64.0.0/16\",\"gateway\":\"100.64.0.1\"}", owner=kube-ovn-rs, vendor=kube-ovn}
            - Logical_Router_Port ovn-cluster-join external_ids={owner=kube-ovn-rs, vendor=kube-ovn} mac="0e:22:45:ae:3f:a9" networks=["100.64.0.1/16"]
            - Logical_Router ovn-cluster ports += Logical_Router_Port ovn-cluster-join
            - Logical_Switch_Port join-ovn-cluster addresses=[router] external_ids={owner=kube-ovn-rs, vendor=kube-ovn} options={router-port=ovn-cluster-join} type=router
            - Logical_Switch join ports += Logical_Switch_Port join-ovn-cluster
            - Logical_Router_Policy ovn-cluster/31000/ip4.dst == 100.64.0.0/16 action=allow external_ids={owner=kube-ovn-rs, vendor=kube-ovn} match="ip4.dst == 100.64.0.0/16" priority=31000
            - Logical_Router ovn-cluster policies += Logical_Router_Policy ovn-cluster/31000/ip4.dst == 100.64.0.0/16
            - Logical_Router_Static_Route ovn-cluster/dst-ip/0.0.0.0/0/100.64.0.1 external_ids={owner=kube-ovn-rs, vendor=kube-ovn} ip_prefix="0.0.0.0/0" nexthop="100.64.0.1" policy=dst-ip
            - Logical_Router ovn-cluster static_routes += Logical_Router_Static_Route ovn-cluster/dst-ip/0.0.0.0/0/100.64.0.1
            - ACL vault/0/to-lport/3000/ip4.src == 100.64.0.0/16 action=allow-related direction=to-lport external_ids={owner=kube-ovn-rs, vendor=kube-ovn} log=false match="ip4.src == 100.64.0.0/16" priority=3000 tier=0
            - Logical_Switch vault acls += ACL vault/0/to-lport/3000/ip4.src == 100.64.0.0/16
            - Logical_Switch_Port node-n1 addresses=["0a:00:00:00:00:02 100.64.0.2"] external_ids={node=n1, owner=kube-ovn-rs, vendor=kube-ovn} options={requested-chassis=n1}
            - Logical_Switch join ports += Logical_Switch_Port node-n1
            - Logical_Router_Policy ovn-cluster/29000/ip4.src == $distributed_ip4 && is_chassis_resident("node-n1") action=reroute external_ids={owner=kube-ovn-rs, vendor=kube-ovn} match="ip4.src == $distributed_ip4 && is_chassis_resident(\"node-n1\")" nexthops=["100.64.0.2"] priority=29000
            - Logical_Router ovn-cluster policies += Logical_Router_Policy ovn-cluster/29000/ip4.src == $distributed_ip4 && is_chassis_resident("node-n1")
        "#]],
    );
}

#[test]
fn removed_objects_have_no_facts() {
    let mut world = world();
    let gone = [
        Event::PortGone("web.shop".into()),
        Event::NodeGone("n1".into()),
        Event::SubnetGone("ovn-default".into()),
        Event::SubnetGone("join".into()),
    ];
    world.take_dirty();
    for event in gone {
        event.apply(&mut world);
    }
    let dirty = world.take_dirty();
    let keys = [
        Key::Port("web.shop".into()),
        Key::Node("n1".into()),
        Key::Subnet("ovn-default".into()),
        Key::Subnet("join".into()),
    ];
    for key in keys {
        assert!(dirty.contains(&key), "{key:?}");
        assert!(world.compile(&key).is_empty(), "{key:?}");
    }
    assert_eq!(world.keys().collect::<Vec<_>>(), [Key::Base]);
}
