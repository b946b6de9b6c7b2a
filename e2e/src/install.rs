//! Installs the network as a user does: imports our image on every node and runs the commands of `docs/install.md`.
//! OVN, Open vSwitch and our programs run in pods. `up` starts none of them.

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
/// The beginnings of its commands.
const LABEL: &str = "kubectl label node NAME ";
const MANIFEST: &str = "kubectl apply ";
const HELM: &str = "helm install ";

/// The first two methods of installation on the page.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Way {
    /// The unchanged manifest: IPv4 only, and tunnels on the interface with the node's address. The lab's userspace
    /// datapath has no tunnels there, so pods reach only the pods of their node, and `ovs-ovn` is not ready and reports
    /// the reason.
    Manifest,
    /// The Helm chart, with the values that the lab needs.
    Helm,
}

/// Checks that the image exists.
pub fn present() -> Result<()> {
    let image = image()?;
    ensure!(image.exists(), "{} is missing: run make image", image.display());
    Ok(())
}

/// Returns the archive that `images/build` writes.
fn image() -> io::Result<PathBuf> {
    sibling(concat!("../image/kube-ovn-rs-v", env!("CARGO_PKG_VERSION"), ".tar"))
}

/// Prepares a node: adds an address to the interface for tunnels and imports our image.
pub async fn prepare(node: Node) -> Result<()> {
    address(node).await?;
    let image = image()?.display().to_string();
    process::run(process::on(node, "ctr", &["--namespace", "k8s.io", "images", "import", &image])?).await.map(drop)
}

/// Adds the address of the interface for tunnels.
pub async fn address(node: Node) -> Result<()> {
    sh(&format!("ip -n {} address add {}/24 dev eth1", node.netns(), node.tunnel_ip())).await.map(drop)
}

/// Runs the commands of the page for this method. The API server must know the nodes. They have a network some seconds
/// after this returns.
pub async fn up(nodes: &[Node], way: Way) -> Result<()> {
    let first = nodes.first().context("a lab has a node")?.name();
    operator(&command(LABEL)?.replace("NAME", &first)).await?;
    match way {
        Way::Manifest => operator(command(MANIFEST)?).await,
        Way::Helm => operator(&format!("{} {}", command(HELM)?, values().join(" "))).await,
    }
}

/// Returns the first command of the page that begins with `beginning`.
pub fn command(beginning: &str) -> Result<&'static str> {
    let line = PAGE.lines().find(|line| line.starts_with(beginning));
    line.with_context(|| format!("docs/install.md has no command that begins with {beginning:?}"))
}

/// Runs a command of the page as an operator: in the project's directory, with `kubectl`, `helm` and a kubeconfig.
async fn operator(line: &str) -> Result<()> {
    eprintln!("lab: $ {line}");
    process::run(operator::shell(&operator::project(), line)).await.map(drop)
}

/// Returns the values of the lab that differ from the chart's defaults.
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

/// Waits until every workload of the manifest is rolled out.
pub async fn settled() -> Result<()> {
    let workloads = ["daemonset/ovn-central", "daemonset/kube-ovn-cni", "deployment/kube-ovn-controller"];
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
