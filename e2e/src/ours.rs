//! Our two controllers as tests know them, whoever runs them: on the first two nodes, in the nodes' own network.

use anyhow::{Context, Result};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::by_hand;
use crate::layout::{Node, state};

/// The nodes that they run on.
pub const NODES: [Node; 2] = [Node::ONE, Node::TWO];

/// What they are called, in the order of [`NODES`]. So are their units where there are any, and their names in the Lease.
pub fn controllers() -> [String; 2] {
    NODES.map(|node| by_hand::name(node, by_hand::CONTROLLER))
}

/// The network namespace that a replica runs in, and the address at which it answers there.
pub fn controller_host(replica: usize) -> (String, String) {
    let node = NODES[replica];
    (node.netns(), node.ip4())
}

/// The place of a replica among [`controllers`].
pub fn place(name: &str) -> Result<usize> {
    controllers().iter().position(|other| other == name).with_context(|| format!("no controller is {name}"))
}

/// The leader's name, and what its `/metrics` say.
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

/// Status and body of what a controller's endpoint answers.
pub async fn get(address: &str, path: &str) -> Result<(u16, String)> {
    let mut stream = TcpStream::connect((address, 10660)).await?;
    stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: lab\r\nConnection: close\r\n\r\n").as_bytes()).await?;
    let mut text = String::new();
    stream.read_to_string(&mut text).await?;
    let (head, body) = text.split_once("\r\n\r\n").context("no answer of HTTP")?;
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).context("no status")?;
    Ok((status, body.to_owned()))
}

/// A metric without labels.
pub fn value(metrics: &str, name: &str) -> Option<f64> {
    metrics.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.trim().parse().ok())
}
