//! How operations read, one test for each thing that happens to pods and subnets.

use expect_test::{Expect, expect};
use ovn::{AddressSet, Fact, LogicalRouter, LogicalSwitch, LogicalSwitchPort, RouterPolicy};
use ovsdb::Replica;
use sync::{Facts, diff, diff_all, text::describe};

use crate::model::{apply, empty};

/// Facts and the database that says them.
struct Northbound {
    facts: Facts,
    db: Replica,
}

impl Northbound {
    fn with(facts: impl IntoIterator<Item = Fact>) -> Self {
        let mut facts: Facts = facts.into_iter().collect();
        let mut db = empty();
        let ops = diff_all(&facts, &db);
        apply(&mut db, &ops);
        facts.take_touched();
        Self { facts, db }
    }

    /// What changes when these facts go and those come.
    fn check(&mut self, gone: impl IntoIterator<Item = Fact>, come: impl IntoIterator<Item = Fact>, expect: &Expect) {
        for fact in gone {
            assert!(self.facts.remove(&fact), "{fact} is not wanted");
        }
        self.facts.extend(come);
        let touched = self.facts.take_touched();
        let ops = diff(&self.facts, &touched, &self.db);
        expect.assert_eq(&describe(&ops, &self.db).join("\n"));
        apply(&mut self.db, &ops);
        assert!(diff_all(&self.facts, &self.db).is_empty());
    }
}

fn switch(name: &str) -> Fact {
    LogicalSwitch { name: name.into(), seed: name.into(), ..Default::default() }.fact()
}

fn pod(switch: &str, address: &str) -> [Fact; 2] {
    LogicalSwitchPort {
        name: "web-0.shop".into(),
        switch: switch.into(),
        seed: "uid of web-0".into(),
        addresses: vec![format!("00:00:00:20:00:51 {address}")],
        external_ids: vec![("pod", "shop/web-0".into())],
        ..Default::default()
    }
    .facts()
}

#[test]
fn new_pod() {
    Northbound::with([switch("shop-net")]).check(
        [],
        pod("shop-net", "10.20.0.2"),
        &expect![[r#"
            insert Logical_Switch_Port web-0.shop addresses=["00:00:00:20:00:51 10.20.0.2"] external_ids={pod="shop/web-0", vendor=kube-ovn} options={} port_security=[] type=""
            mutate Logical_Switch shop-net ports += web-0.shop"#]],
    );
}

#[test]
fn deleted_pod() {
    let pod = pod("shop-net", "10.20.0.2");
    Northbound::with([switch("shop-net")].into_iter().chain(pod.clone())).check(
        pod,
        [],
        &expect!["mutate Logical_Switch shop-net ports -= web-0.shop"],
    );
}

#[test]
fn pod_moved_to_another_switch() {
    let before = pod("shop-net", "10.20.0.2");
    Northbound::with([switch("shop-net"), switch("vault-net")].into_iter().chain(before.clone())).check(
        before,
        pod("vault-net", "10.21.0.7"),
        &expect![[r#"
            update Logical_Switch_Port web-0.shop addresses=["00:00:00:20:00:51 10.21.0.7"]
            mutate Logical_Switch vault-net ports += web-0.shop
            mutate Logical_Switch shop-net ports -= web-0.shop"#]],
    );
}

#[test]
fn address_changed() {
    let before = pod("shop-net", "10.20.0.2");
    Northbound::with([switch("shop-net")].into_iter().chain(before.clone())).check(
        before,
        pod("shop-net", "10.20.0.3"),
        &expect![[r#"update Logical_Switch_Port web-0.shop addresses=["00:00:00:20:00:51 10.20.0.3"]"#]],
    );
}

#[test]
fn port_annotated_anew() {
    let port = |pod: &str| {
        let external_ids = vec![("pod", pod.into())];
        LogicalSwitchPort { name: "p".into(), switch: "net".into(), external_ids, ..Default::default() }.facts()
    };
    Northbound::with([switch("net")].into_iter().chain(port("a"))).check(
        port("a"),
        port("b"),
        &expect!["mutate Logical_Switch_Port p external_ids -= [pod] external_ids += {pod=b}"],
    );
}

#[test]
fn subnet_removed_with_what_leads_to_it() {
    let router = LogicalRouter { name: "ovn-cluster".into(), ..Default::default() }.fact();
    let policy = RouterPolicy {
        router: "ovn-cluster".into(),
        seed: "uid of shop-net".into(),
        priority: 31000,
        match_: "ip4.dst == 10.20.0.0/24".into(),
        action: ovn::Action::Allow,
    };
    let set = AddressSet { name: "distributed_ip4".into(), ..Default::default() }.fact();
    let subnet: Vec<Fact> = [switch("shop-net"), AddressSet::member("distributed_ip4", "10.20.0.0/24")]
        .into_iter()
        .chain(policy.facts())
        .chain(pod("shop-net", "10.20.0.2"))
        .collect();
    Northbound::with([router, set].into_iter().chain(subnet.clone())).check(
        subnet,
        [],
        &expect![[r#"
            mutate Logical_Router ovn-cluster policies -= 31000/ip4.dst == 10.20.0.0/24
            mutate Address_Set distributed_ip4 addresses -= ["10.20.0.0/24"]
            delete Logical_Switch shop-net"#]],
    );
}

#[test]
fn empty_database_filled() {
    let set = [
        AddressSet { name: "a".into(), ..Default::default() }.fact(),
        AddressSet::member("a", "10.0.0.1"),
        AddressSet::member("a", "10.0.0.2"),
    ];
    let mut nb = Northbound { facts: Facts::new(), db: empty() };
    nb.check(
        [],
        [switch("shop-net")].into_iter().chain(pod("shop-net", "10.20.0.2")).chain(set),
        &expect![[r#"
            insert Logical_Switch shop-net external_ids={vendor=kube-ovn} other_config={}
            insert Address_Set a addresses=["10.0.0.1", "10.0.0.2"] external_ids={vendor=kube-ovn}
            insert Logical_Switch_Port web-0.shop addresses=["00:00:00:20:00:51 10.20.0.2"] external_ids={pod="shop/web-0", vendor=kube-ovn} options={} port_security=[] type=""
            mutate Logical_Switch shop-net ports += web-0.shop"#]],
    );
}

#[test]
fn port_of_others_taken_over() {
    let mut nb = Northbound::with([switch("shop-net")].into_iter().chain(pod("shop-net", "10.20.0.2")));
    for table in ["Logical_Switch", "Logical_Switch_Port"] {
        let (id, mut row) = nb.db.rows(table).next().map(|(id, row)| (id, row.clone())).unwrap();
        row.insert("external_ids", ovsdb::Datum::map([("owner", "somebody")]));
        nb.db.insert(table, id, row);
    }
    let ops = diff_all(&nb.facts, &nb.db);
    let expect = expect![[r#"
        mutate Logical_Switch shop-net external_ids += {vendor=kube-ovn}
        mutate Logical_Switch_Port web-0.shop external_ids += {pod="shop/web-0", vendor=kube-ovn}"#]];
    expect.assert_eq(&describe(&ops, &nb.db).join("\n"));
}
