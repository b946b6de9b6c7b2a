//! Tests the facts of each typed row.

use expect_test::{Expect, expect};
use ovsdb::Atom;

use crate::{
    Acl, Action, AddressSet, Bfd, Direction, Fact, Kind, LogicalRouter, LogicalRouterPort, LogicalSwitch,
    LogicalSwitchPort, NbGlobal, PortGroup, RouterPolicy, StaticRoute, Verdict,
};

fn check(facts: impl IntoIterator<Item = Fact>, expect: &Expect) {
    let facts: Vec<Fact> = facts.into_iter().collect();
    for fact in &facts {
        let Fact::Row { key, columns, .. } = fact else { continue };
        for (column, datum) in columns {
            let kind = key.table.descriptor().kind(column);
            let map = matches!(kind, Kind::Map | Kind::Keys(_));
            assert_eq!(datum.is_map(), map, "{key}: {column}, even when empty");
            if let Kind::Keys(ours) = kind {
                let listed = |key: &Atom| key.as_str().is_some_and(|key| ours.contains(&key));
                assert!(
                    datum.pairs().all(|(key, _)| listed(key)),
                    "{key}: {column}={datum} has a key that is not listed"
                );
            }
        }
    }
    let lines: Vec<String> = facts.iter().map(ToString::to_string).collect();
    expect.assert_eq(&lines.join("\n"));
}

#[test]
fn switch_with_a_pod() {
    let switch = LogicalSwitch { name: "shop-net".into(), ..Default::default() };
    let port = LogicalSwitchPort {
        name: "web-0.shop".into(),
        switch: "shop-net".into(),
        addresses: vec!["00:00:00:20:00:51 10.20.0.51 fd00::51".into()],
        external_ids: vec![("pod", "shop/web-0".into()), ("vendor", "somebody".into())],
        ..Default::default()
    };
    check(
        std::iter::once(switch.fact()).chain(port.facts()),
        &expect![[r#"
            Logical_Switch shop-net external_ids={owner=kube-ovn-rs, vendor=kube-ovn}
            Logical_Switch_Port web-0.shop addresses=["00:00:00:20:00:51 10.20.0.51 fd00::51"] external_ids={owner=kube-ovn-rs, pod="shop/web-0", vendor=kube-ovn}
            Logical_Switch shop-net ports += Logical_Switch_Port web-0.shop"#]],
    );
}

#[test]
fn router_with_its_leg() {
    let router = LogicalRouter {
        name: "ovn-cluster".into(),
        options: [("dynamic_neigh_routers".into(), "true".into())].into(),
        ..Default::default()
    };
    let leg = LogicalRouterPort {
        name: "ovn-cluster-shop-net".into(),
        router: "ovn-cluster".into(),
        mac: "46:3d:56:d9:7c:41".into(),
        networks: vec!["10.20.0.1/24".into(), "fd00::1/112".into()],
        ..Default::default()
    };
    let plug = LogicalSwitchPort::to_router(
        "shop-net-ovn-cluster".into(),
        "shop-net".into(),
        "uid".into(),
        "ovn-cluster-shop-net".into(),
    );
    check(
        std::iter::once(router.fact()).chain(leg.facts()).chain(plug.facts()),
        &expect![[r#"
            Logical_Router ovn-cluster external_ids={owner=kube-ovn-rs, vendor=kube-ovn} options={dynamic_neigh_routers="true"}
            Logical_Router_Port ovn-cluster-shop-net external_ids={owner=kube-ovn-rs, vendor=kube-ovn} mac="46:3d:56:d9:7c:41" networks=["10.20.0.1/24", "fd00::1/112"]
            Logical_Router ovn-cluster ports += Logical_Router_Port ovn-cluster-shop-net
            Logical_Switch_Port shop-net-ovn-cluster addresses=[router] external_ids={owner=kube-ovn-rs, vendor=kube-ovn} options={router-port=ovn-cluster-shop-net} type=router
            Logical_Switch shop-net ports += Logical_Switch_Port shop-net-ovn-cluster"#]],
    );
}

#[test]
fn policies_and_routes() {
    let policy = |action| RouterPolicy {
        router: "ovn-cluster".into(),
        seed: "uid".into(),
        priority: 29000,
        match_: "ip4.src == 10.20.0.0/24".into(),
        action,
    };
    let route = StaticRoute {
        router: "ovn-cluster".into(),
        seed: "uid".into(),
        ip_prefix: "0.0.0.0/0".into(),
        nexthop: "100.64.0.1".into(),
    };
    let hops = vec!["100.64.0.2".to_owned()];
    check(
        [policy(Action::Reroute(hops)).facts(), policy(Action::Allow).facts(), route.facts()].concat(),
        &expect![[r#"
            Logical_Router_Policy ovn-cluster/29000/ip4.src == 10.20.0.0/24 action=reroute external_ids={owner=kube-ovn-rs, vendor=kube-ovn} match="ip4.src == 10.20.0.0/24" nexthops=["100.64.0.2"] priority=29000
            Logical_Router ovn-cluster policies += Logical_Router_Policy ovn-cluster/29000/ip4.src == 10.20.0.0/24
            Logical_Router_Policy ovn-cluster/29000/ip4.src == 10.20.0.0/24 action=allow external_ids={owner=kube-ovn-rs, vendor=kube-ovn} match="ip4.src == 10.20.0.0/24" priority=29000
            Logical_Router ovn-cluster policies += Logical_Router_Policy ovn-cluster/29000/ip4.src == 10.20.0.0/24
            Logical_Router_Static_Route ovn-cluster/dst-ip/0.0.0.0/0/100.64.0.1 external_ids={owner=kube-ovn-rs, vendor=kube-ovn} ip_prefix="0.0.0.0/0" nexthop="100.64.0.1" policy=dst-ip
            Logical_Router ovn-cluster static_routes += Logical_Router_Static_Route ovn-cluster/dst-ip/0.0.0.0/0/100.64.0.1"#]],
    );
}

#[test]
fn rules_of_a_switch() {
    let rule = |direction, action| Acl {
        parent: LogicalSwitch::key("shop-net"),
        seed: "uid".into(),
        tier: 2,
        direction,
        priority: 1000,
        match_: "ip".into(),
        action,
        log: false,
    };
    let rules = [rule(Direction::ToLport, Verdict::Drop), rule(Direction::FromLport, Verdict::AllowRelated)];
    check(
        rules.iter().flat_map(Acl::facts),
        &expect![[r#"
            ACL shop-net/2/to-lport/1000/ip action=drop direction=to-lport external_ids={owner=kube-ovn-rs, vendor=kube-ovn} log=false match=ip priority=1000 tier=2
            Logical_Switch shop-net acls += ACL shop-net/2/to-lport/1000/ip
            ACL shop-net/2/from-lport/1000/ip action=allow-related direction=from-lport external_ids={owner=kube-ovn-rs, vendor=kube-ovn} log=false match=ip priority=1000 tier=2
            Logical_Switch shop-net acls += ACL shop-net/2/from-lport/1000/ip"#]],
    );
}

#[test]
fn a_port_group_and_a_watched_route() {
    let group = PortGroup { name: "policy.web".into(), seed: "uid".into(), ..Default::default() };
    let session = Bfd { port: "ovn-cluster-join".into(), to: "10.0.0.1".into(), seed: "uid".into() };
    let (ip_prefix, nexthop) = ("0.0.0.0/0".into(), "10.0.0.1".into());
    let route = StaticRoute { router: "ovn-cluster".into(), seed: "uid".into(), ip_prefix, nexthop };
    check(
        [group.fact(), PortGroup::member("policy.web", "web-0.shop"), session.fact(), session.of(route.key())],
        &expect![[r#"
            Port_Group policy.web external_ids={owner=kube-ovn-rs, vendor=kube-ovn}
            Port_Group policy.web ports += Logical_Switch_Port web-0.shop
            BFD ovn-cluster-join/10.0.0.1 dst_ip="10.0.0.1" external_ids={owner=kube-ovn-rs, vendor=kube-ovn} logical_port=ovn-cluster-join
            Logical_Router_Static_Route ovn-cluster/dst-ip/0.0.0.0/0/10.0.0.1 bfd += BFD ovn-cluster-join/10.0.0.1"#]],
    );
}

#[test]
fn sets_and_settings() {
    let set = AddressSet { name: "distributed_ip4".into(), seed: "uid".into(), ..AddressSet::default() };
    let global = NbGlobal { options: [("use_ct_inv_match".into(), "false".into())].into() };
    check(
        [set.fact(), AddressSet::member("distributed_ip4", "10.20.0.0/24"), global.fact()],
        &expect![[r#"
            Address_Set distributed_ip4 external_ids={owner=kube-ovn-rs, vendor=kube-ovn}
            Address_Set distributed_ip4 addresses += "10.20.0.0/24"
            NB_Global . options={use_ct_inv_match="false"}"#]],
    );
}
