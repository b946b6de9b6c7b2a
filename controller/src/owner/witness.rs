//! Checks with the API server that pods are gone before a new leader frees their addresses.
//!
//! A new leader frees the address of a port whose pod it does not know. Its watches may be behind, for example after
//! the API server has lost its etcd; running pods would then lose their addresses. So it reads those pods from the API
//! server with consistent reads and leads only if they are gone. A replica that already leads needs no check: its
//! watches report deletions, and a late event only frees an address late.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use api::ExternalHost;
use futures::{StreamExt, stream};
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::api::ListParams;
use kube::{Api, Client};
use ovn::TableId;
use ovsdb::Replica;
use tokio::time::timeout;

use crate::cluster::Cluster;

/// The number of concurrent reads.
const AT_ONCE: usize = 16;
/// If more objects than this must be read, all objects of the kind are listed instead.
const ONE_BY_ONE: usize = 256;
/// The page size of a list.
const PAGE: u32 = 500;
/// How long a request may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// Reads from the API server. Without a client, as in unit tests, no object exists.
#[derive(Clone)]
pub struct Witness(Option<Client>);

/// The pods and nodes that have a recorded address but are unknown to the watches.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Missing {
    /// By port name.
    pods: BTreeSet<Arc<str>>,
    /// Nodes and external hosts, by name.
    nodes: BTreeSet<Arc<str>>,
}

/// Finds these pods and nodes in the northbound database and among the IP objects.
pub(super) fn holders_without_object(cluster: &Cluster, replica: &Replica) -> Missing {
    let mut missing = Missing::default();
    let rows = replica.rows(TableId::LogicalSwitchPort.name()).map(|(_, row)| row).filter(|row| ovn::ours(row));
    for row in rows {
        let Some(port) = row.get("name").and_then(|name| name.strs().next()) else { continue };
        let ids = row.get("external_ids");
        let about = |key: &str| ids.and_then(|ids| ids.get(key));
        if about("pod").is_some() {
            missing.pod(cluster, port);
        } else if let Some(node) = about("node").filter(|node| cluster.machine(node).is_none()) {
            missing.nodes.insert(node.into());
        }
    }
    for ip in cluster.ips.values() {
        let node = api::node_of_port(&ip.name).filter(|_| ip.spec.namespace.is_empty());
        match node {
            Some(node) if cluster.machine(node).is_none() => drop(missing.nodes.insert(node.into())),
            None if *ip.name == *api::pod_port(&ip.spec.pod_name, &ip.spec.namespace) => missing.pod(cluster, &ip.name),
            _ => {}
        }
    }
    missing
}

impl Missing {
    fn pod(&mut self, cluster: &Cluster, port: &str) {
        if !cluster.pods.contains_key(port) {
            self.pods.insert(port.into());
        }
    }
}

impl Witness {
    /// A witness that reads from this API server.
    pub fn new(client: Client) -> Self {
        Self(Some(client))
    }

    /// A witness to which no object exists.
    #[cfg(test)]
    pub fn of_nothing() -> Self {
        Self(None)
    }

    /// Checks that none of the objects exists. The error names one that does, or why the check failed.
    pub(super) async fn confirm_gone(&self, missing: &Missing) -> Result<(), String> {
        let Some(client) = &self.0 else { return Ok(()) };
        let unknown = |error: kube::Error| format!("the API server cannot confirm that pods are gone: {error}");
        let behind = |object: String| format!("its watches are behind the API server: {object} exists");
        let pods = if missing.pods.len() > ONE_BY_ONE {
            listed(client, &missing.pods).await
        } else {
            read(client, &missing.pods).await
        };
        if let Some(pod) = pods.map_err(unknown)? {
            return Err(behind(format!("pod {pod}")));
        }
        for node in &missing.nodes {
            match within(is_external(client, node)).await.map_err(unknown)? {
                Some(false) => return Err(behind(format!("node {node}"))),
                Some(true) => return Err(behind(format!("external host {node}"))),
                None => {}
            }
        }
        Ok(())
    }
}

/// Limits a request, so that one of several API servers that hangs does not keep a replica from leading.
async fn within<T>(request: impl Future<Output = kube::Result<T>>) -> kube::Result<T> {
    timeout(PATIENCE, request).await.unwrap_or_else(|elapsed| Err(kube::Error::Service(elapsed.into())))
}

/// Returns whether the host of this name is an external host and no Node. `None`: it is neither.
pub async fn is_external(client: &Client, host: &str) -> kube::Result<Option<bool>> {
    if Api::<Node>::all(client.clone()).get_metadata_opt(host).await?.is_some() {
        return Ok(Some(false));
    }
    Ok(Api::<ExternalHost>::all(client.clone()).get_metadata_opt(host).await?.map(|_| true))
}

/// The first of these pods that exists and needs a network, read one by one.
async fn read(client: &Client, ports: &BTreeSet<Arc<str>>) -> kube::Result<Option<String>> {
    let reads: Vec<_> = ports.iter().map(|port| one(client.clone(), Arc::clone(port))).collect();
    let mut answers = stream::iter(reads).buffer_unordered(AT_ONCE);
    while let Some(answer) = answers.next().await {
        if let Some(pod) = answer? {
            return Ok(Some(pod));
        }
    }
    Ok(None)
}

async fn one(client: Client, port: Arc<str>) -> kube::Result<Option<String>> {
    let Some((name, namespace)) = api::pod_of_port(&port) else { return Ok(None) };
    let pod = within(Api::<Pod>::namespaced(client, namespace).get_opt(name)).await?;
    Ok(pod.filter(holds_address).map(|_| format!("{namespace}/{name}")))
}

/// The same, by listing all pods page by page.
async fn listed(client: &Client, ports: &BTreeSet<Arc<str>>) -> kube::Result<Option<String>> {
    let api = Api::<Pod>::all(client.clone());
    let mut params = ListParams::default().limit(PAGE);
    loop {
        let page = within(api.list(&params)).await?;
        for pod in page.items.iter().filter(|pod| holds_address(pod)) {
            let (name, namespace) = (pod.metadata.name.as_deref(), pod.metadata.namespace.as_deref());
            let (name, namespace) = (name.unwrap_or_default(), namespace.unwrap_or_default());
            if ports.contains(api::pod_port(name, namespace).as_str()) {
                return Ok(Some(format!("{namespace}/{name}")));
            }
        }
        match page.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => params = params.continue_token(&token),
            None => return Ok(None),
        }
    }
}

/// Whether the watches keep this pod: it is bound to a node and not on the host network.
fn holds_address(pod: &Pod) -> bool {
    let spec = pod.spec.as_ref();
    spec.is_some_and(|spec| spec.node_name.is_some() && !spec.host_network.unwrap_or_default())
}
