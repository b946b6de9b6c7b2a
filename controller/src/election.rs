//! Who leads: the Lease `kube-ovn-controller`, by kube-leader-election.
//!
//! The library's patches carry no resourceVersion, so two replicas may believe for a moment that they hold the Lease. That
//! is harmless here: holding it is only the right to raise the fence in the northbound database, and the database itself
//! refuses whoever raised it earlier (see `sync`).
//!
//! A standby does not poll: it watches the Lease and tries when the Lease would run out, which is soon for one that was given
//! back.

use std::time::Duration;

use futures::StreamExt;
use k8s_openapi::api::coordination::v1::Lease;
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client};
use kube_leader_election::{Error, LeaseLock, LeaseLockParams, LeaseLockResult};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

/// Name of the Lease, as kube-ovn calls it.
pub const LEASE: &str = "kube-ovn-controller";

/// What this replica knows of its leadership. Each renewal is told, so that a leader whose fence was raised by another can
/// claim it again once it has asked anew and was confirmed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// Another replica holds the Lease, or nobody could be asked.
    Standby,
    /// This replica holds the Lease.
    Leading {
        /// When the confirmation that came last had been asked for.
        asked: Instant,
    },
}

/// Takes part in the election until `stop` fires, then gives the Lease back so that the next one need not wait.
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
    if led && let Err(error) = lock.step_down().await {
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
    let config = watcher::Config::default().fields(&format!("metadata.name={LEASE}"));
    let mut seen = std::pin::pin!(watcher(leases, config).backoff(kit::kubernetes::pause()));
    let mut valid_until = Instant::now();
    loop {
        let asked = Instant::now();
        let mut next = match lock.try_acquire_or_renew().await {
            Ok(LeaseLockResult::Acquired(_)) => {
                valid_until = asked + ttl;
                if !matches!(*standing.borrow(), Standing::Leading { .. }) {
                    tracing::info!(lease = LEASE, "leading");
                }
                standing.send_replace(Standing::Leading { asked });
                asked + ttl / 3
            }
            Ok(LeaseLockResult::NotAcquired(lease)) => {
                step_aside(standing, "another replica holds the lease");
                asked + time_left(&lease)
            }
            Err(Error::CreateLease(kube::Error::Api(status))) if status.code == 409 => asked, // another was faster
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
                event = seen.next() => match event {
                    Some(Ok(watcher::Event::Delete(_))) | None => break,
                    // A standby waits for as long as the renewal that it has just seen is good for.
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

/// How long a Lease still binds others, by its own clock and ours. One that was given back binds them too, for the second
/// that kube-leader-election leaves on it: who asked sooner would be refused, and ask again at once.
fn time_left(lease: &Lease) -> Duration {
    /// kube-leader-election asks for strictly later than the end.
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
mod tests {
    use jiff::{SignedDuration, Timestamp};
    use k8s_openapi::api::coordination::v1::LeaseSpec;
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;

    use super::*;

    /// In seconds.
    fn left(holder: &str, renewed_before: i64, duration: i32) -> u128 {
        let renewed = Timestamp::now() - SignedDuration::from_secs(renewed_before);
        let spec = LeaseSpec {
            holder_identity: Some(holder.to_owned()),
            lease_duration_seconds: Some(duration),
            renew_time: Some(MicroTime(renewed)),
            ..LeaseSpec::default()
        };
        (time_left(&Lease { spec: Some(spec), ..Lease::default() }).as_millis() + 500) / 1000
    }

    #[test]
    fn a_lease_binds_others_until_its_time_is_over_whoever_holds_it() {
        assert_eq!((left("other", 5, 15), left("other", 15, 15), left("other", 99, 15)), (10, 0, 0));
        assert_eq!((left("", 0, 1), left("", 1, 1)), (1, 0), "one that was given back");
        assert_eq!(time_left(&Lease::default()), Duration::ZERO);
    }
}
