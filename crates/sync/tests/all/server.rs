//! Tests the laws, adoption and the fence on a real `ovsdb-server` with the real northbound schema.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use ovn::fence::EPOCH_KEY;
use ovn::{
    Acl, Action, AddressSet, Direction, Fact, Group, LogicalRouter, LogicalSwitch, LogicalSwitchPort, RouterPolicy,
    TableId, Verdict,
};
use ovsdb::testing::OvsdbServer;
use ovsdb::{Client, Config, Datum, Op, Replica, Uuid, Where};
use proptest::collection::vec;
use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::{Config as Proptest, RngAlgorithm, TestRng, TestRunner};
use serde_json::{Value, json};
use sync::{BATCH, Changes, CommitError, Drift, Facts, Writer, diff, holds, text::describe};

use crate::groups;
use crate::laws::Desired;
use crate::model::diff_all;
use crate::random::{Want, database, found, want};

/// Returns the schema of the northbound database.
pub fn schema() -> String {
    // To test with another version than the installed one, set the variable to the directory of its schema.
    let dir = std::env::var("OVN_SCHEMA_DIR").unwrap_or_else(|_| "/usr/share/ovn".to_owned());
    let file = format!("{dir}/ovn-nb.ovsschema");
    let text =
        std::fs::read(&file).unwrap_or_else(|e| panic!("{file}: {e}; install it with: apt-get install ovn-central"));
    let mut schema: Value = serde_json::from_slice(&text).unwrap();
    // OVN 23.03 has no tiers yet. The controller does not write to its database.
    let tier = json!({ "type": { "key": { "type": "integer", "minInteger": 0, "maxInteger": 3 } } });
    schema["tables"]["ACL"]["columns"].as_object_mut().unwrap().entry("tier").or_insert(tier);
    schema.as_object_mut().unwrap().remove("cksum");
    schema.to_string()
}

/// A northbound database and a writer that has raised the epoch.
pub(crate) struct Northbound {
    server: OvsdbServer,
    pub(crate) writer: Writer,
}

impl Northbound {
    pub(crate) async fn start() -> Self {
        let server = OvsdbServer::start(&schema()).unwrap();
        let writer = Self::writer(&server).await;
        let mut nb = Self { server, writer };
        assert_eq!(nb.writer.raise_epoch().await, Ok(1));
        nb
    }

    async fn writer(server: &OvsdbServer) -> Writer {
        let config = Config::new(vec![server.endpoint()], "OVN_Northbound", ovn::northbound());
        let (client, changes) = Client::spawn(config);
        drop(changes);
        client.synced().await;
        Writer::new(client)
    }

    pub(crate) fn replica(&self) -> Replica {
        self.writer.client().read(Replica::clone)
    }

    /// Writes all differences and expects that nothing is left to do.
    async fn write_all(&self, facts: &Facts) {
        let ops = diff_all(facts, &self.replica());
        self.writer.commit(ops).await.unwrap();
        self.expect_done(facts);
    }

    pub(crate) fn expect_done(&self, facts: &Facts) {
        let rest = diff_all(facts, &self.replica());
        assert!(rest.is_empty(), "left over: {:#?}", describe(&rest.ops(), &self.replica()));
    }

    async fn nbctl(&self, args: &[&str]) -> String {
        let mut command = Command::new("ovn-nbctl");
        command.arg(format!("--db={}", self.server.endpoint())).args(["--no-leader-only", "--timeout=10"]).args(args);
        let done = tokio::task::spawn_blocking(move || command.output()).await.unwrap();
        let done = done.unwrap_or_else(|e| panic!("ovn-nbctl: {e}; install it with: apt-get install ovn-common"));
        assert!(done.status.success(), "ovn-nbctl {args:?}: {}", String::from_utf8_lossy(&done.stderr));
        // The replica contains what ovn-nbctl wrote once it contains a later transaction of ours.
        self.writer.client().transact(&[Op::Comment("seen".into())]).await.unwrap();
        String::from_utf8(done.stdout).unwrap().trim().to_owned()
    }

    fn id(&self, table: &str, key: &str) -> Uuid {
        let found: Vec<Uuid> = self.replica().find(table, key).collect();
        assert_eq!(found.len(), 1, "{table} {key}: {found:?}");
        found[0]
    }

    fn ids(&self) -> BTreeMap<(TableId, String), Uuid> {
        let replica = self.replica();
        let rows = TableId::ALL.into_iter().filter(|t| *t != TableId::NbGlobal).flat_map(|table| {
            let key = table.descriptor().key;
            replica.rows(table.name()).map(move |(id, row)| ((table, key(row).unwrap()), id)).collect::<Vec<_>>()
        });
        rows.collect()
    }
}

/// Returns a new row, to have something to write.
pub(crate) fn something(name: &str) -> Changes {
    let facts = [AddressSet { name: name.replace('-', "_"), ..AddressSet::default() }.fact()];
    diff_all(&facts.into_iter().collect(), &Replica::new(ovn::northbound()))
}

fn cluster() -> Vec<Fact> {
    let switch = LogicalSwitch { name: "shop-net".into(), seed: "uid of shop-net".into(), ..Default::default() };
    let router = LogicalRouter { name: "ovn-cluster".into(), seed: "vpc".into(), ..Default::default() };
    let policy = RouterPolicy {
        router: "ovn-cluster".into(),
        seed: "uid of shop-net".into(),
        priority: 31000,
        match_: "ip4.dst == 10.20.0.0/24".into(),
        action: Action::Allow,
    };
    [switch.fact(), router.fact()].into_iter().chain(pod("web-0", "10.20.0.2")).chain(policy.facts()).collect()
}

fn pod(name: &str, address: &str) -> [Fact; 2] {
    LogicalSwitchPort {
        name: format!("{name}.shop").into(),
        switch: "shop-net".into(),
        seed: format!("uid of {name}").into(),
        addresses: vec![format!("00:00:00:20:00:51 {address}")],
        ..Default::default()
    }
    .facts()
}

#[tokio::test]
async fn a_writer_that_was_overtaken_is_refused() {
    let mut nb = Northbound::start().await;
    let facts: Facts = cluster().into_iter().collect();
    nb.write_all(&facts).await;

    let mut other = Northbound::writer(&nb.server).await;
    assert_eq!(other.commit(something("too-early")).await, Err(CommitError::Fenced));
    assert_eq!(other.raise_epoch().await, Ok(2));

    let ops = diff_all(&Facts::new(), &nb.replica());
    assert!(!ops.is_empty());
    assert_eq!(nb.writer.commit(ops).await, Err(CommitError::Fenced));
    nb.expect_done(&facts);

    // Raising the epoch keeps other clients' keys and does not conflict with changes of them.
    nb.nbctl(&["set", "NB_Global", ".", "external_ids:note=kept"]).await;
    assert_eq!(nb.writer.raise_epoch().await, Ok(3));
    assert_eq!(nb.nbctl(&["get", "NB_Global", ".", "external_ids:note"]).await, "kept");
    assert_eq!(nb.nbctl(&["get", "NB_Global", ".", &format!("external_ids:{EPOCH_KEY}")]).await, "\"3\"");
    nb.writer.commit(something("again")).await.unwrap();
    assert_eq!(other.commit(something("too-late")).await, Err(CommitError::Fenced));
}

/// A backup has an older epoch, which the next writer raises again to that of one that was paused.
#[tokio::test]
async fn two_writers_of_one_epoch_do_not_share_it() {
    let paused = Northbound::start().await;
    let epoch = paused.writer.epoch().unwrap();
    let before = (epoch - 1).to_string();
    paused.nbctl(&["set", "NB_Global", ".", &format!("external_ids:{EPOCH_KEY}={before}")]).await;
    let mut next = Northbound::writer(&paused.server).await;
    assert_eq!(next.raise_epoch().await, Ok(epoch));

    paused.writer.client().synced().await;
    assert_eq!(paused.writer.commit(something("of-the-paused")).await, Err(CommitError::Fenced));
    assert!(paused.writer.overtaken() && !next.overtaken());
    next.commit(something("of-the-next")).await.unwrap();

    // A backup has no epoch, and a controller that never led has taken over before us.
    paused.nbctl(&["clear", "NB_Global", ".", "external_ids"]).await;
    let mut newest = Northbound::writer(&paused.server).await;
    assert_eq!(newest.raise_epoch().await, Ok(1));
    next.client().synced().await;
    assert_eq!(next.commit(something("of-the-former")).await, Err(CommitError::Fenced));
    assert!(next.overtaken());

    // Without a mark, the database was replaced, and nobody has taken over.
    paused.nbctl(&["clear", "NB_Global", ".", "external_ids"]).await;
    assert_eq!(next.commit(something("too-late")).await, Err(CommitError::Fenced));
    assert!(!next.overtaken());
}

#[tokio::test]
async fn a_hundred_takeovers_at_once_get_a_hundred_epochs() {
    let nb = Northbound::start().await;
    let mut tasks = Vec::new();
    for _ in 0..10 {
        let mut writer = Northbound::writer(&nb.server).await;
        tasks.push(tokio::spawn(async move {
            let mut epochs = Vec::new();
            while epochs.len() < 10 {
                match writer.raise_epoch().await {
                    Ok(epoch) => epochs.push(epoch),
                    Err(sync::FenceError::Contended) => {}
                    Err(error) => panic!("{error}"),
                }
            }
            epochs
        }));
    }
    let mut epochs = Vec::new();
    for task in tasks {
        epochs.extend(task.await.unwrap());
    }
    epochs.sort_unstable();
    assert_eq!(epochs, (2..=101).collect::<Vec<u64>>());
}

#[tokio::test]
async fn rows_that_others_wrote_are_taken_over_as_they_are() {
    let nb = Northbound::start().await;
    nb.nbctl(&["ls-add", "shop-net"]).await;
    nb.nbctl(&["lsp-add", "shop-net", "web-0.shop", "--", "lsp-set-addresses", "web-0.shop", "dynamic"]).await;
    nb.nbctl(&["lsp-add", "shop-net", "theirs"]).await;
    nb.nbctl(&["set", "Logical_Switch_Port", "web-0.shop", "external_ids:note=kept"]).await;
    nb.nbctl(&[
        "lr-add",
        "ovn-cluster",
        "--",
        "lr-policy-add",
        "ovn-cluster",
        "31000",
        "ip4.dst == 10.20.0.0/24",
        "drop",
    ])
    .await;
    nb.nbctl(&["lr-policy-add", "ovn-cluster", "5", "ip4", "allow"]).await;
    // Rows left by an earlier installation of this project and of kube-ovn.
    nb.nbctl(&["ls-add", "old-net", "--", "set", "Logical_Switch", "old-net", "external_ids:owner=kube-ovn-rs"]).await;
    nb.nbctl(&["ls-add", "vpc-net", "--", "set", "Logical_Switch", "vpc-net", "external_ids:vendor=kube-ovn"]).await;
    for (port, switch) in [("gone.shop", "shop-net"), ("theirs.vpc", "vpc-net")] {
        nb.nbctl(&["lsp-add", switch, port, "--", "set", "Logical_Switch_Port", port, "external_ids:vendor=kube-ovn"])
            .await;
        let (ls, pod) = (format!("external_ids:ls={switch}"), format!("external_ids:pod=shop/{port}"));
        nb.nbctl(&["set", "Logical_Switch_Port", port, &ls, &pod]).await;
    }
    nb.nbctl(&["ls-add", "their-net"]).await;
    let before = nb.ids();

    let facts: Facts = cluster().into_iter().collect();
    nb.write_all(&facts).await;

    let mut expected = before;
    expected.remove(&(TableId::LogicalSwitch, "old-net".to_owned()));
    expected.remove(&(TableId::LogicalSwitchPort, "gone.shop".to_owned()));
    assert_eq!(nb.ids(), expected);
    let port = nb.replica().get("Logical_Switch_Port", nb.id("Logical_Switch_Port", "web-0.shop")).unwrap().clone();
    assert_eq!(port["external_ids"], Datum::map([("note", "kept"), ("owner", "kube-ovn-rs"), ("vendor", "kube-ovn")]));
    assert_eq!(port["addresses"], Datum::from("00:00:00:20:00:51 10.20.0.2"));
    assert_eq!(
        nb.nbctl(&["--bare", "--columns=action", "find", "Logical_Router_Policy", "priority=31000"]).await,
        "allow"
    );
}

#[tokio::test]
async fn an_address_that_others_take_out_of_a_set_comes_back() {
    let nb = Northbound::start().await;
    let set = AddressSet { name: "shop".into(), seed: "uid of shop".into(), ..AddressSet::default() }.fact();
    let addresses = ["10.20.0.2", "10.20.0.3", "10.20.0.4"].map(|address| AddressSet::member("shop", address));
    let mut facts: Facts = [set].into_iter().chain(addresses).collect();
    nb.write_all(&facts).await;
    facts.take_touched();

    let config = Config::new(vec![nb.server.endpoint()], "OVN_Northbound", ovn::northbound());
    let (client, mut changes) = Client::spawn(config);
    client.synced().await;
    let mut drift = client.read(Drift::learn);
    assert!(changes.next().await.reset, "the first change is that there is a session");
    for (by_others, in_answer) in [
        (["remove", "Address_Set", "shop", "addresses", "10.20.0.3"], r#"+= ["10.20.0.3"]"#),
        (["add", "Address_Set", "shop", "addresses", "10.99.0.9"], r#"-= ["10.99.0.9"]"#),
    ] {
        nb.nbctl(&by_others).await;
        let change = changes.next().await;
        let (touched, replica) = client.read(|replica| (drift.follow(replica, &change), replica.clone()));
        assert_eq!(touched.len(), 1);
        let ops = diff(&facts, &touched, &replica);
        assert_eq!(describe(&ops.ops(), &replica), [format!("mutate Address_Set shop addresses {in_answer}")]);
        nb.writer.commit(ops).await.unwrap();
        nb.expect_done(&facts);

        // Our own write is compared too, and no difference is found.
        let change = changes.next().await;
        let (touched, replica) = client.read(|replica| (drift.follow(replica, &change), replica.clone()));
        assert_eq!((touched.len(), diff(&facts, &touched, &replica).len()), (1, 0));
    }
}

#[tokio::test]
async fn a_database_that_was_emptied_gets_the_same_ids_again() {
    let mut nb = Northbound::start().await;
    let facts: Facts = cluster().into_iter().collect();
    nb.write_all(&facts).await;
    let before = nb.ids();
    assert_eq!(before.len(), 4);

    let roots = TableId::ALL.into_iter().filter(|table| table.descriptor().root);
    let wipe: Vec<Op> = roots.map(|table| Op::Delete { table: table.name(), on: Where::All }).collect();
    nb.writer.client().transact(&wipe).await.unwrap();
    assert!(nb.ids().is_empty());

    let ops = diff_all(&facts, &nb.replica());
    assert_eq!(nb.writer.commit(ops.clone()).await, Err(CommitError::Fenced));
    assert_eq!(nb.writer.raise_epoch().await, Ok(2), "an epoch of ours never comes back");
    nb.writer.commit(ops).await.unwrap();
    nb.expect_done(&facts);
    assert_eq!(nb.ids(), before);
}

#[tokio::test]
async fn thousands_of_ports_are_written_in_batches_and_none_is_lost() {
    let nb = Northbound::start().await;
    let mut facts: Facts = cluster().into_iter().collect();
    let ports = 5 * BATCH;
    facts.extend((0..ports).flat_map(|at| pod(&format!("pod-{at}"), "10.20.0.9")));
    nb.write_all(&facts).await;
    assert_eq!(nb.replica().len("Logical_Switch_Port"), ports + 1);

    facts.take_touched();
    for fact in pod("pod-7", "10.20.0.9") {
        assert!(facts.remove(&fact));
    }
    facts.extend(pod("pod-8", "10.20.0.10"));
    assert_eq!(facts.conflicts().count(), 1);
    let touched = facts.take_touched();
    let ops = diff(&facts, &touched, &nb.replica());
    nb.writer.commit(ops).await.unwrap();
    nb.expect_done(&facts);
    assert_eq!(nb.replica().len("Logical_Switch_Port"), ports);
}

#[tokio::test]
async fn what_is_refused_is_named_and_holds_nothing_up() {
    let nb = Northbound::start().await;
    let mut facts: Facts = cluster().into_iter().collect();
    facts.extend((0..1000).flat_map(|at| pod(&format!("pod-{at}"), "10.20.0.9")));
    let bad = |priority| RouterPolicy {
        router: "ovn-cluster".into(),
        seed: "bad".into(),
        priority,
        match_: "ip4".into(),
        action: Action::Drop,
    };
    // The schema allows priorities up to 32767.
    facts.extend([40_000, 40_001].into_iter().flat_map(|priority| bad(priority).facts()));
    let ops = diff_all(&facts, &nb.replica());
    match nb.writer.commit(ops).await {
        Err(CommitError::Refused(refusals)) => {
            assert_eq!(refusals.len(), 2);
            let first = &refusals[0];
            assert!(first.op.starts_with("insert Logical_Router_Policy 4000"), "{first}");
            assert_eq!(first.error, "constraint violation");
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(nb.replica().len("Logical_Switch_Port"), 1001);
    assert!(holds(&facts, &LogicalSwitchPort::key("pod-7.shop"), &nb.replica()));
    assert!(!holds(&facts, &bad(40_000).key(), &nb.replica()));
    assert!(!holds(&facts, &LogicalSwitchPort::key("nobody"), &nb.replica()));
    for fact in [40_000, 40_001].into_iter().flat_map(|priority| bad(priority).facts()) {
        assert!(facts.remove(&fact));
    }
    nb.expect_done(&facts);
}

/// A group with one row that the schema does not allow is refused as a whole, and named. Everything else is written.
#[tokio::test]
async fn a_refused_group_is_refused_whole_and_alone() {
    for seed in 0..40_u8 {
        let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &[seed; 32]);
        let mut runner = TestRunner::new_with_rng(Proptest::default(), rng);
        let wants = vec(groups::owned(), 12..48).new_tree(&mut runner).unwrap().current();
        let wants: Vec<groups::Owned> = wants.iter().map(|(_, want)| groups::calm(want)).collect();
        let mut facts = Facts::new();
        groups::add_all(&mut facts, &wants);
        let router = LogicalRouter { name: "bad".into(), seed: "bad".into(), ..Default::default() };
        let (router_name, match_) = ("bad".into(), "ip4".into());
        let policy =
            RouterPolicy { router: router_name, seed: "bad".into(), priority: 40_000, match_, action: Action::Drop };
        let bad = groups::group(1);
        facts.extend_by(&bad, policy.facts().into_iter().chain([router.fact()]));

        let nb = Northbound::start().await;
        let before = nb.replica();
        let Err(CommitError::Refused(refusals)) = nb.writer.commit(diff_all(&facts, &before)).await else {
            panic!("seed {seed}: not refused")
        };
        let refused: Vec<&Group> = refusals.iter().flat_map(|refusal| &refusal.groups).collect();
        assert_eq!(refused, [&bad], "seed {seed}: {refusals:?}");
        let left: Vec<groups::Owned> = wants.into_iter().filter(|(by, _)| *by != 1).collect();
        Desired::of(&groups::list(&left), &before).check(&nb.replica());
        assert_eq!(nb.replica().find("Logical_Router", "bad").count(), 0, "seed {seed}");
    }
}

/// A switch is refused. A port that moves to it stays where it is, and a rule of the switch is not tried. When the switch
/// is right, the next comparison of what was refused writes all of it.
#[tokio::test]
async fn what_needs_a_refused_row_waits_for_it() {
    let nb = Northbound::start().await;
    let port = |switch: &str| {
        let (name, switch, seed) = ("p".into(), switch.into(), "p".into());
        LogicalSwitchPort { name, switch, seed, ..LogicalSwitchPort::default() }.facts()
    };
    let switch = |name: &str| LogicalSwitch { name: name.into(), seed: name.into(), ..LogicalSwitch::default() }.fact();
    let acl = |priority| {
        let (parent, seed, match_) = (LogicalSwitch::key("new"), "new".into(), "ip4".into());
        let (direction, action) = (Direction::ToLport, Verdict::Drop);
        Acl { parent, seed, tier: 0, direction, priority, match_, action, log: false }.facts()
    };
    let [old, new, mover, rules] = ["old", "new", "mover", "rules"].map(Group::new);
    let mut facts = Facts::new();
    facts.add_to(&old, switch("old"));
    facts.extend_by(&mover, port("old"));
    nb.write_all(&facts).await;
    facts.take_touched();

    facts.add_to(&new, switch("new"));
    // The schema allows priorities up to 32767.
    facts.extend_by(&new, acl(40_000));
    facts.extend_by(&rules, acl(1000));
    facts.extend_by(&mover, port("new"));
    for fact in port("old") {
        assert!(facts.remove_from(&mover, &fact));
    }
    let touched = facts.take_touched();
    let changes = nb.writer.client().read(|replica| diff(&facts, &touched, replica));
    let Err(CommitError::Refused(refusals)) = nb.writer.commit(changes).await else { panic!("not refused") };
    let groups: Vec<BTreeSet<&Group>> = refusals.iter().map(|refusal| refusal.groups.iter().collect()).collect();
    assert_eq!(groups, [[&new].into(), [&mover, &rules].into()], "{refusals:?}");
    let port_id = nb.id("Logical_Switch_Port", "p");
    let replica = nb.replica();
    assert_eq!(replica.get("Logical_Switch", nb.id("Logical_Switch", "old")).unwrap()["ports"], port_id.into());
    assert_eq!(replica.find("Logical_Switch", "new").count(), 0);

    for fact in acl(40_000) {
        assert!(facts.remove_from(&new, &fact));
    }
    facts.take_touched();
    for refusal in refusals {
        facts.touch(refusal.touched);
    }
    let touched = facts.take_touched();
    let changes = nb.writer.client().read(|replica| diff(&facts, &touched, replica));
    nb.writer.commit(changes).await.unwrap();
    nb.expect_done(&facts);
    assert_eq!(nb.id("Logical_Switch_Port", "p"), port_id);
}

/// Tests both laws with several seeds.
#[tokio::test]
async fn the_laws_hold_on_a_real_server() {
    for seed in 0..20_u8 {
        let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &[seed; 32]);
        let mut runner = TestRunner::new_with_rng(Proptest::default(), rng);
        let mut draw = || vec(want(), 12..24).new_tree(&mut runner).unwrap().current();
        let (start, steps) = (draw(), draw());
        let rows = vec(found(), 8..24).new_tree(&mut runner).unwrap().current();

        let nb = Northbound::start().await;
        let before = database(rows);
        let fill: Vec<Op> = TableId::ALL
            .into_iter()
            .filter(|table| *table != TableId::NbGlobal)
            .flat_map(|table| before.rows(table.name()).map(move |(id, row)| (table.name(), id, row)))
            .map(|(table, id, row)| Op::Insert { table, uuid: Some(id), row: row.clone() })
            .collect();
        nb.writer.client().transact(&fill).await.unwrap();

        let list = |wants: &[Want]| wants.iter().flat_map(Want::facts).collect::<Vec<Fact>>();
        let mut wants = start;
        let mut facts: Facts = list(&wants).into_iter().collect();
        let desired = Desired::of(&list(&wants), &nb.replica());
        nb.write_all(&facts).await;
        desired.check(&nb.replica());
        facts.take_touched();

        for (at, new) in steps.into_iter().enumerate() {
            let gone = wants.swap_remove(at * 7 % wants.len());
            for fact in gone.facts() {
                assert!(facts.remove(&fact));
            }
            facts.extend(new.facts());
            wants.push(new);
            let desired = Desired::of(&list(&wants), &nb.replica());
            let touched = facts.take_touched();
            let ops = diff(&facts, &touched, &nb.replica());
            nb.writer.commit(ops).await.unwrap();
            desired.check(&nb.replica());
            nb.expect_done(&facts);
        }
    }
}
