//! Tests on a real `ovsdb-server` with the southbound schema.

use ovn::local::chassis_of;
use ovn::southbound::{self, Chassis};
use ovsdb::testing::OvsdbServer;
use ovsdb::{Config, Datum, Op, Row, Uuid};

use super::exits::SETTLED;
use super::stale::{RETRY_AFTER, RETRY_REPLACED_AFTER};
use super::*;

fn schema() -> String {
    std::fs::read_to_string("/usr/share/ovn/ovn-sb.ovsschema")
        .unwrap_or_else(|error| panic!("{error}; install it with: apt-get install ovn-common"))
}

fn config(server: &OvsdbServer) -> Config {
    let config = Config::new(vec![server.endpoint()], southbound::DATABASE, southbound::tables());
    Config { unfilled: Some(unfilled::is_unfilled), ..config }
}

struct Southbound {
    _server: OvsdbServer,
    client: Client,
    nodes: watch::Sender<Nodes>,
    /// What the API server would say.
    hosts: watch::Sender<Said>,
}

/// What a witness says: which hosts there are, if it differs from what the watches say, and whether this replica leads.
#[derive(Clone, Default)]
struct Said {
    hosts: Option<Result<Hosts, String>>,
    leads_no_more: bool,
}

struct Told(watch::Receiver<Nodes>, watch::Receiver<Said>);

impl Witness for Told {
    async fn is_external(&self, host: &str) -> Result<Option<bool>, String> {
        let hosts = self.1.borrow().hosts.clone().transpose()?;
        let watched = || self.0.borrow().as_deref().cloned().unwrap_or_default();
        Ok(hosts.unwrap_or_else(watched).get(host).copied())
    }

    fn leads(&self) -> bool {
        !self.1.borrow().leads_no_more
    }
}

impl Southbound {
    /// A database, and a task that removes the chassis of deleted nodes.
    async fn new() -> Self {
        let server = OvsdbServer::start(&schema()).unwrap();
        let open = || Client::spawn(config(&server));
        let (nodes, told) = watch::channel(None);
        let (remover, changes) = open();
        let (reports, mut unread) = mpsc::channel(8);
        let hosts = watch::Sender::new(Said::default());
        let witness = Told(nodes.subscribe(), hosts.subscribe());
        tokio::spawn(run(remover, changes, told, witness, reports));
        tokio::spawn(async move { while unread.recv().await.is_some() {} });
        let client = open().0;
        client.synced().await;
        Self { _server: server, client, nodes, hosts }
    }

    /// Writes what an ovn-controller writes when it starts.
    async fn add_chassis(&self, host: &str, options: &str) {
        self.add_named(&format!("id-{host}"), host, host, options).await;
    }

    async fn add_named(&self, id: &str, host: &str, ip: &str, options: &str) {
        let config = Datum::map([(southbound::CMS_OPTIONS, options)]);
        let encap = Uuid::new_v4();
        let (chassis, private) = (Uuid::new_v4(), Uuid::new_v4());
        let insert = |table, uuid, row| Op::Insert { table, uuid: Some(uuid), row };
        let named = |column, value: &str| (column, Datum::from(value));
        let ops = [
            insert("Encap", encap, Row::from([named("type", "geneve"), named("ip", ip), named("chassis_name", id)])),
            insert(
                southbound::CHASSIS,
                chassis,
                Row::from([
                    named("name", id),
                    named("hostname", host),
                    ("other_config", config),
                    ("encaps", Datum::from(encap)),
                ]),
            ),
            insert(southbound::CHASSIS_PRIVATE, private, Row::from([named("name", id), ("chassis", chassis.into())])),
        ];
        self.client.transact(&ops).await.unwrap();
    }

    fn set_nodes(&self, nodes: &[&str]) {
        self.nodes.send_replace(Some(Arc::new(nodes.iter().map(|name| (Arc::from(*name), false)).collect())));
    }

    /// Waits until exactly these hosts have a chassis and a private row.
    async fn until(&self, hosts: &[&str]) {
        let names: Vec<_> = hosts.iter().map(|host| format!("id-{host}")).collect();
        self.until_named(&names.iter().map(String::as_str).collect::<Vec<_>>()).await;
    }

    async fn until_named(&self, names: &[&str]) {
        let mut changes = self.client.connected();
        let mut wanted: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
        wanted.sort();
        let right = async {
            loop {
                let names = |table| {
                    self.client.read(|replica| {
                        let rows =
                            replica.rows(table).filter_map(|(_, row)| Some(row.get("name")?.as_str()?.to_owned()));
                        rows.collect::<BTreeSet<_>>().into_iter().collect::<Vec<_>>()
                    })
                };
                if names(southbound::CHASSIS) == wanted && names(southbound::CHASSIS_PRIVATE) == wanted {
                    return;
                }
                let _ = tokio::time::timeout(Duration::from_millis(10), changes.changed()).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(10), right).await.unwrap_or_else(|_| panic!("not only {wanted:?}"));
    }
}

#[tokio::test]
async fn the_chassis_of_a_deleted_node_is_removed_and_others_stay() {
    let southbound = Southbound::new().await;
    for (host, options) in [("n1", "kube-ovn"), ("n2", "kube-ovn"), ("gateway", "enable-chassis-as-gw")] {
        southbound.add_chassis(host, options).await;
    }
    // Nothing is removed before the nodes are known, or by a standby.
    southbound.until(&["n1", "n2", "gateway"]).await;
    southbound.set_nodes(&["n1", "n2"]);
    southbound.add_chassis("n3", "other,kube-ovn").await;
    southbound.until(&["n1", "n2", "gateway"]).await;
    southbound.set_nodes(&["n2"]);
    southbound.until(&["n2", "gateway"]).await;
}

/// The watch is behind, the API server does not answer, and a leader was paused.
#[tokio::test]
async fn a_chassis_is_removed_only_by_a_leader_to_whom_the_api_server_confirms_it() {
    let southbound = Southbound::new().await;
    let first = Hosts::from([("n1".into(), false)]);
    for (host, said) in [
        ("n1", Said { hosts: Some(Ok(first)), ..Said::default() }),
        ("n2", Said { hosts: Some(Err("no answer".to_owned())), ..Said::default() }),
        ("n3", Said { leads_no_more: true, ..Said::default() }),
    ] {
        southbound.hosts.send_replace(said);
        southbound.add_chassis(host, "kube-ovn").await;
        southbound.set_nodes(&[]);
        tokio::time::sleep(Duration::from_millis(300)).await;
        southbound.until(&[host]).await;
        southbound.hosts.send_replace(Said::default());
        southbound.until(&[]).await;
    }
}

/// Whoever has the key of a chassis says anything of its host.
#[tokio::test]
async fn the_chassis_of_a_host_that_cannot_be_is_removed() {
    let southbound = Southbound::new().await;
    for (id, host) in [("one", ""), ("two", "a host"), ("three", "n1")] {
        southbound.add_named(id, host, id, "kube-ovn").await;
    }
    southbound.hosts.send_replace(Said { hosts: Some(Err("no answer".to_owned())), ..Said::default() });
    southbound.set_nodes(&[]);
    southbound.until_named(&["three"]).await;
    southbound.hosts.send_replace(Said::default());
    southbound.until_named(&[]).await;
}

/// A Node has the name of an external host that has joined.
#[tokio::test]
async fn the_chassis_of_an_external_host_with_the_name_of_a_node_is_removed() {
    let southbound = Southbound::new().await;
    southbound.add_named("id-n1", "n1", "172.31.0.1", "kube-ovn").await;
    southbound.add_named("id-other", "n1", "172.31.0.9", "kube-ovn,kube-ovn-external").await;
    let reports = southbound.client.read(|replica| reports(replica, None));
    assert_eq!(&*reports["n1"].id, "id-n1");
    southbound.set_nodes(&["n1"]);
    southbound.until(&["n1"]).await;
}

#[tokio::test]
async fn a_chassis_that_another_one_of_its_node_replaces_is_removed() {
    let southbound = Southbound::new().await;
    southbound.set_nodes(&["n1", "n2"]);
    southbound.add_named("old", "n1", "172.31.0.1", "kube-ovn").await;
    southbound.add_chassis("n2", "kube-ovn").await;
    // A node cannot replace the chassis of another one, or its own.
    southbound.add_named("id-n1", "n1", "127.1.2.3", "kube-ovn,kube-ovn-tunnel-taken=172.31.0.1@old").await;
    southbound.add_named("id-n3", "n3", "127.3.2.1", "kube-ovn,kube-ovn-tunnel-taken=n2@id-n2").await;
    southbound.until(&["n1", "n2"]).await;
}

/// Whoever has the key of a node can register its chassis with the name of another host, and say that it replaces that one's.
#[tokio::test]
async fn the_chassis_of_a_node_does_not_pass_for_that_of_another_one() {
    let southbound = Southbound::new().await;
    let (own, stolen) = (chassis_of("n1"), chassis_of("n2"));
    southbound.add_named(&own, "n1", "172.31.0.1", "kube-ovn").await;
    let claim = format!("kube-ovn,kube-ovn-tunnel-taken=172.31.0.1@{own}");
    southbound.add_named(&stolen, "n1", "172.31.0.2", &claim).await;
    let nodes: Nodes = Some(Arc::new(["n1", "n2"].map(|name| (Arc::from(name), false)).into()));
    let known = southbound.client.read(|replica| reports(replica, nodes.as_deref()));
    assert_eq!(known.iter().map(|(node, chassis)| (&**node, &*chassis.id)).collect::<Vec<_>>(), [("n1", own.as_str())]);
    southbound.set_nodes(&["n1", "n2"]);
    southbound.until_named(&[&own]).await;
}

#[tokio::test]
async fn a_chassis_that_comes_back_is_not_removed_again_at_once() {
    let southbound = Southbound::new().await;
    southbound.set_nodes(&[]);
    southbound.add_chassis("n1", "kube-ovn").await;
    southbound.until(&[]).await;
    southbound.add_chassis("n1", "kube-ovn").await;
    southbound.add_chassis("n2", "kube-ovn").await;
    // The task that removed n2 has read n1 as well.
    southbound.until(&["n1"]).await;
}

#[test]
fn two_nodes_with_one_tunnel_address_know_of_each_other() {
    let node = |id: &str, taken: Option<(&str, &str)>| NodeChassis {
        id: id.into(),
        report: NodeReport {
            taken: taken.map(|(address, by)| (address.parse().unwrap(), by.to_owned())),
            ..NodeReport::default()
        },
        shares: None,
    };
    let nodes = [
        ("n1".into(), node("id1", None)),
        ("n2".into(), node("id2", Some(("172.31.0.1", "id1")))),
        ("n3".into(), node("id3", Some(("172.31.0.9", "foreign")))),
    ];
    let pair = |one: &str, address: &str, other: &str| (one.into(), address.parse().unwrap(), other.into());
    let expected = [pair("n2", "172.31.0.1", "n1"), pair("n3", "172.31.0.9", "foreign")];
    assert_eq!(shared(&nodes.into()), expected);
}

#[tokio::test]
async fn both_nodes_with_one_tunnel_address_are_reported() {
    let southbound = Southbound::new().await;
    southbound.add_named("id1", "n1", "172.31.0.1", "kube-ovn").await;
    southbound.add_named("id2", "n2", "127.1.2.3", "kube-ovn,kube-ovn-tunnel-taken=172.31.0.1@id1").await;
    let reports = southbound.client.read(|replica| reports(replica, None));
    let shares = |node: &str| reports[node].shares.clone();
    assert_eq!(shares("n1"), Some(("172.31.0.1".parse().unwrap(), "n2".into())));
    assert_eq!(shares("n2"), Some(("172.31.0.1".parse().unwrap(), "n1".into())));
}

#[test]
fn a_chassis_is_due_again_after_a_pause() {
    let chassis = |id, host: &str| Chassis {
        id: Uuid::from_u128(id),
        name: format!("id-{host}"),
        hostname: host.to_owned(),
        options: String::new(),
    };
    let (mut removed, none) = (Removed::default(), BTreeSet::new());
    let start = Instant::now();
    assert_eq!(removed.next(), None);
    assert_eq!(removed.due(vec![chassis(1, "n1")], &none, start), [chassis(1, "n1")]);
    assert_eq!(removed.next(), Some(start + RETRY_AFTER.0));
    let soon = start + Duration::from_secs(1);
    assert_eq!(removed.due(vec![chassis(2, "n1"), chassis(3, "n2")], &none, soon), [chassis(3, "n2")]);
    assert_eq!(removed.due(vec![chassis(2, "n1")], &none, start + RETRY_AFTER.0), [chassis(2, "n1")]);
    // Those that stay away are forgotten.
    assert_eq!(removed.due(vec![], &none, start + RETRY_AFTER.1 * 3), []);
    assert_eq!(removed.next(), None);
}

/// Two machines have the name of one Node, and the second one was switched off. Its report stays.
#[test]
fn a_chassis_that_comes_back_although_it_is_replaced_stays_longer() {
    let chassis = |id| Chassis {
        id: Uuid::from_u128(id),
        name: "first".to_owned(),
        hostname: "n1".to_owned(),
        options: String::new(),
    };
    let mut removed = Removed::default();
    let start = Instant::now();
    let mut due = |id, after: Duration| {
        removed.due(vec![chassis(id)], &BTreeSet::from([Uuid::from_u128(id)]), start + after).len()
    };
    assert_eq!(due(1, Duration::ZERO), 1);
    assert_eq!(due(1, RETRY_AFTER.0), 1, "it was not removed");
    assert_eq!(due(2, RETRY_AFTER.1 * 2), 1, "it came back");
    assert_eq!(due(3, RETRY_AFTER.1 * 4), 0);
    assert_eq!(due(3, RETRY_AFTER.1 * 2 + RETRY_REPLACED_AFTER), 1);
}

#[test]
fn a_chassis_that_is_active_for_a_moment_does_not_count() {
    let start = Instant::now();
    let mut exits = Exits::default();
    let mut at = |tenths: u32, chassis: Option<&str>| {
        let active = chassis.map(|chassis| ("net".into(), chassis.into())).into_iter().collect();
        exits.update(active, start + SETTLED * tenths / 10);
        (exits.settled.get("net").map(ToString::to_string), exits.next().is_some())
    };
    let settled = |chassis: &str| Some(chassis.to_owned());
    assert_eq!(at(0, Some("a")), (None, true));
    assert_eq!(at(1, Some("b")), (None, true));
    assert_eq!(at(2, Some("a")), (None, true));
    assert_eq!(at(11, Some("a")), (None, true));
    assert_eq!(at(12, Some("a")), (settled("a"), false));
    assert_eq!(at(20, Some("b")), (settled("a"), true));
    assert_eq!(at(21, Some("a")), (settled("a"), false));
    assert_eq!(at(22, Some("b")), (settled("a"), true));
    assert_eq!(at(40, Some("b")), (settled("b"), false));
    assert_eq!(at(41, None), (None, false));
}

/// A database whose server has lost its file, and the replica of a controller that has its contents.
struct Emptied {
    _server: OvsdbServer,
    reader: Client,
    nodes: watch::Sender<Nodes>,
    reports: mpsc::Receiver<Event>,
}

const CHASSIS: Uuid = Uuid::from_u128(1);
const SWITCH: Uuid = Uuid::from_u128(2);
const ENCAP: Uuid = Uuid::from_u128(3);
const PORT: Uuid = Uuid::from_u128(4);

impl Emptied {
    /// `remembers`: whether the controller was connected before the file was lost.
    async fn new(remembers: bool) -> Self {
        let [first, second] = [(); 2].map(|()| OvsdbServer::start(&schema()).unwrap());
        let insert = |table, id, row| Op::Insert { table, uuid: Some(id), row };
        let port = Row::from([
            ("logical_port", "a.default".into()),
            ("datapath", SWITCH.into()),
            ("tunnel_key", 5.into()),
            ("chassis", CHASSIS.into()),
            ("encap", ENCAP.into()),
        ]);
        let encap = Row::from([("type", "geneve".into()), ("ip", "172.31.0.1".into()), ("chassis_name", "id".into())]);
        let config_of_chassis = Datum::map([(southbound::CMS_OPTIONS, southbound::MARK)]);
        let chassis = Row::from([
            ("name", "id".into()),
            ("hostname", "n1".into()),
            ("encaps", ENCAP.into()),
            ("other_config", config_of_chassis),
        ]);
        let ops = [
            insert(southbound::ENCAP, ENCAP, encap),
            insert(southbound::CHASSIS, CHASSIS, chassis),
            insert(southbound::DATAPATH_BINDING, SWITCH, Row::from([("tunnel_key", 7.into())])),
            insert(southbound::PORT_BINDING, PORT, port),
        ];
        let writer = Client::spawn(config(&first)).0;
        writer.synced().await;
        writer.transact(&ops).await.unwrap();
        let reader = Client::spawn(config(&second)).0;
        reader.synced().await;
        let mark = Row::from([("external_ids", Datum::map([(ovn::INCOMPLETE_KEY, "true")]))]);
        reader.transact(&[insert(southbound::SB_GLOBAL, Uuid::from_u128(9), mark)]).await.unwrap();

        let (filler, changes) = Client::spawn(config(if remembers { &first } else { &second }));
        filler.synced().await;
        filler.use_endpoints(vec![second.endpoint()]);
        drop(first);
        filler.connected().wait_for(|now| *now && filler.before().is_some() == remembers).await.unwrap();
        let (nodes, told) = watch::channel(None);
        let (owner, reports) = mpsc::channel(8);
        let witness = Told(nodes.subscribe(), watch::channel(Said::default()).1);
        tokio::spawn(run(filler, changes, told, witness, owner));
        Self { _server: second, reader, nodes, reports }
    }

    fn lead(&self) {
        self.nodes.send_replace(Some(Arc::new([("n1".into(), false)].into())));
    }

    fn is_unfilled(&self) -> bool {
        self.reader.read(unfilled::is_unfilled)
    }

    /// Waits until the database is filled. Returns after how long.
    async fn filled(&self) -> Duration {
        let began = Instant::now();
        while self.is_unfilled() {
            assert!(began.elapsed() < Duration::from_secs(10), "it is not filled");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        began.elapsed()
    }
}

/// All members have lost their files: the new database is that of before as far as northd and the chassis cannot compute it.
#[tokio::test]
async fn a_database_that_was_founded_empty_is_filled_by_the_leader() {
    let mut emptied = Emptied::new(true).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(emptied.is_unfilled(), "a standby waits for the leader");
    assert!(emptied.reports.try_recv().is_err(), "nothing is reported of a database that is not filled");
    emptied.lead();
    assert!(emptied.filled().await < Duration::from_millis(500));
    emptied.reader.read(|now| {
        let row = now.get(southbound::PORT_BINDING, PORT).expect("the port");
        assert_eq!((row["tunnel_key"].as_int(), row["chassis"].as_uuid()), (Some(5), Some(CHASSIS)));
        assert_eq!(row["encap"].as_uuid(), Some(ENCAP));
        assert_eq!(now.get(southbound::DATAPATH_BINDING, SWITCH).unwrap()["tunnel_key"].as_int(), Some(7));
        assert_eq!(now.get(southbound::CHASSIS, CHASSIS).unwrap()["encaps"].as_uuid(), Some(ENCAP));
    });
    let Some(Event::Reports(reports)) = emptied.reports.recv().await else { panic!("no report") };
    assert!(reports.contains_key("n1"));
}

#[tokio::test]
async fn a_standby_fills_it_when_the_leader_has_nothing_from_before() {
    let emptied = Emptied::new(true).await;
    assert!(emptied.filled().await > Duration::from_millis(500));
    assert!(emptied.reader.read(|now| now.get(southbound::PORT_BINDING, PORT).is_some()));
}

#[tokio::test]
async fn a_leader_with_nothing_from_before_does_without_at_last() {
    let emptied = Emptied::new(false).await;
    emptied.lead();
    assert!(emptied.filled().await > Duration::from_secs(1), "another replica may have it");
    assert!(emptied.reader.read(|now| now.is_empty(southbound::PORT_BINDING)));
}

/// northd has waited for too long, and writes: nothing is inserted beside its rows.
#[tokio::test]
async fn a_database_to_which_northd_writes_is_not_filled_any_more() {
    let emptied = Emptied::new(true).await;
    let options = Row::from([("options", Datum::map([("mac_prefix", "0a:58:0a")]))]);
    let begin = Op::Update { table: southbound::SB_GLOBAL, on: ovsdb::Where::All, row: options };
    emptied.reader.transact(&[begin]).await.unwrap();
    emptied.lead();
    while emptied.reader.read(unfilled::is_late) {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert!(emptied.reader.read(|now| now.is_empty(southbound::PORT_BINDING)));
}
