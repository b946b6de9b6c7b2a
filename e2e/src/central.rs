//! OVN's centre, on the control plane: northbound and southbound database and northd, each one process, no raft.

use std::fs;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::net::TcpStream;

use crate::layout::{CONTROL_PLANE, Node, state};
use crate::{kube, process, rootfs};

/// What listens where: process name, database and schema, TCP port.
const DATABASES: [(&str, &str, u16); 2] = [("nb", "ovn-nb", 6641), ("sb", "ovn-sb", 6642)];

/// Starts all three; both databases take connections when this returns.
pub async fn up() -> Result<()> {
    let dir = state("central");
    for shared in rootfs::SHARED {
        fs::create_dir_all(dir.join(shared.trim_start_matches('/')))?;
    }
    for sub in ["ovn", "openvswitch", "lock"] {
        fs::create_dir_all(dir.join("run").join(sub))?;
    }
    for database in DATABASES {
        start(database).await?;
    }
    let northd = [
        "--ovnnb-db=unix:/run/ovn/ovnnb_db.sock",
        "--ovnsb-db=unix:/run/ovn/ovnsb_db.sock",
        "--unixctl=/run/ovn/northd.ctl",
    ];
    process::start("northd", rootfs::central(&dir, "ovn-northd", &northd)?)
}

/// Starts a database, an empty one where there is none; it takes connections when this returns.
async fn start((name, schema, port): (&str, &str, u16)) -> Result<()> {
    let dir = state("central");
    let (file, schema) = (format!("/var/lib/ovn/{name}.db"), format!("/usr/share/ovn/{schema}.ovsschema"));
    if !dir.join(file.trim_start_matches('/')).exists() {
        process::run(rootfs::central(&dir, "ovsdb-tool", &["create", &file, &schema])?).await?;
    }
    let remotes =
        [format!("--remote=punix:/run/ovn/ovn{name}_db.sock"), format!("--remote=ptcp:{port}:{CONTROL_PLANE}")];
    let unixctl = format!("--unixctl=/run/ovn/ovn{name}_db.ctl");
    process::start(name, rootfs::central(&dir, "ovsdb-server", &[&file, &remotes[0], &remotes[1], &unixctl])?)?;
    let connects = || async { Ok(TcpStream::connect((CONTROL_PLANE, port)).await.map(drop)?) };
    process::ready(name, Duration::from_secs(10), connects).await
}

/// The node where the databases are when they are in a pod.
pub const NODE: Node = Node::ONE;

/// Whether the databases are processes of the lab, and not in a pod.
fn are_the_labs() -> bool {
    state("central").exists()
}

/// Where the databases listen.
pub fn address() -> String {
    if are_the_labs() { CONTROL_PLANE.to_owned() } else { NODE.ip4() }
}

/// Has the pod of the databases go, and come back after `meanwhile`, whatever came of it. It serves when this returns.
pub async fn away(meanwhile: impl Future<Output = Result<()>>) -> Result<()> {
    let kubectl = async |words: &[&str]| kube::kubectl(&[&["--namespace=kube-system"], words].concat()).await;
    kubectl(&["scale", "deployment/ovn-central", "--replicas=0"]).await?;
    kubectl(&["wait", "pod", "--selector=app=ovn-central", "--for=delete", "--timeout=60s"]).await?;
    let outcome = meanwhile.await;
    kubectl(&["scale", "deployment/ovn-central", "--replicas=1"]).await?;
    kubectl(&["rollout", "status", "deployment/ovn-central", "--timeout=60s"]).await?;
    outcome
}

/// Starts the northbound database on its file.
pub async fn start_northbound() -> Result<()> {
    start(DATABASES[0]).await
}

/// The northbound database's file: a log of all transactions that it has committed.
pub fn northbound_file() -> std::path::PathBuf {
    if are_the_labs() {
        return state("central").join("var/lib/ovn").join(format!("{}.db", DATABASES[0].0));
    }
    NODE.dir().join("root/etc/origin/ovn/ovnnb_db.db")
}

/// Ends the northbound database, and starts it again after `meanwhile`: on its file, or on an empty one.
pub async fn restart_northbound(keep: bool, meanwhile: impl Future<Output = Result<()>>) -> Result<()> {
    let forget = || {
        let file = northbound_file();
        if keep { Ok(()) } else { fs::remove_file(&file).with_context(|| file.display().to_string()) }
    };
    if !are_the_labs() {
        let outcome = async {
            let outcome = meanwhile.await;
            forget().and(outcome)
        };
        return Box::pin(away(outcome)).await;
    }
    let [northbound, _] = DATABASES;
    process::stop(&state("pid").join(northbound.0), Duration::from_secs(5)).await?;
    let outcome = Box::pin(meanwhile).await;
    forget()?;
    start(northbound).await?;
    outcome
}

/// A command of OVN's that finds both databases' sockets, wherever they run: here, or on the first node.
pub fn command(program: &str, arguments: &[&str]) -> Result<Command> {
    if are_the_labs() {
        return rootfs::central(&state("central"), program, arguments);
    }
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
