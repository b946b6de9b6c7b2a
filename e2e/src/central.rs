//! The OVN central as tests see it: the databases and northd on the first node, in a pod or a unit. Tests of several members
//! label more nodes.

pub mod members;
pub mod writes;

use std::fs;
use std::os::unix::net::UnixStream;
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
    let pod = async |is: &str| {
        let words = ["wait", "pod", "--namespace=kube-system", "--selector=app=ovn-central", is, "--timeout=60s"];
        kube::kubectl(&words).await
    };
    // No node has this label.
    place(r#"{"away": "true"}"#).await?;
    pod("--for=delete").await?;
    let outcome = meanwhile.await;
    place(r#"{"away": null}"#).await?;
    pod("--for=create").await?;
    pod("--for=condition=Ready").await?;
    outcome
}

/// Changes the labels of the nodes on which pods of `ovn-central` may run. The members are still those with the documented label.
async fn place(labels: &str) -> Result<()> {
    let patch = format!(r#"{{"spec": {{"template": {{"spec": {{"nodeSelector": {labels}}}}}}}}}"#);
    let object = ["--namespace=kube-system", "daemonset/ovn-central", "--type=merge", "--patch", &patch];
    kube::kubectl(&[&["patch"], &object[..]].concat()).await.map(drop)
}

/// The directory of the databases of a node.
pub fn directory(node: Node) -> PathBuf {
    node.dir().join("root/etc/origin/ovn")
}

/// The file of the northbound database: a log of all committed transactions.
pub fn northbound_file() -> PathBuf {
    directory(NODE).join("ovnnb_db.db")
}

/// The unix socket of the northbound database, as this process reaches it.
pub fn northbound_socket() -> Result<PathBuf> {
    socket(NODE).context("the node with the databases does not run")
}

/// The unix socket of the northbound database of a node, as this process reaches it. `None` if the node does not run.
pub fn socket(node: Node) -> Option<PathBuf> {
    Some(PathBuf::from(format!("/proc/{}/root{}/ovnnb_db.sock", node.pid()?, run_directory())))
}

/// The directory of the sockets on a node.
pub fn run_directory() -> &'static str {
    if by_hand::is_up() { "/run/ovn" } else { "/run/ovn-central" }
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

/// Returns an OVN command on the first node whose server of the northbound database answers. It finds the sockets of both
/// databases there, and need not find the leaders.
pub fn command(program: &str, arguments: &[&str]) -> Result<Command> {
    let answers = |node: &Node| socket(*node).is_some_and(|socket| UnixStream::connect(socket).is_ok());
    let node = Node::running().into_iter().find(answers).unwrap_or(NODE);
    let environment = format!("OVN_RUNDIR={}", run_directory());
    rootfs::on(node, "env", &[&[environment.as_str(), program, "--no-leader-only"], arguments].concat())
}

/// Runs `ovn-nbctl`. Returns its output.
pub async fn nbctl(arguments: &[&str]) -> Result<String> {
    process::run(command("ovn-nbctl", arguments)?).await
}

/// Runs `ovn-sbctl`. Returns its output.
pub async fn sbctl(arguments: &[&str]) -> Result<String> {
    process::run(command("ovn-sbctl", arguments)?).await
}
