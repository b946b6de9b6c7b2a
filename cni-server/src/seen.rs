//! What this node needs to see of the cluster, kept current by watches: its own pods, its own Node, all Subnets.
//!
//! One task per kind owns a map and publishes it through a `watch` channel; readers wait for what they need and never
//! poll. Promise: after a lost watch the map is replaced as a whole, so nothing that is gone stays; an object that does
//! not parse is kept as its error and troubles no other.

use std::collections::BTreeMap;
use std::net::IpAddr;

use api::{FieldError, NodeView, Placement, PodView, Subnet, SubnetDef};
use futures::StreamExt;
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client};
use tokio::sync::watch;

/// The objects of one kind, by key.
#[derive(Clone, Debug)]
pub struct Seen<T> {
    /// Whether the first list is in.
    pub synced: bool,
    /// Key to what we read of it.
    pub objects: BTreeMap<String, T>,
}

impl<T> Default for Seen<T> {
    fn default() -> Self {
        Self { synced: false, objects: BTreeMap::new() }
    }
}

/// What ADD needs of a pod.
#[derive(Clone, Debug)]
pub struct Pod {
    /// Its uid.
    pub uid: String,
    /// Kubelet's own uid of a static pod; the runtime says this one.
    pub config_hash: Option<String>,
    /// What it was given, if anything yet.
    pub net: Result<Option<Placement>, FieldError>,
}

impl Pod {
    /// Whether the runtime means this pod and not another one of the same name.
    pub fn has_uid(&self, uid: &str) -> bool {
        self.uid == uid || self.config_hash.as_deref() == Some(uid)
    }
}

impl From<&PodView> for Pod {
    fn from(view: &PodView) -> Self {
        Self {
            uid: view.uid().to_owned(),
            config_hash: view.annotation("kubernetes.io/config.hash").map(str::to_owned),
            net: Placement::of_pod(view),
        }
    }
}

/// What `ovn0` needs of the node.
#[derive(Clone, Debug)]
pub struct Node {
    /// Its place on the join switch, if it has one yet.
    pub net: Result<Option<Placement>, FieldError>,
    /// Its addresses as Kubernetes knows them.
    pub internal_ips: Vec<IpAddr>,
}

/// The three views.
#[derive(Clone, Debug)]
pub struct Cluster {
    /// This node's pods, by `<pod>.<namespace>`.
    pub pods: watch::Receiver<Seen<Pod>>,
    /// This node alone, by name.
    pub node: watch::Receiver<Seen<Node>>,
    /// All Subnets, by name.
    pub subnets: watch::Receiver<Seen<Result<SubnetDef, FieldError>>>,
}

impl Cluster {
    /// Starts watching for the node of this name.
    pub fn watch(client: &Client, node: &str) -> Self {
        let pods = watcher::Config::default().fields(&format!("spec.nodeName={node}"));
        let own = watcher::Config::default().fields(&format!("metadata.name={node}"));
        Self {
            pods: keep("pods", Api::all(client.clone()), pods, |pod: PodView| {
                pod.wants_network().then(|| (pod.port_name(), Pod::from(&pod)))
            }),
            node: keep("node", Api::all(client.clone()), own, |node: NodeView| {
                let state = Node { net: Placement::of_node(&node), internal_ips: node.internal_ips().collect() };
                Some((node.name().to_owned(), state))
            }),
            subnets: keep("subnets", Api::all(client.clone()), watcher::Config::default(), |subnet: Subnet| {
                Some((subnet.metadata.name.clone().unwrap_or_default(), SubnetDef::parse(&subnet)))
            }),
        }
    }

    /// Waits until all three have been listed once.
    pub async fn synced(&mut self) {
        // The senders live as long as the process.
        let _ = self.pods.wait_for(|seen| seen.synced).await;
        let _ = self.node.wait_for(|seen| seen.synced).await;
        let _ = self.subnets.wait_for(|seen| seen.synced).await;
    }
}

/// Spawns the owner of one kind.
fn keep<K, T>(
    what: &'static str,
    api: Api<K>,
    config: watcher::Config,
    read: impl Fn(K) -> Option<(String, T)> + Send + 'static,
) -> watch::Receiver<Seen<T>>
where
    K: kube::Resource + Clone + serde::de::DeserializeOwned + std::fmt::Debug + Send + 'static,
    T: Send + Sync + 'static,
{
    let (sender, receiver) = watch::channel(Seen::default());
    tokio::spawn(async move {
        let mut events = std::pin::pin!(watcher(api, config).backoff(kit::kubernetes::pause()));
        let mut listed = BTreeMap::new();
        while let Some(event) = events.next().await {
            match event {
                Ok(watcher::Event::Apply(object)) => {
                    if let Some((key, value)) = read(object) {
                        sender.send_modify(|seen| drop(seen.objects.insert(key, value)));
                    }
                }
                Ok(watcher::Event::Delete(object)) => {
                    if let Some((key, _)) = read(object) {
                        sender.send_modify(|seen| drop(seen.objects.remove(&key)));
                    }
                }
                Ok(watcher::Event::Init) => listed.clear(),
                Ok(watcher::Event::InitApply(object)) => listed.extend(read(object)),
                Ok(watcher::Event::InitDone) => {
                    let objects = std::mem::take(&mut listed);
                    sender.send_modify(|seen| *seen = Seen { synced: true, objects });
                }
                Err(error) => tracing::warn!(what, %error, "watch interrupted; going on"),
            }
        }
    });
    receiver
}
