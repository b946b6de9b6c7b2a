//! E1: `kube-ovn-cni check node` says from a node what works, and names what a firewall drops.

use anyhow::{Context, Result, ensure};
use e2e::{Cluster, kube, net};
use std::process::Command;

/// Returns what the check prints, and whether it succeeds.
async fn check(node: &str) -> Result<(bool, String)> {
    let pod = kube::kubectl(&[
        "--namespace=kube-system",
        "get",
        "pods",
        "--selector=app=kube-ovn-cni",
        &format!("--field-selector=spec.nodeName={node}"),
        "--output=jsonpath={.items[0].metadata.name}",
    ])
    .await?;
    let mut command = Command::new(kube::program("kubectl"));
    command.env("KUBECONFIG", e2e::layout::kubeconfig());
    command.args(["--namespace=kube-system", "exec", pod.trim(), "--", "kube-ovn-cni", "check", "node"]);
    let output = tokio::task::spawn_blocking(move || command.output()).await??;
    let printed = String::from_utf8(output.stdout)? + &String::from_utf8_lossy(&output.stderr);
    Ok((output.status.success(), printed))
}

#[tokio::test]
async fn e1_a_check_of_a_node_says_what_works() -> Result<()> {
    Cluster::running().await?;
    for (node, other) in [("n1", "n2"), ("n2", "n1")] {
        let (works, printed) = check(node).await?;
        ensure!(works, "{node}: {printed}");
        ensure!(printed.lines().filter(|line| line.starts_with("ok  ")).count() == 14, "{printed}");
        for line in [
            "ok   agent: is ready",
            "ok   rules: in the table kube-ovn of nftables",
            "ok   mirror: mirror0 shows",
            "ok   key: ends on 20",
        ] {
            ensure!(printed.lines().any(|printed| printed.starts_with(line)), "{line}: {printed}");
        }
        ensure!(printed.contains(": takes connections with the key of this node"), "{printed}");
        ensure!(printed.contains(&format!("ok   tunnel {other}: 100.64.0.")), "{printed}");
    }
    // A firewall on the other node.
    let host = e2e::layout::Node::TWO.netns();
    let rule = |verb: &'static str| ["-w", verb, "INPUT", "-p", "tcp", "--dport", "10665", "-i", "eth0", "-j", "DROP"];
    net::on_host(&host, "iptables", &rule("-I")).await?;
    let printed = check("n1").await;
    net::on_host(&host, "iptables", &rule("-D")).await?;
    let (works, printed) = printed?;
    let line = printed.lines().find(|line| line.starts_with("FAIL")).with_context(|| printed.clone())?;
    ensure!(!works && line.starts_with("FAIL node-agent n2: no answer within 2s"), "{printed}");
    Ok(())
}
