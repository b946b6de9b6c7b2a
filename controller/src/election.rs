//! Leader election with the Lease `kube-ovn-controller`, by kube-leader-election.
//!
//! The library's patches carry no resourceVersion, so two replicas can believe for a moment that they hold the Lease.
//! This is harmless: the Lease only permits a replica to raise the fence in the northbound database, and the database
//! refuses writes of a replica whose fence is older (see `sync`).
//!
//! A standby does not poll. It watches the Lease and tries to acquire it when it expires. A Lease that was given back
//! expires at once.

use std::time::Duration;

use futures::StreamExt;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use kit::kubernetes::named;
use kube::api::{Patch, PatchParams};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client};
use kube_leader_election::{Error, LeaseLock, LeaseLockParams, LeaseLockResult};
use serde_json::json;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

/// Name of the Lease, as kube-ovn calls it.
pub const LEASE: &str = "kube-ovn-controller";

/// Whether this replica leads. Each renewal is published, because a leader that was fenced may raise the fence again
/// only after a renewal that it requested later.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// Another replica holds the Lease, or the API server did not answer.
    Standby,
    /// This replica holds the Lease.
    Leading {
        /// When the last successful renewal was requested.
        asked: Instant,
        /// When the Lease expires unless it is renewed.
        until: Instant,
    },
}

impl Standing {
    /// Whether this replica is the leader at that time, so that no other replica can hold the Lease.
    pub fn holds(&self, now: Instant) -> bool {
        matches!(self, Self::Leading { until, .. } if now < *until)
    }
}

/// Takes part in the election until `stop` completes, then gives the Lease back so that the next leader need not wait.
pub async fn run(
    client: Client,
    namespace: String,
    identity: String,
    ttl: Duration,
    standing: watch::Sender<Standing>,
    stop: impl Future<Output = ()>,
) {
    let params = LeaseLockParams { lease_name: LEASE.to_owned(), holder_id: identity.clone(), lease_ttl: ttl };
    let lock = LeaseLock::new(client.clone(), &namespace, params);
    tokio::select! {
        () = campaign(&client, &namespace, &lock, ttl, &standing) => {}
        () = stop => {}
    }
    let led = matches!(*standing.borrow(), Standing::Leading { .. });
    standing.send_replace(Standing::Standby);
    let leases = Api::namespaced(client, &namespace);
    if led && let Err(error) = give_back(&leases, &identity, ttl).await {
        tracing::warn!(%error, lease = LEASE, "the lease was not given back; it runs out by itself");
    }
}

async fn campaign(
    client: &Client,
    namespace: &str,
    lock: &LeaseLock,
    ttl: Duration,
    standing: &watch::Sender<Standing>,
) {
    let leases: Api<Lease> = Api::namespaced(client.clone(), namespace);
    let config = named(LEASE);
    let mut lease_events = std::pin::pin!(watcher(leases, config).backoff(kit::kubernetes::pause()));
    let mut valid_until = Instant::now();
    loop {
        let asked = Instant::now();
        let mut next = match lock.try_acquire_or_renew().await {
            Ok(LeaseLockResult::Acquired(_)) => {
                valid_until = asked + ttl;
                if !matches!(*standing.borrow(), Standing::Leading { .. }) {
                    tracing::info!(lease = LEASE, "leading");
                }
                standing.send_replace(Standing::Leading { asked, until: valid_until });
                asked + ttl / 3
            }
            Ok(LeaseLockResult::NotAcquired(lease)) => {
                step_aside(standing, "another replica holds the lease");
                asked + time_left(&lease)
            }
            Err(Error::CreateLease(kube::Error::Api(status))) if status.code == 409 => asked, // another replica was faster
            Err(error) => {
                tracing::warn!(%error, lease = LEASE, "the lease could not be read or written");
                if Instant::now() >= valid_until {
                    step_aside(standing, "the lease could not be renewed in time");
                }
                asked + (ttl / 6).max(Duration::from_millis(500))
            }
        };
        let leading = matches!(*standing.borrow(), Standing::Leading { .. });
        loop {
            tokio::select! {
                () = sleep_until(next) => break,
                event = lease_events.next() => match event {
                    Some(Ok(watcher::Event::Delete(_))) | None => break,
                    // A standby waits until the renewal that it has just seen expires.
                    Some(Ok(watcher::Event::Apply(lease))) if !leading => match time_left(&lease) {
                        Duration::ZERO => break,
                        left => next = Instant::now() + left,
                    },
                    Some(_) => {}
                },
            }
        }
    }
}

/// Writes a Lease that we hold as held by none and long expired. The library's `step_down` leaves one second in which
/// it refuses new holders. A Lease that another replica holds or acquires meanwhile is not changed.
async fn give_back(leases: &Api<Lease>, identity: &str, ttl: Duration) -> kube::Result<()> {
    loop {
        let Some(lease) = leases.get_opt(LEASE).await? else { return Ok(()) };
        let holder = lease.spec.as_ref().and_then(|spec| spec.holder_identity.as_deref());
        if holder != Some(identity) {
            return Ok(());
        }
        // A replica whose clock is behind ours by less than `ttl` also sees it expired.
        let over = MicroTime(jiff::Timestamp::now() - ttl);
        let spec = json!({ "holderIdentity": "", "leaseDurationSeconds": 1, "renewTime": over });
        let patch = json!({ "metadata": { "resourceVersion": lease.metadata.resource_version }, "spec": spec });
        match leases.patch(LEASE, &PatchParams::default(), &Patch::Merge(&patch)).await {
            Err(kube::Error::Api(status)) if status.code == 409 => {} // it has changed since it was read
            outcome => return outcome.map(drop),
        }
    }
}

/// How long a Lease is valid, by its renewal time and our clock. A Lease after `step_down` has one second left; a
/// replica that tries earlier is refused and would retry at once.
fn time_left(lease: &Lease) -> Duration {
    /// kube-leader-election requires the current time to be strictly after the expiry.
    const MARGIN: Duration = Duration::from_millis(20);
    let Some(spec) = &lease.spec else { return Duration::ZERO };
    let (Some(renewed), Some(seconds)) = (&spec.renew_time, spec.lease_duration_seconds) else {
        return Duration::ZERO;
    };
    let age = jiff::Timestamp::now().duration_since(renewed.0);
    let left = jiff::SignedDuration::from_secs(seconds.into()).saturating_sub(age);
    Duration::try_from(left).map_or(Duration::ZERO, |left| left + MARGIN)
}

fn step_aside(standing: &watch::Sender<Standing>, why: &str) {
    let changed = standing.send_if_modified(|now| {
        let was_leading = matches!(now, Standing::Leading { .. });
        *now = Standing::Standby;
        was_leading
    });
    if changed {
        tracing::warn!(lease = LEASE, why, "no longer leading");
    }
}

#[cfg(test)]
mod tests;
