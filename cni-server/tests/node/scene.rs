//! A node for tests: an Open vSwitch, the API objects of its pods, and the attacher.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use api::annotations::NodeWant;
use api::{EffectiveSubnet, FieldError};
use cni_server::attach::{Attacher, Defaults};
use cni_server::metrics::Metrics;
use cni_server::mirror::Chosen;
use cni_server::node_net::Own;
use cni_server::seen::{Lease, Leases, Node, Pod, Seen};
use cni_server::tunnel::{Mtu, Networks};
use cni_wire::rpc::Attachment;
use links::Links;
use tokio::sync::watch;

use crate::sandbox::{PodNs, Sandbox, run};

/// A node. Its pods are `pod-<n>` in namespace `ns`.
pub struct Scene {
    pub sandbox: Sandbox,
    /// The Node in the API server.
    pub node: watch::Sender<Seen<Node>>,
    /// The pods in the API server.
    pub pods: watch::Sender<Seen<Pod>>,
    /// The IP objects in the API server.
    pub leases: watch::Sender<Leases>,
    /// The subnets in force.
    pub subnets: watch::Sender<Seen<EffectiveSubnet>>,
    /// The further networks of the node.
    pub networks: watch::Sender<Option<Networks>>,
    pub attacher: Attacher,
}

impl Scene {
    /// A node whose pods have addresses and flows.
    pub fn new(all: impl IntoIterator<Item = u8>) -> Self {
        let all: Vec<_> = all.into_iter().collect();
        let scene = Self::without_flows(pods(all.iter().copied()), addressed(all), Duration::from_secs(20));
        scene.sandbox.play_ovn_controller();
        scene
    }

    /// A node without flows. An ADD waits at most `patience`.
    pub fn without_flows(pods: Seen<Pod>, leases: Leases, patience: Duration) -> Self {
        let sandbox = Sandbox::new();
        let (node_sender, node) = watch::channel(node(None));
        let (pod_sender, pods) = watch::channel(pods);
        let (lease_sender, leases) = watch::channel(leases);
        let (subnet_sender, subnets) = watch::channel(seen([subnet()]));
        let (network_sender, networks) = watch::channel(Some(Networks::new()));
        let attacher = Attacher {
            ovs: sandbox.ovs(),
            links: Links::here().unwrap(),
            mirrored: Chosen { all: false, node, pods: pods.clone() },
            pods,
            leases,
            subnets,
            mtu: watch::channel(Some(Mtu { pods: 1400, most: 1442 })).1,
            networks,
            defaults: Defaults::none(),
            patience,
            metrics: Metrics::register(&prometheus::Registry::new(), "n1").unwrap(),
            restored: watch::Sender::default(),
            rules: watch::channel(Ok(())).1,
            making: Arc::default(),
        };
        Self {
            sandbox,
            node: node_sender,
            pods: pod_sender,
            leases: lease_sender,
            subnets: subnet_sender,
            networks: network_sender,
            attacher,
        }
    }
}

/// The names of the node.
pub fn own() -> Own {
    Own { node: "n1".to_owned(), mirror: "mirror0".to_owned() }
}

/// The subnet of all pods.
pub fn subnet() -> EffectiveSubnet {
    EffectiveSubnet {
        name: "ovn-default".to_owned(),
        cidrs: "10.16.0.0/16,fd00:16::/64".parse().unwrap(),
        gateway: "10.16.0.1,fd00:16::1".parse().unwrap(),
        nat_outgoing: true,
        nat_rules: Vec::new(),
        nat_sources: Vec::new(),
        mtu: None,
        private: false,
        node_network: None,
        nodes: BTreeSet::new(),
    }
}

/// The state of the watch when these subnets are in force.
pub fn seen(subnets: impl IntoIterator<Item = EffectiveSubnet>) -> Seen<EffectiveSubnet> {
    let objects = subnets.into_iter().map(|subnet| (subnet.name.clone(), subnet));
    Seen { synced: true, objects: objects.collect() }
}

/// The state of the watch of the Node with this annotation `mirror`.
pub fn node(mirror: Option<bool>) -> Seen<Node> {
    let node = Node {
        uid: "uid-n1".to_owned(),
        internal_ips: vec!["172.31.0.1".parse().unwrap()],
        want: NodeWant { mirror: Ok(mirror), ..NodeWant::default() },
    };
    Seen { synced: true, objects: [("n1".to_owned(), node)].into() }
}

/// The addresses of a pod.
pub fn lease(n: u8) -> Lease {
    Lease {
        holder: format!("uid-{n}"),
        subnet: "ovn-default".to_owned(),
        ips: format!("10.16.0.{n},fd00:16::{n}").parse().unwrap(),
        mac: format!("0a:00:00:00:00:{n:02x}").parse().unwrap(),
        node_addresses: BTreeSet::new(),
    }
}

/// The state of the watch when these pods exist.
pub fn pods(all: impl IntoIterator<Item = u8>) -> Seen<Pod> {
    let pod = |n| {
        (
            format!("pod-{n}.ns"),
            Pod {
                uid: format!("uid-{n}"),
                config_hash: None,
                mirror: Ok(None),
                netem: Ok(None),
                limits: Default::default(),
                routes: Ok(Vec::new()),
                going: false,
            },
        )
    };
    Seen { synced: true, objects: all.into_iter().map(pod).collect() }
}

/// The state of the watch when these pods have IP objects.
pub fn leases(all: impl IntoIterator<Item = (u8, Result<Lease, FieldError>)>) -> Leases {
    let objects = all.into_iter().map(|(n, lease)| (format!("pod-{n}.ns"), lease));
    Seen { synced: true, objects: objects.collect() }
}

/// The same with an address for each pod.
pub fn addressed(all: impl IntoIterator<Item = u8>) -> Leases {
    leases(all.into_iter().map(|n| (n, Ok(lease(n)))))
}

/// The request of the runtime for a pod.
pub fn attachment(n: u8, netns: &PodNs) -> Attachment {
    Attachment {
        cni_version: "1.0.0".to_owned(),
        container_id: format!("{n:02x}cafe0123456789abcdef"),
        netns: Some(netns.path()),
        ifname: "eth0".to_owned(),
        pod_name: format!("pod-{n}"),
        pod_namespace: "ns".to_owned(),
        pod_uid: Some(format!("uid-{n}")),
    }
}

/// The names of the existing host ends.
pub fn links() -> Vec<String> {
    run("ip", &["-br", "link"])
        .lines()
        .filter_map(|l| l.split('@').next())
        .filter(|n| n.ends_with("_h"))
        .map(str::to_owned)
        .collect()
}
