//! OVN's centre as tests know it, whoever runs it: the databases and northd on the first node, in a pod or by a unit.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::layout::Node;
use crate::systemd::{self, systemctl};
use crate::{by_hand, kube, process, rootfs};

/// Where it is.
pub const NODE: Node = Node::ONE;

/// Where the databases listen.
pub fn address() -> String {
    NODE.ip4()
}

/// Has it go, and come back after `meanwhile`, whatever came of it. It serves when this returns.
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
    // By its pod: the Deployment's status may still tell of the one that is gone.
    let pod = async |is: &str| kubectl(&["wait", "pod", "--selector=app=ovn-central", is, "--timeout=60s"]).await;
    kubectl(&["scale", "deployment/ovn-central", "--replicas=0"]).await?;
    pod("--for=delete").await?;
    let outcome = meanwhile.await;
    kubectl(&["scale", "deployment/ovn-central", "--replicas=1"]).await?;
    pod("--for=create").await?;
    pod("--for=condition=Ready").await?;
    outcome
}

/// The northbound database's file: a log of all transactions that it has committed.
pub fn northbound_file() -> PathBuf {
    NODE.dir().join("root/etc/origin/ovn/ovnnb_db.db")
}

/// Ends the databases, and starts them again after `meanwhile`: the northbound one on its file, or on an empty one.
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

/// A command of OVN's that finds both databases' sockets.
pub fn command(program: &str, arguments: &[&str]) -> Result<Command> {
    rootfs::on(NODE, program, arguments)
}

/// `ovn-nbctl` with `arguments`; what it printed.
pub async fn nbctl(arguments: &[&str]) -> Result<String> {
    process::run(command("ovn-nbctl", arguments)?).await
}

/// `ovn-sbctl` with `arguments`; what it printed.
pub async fn sbctl(arguments: &[&str]) -> Result<String> {
    process::run(command("ovn-sbctl", arguments)?).await
}
