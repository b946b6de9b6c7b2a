//! The tunnels' interface: one that is not there, and one whose MTU does not do.

use cni_server::link::Links;
use cni_server::node_port::{NodePort, State};
use cni_server::seen::Seen;
use cni_server::tunnel::{Mtu, Names, NetworkType};
use cni_wire::Code;
use tokio::sync::watch;

use crate::ovn0::node;
use crate::sandbox::{PodNs, Sandbox, in_netns, run};
use crate::scene::{Scene, attachment};

/// The owner of ovn0 with these flags.
fn agent(sandbox: &Sandbox, iface: &str, mtu: u32) -> State {
    let node_port = NodePort {
        name: "n1".to_owned(),
        ovs: sandbox.ovs(),
        links: Links::here().unwrap(),
        node: watch::channel(node()).1,
        subnets: watch::channel(Seen::default()).1,
        ifaces: Names::parse(iface.split(',')).unwrap(),
        network_type: NetworkType::Geneve,
        mtu,
    };
    node_port.spawn().unwrap()
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
        // It goes again: what was given to pods before is not what they would get.
        run("ip", &["link", "del", "eth1"]);
        assert!(why(&mut named).await.starts_with("--iface bond0, eth1: this node has no such interface"));
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
        // From here on there are two that disagree about ovn0.
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
fn a_subnets_mtu_that_tunnels_lose_packets_of_is_refused() {
    in_netns(|| async {
        let mut scene = Scene::new([5]);
        let pod = PodNs::new();
        let spec = api::SubnetSpec {
            cidr_block: "10.16.0.0/16,fd00:16::/64".to_owned(),
            mtu: Some(1443),
            ..api::SubnetSpec::default()
        };
        let subnet = api::SubnetDef::parse(&api::Subnet::new("ovn-default", spec));
        let seen = |subnet| Seen { synced: true, objects: [("ovn-default".to_owned(), subnet)].into() };
        scene.attacher.subnets = watch::channel(seen(subnet.clone())).1;
        let refused = scene.attacher.add(&attachment(5, &pod)).await.unwrap_err();
        let expected = "subnet ovn-default: spec.mtu 1443: this node's tunnels leave 1442 at most";
        assert_eq!((refused.code, refused.msg.as_str()), (Code::CONFIG, expected));

        let fits = subnet.map(|subnet| api::SubnetDef { mtu: Some(1442), ..subnet });
        scene.attacher.subnets = watch::channel(seen(fits)).1;
        assert_eq!(scene.attacher.add(&attachment(5, &pod)).await.unwrap().mtu, 1442);
    });
}
