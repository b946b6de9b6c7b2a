//! The owner of the rules: writes them again when something that they depend on changes, or when another program has
//! changed them.

use std::collections::BTreeSet;
use std::time::Duration;

use ipnet::IpNet;
use tokio::sync::watch;

use super::events::Announcements;
use super::{Firewall, Rules, Written, forwarding};
use crate::databases::Databases;
use crate::metrics::Metrics;
use crate::node_net::{Own, Served};
use crate::node_port::Sources;

/// How often the rules are compared with the kernel although no change is known.
const RECHECK: Duration = Duration::from_mins(5);

/// How often the rules are compared where the kernel does not announce changes. There, the tools read the rules of all other
/// programs as well. If that takes long, because the node has many Services, it is done less often: see [`SHARE`].
const LOOK: Duration = Duration::from_secs(1);

/// The pause between two comparisons is so many times longer than a comparison, but not longer than [`SELDOM`].
const SHARE: u32 = 50;

/// The longest pause between two comparisons where the kernel does not announce changes.
const SELDOM: Duration = Duration::from_secs(30);

/// The time that the changes of other programs have to come to an end, before the rules are compared.
const SETTLE: Duration = Duration::from_millis(100);

/// The time after which the rules are written without the sources of the node's traffic.
const SOURCES: Duration = Duration::from_secs(10);

/// How often the counters of dropped packets are read.
const COUNT: Duration = Duration::from_mins(1);

/// What the owner needs.
#[derive(Debug)]
pub struct Inputs {
    /// The subnets that the node serves.
    pub served: watch::Receiver<Served>,
    /// The sources of the node's traffic to pods. `None` before they are known.
    pub sources: watch::Receiver<Option<Sources>>,
    /// The nodes with OVN databases.
    pub databases: watch::Receiver<Databases>,
    /// The service ranges.
    pub services: BTreeSet<IpNet>,
    /// How the rules are written.
    pub firewall: Firewall,
    /// Names of this node.
    pub own: Own,
    /// The metrics of dropped packets.
    pub metrics: Metrics,
}

/// Starts the owner. It publishes whether the rules are written, or why not.
///
/// A new agent changes no rules that are right: before it knows the node's sources, it leaves them as they are. If it does
/// not know them soon, because the node has no `ovn0`, it does without.
pub fn keep(inputs: Inputs) -> watch::Receiver<Result<(), String>> {
    let (sender, receiver) = watch::channel(Err("firewall rules are not written yet".to_owned()));
    // The subscription is in the network namespace of this thread.
    let announcements = Announcements::subscribe();
    tokio::spawn(run(inputs, announcements.ok(), sender));
    receiver
}

async fn run(mut inputs: Inputs, mut announcements: Option<Announcements>, sender: watch::Sender<Result<(), String>>) {
    let mut rules = Rules::with(inputs.firewall);
    let start = tokio::time::Instant::now();
    let mut count = tokio::time::interval(COUNT);
    loop {
        let served = inputs.served.borrow_and_update().clone();
        let databases = inputs.databases.borrow_and_update().clone();
        let known = inputs.sources.borrow_and_update().filter(|_| databases.known);
        let late = known.is_none() && databases.known && start.elapsed() >= SOURCES;
        let sources = if late { Some(Sources::default()) } else { known };
        let started = tokio::time::Instant::now();
        let mut families = None;
        if served.in_force.synced {
            let wanted = served.rules(&inputs.services, sources, &databases, &inputs.own);
            let families = families.insert(wanted.families_of_pods().collect::<Vec<_>>());
            let result = match forwarding::enable(families.iter().copied()) {
                Ok(()) => rules.apply(&wanted).await.map_err(|error| error.to_string()),
                Err(error) => Err(format!("turn forwarding on: {error}")),
            };
            match &result {
                Ok(written) if *written == Written::default() => {}
                Ok(written) => tracing::info!(sets = written.sets, rules = written.rules, "firewall rules written"),
                Err(why) => tracing::error!(why, "firewall rules not in place"),
            }
            if sources.is_some() || result.is_err() {
                sender.send_if_modified(|before| {
                    let now = result.map(drop);
                    let changed = *before != now;
                    *before = now;
                    changed
                });
            }
        }
        let took = started.elapsed();
        let failed = sender.borrow().is_err();
        let recheck = match (known.is_some() || late, &announcements) {
            (false, _) => SOURCES.saturating_sub(start.elapsed()).max(LOOK),
            (true, Some(_)) if !failed && rules.are_announced().await => RECHECK,
            // A failure may have taken as long as the time limit of a tool.
            (true, _) if failed => LOOK,
            _ => (took * SHARE).clamp(LOOK, SELDOM),
        };
        let again = tokio::time::sleep(recheck);
        tokio::pin!(again);
        loop {
            let changed = async {
                match &mut announcements {
                    Some(announcements) => announcements.changed().await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = changed => {
                    tokio::time::sleep(SETTLE).await;
                    break;
                }
                Ok(()) = inputs.served.changed() => break,
                Ok(()) = inputs.sources.changed() => break,
                Ok(()) = inputs.databases.changed() => break,
                () = &mut again => break,
                _ = count.tick() => {
                    if let Some(dropped) = rules.dropped().await {
                        inputs.metrics.dropped(dropped);
                    }
                    // Another program may have turned it off, which is not announced with the rules.
                    if let Some(families) = &families
                        && let Err(error) = forwarding::enable(families.iter().copied())
                    {
                        tracing::error!(%error, "forwarding is not turned on");
                    }
                }
            }
        }
    }
}
