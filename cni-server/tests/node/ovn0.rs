//! The port `ovn0`, its routes, and the settings in Open vSwitch.

use std::collections::BTreeSet;

use api::EffectiveSubnet;
use api::annotations::NodeWant;
use cni_server::args::Tunnels;
use cni_server::databases::Databases;
use cni_server::node_net;
use cni_server::node_port::{NodePort, Sources};
use cni_server::own_networks;
use cni_server::reach::Reason;
use cni_server::seen::{Lease, Leases, Node, Seen};
use cni_server::tunnel::Mtu;
use links::Links;
use tokio::sync::watch;

use crate::sandbox::{RouteMonitor, Sandbox, eventually, in_netns, run};
use crate::scene::seen;

/// A subnet in force.
fn subnet(name: &str, cidrs: &str, gateway: &str) -> EffectiveSubnet {
    let (name, cidrs, gateway) = (name.to_owned(), cidrs.parse().unwrap(), gateway.parse().unwrap());
    EffectiveSubnet {
        name,
        cidrs,
        gateway,
        nat_outgoing: false,
        nat_rules: Vec::new(),
        nat_sources: Vec::new(),
        mtu: None,
        private: false,
        node_network: None,
        nodes: BTreeSet::new(),
    }
}

pub fn join() -> EffectiveSubnet {
    subnet("join", "100.64.0.0/16,fd00:64::/64", "100.64.0.1,fd00:64::1")
}

pub fn node() -> Seen<Node> {
    let node =
        Node { uid: "uid-n1".to_owned(), internal_ips: vec!["172.31.0.1".parse().unwrap()], want: NodeWant::default() };
    Seen { synced: true, objects: [("n1".to_owned(), node)].into() }
}

/// The IP object of the node.
pub fn leases() -> Leases {
    let lease = Lease {
        holder: "uid-n1".to_owned(),
        subnet: "join".to_owned(),
        ips: "100.64.0.2,fd00:64::2".parse().unwrap(),
        mac: "0a:00:00:00:00:02".parse().unwrap(),
        node_addresses: BTreeSet::new(),
    };
    Seen { synced: true, objects: [("node-n1".to_owned(), Ok(lease))].into() }
}

fn routes() -> String {
    run("ip", &["route", "show", "dev", "ovn0"])
        + &run("ip", &["-6", "route", "show", "dev", "ovn0", "proto", "static"])
}

#[test]
fn ovn0_follows_the_cluster_and_heals() {
    in_netns(|| async {
        let sandbox = Sandbox::new();
        run("ip", &["link", "add", "eth1", "mtu", "1500", "type", "veth", "peer", "name", "far"]);
        run("ip", &["address", "add", "172.31.0.1/24", "dev", "eth1"]);
        run("ip", &["link", "set", "eth1", "up"]);
        let (_node, node) = watch::channel(node());
        let a = subnet("a", "10.16.0.0/16,fd00:16::/64", "10.16.0.1,fd00:16::1");
        let (subnet_sender, subnets) = watch::channel(seen([join(), a]));
        let served = node_net::serve(subnets, own_networks::watch(Links::here().unwrap()).unwrap());
        let (_leases, leases) = watch::channel(leases());
        let agent = || NodePort {
            name: "n1".to_owned(),
            ovs: sandbox.ovs(),
            links: Links::here().unwrap(),
            node: node.clone(),
            leases: leases.clone(),
            served: served.clone(),
            restored: watch::channel(0).1,
            reached: watch::channel(Err(Reason::NotAsked)).1,
            tunnels: Tunnels::default(),
            keys: keys::Keys::new("/none".into()),
            external: false,
        };
        let mut state = agent().spawn().unwrap();
        state.ready.wait_for(Result::is_ok).await.unwrap();
        assert_eq!(*state.mtu.borrow(), Some(Mtu { pods: 1400, most: 1442 }));

        let shown = run("ip", &["address", "show", "ovn0"]);
        for part in ["mtu 1400", "0a:00:00:00:00:02", "inet 100.64.0.2/16", "inet6 fd00:64::2/64"] {
            assert!(shown.contains(part), "{part}: {shown}");
        }
        assert!(run("ethtool", &["-k", "ovn0"]).contains("tx-checksumming: off"));
        assert!(routes().contains("10.16.0.0/16 via 100.64.0.1") && routes().contains("fd00:16::/64 via fd00:64::1"));
        assert_eq!(sandbox.external_ids("ovn0").get("iface-id").map(String::as_str), Some("node-n1"));
        let settings = sandbox.vsctl(&["get", "open_vswitch", ".", "external_ids"]);
        for part in [
            "ovn-monitor-all=\"true\"",
            "ovn-encap-ip=\"172.31.0.1\"",
            "ovn-encap-ip-default=\"172.31.0.1\"",
            "ovn-encap-type=geneve",
            "ovn-cms-options=\"kube-ovn,kube-ovn-networks=eth1@172.31.0.0/24,kube-ovn-mtu=1442\"",
        ] {
            assert!(settings.contains(part), "{part}: {settings}");
        }

        // A new agent finds everything correct and writes nothing: neither a transaction nor a route. It has not asked the
        // router yet, and what the former one has reported stays.
        let up = "kube-ovn,kube-ovn-networks=eth1@172.31.0.0/24,kube-ovn-mtu=1442,kube-ovn-up=uid-n1";
        sandbox.vsctl(&["set", "open_vswitch", ".", &format!("external_ids:ovn-cms-options=\"{up}\"")]);
        sandbox.settle();
        let found = || (sandbox.written(), routes(), run("ip", &["link", "show", "ovn0"]));
        let before = found();
        agent().spawn().unwrap().ready.wait_for(Result::is_ok).await.unwrap();
        assert_eq!(found(), before);

        subnet_sender.send_replace(seen([join(), subnet("b", "10.17.0.0/16", "10.17.0.1")]));
        eventually("the new subnet's route instead of the old one's", || {
            let routes = routes();
            routes.contains("10.17.0.0/16 via") && !routes.contains("10.16.0.0/16") && !routes.contains("fd00:16::")
        })
        .await;
        // A foreign route on the link stays, and a deleted route of the agent comes back.
        run("ip", &["route", "add", "10.99.0.0/16", "via", "100.64.0.1", "dev", "ovn0", "proto", "42"]);
        run("ip", &["route", "del", "10.17.0.0/16", "dev", "ovn0"]);
        eventually("the deleted route back", || routes().contains("10.17.0.0/16 via")).await;
        // The connected routes come back as the kernel had added them.
        let connected = || {
            let kernel = ["route", "show", "dev", "ovn0", "proto", "kernel"];
            run("ip", &kernel) + &run("ip", &[&["-6"], kernel.as_slice()].concat())
        };
        let before = connected();
        assert!(before.contains("100.64.0.0/16") && before.contains("fd00:64::/64"), "{before}");
        run("ip", &["route", "del", "100.64.0.0/16", "dev", "ovn0"]);
        run("ip", &["-6", "route", "del", "fd00:64::/64", "dev", "ovn0"]);
        eventually("the connected routes back", || connected() == before).await;
        run("ip", &["address", "del", "100.64.0.2/16", "dev", "ovn0"]);
        eventually("address and route back", || {
            run("ip", &["address", "show", "ovn0"]).contains("100.64.0.2/16") && routes().contains("10.17.0.0/16 via")
        })
        .await;
        run("ip", &["link", "set", "ovn0", "down"]);
        eventually("the link up and its route back", || {
            run("ip", &["link", "show", "ovn0"]).contains(",UP") && routes().contains("10.17.0.0/16 via")
        })
        .await;
        sandbox.vsctl(&["del-port", "ovn0"]);
        eventually("the port back", || {
            sandbox.ports().contains(&"ovn0".to_owned()) && std::fs::exists("/proc/self/fd").unwrap() && {
                let links = run("ip", &["-br", "address"]);
                links.lines().any(|l| l.starts_with("ovn0") && l.contains("100.64.0.2/16"))
                    && routes().contains("10.17.0.0/16 via")
            }
        })
        .await;
    });
}

#[test]
fn a_subnet_that_overlaps_the_nodes_own_network_takes_nothing_from_it() {
    in_netns(|| async {
        let sandbox = Sandbox::new();
        run("ip", &["link", "add", "eth1", "mtu", "1500", "type", "veth", "peer", "name", "far"]);
        run("ip", &["address", "add", "172.31.0.1/24", "dev", "eth1"]);
        run("ip", &["link", "set", "far", "up"]);
        run("ip", &["link", "set", "eth1", "up"]);
        run("ip", &["route", "add", "default", "via", "203.0.113.1", "dev", "eth1", "onlink"]);
        let (_node, node) = watch::channel(node());
        let own = own_networks::watch(Links::here().unwrap()).unwrap();
        let (_subnets, subnets) = watch::channel(seen([
            join(),
            subnet("a", "10.16.0.0/16", "10.16.0.1"),
            subnet("b", "10.17.0.0/16", "10.17.0.1"),
            subnet("node", "172.31.0.0/16", "172.31.0.1"),
            subnet("hop", "203.0.113.0/24", "203.0.113.9"),
            subnet("all", "0.0.0.0/0", "10.0.0.1"),
        ]));
        let served = node_net::serve(subnets, own);
        let (lease_sender, seen_leases) = watch::channel(Seen { synced: true, ..Seen::default() });
        let node_port = NodePort {
            name: "n1".to_owned(),
            ovs: sandbox.ovs(),
            links: Links::here().unwrap(),
            node,
            leases: seen_leases,
            served: served.clone(),
            restored: watch::channel(0).1,
            reached: watch::channel(Err(Reason::NotAsked)).1,
            tunnels: Tunnels::default(),
            keys: keys::Keys::new("/none".into()),
            external: false,
        };
        sandbox.vsctl(&["set", "open_vswitch", ".", "external_ids:ovn-cms-options=enable-chassis-as-gw"]);
        let mut state = node_port.spawn().unwrap();
        let missing = Err("node n1 has no address on the join switch yet".to_owned());
        state.ready.wait_for(|ready| *ready == missing).await.unwrap();
        // The IP object of another Node with the same name does not count.
        let mut other = leases();
        other.objects.values_mut().for_each(|lease| lease.as_mut().unwrap().holder = "uid-old".to_owned());
        lease_sender.send_replace(other);
        state.ready.wait_for(|ready| ready.as_ref().is_err_and(|why| why.contains("another one"))).await.unwrap();
        lease_sender.send_replace(leases());
        state.ready.wait_for(Result::is_ok).await.unwrap();

        let own = |network: &str| routes().contains(network);
        assert!(own("10.16.0.0/16") && own("10.17.0.0/16"), "{}", routes());
        assert!(!own("172.31") && !own("203.0.113") && !own("default"), "{}", routes());
        let report = || {
            let options = sandbox.vsctl(&["get", "open_vswitch", ".", "external_ids:ovn-cms-options"]);
            options.trim().trim_matches('"').to_owned()
        };
        let expected = |networks: &str| {
            format!(
                "enable-chassis-as-gw,kube-ovn,kube-ovn-networks={networks}eth1@172.31.0.0/24;eth1@203.0.113.1/32,kube-ovn-mtu=1442"
            )
        };
        assert_eq!(report(), expected(""));

        // An interface comes and goes.
        run("ip", &["link", "add", "docker0", "type", "bridge"]);
        run("ip", &["address", "add", "10.16.5.1/24", "dev", "docker0"]);
        eventually("no route to what overlaps it", || !own("10.16.0.0/16") && own("10.17.0.0/16")).await;
        let wanted = served.borrow().rules(&[].into(), None, &Databases::default(), &crate::scene::own());
        assert!(!wanted.subnets.contains(&"10.16.0.0/16".parse().unwrap()), "{wanted:?}");
        assert!(wanted.subnets.contains(&"10.17.0.0/16".parse().unwrap()), "{wanted:?}");
        eventually("the report", || report() == expected("docker0@10.16.5.0/24;")).await;
        assert!(state.ready.borrow().is_ok());
        run("ip", &["link", "del", "docker0"]);
        eventually("the route back", || own("10.16.0.0/16 via 100.64.0.1")).await;
        eventually("the report", || report() == expected("")).await;

        // ovn0 gets no address in a network of the node itself.
        run("ip", &["address", "add", "100.64.9.9/24", "dev", "eth1"]);
        let overlap = "subnet join: its network 100.64.0.0/16 overlaps 100.64.9.0/24 of this node's interface eth1: \
                       ovn0 gets no address of it";
        state.ready.wait_for(|ready| *ready == Err(overlap.to_owned())).await.unwrap();
    });
}

#[test]
fn the_nodes_traffic_to_pods_has_its_own_address() {
    in_netns(|| async {
        let sandbox = Sandbox::new();
        run("ip", &["link", "add", "eth1", "mtu", "1500", "type", "veth", "peer", "name", "far"]);
        run("ip", &["address", "add", "172.31.0.1/24", "dev", "eth1"]);
        run("ip", &["link", "set", "far", "up"]);
        run("ip", &["link", "set", "eth1", "up"]);
        let own: Vec<std::net::IpAddr> = ["172.31.0.1", "fd00:31::1"].map(|ip| ip.parse().unwrap()).to_vec();
        let mut seen_node = node();
        seen_node.objects.get_mut("n1").unwrap().internal_ips.clone_from(&own);
        let (node_sender, node) = watch::channel(seen_node.clone());
        let a = subnet("a", "10.16.0.0/16,fd00:16::/64", "10.16.0.1,fd00:16::1");
        let (_subnets, subnets) = watch::channel(seen([join(), a]));
        let (lease_sender, seen_leases) = watch::channel(leases());
        let node_port = NodePort {
            name: "n1".to_owned(),
            ovs: sandbox.ovs(),
            links: Links::here().unwrap(),
            node,
            leases: seen_leases,
            served: node_net::serve(subnets, own_networks::watch(Links::here().unwrap()).unwrap()),
            restored: watch::channel(0).1,
            reached: watch::channel(Err(Reason::NotAsked)).1,
            tunnels: Tunnels::default(),
            keys: keys::Keys::new("/none".into()),
            external: false,
        };
        let mut state = node_port.spawn().unwrap();
        state.ready.wait_for(Result::is_ok).await.unwrap();
        let (v4, v6) = ("10.16.0.0/16 via 100.64.0.1", "fd00:16::/64 via fd00:64::1");
        let has = |route: &str, src: &str| {
            routes()
                .lines()
                .any(|line| line.starts_with(route) && line.contains("src ") != src.is_empty() && line.contains(src))
        };
        // The controller has not published the addresses yet, so pods could not answer them.
        assert!(has(v4, "") && has(v6, ""), "{}", routes());
        assert_eq!(*state.sources.borrow(), Some(Sources::default()));

        let mut published = leases();
        published.objects.values_mut().for_each(|lease| lease.as_mut().unwrap().node_addresses.extend(&own));
        // No destination is ever without its route.
        let monitor = RouteMonitor::start().await;
        lease_sender.send_replace(published);
        eventually("the IPv4 address as the source", || has(v4, "src 172.31.0.1") && has(v6, "")).await;
        run("ip", &["address", "add", "fd00:31::1/64", "dev", "eth1"]);
        eventually("the IPv6 address as the source", || has(v6, "src fd00:31::1")).await;
        let changes = monitor.printed();
        assert!(changes.contains("src fd00:31::1") && !changes.contains("Deleted 10.16."), "{changes}");
        assert!(!changes.contains("Deleted fd00:16:"), "{changes}");
        let both = Sources { v4: Some("172.31.0.1".parse().unwrap()), v6: Some("fd00:31::1".parse().unwrap()) };
        state.sources.wait_for(|sources| *sources == Some(both)).await.unwrap();
        assert!(
            run("ip", &["route", "show", "dev", "ovn0"])
                .contains("100.64.0.0/16 proto kernel scope link src 100.64.0.2")
        );

        // The kernel deletes the routes together with their source.
        run("ip", &["address", "del", "172.31.0.1/24", "dev", "eth1"]);
        eventually("the route without a source", || has(v4, "")).await;
        run("ip", &["address", "del", "fd00:31::1/64", "dev", "eth1"]);
        eventually("the IPv6 route without a source", || has(v6, "")).await;
        run("ip", &["address", "add", "172.31.0.1/24", "dev", "eth1"]);
        eventually("the source again", || has(v4, "src 172.31.0.1")).await;
        state.ready.wait_for(Result::is_ok).await.unwrap();

        // The Node has no such address any more.
        seen_node.objects.get_mut("n1").unwrap().internal_ips = vec!["172.31.0.9".parse().unwrap()];
        node_sender.send_replace(seen_node);
        eventually("no source that is not the Node's", || has(v4, "")).await;
    });
}

#[test]
fn an_external_host_loses_ovn0_with_its_object() {
    in_netns(|| async {
        let sandbox = Sandbox::new();
        run("ip", &["link", "add", "eth1", "type", "veth", "peer", "name", "far"]);
        run("ip", &["address", "add", "172.31.0.1/24", "dev", "eth1"]);
        run("ip", &["link", "set", "eth1", "up"]);
        let (node_sender, seen_node) = watch::channel(Seen::default());
        let a = subnet("a", "10.16.0.0/16", "10.16.0.1");
        let (_subnets, subnets) = watch::channel(seen([join(), a]));
        let node_port = NodePort {
            name: "n1".to_owned(),
            ovs: sandbox.ovs(),
            links: Links::here().unwrap(),
            node: seen_node,
            leases: watch::channel(leases()).1,
            served: node_net::serve(subnets, own_networks::watch(Links::here().unwrap()).unwrap()),
            restored: watch::channel(0).1,
            reached: watch::channel(Err(Reason::NotAsked)).1,
            tunnels: Tunnels::default(),
            keys: keys::Keys::new("/none".into()),
            external: true,
        };
        let mut state = node_port.spawn().unwrap();
        node_sender.send_replace(node());
        state.ready.wait_for(Result::is_ok).await.unwrap();
        assert!(routes().contains("10.16.0.0/16 via 100.64.0.1"));
        // The API server may be away for a while: only a list without the object says that it is gone.
        node_sender.send_replace(Seen::default());
        let gone = Err("there is no ExternalHost n1: an administrator creates it".to_owned());
        state.ready.wait_for(|ready| *ready == gone).await.unwrap();
        assert!(routes().contains("10.16.0.0/16 via 100.64.0.1"));
        node_sender.send_replace(Seen { synced: true, ..Seen::default() });
        eventually("no ovn0", || !std::path::Path::new("/sys/class/net/ovn0").exists()).await;
        node_sender.send_replace(node());
        state.ready.wait_for(Result::is_ok).await.unwrap();
        assert!(routes().contains("10.16.0.0/16 via 100.64.0.1"));
    });
}
