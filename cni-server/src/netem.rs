//! The delay and the loss of packets on their way into pods, as the pods' annotations say. One task owns the rows of `QoS` of
//! pods' ports. It also ends the limits of kube-ovn on ports that it left, because meters of OVN take their place.

use std::collections::BTreeMap;
use std::time::Duration;

use api::annotations::Netem;
use ovn::local::netem::{self, PortNetem, Wanted};
use ovn::local::{Interface, PORT, Settings};
use ovsdb::{Op, Replica};
use tokio::sync::watch;

use crate::ovs::Ovs;
use crate::ports;
use crate::seen::{Pod, Seen};

/// The pause before a write that failed is tried again.
const RETRY: Duration = Duration::from_secs(5);

/// Keeps the rows, indefinitely.
pub async fn keep(ovs: &Ovs, mut pods: watch::Receiver<Seen<Pod>>) {
    let mut changed = ovs.changed();
    // The sender lives as long as the process.
    let _ = pods.wait_for(|seen| seen.synced).await;
    // The number of the configuration that ovs-vswitchd must have applied before the next step.
    let mut awaited = None;
    loop {
        pods.mark_unchanged();
        let is_applied = ovs.read(|replica| {
            // A database that was made anew counts from the beginning.
            let reaches = |s: Settings<'_>| awaited <= Some(s.cur_cfg()) || awaited > Some(s.next_cfg());
            Settings::find(replica).is_some_and(reaches)
        });
        let mut result = Ok(());
        if is_applied {
            let mut next = None;
            let step = |replica: &Replica| {
                let (ops, number) = step(replica, &pods.borrow());
                next = number;
                ops
            };
            result = ovs.write("QoS of pods' ports", step).await;
            awaited = next.filter(|_| result.is_ok());
        }
        if let Err(error) = &result {
            tracing::warn!(%error, "the delay of pods' packets is not written");
        }
        tokio::select! {
            Ok(()) = changed.changed() => {}
            Ok(()) = pods.changed() => {}
            () = tokio::time::sleep(RETRY), if result.is_err() => {}
        }
    }
}

/// Returns the operations of the next step, and the number of its configuration if another step follows.
fn step(replica: &Replica, pods: &Seen<Pod>) -> (Vec<Op>, Option<i64>) {
    let mut wanted = Wanted::default();
    let mut policed = Vec::new();
    for of in ports::of_pods(replica) {
        let Some(port) = replica.find(PORT, &of.device).next() else { continue };
        let iface_id = of.key();
        match asked(&iface_id, of.uid.as_deref(), pods) {
            Some(Some(netem)) => {
                let pod = format!("{}/{}", of.namespace, of.name);
                drop(wanted.ports.insert(port, PortNetem { iface_id, pod, settings: settings(netem) }));
            }
            Some(None) => {}
            None => drop(wanted.unknown.insert(port)),
        }
        policed.extend(Interface::find(replica, &of.device).and_then(|row| row.without_policing()));
    }
    let netem::Step { mut ops, again } = netem::step(replica, &wanted);
    ops.extend(policed);
    let Some(settings) = Settings::find(replica).filter(|_| again) else { return (ops, None) };
    ops.push(settings.count_cfg());
    (ops, Some(settings.next_cfg() + 1))
}

/// Returns what a pod asks for. `uid` is that of its port. `None` if the pod is not known, or if its annotations are not readable:
/// what is in force stays.
pub fn asked(pod: &str, uid: Option<&str>, pods: &Seen<Pod>) -> Option<Option<Netem>> {
    let pod = Pod::find(pods, pod, uid)?;
    pod.netem.as_ref().ok().copied()
}

/// Returns the settings of a row.
pub fn settings(netem: Netem) -> BTreeMap<&'static str, String> {
    let Netem { latency, jitter, loss, limit } = netem;
    let micros = |millis: u32| u64::from(millis) * 1000;
    let all = [
        ("latency", micros(latency)),
        ("jitter", micros(jitter)),
        ("loss", u64::from(loss)),
        ("limit", u64::from(limit)),
    ];
    all.into_iter().filter(|(_, value)| *value > 0).map(|(key, value)| (key, value.to_string())).collect()
}
