//! The two controllers as tests see them: in pods or units, on the first two nodes, in the nodes' network namespaces.

use anyhow::{Context, Result};
use k8s_openapi::api::apps::v1::Deployment;
use kube::Api;
use kube::api::{Patch, PatchParams};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::by_hand;
use crate::layout::{Node, state};

/// The nodes of the controllers.
pub const NODES: [Node; 2] = [Node::ONE, Node::TWO];

/// The names of the controllers, in the order of [`NODES`]. Units and Lease holders have the same names.
pub fn controllers() -> [String; 2] {
    NODES.map(|node| by_hand::name(node, by_hand::CONTROLLER))
}

/// Returns the network namespace of a replica and the address of its endpoint.
pub fn controller_host(replica: usize) -> (String, String) {
    let node = NODES[replica];
    (node.netns(), node.ip4())
}

/// Returns the number of a replica in [`controllers`].
pub fn place(name: &str) -> Result<usize> {
    controllers().iter().position(|other| other == name).with_context(|| format!("no controller is {name}"))
}

/// Returns the name of the leader and its `/metrics`.
pub async fn leader() -> Result<(String, String)> {
    for (replica, name) in controllers().into_iter().enumerate() {
        let (_, address) = controller_host(replica);
        let Ok((_, metrics)) = get(&address, "/metrics").await else { continue };
        if value(&metrics, "kube_ovn_controller_leader") == Some(1.0) {
            return Ok((name, metrics));
        }
    }
    anyhow::bail!("no controller leads; see {}", state("log").display())
}

/// Returns the status and the body of a controller's endpoint.
pub async fn get(address: &str, path: &str) -> Result<(u16, String)> {
    get_at(address, 10660, path).await
}

/// Like [`get`], for the endpoint of any of our programs.
pub async fn get_at(address: &str, port: u16, path: &str) -> Result<(u16, String)> {
    let mut stream = TcpStream::connect((address, port)).await?;
    stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: lab\r\nConnection: close\r\n\r\n").as_bytes()).await?;
    let mut text = String::new();
    stream.read_to_string(&mut text).await?;
    let (head, body) = text.split_once("\r\n\r\n").context("no answer of HTTP")?;
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).context("no status")?;
    Ok((status, body.to_owned()))
}

/// Returns the value of a metric without labels.
pub fn value(metrics: &str, name: &str) -> Option<f64> {
    metrics.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.trim().parse().ok())
}

/// Sets the number of controllers of an installed lab, and waits until there are so many that are ready and no more.
pub async fn scale(cluster: &crate::Cluster, replicas: i32) -> Result<()> {
    let deployments: Api<Deployment> = Api::namespaced(cluster.client(), "kube-system");
    let patch = json!({ "spec": { "replicas": replicas } });
    deployments.patch_scale(by_hand::CONTROLLER, &PatchParams::default(), &Patch::Merge(patch)).await?;
    let settled = |deployment: &Deployment| {
        let status = deployment.status.clone().unwrap_or_default();
        let (all, ready) = (status.replicas.unwrap_or_default(), status.ready_replicas.unwrap_or_default());
        anyhow::ensure!(all == replicas && ready == replicas, "{ready} of {all} controllers are ready");
        Ok(())
    };
    cluster.until(deployments, by_hand::CONTROLLER, settled).await?;
    if replicas == 0 {
        // The Deployment forgets a pod as soon as its deletion begins. A container that the runtime does not stop in time is
        // killed after 30 s.
        let of = ["--namespace=kube-system", "--selector=app=kube-ovn-controller"];
        let wait = ["wait", "pod", "--for=delete", "--timeout=60s"];
        crate::kube::kubectl(&[&wait[..], &of[..]].concat()).await?;
    }
    Ok(())
}

/// Stops the controllers of an installed lab, runs `meanwhile`, and starts them again even if that failed.
pub async fn away<T>(cluster: &crate::Cluster, meanwhile: impl Future<Output = Result<T>>) -> Result<T> {
    let outcome = async {
        scale(cluster, 0).await?;
        meanwhile.await
    };
    let outcome = outcome.await;
    scale(cluster, 2).await?;
    outcome
}
