//! The OVN central as tests see it: the databases and northd on the first node, in a pod or a unit.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::layout::Node;
use crate::systemd::{self, systemctl};
use crate::{by_hand, kube, process, rootfs};

/// The node of the OVN central.
pub const NODE: Node = Node::ONE;

/// Stops the OVN central, runs `meanwhile`, and starts it again even if that failed. On return, the databases work.
pub async fn away(meanwhile: impl Future<Output = Result<()>>) -> Result<()> {
    if by_hand::is_up() {
        systemctl(NODE, &["stop", by_hand::CENTRAL]).await?;
        let outcome = meanwhile.await;
        systemctl(NODE, &["start", by_hand::CENTRAL]).await?;
        let check = async || process::run(rootfs::on(NODE, "ovn-central", &["check", "ready"])?).await;
        systemd::ready(NODE, by_hand::CENTRAL, Duration::from_mins(1), check).await?;
        return outcome;
    }
    let kubectl = async |words: &[&str]| kube::kubectl(&[&["--namespace=kube-system"], words].concat()).await;
    // Wait for the pod, because the status of the Deployment can still describe the old pod.
    let pod = async |is: &str| kubectl(&["wait", "pod", "--selector=app=ovn-central", is, "--timeout=60s"]).await;
    kubectl(&["scale", "deployment/ovn-central", "--replicas=0"]).await?;
    pod("--for=delete").await?;
    let outcome = meanwhile.await;
    kubectl(&["scale", "deployment/ovn-central", "--replicas=1"]).await?;
    pod("--for=create").await?;
    pod("--for=condition=Ready").await?;
    outcome
}

/// The file of the northbound database: a log of all committed transactions.
pub fn northbound_file() -> PathBuf {
    NODE.dir().join("root/etc/origin/ovn/ovnnb_db.db")
}

/// The unix socket of the northbound database, as this process reaches it.
pub fn northbound_socket() -> Result<PathBuf> {
    let pid = NODE.pid().context("the node with the databases does not run")?;
    Ok(PathBuf::from(format!("/proc/{pid}/root/run/ovn/ovnnb_db.sock")))
}

/// Restarts the databases and runs `meanwhile` in between. The northbound database keeps its file or starts empty.
pub async fn restart_northbound(keep: bool, meanwhile: impl Future<Output = Result<()>>) -> Result<()> {
    let outcome = async {
        let outcome = meanwhile.await;
        if !keep {
            let file = northbound_file();
            fs::remove_file(&file).with_context(|| file.display().to_string())?;
        }
        outcome
    };
    Box::pin(away(outcome)).await
}

/// Returns an OVN command that finds the sockets of both databases.
pub fn command(program: &str, arguments: &[&str]) -> Result<Command> {
    rootfs::on(NODE, program, arguments)
}

/// Runs `ovn-nbctl`. Returns its output.
pub async fn nbctl(arguments: &[&str]) -> Result<String> {
    process::run(command("ovn-nbctl", arguments)?).await
}

/// Runs `ovn-sbctl`. Returns its output.
pub async fn sbctl(arguments: &[&str]) -> Result<String> {
    process::run(command("ovn-sbctl", arguments)?).await
}
