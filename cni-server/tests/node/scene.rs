//! A node: an Open vSwitch, the pods as the API server has them, and what plugs them in.

use std::sync::Arc;
use std::time::Duration;

use api::Placement;
use cni_server::attach::Attacher;
use cni_server::link::Links;
use cni_server::metrics::Metrics;
use cni_server::seen::{Pod, Seen};
use cni_server::tunnel::Mtu;
use cni_wire::rpc::Attachment;
use tokio::sync::watch;

use crate::sandbox::{PodNs, Sandbox, run};

/// A node. Its pods `pod-<n>` in namespace `ns` are known by their number.
pub struct Scene {
    pub sandbox: Sandbox,
    /// The pods that the API server has.
    pub pods: watch::Sender<Seen<Pod>>,
    pub attacher: Attacher,
}

impl Scene {
    /// These pods have their addresses, and flows are installed for whatever is plugged in.
    pub fn new(pods: impl IntoIterator<Item = u8>) -> Self {
        let scene = Self::without_flows(addressed(pods), Duration::from_secs(20));
        scene.sandbox.play_ovn_controller();
        scene
    }

    /// Nobody installs flows, for which an ADD waits no longer than that.
    pub fn without_flows(pods: Seen<Pod>, patience: Duration) -> Self {
        let sandbox = Sandbox::new();
        let (sender, pods) = watch::channel(pods);
        let attacher = Attacher {
            ovs: sandbox.ovs(),
            links: Links::here().unwrap(),
            pods,
            subnets: watch::channel(Seen::default()).1,
            mtu: watch::channel(Some(Mtu { pods: 1400, most: 1442 })).1,
            patience,
            metrics: Metrics::register(&prometheus::Registry::new(), "n1").unwrap(),
            making: Arc::default(),
        };
        Self { sandbox, pods: sender, attacher }
    }
}

/// The address of a pod.
pub fn net(n: u8) -> Placement {
    Placement {
        switch: "ovn-default".to_owned(),
        ips: format!("10.16.0.{n},fd00:16::{n}").parse().unwrap(),
        mac: format!("0a:00:00:00:00:{n:02x}").parse().unwrap(),
        cidrs: "10.16.0.0/16,fd00:16::/64".parse().unwrap(),
        gateway: "10.16.0.1,fd00:16::1".parse().unwrap(),
        complete: true,
    }
}

/// Pods with these addresses, or none yet.
pub fn pods(nets: impl IntoIterator<Item = (u8, Option<Placement>)>) -> Seen<Pod> {
    let objects = nets
        .into_iter()
        .map(|(n, net)| (format!("pod-{n}.ns"), Pod { uid: format!("uid-{n}"), config_hash: None, net: Ok(net) }));
    Seen { synced: true, objects: objects.collect() }
}

/// Pods that have their addresses.
pub fn addressed(all: impl IntoIterator<Item = u8>) -> Seen<Pod> {
    pods(all.into_iter().map(|n| (n, Some(net(n)))))
}

/// What the runtime asks for a pod.
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

/// The host ends that there are.
pub fn links() -> Vec<String> {
    run("ip", &["-br", "link"])
        .lines()
        .filter_map(|l| l.split('@').next())
        .filter(|n| n.ends_with("_h"))
        .map(str::to_owned)
        .collect()
}
