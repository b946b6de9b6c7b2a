//! The network as a user installs it: our image on every node, a label on the node for ovn-central, and what the chart gives,
//! applied by kubectl. OVN, Open vSwitch and our programs then run in pods; `up` has started none of them.

use std::fs;
use std::io;
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use futures::future::try_join_all;

use crate::kube::kubectl;
use crate::layout::{Node, SERVICES, sibling, state};
use crate::process::{self, sh};

/// Checks that there is an image.
pub fn present() -> Result<()> {
    let image = image()?;
    ensure!(image.exists(), "{} is missing: run make image", image.display());
    Ok(())
}

/// The archive that `images/build` has written.
fn image() -> io::Result<PathBuf> {
    sibling(concat!("../image/kube-ovn-rs-v", env!("CARGO_PKG_VERSION"), ".tar"))
}

/// What a node has that Open vSwitch does not run on yet: an address on the interface for tunnels, and our image.
pub async fn prepare(node: Node) -> Result<()> {
    address(node).await?;
    let image = image()?.display().to_string();
    process::run(process::on(node, "ctr", &["--namespace", "k8s.io", "images", "import", &image])?).await.map(drop)
}

/// Gives the interface for tunnels its address.
pub async fn address(node: Node) -> Result<()> {
    sh(&format!("ip -n {} address add {}/24 dev eth1", node.netns(), node.tunnel_ip())).await.map(drop)
}

/// Labels the first node and applies the chart. The nodes must be known to the API server; they get their network some
/// seconds after this returns.
pub async fn up(nodes: &[Node]) -> Result<()> {
    let manifest = state("kube-ovn.yaml");
    let values = values();
    let values: Vec<_> = values.iter().map(String::as_str).collect();
    fs::write(&manifest, yamls::render(&values)?).with_context(|| manifest.display().to_string())?;
    let first = nodes.first().context("a lab has a node")?.name();
    kubectl(&["label", "node", &first, "kube-ovn/role=master"]).await?;
    kubectl(&["apply", "--server-side", "--filename", &manifest.display().to_string()]).await.map(drop)
}

/// The lab's settings, where they are not the chart's own.
fn values() -> Vec<String> {
    let (services4, services6) = SERVICES.split_once(',').unwrap_or((SERVICES, ""));
    let cidr = |of: &str, family: &str, cidr: &str| format!("cidrs.{of}.{family}={cidr}");
    vec![
        cidr("pods", "ipv6", "fd00:10:16::/112"),
        cidr("join", "ipv6", "fd00:100:64::/112"),
        cidr("services", "ipv4", services4),
        cidr("services", "ipv6", services6),
        "tunnel.iface=eth1".to_owned(),
    ]
}

/// Waits until every workload of the manifest is as its object wants it.
pub async fn settled() -> Result<()> {
    let workloads = ["deployment/ovn-central", "daemonset/kube-ovn-cni", "deployment/kube-ovn-controller"];
    try_join_all(workloads.map(|workload| async move {
        kubectl(&["--namespace=kube-system", "rollout", "status", workload, "--timeout=60s"]).await
    }))
    .await
    .map(drop)
}
