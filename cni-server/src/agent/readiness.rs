//! Whether the node is ready, and the conflist, which is installed when it is.

use std::convert::Infallible;
use std::time::Duration;

use kit::endpoint::Readiness;
use tokio::sync::watch;

use crate::args::Args;
use crate::conflist::Installation;
use crate::ovs::Ovs;
use crate::reach;
use crate::seen::Cluster;

/// Why a node is not ready without its Open vSwitch.
const NO_OVS: &str = "Open vSwitch is away";

/// The pause before a file that could not be written is tried again: nobody tells when a disk has room again.
const INSTALL: Duration = Duration::from_secs(5);

/// The state of each owner's part: ready, or why not.
pub(super) struct Owners {
    /// The key for the southbound database, if it needs one.
    pub(super) key: watch::Receiver<keys::Readiness>,
    pub(super) node_port: watch::Receiver<reach::Answer>,
    pub(super) rules: watch::Receiver<Result<(), String>>,
    pub(super) rivals: watch::Receiver<Result<(), String>>,
}

/// Publishes whether the node is ready. Installs the conflist when the node is ready for the first time, even beside that
/// of another network, so that pods get our network as soon as the other one is gone. Without the conflist, the node is not
/// ready.
pub(super) async fn publish(
    args: &Args,
    mut cluster: Cluster,
    ovs: &Ovs,
    mut owners: Owners,
    readiness: &Readiness,
) -> Infallible {
    let mut connected = ovs.connected();
    if !*connected.borrow() {
        readiness.not_ready(NO_OVS.to_owned());
        // The sender lives as long as the process.
        let _ = connected.wait_for(|connected| *connected).await;
    }
    cluster.synced(|kind| readiness.not_ready(format!("waiting for the API server to list {kind}"))).await;
    let mut installation = Installation::new(args.install());
    loop {
        let mut now = if *connected.borrow_and_update() { Ok(()) } else { Err(NO_OVS.to_owned()) }
            .and(owners.key.borrow_and_update().clone())
            .and(owners.node_port.borrow_and_update().as_ref().map(drop).map_err(ToString::to_string))
            .and(owners.rules.borrow_and_update().clone());
        let rivals = owners.rivals.borrow_and_update().clone();
        if now.is_ok() {
            now = installation.finish().await;
        }
        let try_again = now.is_err();
        match now.and(rivals) {
            Ok(()) => readiness.ready(),
            Err(why) => readiness.not_ready(why),
        }
        tokio::select! {
            Ok(()) = connected.changed() => {}
            Ok(()) = owners.key.changed() => {}
            Ok(()) = owners.node_port.changed() => {}
            Ok(()) = owners.rules.changed() => {}
            Ok(()) = owners.rivals.changed() => {}
            () = tokio::time::sleep(INSTALL), if try_again => {}
        }
    }
}
