//! A Subnet's conditions: `Validated`, `Ready`, `Error`, as kube-ovn names them.

use api::SubnetCondition;
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use crate::engine::Verdict;

/// The conditions that say a verdict. One that says what it said before keeps its times.
pub(super) fn of(verdict: &Verdict, before: &[SubnetCondition], now: Timestamp) -> Vec<SubnetCondition> {
    let (validated, ready, error) = match verdict {
        Verdict::Valid | Verdict::Foreign => {
            (said(true, "Valid", ""), said(true, "InForce", ""), said(false, "Valid", ""))
        }
        Verdict::Invalid { reason, message } => {
            (said(false, reason, message), said(false, reason, message), said(true, reason, message))
        }
        Verdict::Held { message } => {
            (said(true, "Valid", ""), said(false, "AddressesInUse", message), said(true, "AddressesInUse", message))
        }
        Verdict::Released => (said(true, "Valid", ""), said(false, "Deleting", ""), said(false, "Deleting", "")),
    };
    let named = [("Validated", validated), ("Ready", ready), ("Error", error)];
    let conditions = named.map(|(type_, (status, reason, message))| {
        let old = before.iter().find(|condition| condition.type_ == type_);
        let same_status = old.filter(|old| old.status == status);
        let same = same_status.filter(|old| old.reason == reason && old.message == message);
        let time = || Some(Time(now));
        SubnetCondition {
            type_: type_.to_owned(),
            status,
            reason,
            message,
            last_update_time: same.map_or_else(time, |old| old.last_update_time.clone()),
            last_transition_time: same_status.map_or_else(time, |old| old.last_transition_time.clone()),
        }
    });
    conditions.into()
}

fn said(status: bool, reason: &str, message: &str) -> (String, String, String) {
    let status = if status { "True" } else { "False" };
    (status.to_owned(), reason.to_owned(), message.to_owned())
}
