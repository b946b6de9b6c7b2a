//! Tests of the tunnel interface: a missing interface, and an MTU that does not fit.

use std::time::Duration;

use api::EffectiveSubnet;
use api::annotations::{NODE_NETWORKS, NodeWant, TUNNEL_INTERFACE};
use cni_server::args::Tunnels;
use cni_server::attach::{Attacher, host_ifname};
use cni_server::attachments::Attachments;
use cni_server::node_net::Served;
use cni_server::node_port::{NodePort, State};
use cni_server::own_networks::OwnNetworks;
use cni_server::ports::{self, Pace};
use cni_server::reach::Reason;
use cni_server::tunnel::{Mtu, Names, Network, Networks};
use links::Links;
use ovsdb::testing::OvsdbServer;
use ovsdb::{Client, Config, Datum, Op, Row, Uuid, Where};
use serde_json::json;
use tokio::sync::watch;

use crate::ovn0::{join, leases, node};
use crate::sandbox::{PodNs, Sandbox, eventually, in_netns, run};
use crate::scene::{Scene, attachment, seen, subnet};

/// Starts the owner of `ovn0` with these flags.
fn agent(sandbox: &Sandbox, iface: &str, mtu: u32) -> State {
    node_port(sandbox, iface, mtu).spawn().unwrap()
}

fn node_port(sandbox: &Sandbox, iface: &str, mtu: u32) -> NodePort {
    NodePort {
        name: "n1".to_owned(),
        ovs: sandbox.ovs(),
        links: Links::here().unwrap(),
        node: watch::channel(node()).1,
        leases: watch::channel(leases()).1,
        served: watch::channel(Served::new(seen([join()]), Some(OwnNetworks::new()))).1,
        restored: watch::channel(0).1,
        reached: watch::channel(Err(Reason::NotAsked)).1,
        tunnels: Tunnels { iface: Names::parse(iface.split(',')).unwrap(), mtu, ..Tunnels::default() },
        keys: keys::Keys::new("/none".into()),
        external: false,
    }
}

async fn why(state: &mut State) -> String {
    let why = state.ready.wait_for(|ready| ready.as_ref().is_err_and(|why| why != "starting")).await.unwrap();
    why.clone().unwrap_err()
}

fn eth1(mtu: &str) {
    run("ip", &["link", "add", "eth1", "mtu", mtu, "type", "veth", "peer", "name", "far"]);
    run("ip", &["address", "add", "172.31.0.1/24", "dev", "eth1"]);
    run("ip", &["link", "set", "eth1", "up"]);
}

#[test]
fn an_interface_that_is_not_there_is_named_and_taken_once_it_comes() {
    in_netns(|| async {
        let sandbox = Sandbox::new();
        let mut named = agent(&sandbox, "bond0,eth1", 0);
        let said = why(&mut named).await;
        let expected = "--iface bond0, eth1: this node has no such interface; there are lo";
        assert!(said.starts_with(expected), "{said}");
        let mut unnamed = agent(&sandbox, "", 0);
        let said = why(&mut unnamed).await;
        let expected = "no interface has one of the node's addresses, 172.31.0.1: name one by --iface; there are lo";
        assert!(said.starts_with(expected), "{said}");

        run("ip", &["link", "add", "eth1", "type", "veth", "peer", "name", "far"]);
        named.ready.wait_for(|now| *now == Err("--iface bond0, eth1: eth1 has no address".to_owned())).await.unwrap();
        run("ip", &["address", "add", "172.31.0.1/24", "dev", "eth1"]);
        for state in [&mut named, &mut unnamed] {
            state.ready.wait_for(Result::is_ok).await.unwrap();
        }
        // The interface is deleted again, so there is no MTU for pods. The kernel deletes its address first.
        run("ip", &["link", "del", "eth1"]);
        let gone = |why: &String| why.starts_with("--iface bond0, eth1: this node has no such interface");
        named.ready.wait_for(|ready| ready.as_ref().is_err_and(gone)).await.unwrap();
        assert_eq!(*named.mtu.borrow(), None);
    });
}

#[test]
fn an_mtu_follows_the_interface_or_is_refused_when_it_does_not_fit_any_more() {
    in_netns(|| async {
        let sandbox = Sandbox::new();
        eth1("1500");
        let mut follows = agent(&sandbox, "", 0);
        follows.ready.wait_for(Result::is_ok).await.unwrap();
        run("ip", &["link", "set", "eth1", "mtu", "1600"]);
        follows.mtu.wait_for(|mtu| *mtu == Some(Mtu { pods: 1500, most: 1542 })).await.unwrap();
        run("ip", &["link", "set", "eth1", "mtu", "1500"]);
        follows.mtu.wait_for(|mtu| *mtu == Some(Mtu { pods: 1400, most: 1442 })).await.unwrap();
        // From here on, two agents write different MTUs to ovn0.
        let mut insists = agent(&sandbox, "", 9000);
        let expected = "--mtu 9000: geneve over interface eth1, whose MTU is 1500, leaves 1442 at most; give a smaller one, or 0 \
            for what fits";
        assert_eq!((why(&mut insists).await.as_str(), *insists.mtu.borrow()), (expected, None));

        run("ip", &["link", "set", "eth1", "mtu", "9500"]);
        insists.mtu.wait_for(|mtu| *mtu == Some(Mtu { pods: 9000, most: 9442 })).await.unwrap();
        follows.mtu.wait_for(|mtu| *mtu == Some(Mtu { pods: 9400, most: 9442 })).await.unwrap();
        run("ip", &["link", "set", "eth1", "mtu", "1300"]);
        insists.mtu.wait_for(Option::is_none).await.unwrap();
        let expected =
            "--mtu 0: it gives pods 1200, but they need 1280 at least (geneve over interface eth1, whose MTU is 1300)";
        follows.ready.wait_for(|ready| *ready == Err(expected.to_owned())).await.unwrap();
    });
}

#[test]
fn checksums_of_tunnels_are_as_the_flag_says_whatever_was_there() {
    in_netns(|| async {
        let sandbox = Sandbox::new();
        eth1("1500");
        let ovs = sandbox.ovs();
        for encap_checksum in [true, false, true] {
            let tunnels = Tunnels { encap_checksum, ..Tunnels::default() };
            let mut state = NodePort { tunnels, ..node_port(&sandbox, "", 0) }.spawn().unwrap();
            state.ready.wait_for(Result::is_ok).await.unwrap();
            let expected = if encap_checksum { "true" } else { "false" };
            let is = || ovs.external_id("ovn-encap-csum").as_deref() == Some(expected);
            eventually(&format!("checksums are {expected}"), is).await;
        }
    });
}

/// keepalived and kube-vip add such addresses, and move them from node to node.
#[test]
fn an_address_that_comes_and_goes_does_not_become_the_tunnels() {
    for (iface, vip, expected) in [
        ("", "172.20.0.5/32", "172.31.0.1"),
        ("eth1", "172.31.0.0/31", "172.31.0.1"),
        ("eth2", "172.20.0.5/32", "172.32.0.9"),
    ] {
        in_netns(move || async move {
            let sandbox = Sandbox::new();
            eth1("1500");
            run("ip", &["link", "add", "eth2", "type", "veth", "peer", "name", "far2"]);
            run("ip", &["link", "set", "eth2", "up"]);
            run("ip", &["address", "add", "172.32.0.9/24", "dev", "eth2"]);
            let ovs = sandbox.ovs();
            ovs.settings_known().await;
            let device = if iface.is_empty() { "eth1" } else { iface };
            run("ip", &["address", "add", vip, "dev", device]);
            let mut state = agent(&sandbox, iface, 0);
            state.ready.wait_for(Result::is_ok).await.unwrap();
            let is = || ovs.external_id("ovn-encap-ip").as_deref() == Some(expected);
            eventually(&format!("{expected} is the tunnel's, {iface} with {vip}"), is).await;

            // The change of the MTU shows that the agent has looked again.
            state.mtu.mark_unchanged();
            run("ip", &["address", "del", vip, "dev", device]);
            run("ip", &["address", "add", vip, "dev", device]);
            run("ip", &["link", "set", device, "mtu", "1700"]);
            state.mtu.wait_for(|mtu| *mtu == Some(Mtu { pods: 1600, most: 1642 })).await.unwrap();
            state.ready.wait_for(Result::is_ok).await.unwrap();
            assert_eq!(ovs.external_id("ovn-encap-ip").as_deref(), Some(expected), "{iface} with {vip}");
        });
    }
}

#[test]
fn the_annotations_of_the_node_choose_its_tunnels() {
    in_netns(|| async {
        let sandbox = Sandbox::new();
        eth1("1500");
        run("ip", &["link", "add", "eth2", "mtu", "9000", "type", "veth", "peer", "name", "far2"]);
        run("ip", &["address", "add", "172.32.0.9/24", "dev", "eth2"]);
        run("ip", &["link", "set", "eth2", "up"]);
        let (sender, node) = watch::channel(node());
        let says = |name: &str, value: &str| {
            let said = json!({ "metadata": { "name": "n1", "annotations": { name: value } } });
            let want = NodeWant::parse(&serde_json::from_value(said).unwrap());
            sender.send_modify(|seen| seen.objects.get_mut("n1").unwrap().want = want);
        };
        let ovs = sandbox.ovs();
        let encaps = async |expected: &str| {
            let is = || ovs.external_id("ovn-encap-ip").as_deref() == Some(expected);
            eventually(&format!("{expected} is the tunnel's"), is).await;
        };
        let agent = || NodePort { node: node.clone(), ..node_port(&sandbox, "eth1", 0) }.spawn().unwrap();
        let mut state = agent();
        encaps("172.31.0.1").await;
        says(TUNNEL_INTERFACE, "bond0,eth2");
        encaps("172.32.0.9").await;
        state.mtu.wait_for(|mtu| *mtu == Some(Mtu { pods: 8900, most: 8942 })).await.unwrap();
        // What cannot be read changes nothing, for a new agent, too.
        says(TUNNEL_INTERFACE, "(");
        drop(state);
        let mut state = agent();
        state.mtu.wait_for(|mtu| *mtu == Some(Mtu { pods: 8900, most: 8942 })).await.unwrap();
        encaps("172.32.0.9").await;
        says(TUNNEL_INTERFACE, "eth9");
        let lost = "ovn.kubernetes.io/tunnel_interface br-phy, eth9: this node has no such interface";
        state.ready.wait_for(|ready| ready.as_ref().is_err_and(|why| why.contains(lost))).await.unwrap();

        // Further networks: the addresses that the node has.
        says(NODE_NETWORKS, r#"{"storage": "172.32.0.9", "backup": "172.33.0.9"}"#);
        encaps("172.31.0.1,172.32.0.9").await;
        let storage = |all: &Option<Networks>| {
            let mtu = |network: &Result<Network, String>| network.as_ref().ok().map(|network| network.mtu.pods);
            let all: Vec<_> = all.iter().flatten().map(|(name, network)| (name.as_str(), mtu(network))).collect();
            all == [("backup", None), ("storage", Some(8900))]
        };
        state.networks.wait_for(storage).await.unwrap();
        says(NODE_NETWORKS, "172.32.0.9");
        drop(state);
        let mut state = agent();
        state.ready.wait_for(Result::is_ok).await.unwrap();
        assert_eq!(ovs.external_id("ovn-encap-ip").as_deref(), Some("172.31.0.1,172.32.0.9"));
        run("ip", &["address", "add", "172.33.0.9/24", "dev", "eth2"]);
        says(NODE_NETWORKS, r#"{"backup": "172.33.0.9"}"#);
        encaps("172.31.0.1,172.33.0.9").await;
        says(NODE_NETWORKS, "{}");
        encaps("172.31.0.1").await;
        assert_eq!(ovs.external_id("ovn-encap-ip-default").as_deref(), Some("172.31.0.1"));
    });
}

#[test]
fn the_port_of_a_pod_uses_the_network_that_its_subnet_names() {
    in_netns(|| async {
        let scene = Scene::new([5, 6]);
        let network = |last: u8| Network {
            address: format!("172.32.0.{last}").parse().unwrap(),
            index: 1,
            mtu: Mtu { pods: 1300, most: 1342 },
        };
        let named = |name: &str| seen([EffectiveSubnet { node_network: Some(name.to_owned()), ..subnet() }]);
        scene.networks.send_replace(Some([("storage".to_owned(), Ok(network(9)))].into()));
        scene.subnets.send_replace(named("storage"));
        let pod = PodNs::new();
        let request = attachment(5, &pod);
        assert_eq!(scene.attacher.add(&request).await.unwrap().mtu, 1300);
        let device = host_ifname(&request.container_id);
        let encap = || scene.sandbox.external_ids(&device).get("encap-ip").cloned();
        assert_eq!(encap().as_deref(), Some("172.32.0.9"));

        // It follows the subnet and the node, and stays while there is no such network.
        let attachments = Attachments::spawn(scene.attacher.clone());
        let pace = Pace { recheck: Duration::from_hours(1), grace: Duration::from_hours(1) };
        let follows = async {
            for (networks, subnets, expected) in [
                (vec![("storage", 8)], named("storage"), Some("172.32.0.8")),
                (vec![], named("storage"), Some("172.32.0.8")),
                (vec![("storage", 8), ("backup", 7)], named("backup"), Some("172.32.0.7")),
                (vec![("storage", 8)], seen([subnet()]), None),
            ] {
                let networks = networks.into_iter().map(|(name, last)| (name.to_owned(), Ok(network(last))));
                scene.networks.send_replace(Some(networks.collect()));
                scene.subnets.send_replace(subnets);
                // Whose port it is, is repaired without the network, too.
                scene.sandbox.vsctl(&["remove", "interface", &device, "external_ids", "pod_uid"]);
                let repaired = || scene.sandbox.external_ids(&device).contains_key("pod_uid");
                eventually("the row says whose it is", || repaired() && encap().as_deref() == expected).await;
            }
        };
        tokio::select! {
            () = follows => {}
            () = ports::keep(&scene.attacher, &attachments, pace) => {}
        }
        let short = Attacher { patience: Duration::from_millis(300), ..scene.attacher.clone() };
        scene.subnets.send_replace(named("backup"));
        let refused = short.add(&attachment(6, &PodNs::new())).await.unwrap_err();
        assert_eq!(
            refused.to_string(),
            "subnet ovn-default: spec.nodeNetwork backup (code 11): the node has no network of this name: see its annotation \
             ovn.kubernetes.io/node_networks"
        );
    });
}

/// Its packets to other pods of the subnet go by that network, all others by the tunnel interface.
#[test]
fn the_routes_of_a_pod_have_what_the_tunnel_interface_carries_beside_a_network_with_jumbo_frames() {
    const NEAR: [&[&str]; 2] = [&["route", "get", "10.16.0.6"], &["route", "get", "fd00:16::6"]];
    const FAR: [&[&str]; 2] = [&["route", "get", "192.0.2.1"], &["route", "get", "2001:db8::1"]];
    in_netns(|| async {
        let scene = Scene::new([5]);
        let network = Network { address: "172.32.0.9".parse().unwrap(), index: 1, mtu: Mtu { pods: 8900, most: 8942 } };
        scene.networks.send_replace(Some([("storage".to_owned(), Ok(network))].into()));
        scene.subnets.send_replace(seen([EffectiveSubnet { node_network: Some("storage".to_owned()), ..subnet() }]));
        let pod = PodNs::new();
        let request = attachment(5, &pod);
        assert_eq!(scene.attacher.add(&request).await.unwrap().mtu, 8900);
        for near in NEAR {
            assert!(!pod.run("ip", near).await.contains("mtu"));
        }
        for far in FAR {
            assert!(pod.run("ip", far).await.contains("mtu 1400"));
        }
        scene.attacher.check(&request, &[]).await.unwrap();
    });
}

/// A node that announces its address by BGP has it on `lo`.
#[test]
fn an_address_on_the_loopback_interface_has_the_mtu_of_the_way_out() {
    in_netns(|| async {
        let sandbox = Sandbox::new();
        run("ip", &["link", "set", "lo", "up"]);
        run("ip", &["address", "add", "172.31.0.1/32", "dev", "lo"]);
        let mut state = agent(&sandbox, "", 0);
        let expected = "the node's address 172.31.0.1 is on the loopback interface, and no default route says by which one packets \
            leave";
        assert_eq!(why(&mut state).await, expected);
        run("ip", &["link", "add", "up1", "mtu", "1500", "type", "veth", "peer", "name", "far"]);
        run("ip", &["address", "add", "192.0.2.1/24", "dev", "up1"]);
        run("ip", &["link", "set", "up1", "up"]);
        run("ip", &["link", "set", "far", "up"]);
        run("ip", &["route", "add", "default", "via", "192.0.2.254"]);
        state.mtu.wait_for(|mtu| *mtu == Some(Mtu { pods: 1400, most: 1442 })).await.unwrap();
        state.ready.wait_for(Result::is_ok).await.unwrap();
        let ovs = sandbox.ovs();
        let is = || ovs.external_id("ovn-encap-ip").as_deref() == Some("172.31.0.1");
        eventually("the address is the tunnel's", is).await;
    });
}

#[test]
fn a_subnets_mtu_that_does_not_fit_through_tunnels_is_made_smaller() {
    in_netns(|| async {
        let scene = Scene::new([5, 6, 7]);
        for (n, wanted, given) in [(5, None, 1400), (6, Some(1442), 1442), (7, Some(9000), 1442)] {
            let pod = PodNs::new();
            scene.subnets.send_replace(seen([EffectiveSubnet { mtu: wanted, ..subnet() }]));
            assert_eq!(scene.attacher.add(&attachment(n, &pod)).await.unwrap().mtu, given);
            let link = pod.run("ip", &["link", "show", "eth0"]).await;
            assert!(link.contains(&format!("mtu {given}")), "{link}");
        }
    });
}

/// A southbound database, in which no ovn-controller but the test registers chassis.
struct Southbound {
    server: OvsdbServer,
    client: Client,
}

impl Southbound {
    fn start() -> Self {
        let schema = std::fs::read_to_string("/usr/share/ovn/ovn-sb.ovsschema").unwrap();
        let server = OvsdbServer::start(&schema).unwrap();
        let tables = ovn::southbound::tables();
        let (client, _) = Client::spawn(Config::new(vec![server.endpoint()], ovn::southbound::DATABASE, tables));
        Self { server, client }
    }

    async fn register(&self, chassis: &str, address: &str) {
        self.register_as("geneve", chassis, address).await;
    }

    async fn register_as(&self, encapsulation: &str, chassis: &str, address: &str) {
        let text = |column, value: &str| (column, Datum::from(value));
        let insert = |table, uuid, row| Op::Insert { table, uuid: Some(uuid), row };
        let encap = Uuid::new_v4();
        let row = Row::from([text("type", encapsulation), text("ip", address), text("chassis_name", chassis)]);
        let mut ops = vec![insert("Encap", encap, row)];
        let row = Row::from([text("name", chassis), text("hostname", "n2"), ("encaps", Datum::from(encap))]);
        ops.push(insert("Chassis", Uuid::new_v4(), row));
        self.client.synced().await;
        self.client.transact(&ops).await.unwrap();
    }

    /// Removes all chassis, and with them their addresses.
    async fn clear(&self) {
        self.client.synced().await;
        let all: Vec<_> = self.client.read(|replica| replica.rows("Chassis").map(|(id, _)| id).collect());
        let delete = |row| Op::Delete { table: "Chassis", on: Where::Row(row) };
        self.client.transact(&all.into_iter().map(delete).collect::<Vec<_>>()).await.unwrap();
    }
}

#[test]
fn the_cluster_of_the_southbound_database_is_recorded_when_it_is_another_one() {
    in_netns(|| async {
        let sandbox = Sandbox::new();
        eth1("1500");
        let schema = std::fs::read_to_string("/usr/share/ovn/ovn-sb.ovsschema").unwrap();
        let clusters = [(); 2].map(|()| OvsdbServer::start_clustered(&schema).unwrap());
        let mut state = None;
        let mut recorded = Vec::new();
        for server in &clusters {
            let remote = format!("external_ids:ovn-remote=\"{}\"", server.endpoint());
            sandbox.vsctl(&["set", "open_vswitch", ".", "external_ids:system-id=own", &remote]);
            state.get_or_insert_with(|| agent(&sandbox, "eth1", 0));
            let (client, _) =
                Client::spawn(Config::new(vec![server.endpoint()], ovn::southbound::DATABASE, Vec::new()));
            client.synced().await;
            let id = client.cluster().await.unwrap().unwrap();
            let setting = format!("kube-ovn-southbound-cluster=\"{id}\"");
            let settings = || sandbox.vsctl(&["get", "open_vswitch", ".", "external_ids"]);
            eventually("the cluster's ID", || settings().contains(&setting)).await;
            recorded.push(id);
        }
        assert_ne!(recorded[0], recorded[1]);
    });
}

#[test]
fn a_chassis_gets_the_tunnel_address_when_no_other_one_has_it() {
    in_netns(|| async {
        let (sandbox, mut southbound) = (Sandbox::new(), Southbound::start());
        eth1("1500");
        southbound.register("other", "172.31.0.1").await;
        southbound.register("third", "172.31.0.3").await;
        let remote = format!("external_ids:ovn-remote=\"{}\"", southbound.server.endpoint());
        sandbox.vsctl(&["set", "open_vswitch", ".", "external_ids:system-id=own", &remote]);
        let settings = || sandbox.vsctl(&["get", "open_vswitch", ".", "external_ids"]);
        let real = "ovn-encap-ip=\"172.31.0.1\"";

        let mut state = agent(&sandbox, "eth1", 0);
        let taken = Err("the tunnel's address 172.31.0.1 is that of chassis other".to_owned());
        state.ready.wait_for(|ready| *ready == taken).await.unwrap();
        assert_eq!(*state.mtu.borrow(), None, "no pod is attached");
        let now = settings();
        assert!(now.contains("ovn-encap-ip=\"127.") && now.contains("kube-ovn-tunnel-taken=172.31.0.1@other"), "{now}");

        // While the database is away, and for a new agent that does not reach it, nothing changes.
        southbound.server.kill().unwrap();
        southbound.client.connected().wait_for(|connected| !connected).await.unwrap();
        let before = sandbox.written();
        let mut meanwhile = agent(&sandbox, "eth1", 0);
        meanwhile.ready.wait_for(|ready| *ready == taken).await.unwrap();
        assert_eq!(sandbox.written(), before);
        drop(meanwhile);
        southbound.server.restart().unwrap();

        southbound.clear().await;
        eventually("the tunnel's address", || settings().contains(real)).await;
        state.ready.wait_for(Result::is_ok).await.unwrap();
        assert!(!settings().contains("kube-ovn-tunnel-taken"), "{}", settings());
        // It was free, and two agents saw that. The other chassis was faster.
        southbound.register("faster", "172.31.0.1").await;
        eventually("another stand-in", || settings().contains("kube-ovn-tunnel-taken=172.31.0.1@faster")).await;
        southbound.clear().await;
        eventually("the address again", || settings().contains(real)).await;

        // Another encapsulation is no conflict, and a new agent believes the chassis that has the address.
        southbound.register_as("vxlan", "elsewhere", "172.31.0.1").await;
        southbound.register("own", "172.31.0.1").await;
        let mut again = agent(&sandbox, "eth1", 0);
        again.ready.wait_for(Result::is_ok).await.unwrap();
        assert!(settings().contains(real), "{}", settings());
    });
}
