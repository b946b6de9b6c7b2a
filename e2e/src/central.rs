//! OVN's centre, on the control plane: northbound and southbound database and northd, each one process, no raft.

use std::fs;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::net::TcpStream;

use crate::layout::{CONTROL_PLANE, Node, state};
use crate::{process, rootfs};

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

/// Starts the northbound database on its file.
pub async fn start_northbound() -> Result<()> {
    start(DATABASES[0]).await
}

/// The northbound database's file: a log of all transactions that it has committed.
pub fn northbound_file() -> std::path::PathBuf {
    state("central").join("var/lib/ovn").join(format!("{}.db", DATABASES[0].0))
}

/// Ends the northbound database, and starts it again after `meanwhile`: on its file, or on an empty one.
pub async fn restart_northbound(keep: bool, meanwhile: impl Future<Output = Result<()>>) -> Result<()> {
    let [northbound, _] = DATABASES;
    process::stop(&state("pid").join(northbound.0), Duration::from_secs(5)).await?;
    let outcome = meanwhile.await;
    if !keep {
        let file = northbound_file();
        fs::remove_file(&file).with_context(|| file.display().to_string())?;
    }
    start(northbound).await?;
    outcome
}

/// A command of OVN's that finds both databases' sockets, wherever they run: here, or on the first node.
pub fn command(program: &str, arguments: &[&str]) -> Result<Command> {
    let here = state("central");
    if here.exists() {
        return rootfs::central(&here, program, arguments);
    }
    rootfs::on(Node::first(1).next().context("a lab has a node")?, program, arguments)
}

/// `ovn-nbctl` with `arguments`; what it printed.
pub async fn nbctl(arguments: &[&str]) -> Result<String> {
    process::run(command("ovn-nbctl", arguments)?).await
}

/// `ovn-sbctl` with `arguments`; what it printed.
pub async fn sbctl(arguments: &[&str]) -> Result<String> {
    process::run(command("ovn-sbctl", arguments)?).await
}
