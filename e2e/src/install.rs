//! The network as a user installs it: our image on every node, and then the commands of `docs/install.md`. OVN, Open vSwitch and
//! our programs then run in pods; `up` has started none of them.

use std::io;
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use futures::future::try_join_all;

use crate::kube::kubectl;
use crate::layout::{Node, SERVICES, sibling};
use crate::operator;
use crate::process::{self, sh};

/// The page.
const PAGE: &str = include_str!("../../docs/install.md");
/// How its commands begin.
const LABEL: &str = "kubectl label node NAME ";
const MANIFEST: &str = "kubectl apply ";
const HELM: &str = "helm install ";

/// The ways that the page tells of first.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Way {
    /// The manifest as it is: one family, and the tunnels wherever the node's address is. The userspace datapath of the lab has no
    /// tunnels there, so pods reach only those of their own node, and `ovs-ovn` is not ready and says why.
    Manifest,
    /// The chart, with the values that the lab needs.
    Helm,
}

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

/// Does what the page says of installing in that way. The nodes must be known to the API server; they get their network some
/// seconds after this returns.
pub async fn up(nodes: &[Node], way: Way) -> Result<()> {
    let first = nodes.first().context("a lab has a node")?.name();
    operator(&command(LABEL)?.replace("NAME", &first)).await?;
    match way {
        Way::Manifest => operator(command(MANIFEST)?).await,
        Way::Helm => operator(&format!("{} {}", command(HELM)?, values().join(" "))).await,
    }
}

/// The first line of the page's commands that begins so.
pub fn command(beginning: &str) -> Result<&'static str> {
    let line = PAGE.lines().find(|line| line.starts_with(beginning));
    line.with_context(|| format!("docs/install.md has no command that begins with {beginning:?}"))
}

/// Runs a line of the page as an operator does: in the project's folder, with `kubectl`, `helm` and a kubeconfig.
async fn operator(line: &str) -> Result<()> {
    eprintln!("lab: $ {line}");
    process::run(operator::shell(&operator::project(), line)).await.map(drop)
}

/// The lab's settings, where they are not the chart's own.
fn values() -> Vec<String> {
    let (services4, services6) = SERVICES.split_once(',').unwrap_or((SERVICES, ""));
    let cidr = |of: &str, family: &str, cidr: &str| format!("--set cidrs.{of}.{family}={cidr}");
    vec![
        cidr("pods", "ipv6", "fd00:10:16::/112"),
        cidr("join", "ipv6", "fd00:100:64::/112"),
        cidr("services", "ipv4", services4),
        cidr("services", "ipv6", services6),
        "--set tunnel.iface=eth1".to_owned(),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_has_the_commands() {
        assert_eq!(command(LABEL).unwrap(), "kubectl label node NAME kube-ovn/role=master");
        assert_eq!(command(MANIFEST).unwrap(), "kubectl apply -f yamls/kube-ovn.yaml");
        assert!(command(HELM).unwrap().contains("yamls/chart"));
        assert!(command("helm uninstall kube-ovn-please").is_err());
    }
}
