//! Serves the plugin, from the time when Open vSwitch is there until the agent stops.

use std::time::Duration;

use anyhow::Context;
use tokio::sync::watch;

use crate::args::Args;
use crate::attach::Attacher;
use crate::socket::{self, Agent};
use crate::{attach, netem, ports};

/// The time that requests have to end after the agent is asked to stop. It fits into the grace of the pod and of the unit.
const FINISH: Duration = Duration::from_secs(20);

/// How often ports are compared with the kernel although no change is known: a namespace that is gone is not announced.
const RECHECK: Duration = Duration::from_secs(30);

/// Removes what an earlier process left, then serves the plugin, and ends when it is to stop. Without Open vSwitch no ADD
/// can succeed, and as long as there is no socket, the plugin tells the runtime to try again.
pub(super) async fn serve(
    args: &Args,
    agent: Agent,
    attacher: &Attacher,
    mut stop: watch::Receiver<bool>,
) -> anyhow::Result<()> {
    let path = args.bind_socket.display();
    tokio::select! {
        () = agent.ovs.bridge() => {}
        _ = stop.wait_for(|stop| *stop) => return Ok(()),
    }
    if let Err(error) = ports::delete_orphans(&agent.ovs, &attacher.links).await {
        tracing::warn!(%error, "host ends without a port were not all deleted");
    }
    let listener = socket::bind(&args.bind_socket).with_context(|| format!("bind {path}"))?;
    let methods = socket::methods(agent.clone()).context("register the agent's methods")?;
    tracing::info!(node = args.node_name, socket = %path, "serving the plugin");
    let pace = ports::Pace { recheck: RECHECK, grace: args.patience() + attach::UNPLUG };
    let keep = ports::keep(attacher, &agent.attachments, pace);
    tokio::select! {
        () = socket::serve(listener, &args.bind_socket, methods, stop, FINISH) => Ok(()),
        () = keep => Ok(()),
        () = netem::keep(&agent.ovs, attacher.pods.clone()) => Ok(()),
    }
}
