//! Another southbound database in the place of the one that ovn-controller knows: after it was moved, or lost with all its
//! disks.
//!
//! ovn-controller refuses servers whose log is shorter than it has seen, so that it is never told the past. It does not look
//! whether the log is of the same cluster, and would refuse a new database for as long as that takes to grow. The node agent
//! knows the cluster, and records its ID.

use std::convert::Infallible;
use std::path::PathBuf;
use std::time::Duration;

use daemons::control;
use daemons::member::{self, Member};
use ovn::local::{OPEN_VSWITCH, SOUTHBOUND_CLUSTER, Settings, open_vswitch};
use ovsdb::client::{Client, Config, Endpoint};
use tokio::sync::watch;

use crate::args::RunDirectories;
use crate::places::{CONTROLLER, SERVER, control_socket};

/// The pause after ovn-controller has not answered. It is silent while it computes flows.
const RETRY: Duration = Duration::from_secs(1);

/// Tells ovn-controller each time that the recorded cluster is replaced by another one. `socket` is that of the node's
/// database, `members` are the daemons.
pub(crate) async fn follow(
    socket: PathBuf,
    mut members: watch::Receiver<Vec<Member>>,
    directories: RunDirectories,
) -> Infallible {
    // The sender lives as long as the daemons.
    let _ = members.wait_for(|members| member::is_up(members, SERVER)).await;
    let tables = open_vswitch().into_iter().filter(|table| table.name == OPEN_VSWITCH).collect();
    let (client, mut changes) = Client::spawn(Config::new(vec![Endpoint::Unix(socket)], "Open_vSwitch", tables));
    let mut known: Option<String> = None;
    loop {
        changes.next().await;
        let now = client.read(|replica| Settings::find(replica)?.external_id(SOUTHBOUND_CLUSTER).map(str::to_owned));
        let Some(now) = now else { continue };
        if known.as_ref().is_some_and(|known| *known != now) {
            tell(&members, &directories, &now).await;
        }
        known = Some(now);
    }
}

/// Has ovn-controller forget the length of the log. One that is about to start has seen none.
async fn tell(members: &watch::Receiver<Vec<Member>>, directories: &RunDirectories, cluster: &str) {
    loop {
        let running = member::pid(&members.borrow(), CONTROLLER);
        let Some(pid) = running else { return };
        let socket = control_socket(directories, CONTROLLER, pid);
        match control::ask(&socket, "sb-cluster-state-reset", &[]).await {
            Ok(_) => {
                tracing::info!(cluster, "told ovn-controller that another cluster serves the southbound database");
                return;
            }
            Err(error) => {
                tracing::warn!(%error, "ovn-controller is not told yet that another cluster serves the southbound database");
                tokio::time::sleep(RETRY).await;
            }
        }
    }
}
