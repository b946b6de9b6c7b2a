//! The conditions of a Subnet and of an IPPool: `Validated`, `Ready` and `Error` as in kube-ovn, and `Unserved` for
//! fields of a Subnet that this version does not support. A centralized Subnet also has `GatewayReady`. An `ExternalHost` has
//! `Ready` alone.

use api::Condition;
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use crate::engine::{GatewayState, PoolVerdict, Verdict};

/// A condition's status, reason and message.
type ConditionState = (String, String, String);

/// What a Subnet still needs before it is ready.
#[derive(Debug, Clone, Copy)]
pub(super) enum Pending {
    /// Its finalizer.
    Finalizer,
    /// The defaults in its spec.
    Defaults,
}

/// The conditions of a Subnet. It is ready once it has its finalizer and its defaults.
pub(super) fn of_subnet(
    verdict: &Verdict,
    pending: Option<Pending>,
    unserved: Option<String>,
    gateway: Option<&GatewayState>,
    before: &[Condition],
    now: Timestamp,
) -> Vec<Condition> {
    let waiting = pending.map(|pending| match pending {
        Pending::Finalizer => state(false, "FinalizerPending", "its finalizer is being added"),
        Pending::Defaults => state(false, "DefaultsPending", "the defaults of its spec are being filled in"),
    });
    let found = match (verdict, waiting) {
        (Verdict::Valid, Some(waiting)) => (state(true, "Valid", ""), waiting, state(false, "Valid", "")),
        (verdict, _) => of_verdict(verdict),
    };
    let unserved = unserved.map(|message| ("Unserved", state(true, "FieldsNotServed", &message)));
    let gateway = gateway.map(|gateway| match gateway {
        GatewayState::Ready => state(true, "GatewayNodes", ""),
        GatewayState::Partly(message) => state(true, "GatewayNodeMissing", message),
        GatewayState::NoWayOut(message) => state(false, "GatewayNodeMissing", message),
    });
    let more = unserved.into_iter().chain(gateway.map(|gateway| ("GatewayReady", gateway)));
    conditions(found, more, before, now)
}

/// `Validated`, `Ready` and `Error` of a Subnet that waits for nothing.
fn of_verdict(verdict: &Verdict) -> (ConditionState, ConditionState, ConditionState) {
    match verdict {
        // A foreign subnet has no conditions of ours: `subnet::status` does not ask for them.
        Verdict::Valid | Verdict::Foreign => {
            (state(true, "Valid", ""), state(true, "InForce", ""), state(false, "Valid", ""))
        }
        Verdict::Invalid { reason, message } => {
            (state(false, reason, message), state(false, reason, message), state(true, reason, message))
        }
        Verdict::Held { message } => {
            (state(true, "Valid", ""), state(false, "AddressesInUse", message), state(true, "AddressesInUse", message))
        }
        Verdict::Released => (state(true, "Valid", ""), state(false, "Deleting", ""), state(false, "Deleting", "")),
    }
}

/// The conditions of an IPPool.
pub(super) fn of_pool(verdict: &PoolVerdict, before: &[Condition], now: Timestamp) -> Vec<Condition> {
    let found = match verdict {
        PoolVerdict::Valid => (state(true, "Valid", ""), state(true, "InForce", ""), state(false, "Valid", "")),
        PoolVerdict::Partly { reason, message } => {
            (state(false, reason, message), state(true, "InForce", message), state(false, "Valid", ""))
        }
        PoolVerdict::Invalid { reason, message } => {
            (state(false, reason, message), state(false, reason, message), state(true, reason, message))
        }
    };
    conditions(found, [], before, now)
}

/// The condition of an external host: ready, or the reason and the message why not.
pub(super) fn of_external_host(
    not_ready: Option<(&'static str, String)>,
    before: &[Condition],
    now: Timestamp,
) -> Vec<Condition> {
    let ready = match not_ready {
        None => state(true, "Joined", ""),
        Some((reason, message)) => state(false, reason, &message),
    };
    timed([("Ready", ready)], before, now)
}

/// The conditions that Subnets and IPPools have, and more.
fn conditions(
    (validated, ready, error): (ConditionState, ConditionState, ConditionState),
    more: impl IntoIterator<Item = (&'static str, ConditionState)>,
    before: &[Condition],
    now: Timestamp,
) -> Vec<Condition> {
    let named = [("Validated", validated), ("Ready", ready), ("Error", error)];
    timed(named.into_iter().chain(more), before, now)
}

/// Builds conditions. An unchanged condition keeps its times.
fn timed(
    named: impl IntoIterator<Item = (&'static str, ConditionState)>,
    before: &[Condition],
    now: Timestamp,
) -> Vec<Condition> {
    let conditions = named.into_iter().map(|(type_, (status, reason, message))| {
        let old = before.iter().find(|condition| condition.type_ == type_);
        let same_status = old.filter(|old| old.status == status);
        let same = same_status.filter(|old| old.reason == reason && old.message == message);
        let time = || Some(Time(now));
        Condition {
            type_: type_.to_owned(),
            status,
            reason,
            message,
            last_update_time: same.map_or_else(time, |old| old.last_update_time.clone()),
            last_transition_time: same_status.map_or_else(time, |old| old.last_transition_time.clone()),
        }
    });
    conditions.collect()
}

fn state(status: bool, reason: &str, message: &str) -> ConditionState {
    let status = if status { "True" } else { "False" };
    (status.to_owned(), reason.to_owned(), message.to_owned())
}
