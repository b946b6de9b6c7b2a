//! The node's own port.

use api::{Placement, Subnet, SubnetDef, SubnetSpec};
use cni_server::link::Links;
use cni_server::node_net::Subnets;
use cni_server::node_port::NodePort;
use cni_server::seen::{Node, Seen};
use cni_server::tunnel::{Mtu, Names, NetworkType};
use tokio::sync::watch;

use crate::sandbox::{Sandbox, eventually, in_netns, run};

fn subnets(list: &[(&str, &str)]) -> Subnets {
    let objects = list.iter().map(|(name, cidr)| {
        let spec = SubnetSpec { cidr_block: (*cidr).to_owned(), ..SubnetSpec::default() };
        ((*name).to_owned(), SubnetDef::parse(&Subnet::new(name, spec)))
    });
    Seen { synced: true, objects: objects.collect() }
}

pub fn node() -> Seen<Node> {
    let net = Placement {
        switch: "join".to_owned(),
        ips: "100.64.0.2,fd00:64::2".parse().unwrap(),
        mac: "0a:00:00:00:00:02".parse().unwrap(),
        cidrs: "100.64.0.0/16,fd00:64::/64".parse().unwrap(),
        gateway: "100.64.0.1,fd00:64::1".parse().unwrap(),
        complete: true,
    };
    let node = Node { net: Ok(Some(net)), internal_ips: vec!["172.31.0.1".parse().unwrap()] };
    Seen { synced: true, objects: [("n1".to_owned(), node)].into() }
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
        let join = ("join", "100.64.0.0/16,fd00:64::/64");
        let (subnet_sender, seen) = watch::channel(subnets(&[join, ("a", "10.16.0.0/16,fd00:16::/64")]));
        let agent = || NodePort {
            name: "n1".to_owned(),
            ovs: sandbox.ovs(),
            links: Links::here().unwrap(),
            node: node.clone(),
            subnets: seen.clone(),
            ifaces: Names::default(),
            network_type: NetworkType::Geneve,
            mtu: 0,
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
            "ovn-encap-type=geneve",
            "ovn-cms-options=\"kube-ovn,kube-ovn-mtu=1442\"",
        ] {
            assert!(settings.contains(part), "{part}: {settings}");
        }

        // An agent that starts anew finds everything right and writes nothing: neither a transaction nor a route.
        sandbox.settle();
        let found = || (sandbox.written(), routes(), run("ip", &["link", "show", "ovn0"]));
        let before = found();
        agent().spawn().unwrap().ready.wait_for(Result::is_ok).await.unwrap();
        assert_eq!(found(), before);

        subnet_sender.send_replace(subnets(&[join, ("b", "10.17.0.0/16")]));
        eventually("the new subnet's route instead of the old one's", || {
            let routes = routes();
            routes.contains("10.17.0.0/16 via") && !routes.contains("10.16.0.0/16") && !routes.contains("fd00:16::")
        })
        .await;
        // A route of someone else on the link stays, ours comes back.
        run("ip", &["route", "add", "10.99.0.0/16", "via", "100.64.0.1", "dev", "ovn0", "proto", "42"]);
        run("ip", &["route", "del", "10.17.0.0/16", "dev", "ovn0"]);
        eventually("the deleted route back", || routes().contains("10.17.0.0/16 via")).await;
        // The kernel's own routes come back as the kernel made them.
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
