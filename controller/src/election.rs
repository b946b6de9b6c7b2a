//! Leader election with the Lease `kube-ovn-controller`, by kube-leader-election.
//!
//! The library's patches carry no resourceVersion, so two replicas can believe for a moment that they hold the Lease.
//! This is harmless: the Lease only permits a replica to raise the fence in the northbound database, and the database
//! refuses writes of a replica whose fence is older (see `sync`).
//!
//! A standby does not poll. It watches the Lease and tries to acquire it when it expires. A Lease that was given back
//! expires at once.
//!
//! The clocks of the replicas need not agree: a Lease expires when this replica has not seen it change for its duration.

use std::time::Duration;

use futures::StreamExt;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use kit::kubernetes::named;
use kube::api::{Patch, PatchParams};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client, ResourceExt};
use kube_leader_election::{Error, LeaseLock, LeaseLockParams, LeaseLockResult};
use serde_json::json;
use tokio::sync::watch;
use tokio::time::error::Elapsed;
use tokio::time::{Instant, sleep_until, timeout};

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
    let leases = Api::namespaced(client.clone(), &namespace);
    let lock = LeaseLock::new(client, &namespace, params);
    let mut candidate = Candidate { lock, leases: leases.clone(), identity, ttl, seen: Seen::default() };
    tokio::select! {
        () = candidate.campaign(&standing) => {}
        () = stop => {}
    }
    let led = matches!(*standing.borrow(), Standing::Leading { .. });
    standing.send_replace(Standing::Standby);
    if led && let Err(error) = give_back(&leases, &candidate.identity).await {
        tracing::warn!(%error, lease = LEASE, "the lease was not given back; it runs out by itself");
    }
}

/// One replica in the election.
struct Candidate {
    lock: LeaseLock,
    leases: Api<Lease>,
    identity: String,
    ttl: Duration,
    seen: Seen,
}

impl Candidate {
    async fn campaign(&mut self, standing: &watch::Sender<Standing>) {
        let ttl = self.ttl;
        let mut lease_events =
            std::pin::pin!(watcher(self.leases.clone(), named(LEASE)).backoff(kit::kubernetes::pause()));
        let mut valid_until = Instant::now();
        loop {
            let asked = Instant::now();
            let led = matches!(*standing.borrow(), Standing::Leading { .. });
            let holds = standing.borrow().holds(asked);
            let mut next = match self.try_to_lead(holds).await {
                Ok(true) => {
                    valid_until = asked + ttl;
                    if !led {
                        tracing::info!(lease = LEASE, "leading");
                    }
                    standing.send_replace(Standing::Leading { asked, until: valid_until });
                    asked + ttl / 3
                }
                Ok(false) => {
                    step_aside(standing, "another replica holds the lease");
                    self.seen.expiry(ttl)
                }
                Err(error) => {
                    tracing::warn!(%error, lease = LEASE, "the lease could not be read or written");
                    if Instant::now() >= valid_until {
                        step_aside(standing, "the lease could not be renewed in time");
                    }
                    Instant::now() + (ttl / 12).max(Duration::from_millis(250))
                }
            };
            let leading = matches!(*standing.borrow(), Standing::Leading { .. });
            loop {
                tokio::select! {
                    () = sleep_until(next) => break,
                    event = lease_events.next() => match event {
                        Some(Ok(watcher::Event::Delete(_))) | None => break,
                        // A standby waits until the renewal that it has just seen expires.
                        Some(Ok(watcher::Event::Apply(lease) | watcher::Event::InitApply(lease))) if !leading => {
                            self.seen.look(Some(lease), ttl);
                            next = self.seen.expiry(ttl);
                        }
                        Some(_) => {}
                    },
                }
            }
        }
    }

    /// Acquires the Lease, or renews it if this replica holds it. Returns false while another one does.
    ///
    /// A request on a connection that is cut off would end long after the Lease. A slow API server has a quarter of its duration for
    /// each.
    async fn try_to_lead(&mut self, holds: bool) -> Result<bool, LeaseError> {
        let limit = self.ttl / 4;
        // The library compares the holder's clock with ours, and does not take a Lease in which something is missing.
        let lease = timeout(limit, self.leases.get_opt(LEASE)).await?.map_err(Error::GetLease)?;
        let is_own = lease.as_ref().is_some_and(|lease| holder(lease) == Some(&self.identity));
        let is_gone = holds && lease.is_none();
        if !is_own && !is_gone {
            self.seen.look(lease.clone(), self.ttl);
            // A leader that has been replaced waits like any other replica.
            if Instant::now() < self.seen.expiry(self.ttl) {
                return Ok(false);
            }
            if let Some(lease) = lease {
                match timeout(limit, write_expired(&self.leases, &lease)).await? {
                    // Another replica was faster.
                    Err(kube::Error::Api(status)) if status.code == 409 => return Ok(false),
                    outcome => outcome.map_err(Error::ReleaseLease)?,
                }
            }
        }
        // These are two requests.
        match timeout(limit * 2, self.lock.try_acquire_or_renew()).await? {
            // A renewal has no condition: another replica may have acquired it since it was read.
            Ok(LeaseLockResult::Acquired(lease)) if holder(&lease) == Some(&self.identity) => Ok(true),
            Ok(LeaseLockResult::Acquired(lease) | LeaseLockResult::NotAcquired(lease)) => {
                self.seen.look(Some(lease), self.ttl);
                Ok(false)
            }
            Err(Error::CreateLease(kube::Error::Api(status))) if status.code == 409 => Ok(false),
            Err(error) => Err(error.into()),
        }
    }
}

/// Why it is not known who holds the Lease.
#[derive(Debug, thiserror::Error)]
enum LeaseError {
    #[error(transparent)]
    Lease(#[from] Error),
    #[error("the API server did not answer in time")]
    Late(#[from] Elapsed),
}

/// The Lease as it was seen last.
#[derive(Debug)]
struct Seen {
    lease: Option<Lease>,
    /// When it was first seen so.
    since: Instant,
    /// Until when the holder that was seen last may take itself for the leader, if the Lease is gone or spoiled.
    owed: Instant,
}

impl Default for Seen {
    fn default() -> Self {
        Self { lease: None, since: Instant::now(), owed: Instant::now() }
    }
}

impl Seen {
    fn look(&mut self, lease: Option<Lease>, ttl: Duration) {
        let version = |lease: &Option<Lease>| lease.as_ref().and_then(Lease::resource_version);
        if version(&lease) != version(&self.lease) {
            let now = Instant::now();
            let is_held = |lease: &Option<Lease>| lease.as_ref().is_some_and(|lease| holder(lease).is_some());
            let owed = if is_held(&lease) || is_held(&self.lease) { now + ttl } else { self.owed };
            *self = Self { lease, since: now, owed };
        }
    }

    /// When the Lease expires unless it changes. One without a holder was given back, or has expired. One that is gone, or has no
    /// duration, was held by somebody. A duration that no replica would write is shortened: the holder may be gone for good.
    fn expiry(&self, ttl: Duration) -> Instant {
        const LONGEST: Duration = Duration::from_mins(1);
        let Some(lease) = &self.lease else { return self.owed };
        if holder(lease).is_none() {
            return self.since;
        }
        let seconds = lease.spec.as_ref().and_then(|spec| spec.lease_duration_seconds).unwrap_or(0);
        let duration = Duration::from_secs(seconds.try_into().unwrap_or(0)).min(LONGEST.max(ttl));
        self.owed.max(self.since + duration)
    }
}

/// Returns the replica that holds a Lease.
fn holder(lease: &Lease) -> Option<&String> {
    lease.spec.as_ref()?.holder_identity.as_ref().filter(|holder| !holder.is_empty())
}

/// Gives a Lease that we hold back. One that another replica holds or acquires meanwhile is not changed.
async fn give_back(leases: &Api<Lease>, identity: &str) -> kube::Result<()> {
    loop {
        let Some(lease) = leases.get_opt(LEASE).await? else { return Ok(()) };
        if holder(&lease).is_none_or(|holder| holder != identity) {
            return Ok(());
        }
        match write_expired(leases, &lease).await {
            Err(kube::Error::Api(status)) if status.code == 409 => {} // it has changed since it was read
            outcome => return outcome,
        }
    }
}

/// Writes a Lease as held by none and expired for any clock, so that the library acquires it at once. The library's `step_down`
/// leaves one second in which it refuses new holders. Fails with a conflict if the Lease has changed since it was read.
async fn write_expired(leases: &Api<Lease>, lease: &Lease) -> kube::Result<()> {
    let transitions = lease.spec.as_ref().and_then(|spec| spec.lease_transitions).unwrap_or(0);
    let patch = json!({
        "metadata": { "resourceVersion": lease.metadata.resource_version },
        "spec": {
            "holderIdentity": "",
            "leaseDurationSeconds": 1,
            "leaseTransitions": transitions,
            "renewTime": MicroTime(jiff::Timestamp::UNIX_EPOCH),
        },
    });
    leases.patch(LEASE, &PatchParams::default(), &Patch::Merge(&patch)).await.map(drop)
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
