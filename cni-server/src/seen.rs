//! What this node sees of the cluster, from watches: its own pods, its own Node, the IP objects of both, and which subnets
//! are in force.
//!
//! Addresses come from IP objects and networks from the status of Subnets, which only the controller writes; the agent
//! never reads specs or annotations that users write for them.
//!
//! For each kind, one task owns a map and publishes it through a `watch` channel. Readers wait for what they need. A reader
//! is woken only when something that the agent reads has changed. When a watch is interrupted, the next list replaces the
//! map, so nothing that is gone stays. An object that is not readable does not affect other objects.

pub mod in_force;
mod kept;
mod lease;
mod subnets;

use std::net::IpAddr;

use api::annotations::{self, LimitWant, Limits, NODE_NAME_LABEL, Netem, NodeWant, PodRoute};
use api::{EffectiveSubnet, ExternalHost, FieldError, Ip, NodeView, PodView};
use kit::kubernetes::named;
use kube::core::DeserializeGuard;
use kube::runtime::watcher;
use kube::{Api, Client, ResourceExt};
use tokio::sync::watch;

pub use kit::kubernetes::{Seen, keep};
pub use lease::Lease;

use crate::ovs::Ovs;

/// A pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pod {
    /// The uid in the API server.
    pub uid: String,
    /// The uid that kubelet gives a static pod. The runtime knows the pod by this one.
    pub config_hash: Option<String>,
    /// Its annotation `mirror`.
    pub mirror: Result<Option<bool>, FieldError>,
    /// What its annotations say happens to packets on their way into it.
    pub netem: Result<Option<Netem>, FieldError>,
    /// The limits that its annotations ask for, into the pod and out of it.
    pub limits: [LimitWant; 2],
    /// The routes that its annotation asks for.
    pub routes: Result<Vec<PodRoute>, FieldError>,
    /// Whether the pod is being deleted.
    pub going: bool,
}

impl Pod {
    /// Returns the pod with this name that the runtime means, if it exists. Without an uid, the name is enough.
    pub fn find<'a>(pods: &'a Seen<Self>, name: &str, uid: Option<&str>) -> Option<&'a Self> {
        pods.objects.get(name).filter(|pod| uid.is_none_or(|uid| pod.has_uid(uid)))
    }

    /// Returns whether the runtime means this pod, and not another one with the same name.
    pub fn has_uid(&self, uid: &str) -> bool {
        self.uid == uid || self.config_hash.as_deref() == Some(uid)
    }
}

impl From<&PodView> for Pod {
    fn from(view: &PodView) -> Self {
        let limits = Limits::of(view.object(), view.annotations());
        Self {
            limits: [limits.ingress, limits.egress],
            uid: view.uid().to_owned(),
            config_hash: view.annotation("kubernetes.io/config.hash").map(str::to_owned),
            mirror: annotations::mirror(view.object(), view.annotations()),
            netem: Netem::read(view.object(), view.annotations()),
            routes: PodRoute::read(view.object(), view.annotations()),
            going: view.is_terminating(),
        }
    }
}

/// The node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// The uid of the Node.
    pub uid: String,
    /// Its addresses of type `InternalIP`.
    pub internal_ips: Vec<IpAddr>,
    /// What its annotations say.
    pub want: NodeWant,
}

impl From<&NodeView> for Node {
    fn from(view: &NodeView) -> Self {
        Self { uid: view.uid().to_owned(), internal_ips: view.internal_ips().collect(), want: NodeWant::parse(view) }
    }
}

impl From<&ExternalHost> for Node {
    fn from(host: &ExternalHost) -> Self {
        Self {
            uid: host.metadata.uid.clone().unwrap_or_default(),
            internal_ips: host.addresses().unwrap_or_default().into_iter().collect(),
            want: NodeWant::default(),
        }
    }
}

/// The IP objects, by name. An error means that an object is not readable.
pub type Leases = Seen<Result<Lease, FieldError>>;

/// All that the node sees.
#[derive(Clone, Debug)]
pub struct Cluster {
    /// The pods on this node, by `<pod>.<namespace>`.
    pub pods: watch::Receiver<Seen<Pod>>,
    /// This node alone, by name.
    pub node: watch::Receiver<Seen<Node>>,
    /// The IP objects of this node and of the pods on it.
    pub leases: watch::Receiver<Leases>,
    /// The subnets in force, by name.
    pub subnets: watch::Receiver<Seen<EffectiveSubnet>>,
}

impl Cluster {
    /// Starts the watches for the node with this name. Subnets that were deleted by force are recorded in Open vSwitch.
    pub fn watch(client: &Client, node: &str, ovs: Ovs) -> Self {
        let pods = watcher::Config::default().fields(&format!("spec.nodeName={node}"));
        let own = named(node);
        Self {
            pods: keep("pods", Api::all(client.clone()), pods, |pod: PodView| {
                pod.wants_network().then(|| (pod.port_name(), Pod::from(&pod)))
            }),
            node: keep("node", Api::all(client.clone()), own, |node: NodeView| {
                Some((node.name().to_owned(), Node::from(&node)))
            }),
            leases: leases(client, node),
            subnets: subnets::keep(client.clone(), ovs),
        }
    }

    /// Starts the watches for the external host with this name. It has no pods.
    pub fn watch_for_external_host(client: &Client, host: &str, ovs: Ovs) -> Self {
        let own = named(host);
        let no_pods = Seen { synced: true, ..Seen::default() };
        Self {
            pods: watch::channel(no_pods).1,
            node: keep("externalhosts", Api::all(client.clone()), own, |host: DeserializeGuard<ExternalHost>| {
                Some((host.name_any(), Node::from(&host.0.ok()?)))
            }),
            leases: leases(client, host),
            subnets: subnets::keep(client.clone(), ovs),
        }
    }

    /// Waits until everything has been listed once. Calls `waits_for` with the kind of objects that it waits for.
    pub async fn synced(&mut self, waits_for: impl Fn(&str)) {
        // The senders live as long as the process.
        waits_for("pods");
        let _ = self.pods.wait_for(|seen| seen.synced).await;
        waits_for("nodes or externalhosts");
        let _ = self.node.wait_for(|seen| seen.synced).await;
        waits_for("ips");
        let _ = self.leases.wait_for(|seen| seen.synced).await;
        waits_for("subnets");
        let _ = self.subnets.wait_for(|seen| seen.synced).await;
    }
}

/// The IP objects of a node or of an external host.
fn leases(client: &Client, node: &str) -> watch::Receiver<Leases> {
    let config = watcher::Config::default().labels(&format!("{NODE_NAME_LABEL}={}", api::label_value(node)));
    keep("ips", Api::all(client.clone()), config, |ip: DeserializeGuard<Ip>| Some((ip.name_any(), Lease::read(&ip))))
}

/// Publishes a value. Wakes the readers only if it is another one.
pub(crate) fn publish<T: PartialEq>(sender: &watch::Sender<T>, now: T) {
    sender.send_if_modified(|before| {
        let changed = *before != now;
        *before = now;
        changed
    });
}
