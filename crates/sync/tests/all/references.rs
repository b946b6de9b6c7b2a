//! Tests references on a real server: rules of port groups, weak references, and columns that refer to one row or none.

use ovn::{
    Acl, Bfd, Direction, Fact, LogicalRouter, LogicalSwitch, LogicalSwitchPort, PortGroup, StaticRoute, TableId,
    Verdict,
};
use sync::{Facts, diff, text::describe};

use crate::server::Northbound;

/// Compares what was touched, writes it, and expects that nothing is left to do.
async fn step(nb: &Northbound, facts: &mut Facts) -> Vec<String> {
    let touched = facts.take_touched();
    let changes = diff(facts, &touched, &nb.replica());
    let lines = describe(&changes.ops(), &nb.replica());
    nb.writer.commit(changes).await.unwrap();
    nb.expect_done(facts);
    lines
}

#[tokio::test]
async fn a_port_group_with_ports_and_rules() {
    let nb = Northbound::start().await;
    let acl = |parent, tier| Acl {
        parent,
        seed: "uid".into(),
        tier,
        direction: Direction::ToLport,
        priority: 1000,
        match_: "ip".into(),
        action: Verdict::Drop,
        log: false,
    };
    let port = |name: &str| {
        let seed = "uid".into();
        LogicalSwitchPort { name: name.into(), switch: "same".into(), seed, ..Default::default() }.facts()
    };
    // A switch and a port group of the same name have the same rule, each its own.
    let group = PortGroup { name: "same".into(), seed: "uid".into(), ..Default::default() };
    let mut facts: Facts = [LogicalSwitch { name: "same".into(), ..Default::default() }.fact(), group.fact()]
        .into_iter()
        .chain(acl(LogicalSwitch::key("same"), 2).facts())
        .chain(acl(PortGroup::key("same"), 2).facts())
        .chain(acl(PortGroup::key("same"), 1).facts())
        .chain(port("a"))
        .chain(port("b"))
        .chain([PortGroup::member("same", "a"), PortGroup::member("same", "b")])
        .collect();
    step(&nb, &mut facts).await;
    assert_eq!(nb.replica().len(TableId::Acl.name()), 3);
    let tiers: Vec<i64> = nb.replica().rows("ACL").filter_map(|(_, row)| row["tier"].as_int()).collect();
    assert_eq!(tiers.iter().sum::<i64>(), 5, "{tiers:?}");
    let ports = |nb: &Northbound| nb.replica().rows("Port_Group").next().unwrap().1["ports"].len();
    assert_eq!(ports(&nb), 2);

    // The group does not keep a port, and the port does not keep the group's rules.
    for fact in port("a") {
        assert!(facts.remove(&fact));
    }
    let lines = step(&nb, &mut facts).await;
    assert_eq!(lines, ["mutate Logical_Switch same ports -= a", "mutate Port_Group same ports -= a"]);
    assert_eq!(ports(&nb), 1);
    assert!(facts.remove(&PortGroup::member("same", "b")));
    assert_eq!(step(&nb, &mut facts).await, ["mutate Port_Group same ports -= b"]);
    for fact in acl(PortGroup::key("same"), 1).facts() {
        assert!(facts.remove(&fact));
    }
    assert_eq!(step(&nb, &mut facts).await, ["mutate Port_Group same acls -= 1/to-lport/1000/ip"]);
    assert_eq!(nb.replica().len(TableId::Acl.name()), 2);
}

#[tokio::test]
async fn a_column_that_refers_to_one_row_or_none() {
    let nb = Northbound::start().await;
    let router = LogicalRouter { name: "r".into(), ..Default::default() }.fact();
    let (router_name, ip_prefix, nexthop) = ("r".into(), "0.0.0.0/0".into(), "10.0.0.1".into());
    let route = StaticRoute { router: router_name, seed: "uid".into(), ip_prefix, nexthop };
    let session = |to: &str| Bfd { port: "p".into(), to: to.into(), seed: "uid".into() };
    let [one, two] = ["10.0.0.1", "10.0.0.2"].map(session);
    let with = |session: &Bfd| -> [Fact; 2] { [session.fact(), session.of(route.key())] };
    let mut facts: Facts = route.facts().into_iter().chain([router]).chain(with(&one)).collect();
    step(&nb, &mut facts).await;
    let refers = |nb: &Northbound| {
        let replica = nb.replica();
        let (_, row) = replica.rows("Logical_Router_Static_Route").next().unwrap();
        let session = replica.get("BFD", row["bfd"].as_uuid()?)?;
        session["dst_ip"].as_str().map(str::to_owned)
    };
    assert_eq!(refers(&nb).as_deref(), Some("10.0.0.1"));

    // A new row takes the place of one that goes.
    facts.extend(with(&two));
    for fact in with(&one) {
        assert!(facts.remove(&fact));
    }
    assert_eq!(step(&nb, &mut facts).await.len(), 3, "a row, the reference, a row less");
    assert_eq!(refers(&nb).as_deref(), Some("10.0.0.2"));

    // Both exist.
    facts.add(one.fact());
    step(&nb, &mut facts).await;
    facts.add(one.of(route.key()));
    assert!(facts.remove(&two.of(route.key())));
    let lines = step(&nb, &mut facts).await;
    assert_eq!(lines, ["update Logical_Router_Static_Route dst-ip/0.0.0.0/0/10.0.0.1 bfd=p/10.0.0.1"]);

    // Two are wanted: the one with the smallest key is written.
    facts.add(two.of(route.key()));
    assert!(step(&nb, &mut facts).await.is_empty());
    assert!(facts.remove(&one.of(route.key())));
    step(&nb, &mut facts).await;
    assert_eq!(refers(&nb).as_deref(), Some("10.0.0.2"));

    // None is wanted, while the row stays.
    assert!(facts.remove(&two.of(route.key())));
    let lines = step(&nb, &mut facts).await;
    assert_eq!(lines, ["update Logical_Router_Static_Route dst-ip/0.0.0.0/0/10.0.0.1 bfd="]);
    assert_eq!((refers(&nb), nb.replica().len("BFD")), (None, 2));
}
