//! Keeps the ports of pods as ADD made them, and removes those that containers have left.
//!
//! Three things are compared: the Interface rows, the kernel's links, and what the API server knows of the pods. The host
//! end of a pod's link says which container and which pod it is of ([`Label`]), so that its row can be made again.
//!
//! - A port whose row has other `external_ids` than ADD wrote gets them back. They decide whose traffic the port carries
//!   ([`wanted`]).
//! - A host end without a port whose pod exists has lost it, for example with the whole database of Open vSwitch. The port is
//!   added again ([`host_ends`]).
//! - A runtime can lose a DEL, for example when the node restarts. Only what is certainly dead is removed ([`dead`]).
//!
//! Rows are compared when the database changes, and ports when a pod of this node is deleted. Everything is compared with the
//! kernel when the session with Open vSwitch begins, and at intervals, because the kernel announces neither that a namespace
//! is gone nor which pod a device belonged to.

mod dead;
mod host_ends;
mod tunnels;
mod wanted;

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use cni_wire::rpc::Attachment;
use links::{Link, Links};
use ovn::local::Interface;
use ovsdb::Replica;

use crate::attach::Attacher;
use crate::attachments::Attachments;
use dead::Podless;
use host_ends::Portless;
use tunnels::Tunnels;
use wanted::Wanted;

pub use dead::{dead, existing};
pub use host_ends::delete_orphans;
pub(crate) use host_ends::is_host_end;

/// The port of a pod, from its row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plugged {
    /// The device.
    pub device: String,
    /// The attachment that it belongs to.
    pub attachment: Attachment,
}

/// Whose port a row is. The rows of kube-ovn, which ran on the node before, say this much, and not which container the port
/// belongs to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OfPod {
    /// The device.
    pub device: String,
    /// The pod's namespace.
    pub namespace: String,
    /// The pod's name.
    pub name: String,
    /// The pod's UID, if the row says it.
    pub uid: Option<String>,
}

impl OfPod {
    /// The logical port, which is also the name of the pod in [`crate::seen::Seen`].
    pub fn key(&self) -> String {
        api::pod_port(&self.name, &self.namespace)
    }
}

fn of_vendor(replica: &Replica) -> impl Iterator<Item = Interface<'_>> {
    Interface::all(replica).filter(|row| row.external_id(ovn::VENDOR.0) == Some(ovn::VENDOR.1))
}

/// Returns all ports of pods.
pub fn of_pods(replica: &Replica) -> Vec<OfPod> {
    let pods = of_vendor(replica).filter_map(|row| {
        let text = |key| row.external_id(key).map(str::to_owned);
        Some(OfPod {
            device: row.name()?.to_owned(),
            namespace: text("pod_namespace")?,
            name: text("pod_name")?,
            uid: text("pod_uid"),
        })
    });
    pods.collect()
}

/// Returns all ports of containers.
pub fn plugged(replica: &Replica) -> Vec<Plugged> {
    of_vendor(replica)
        .filter_map(|row| {
            let text = |key| row.external_id(key).map(str::to_owned);
            Some(Plugged {
                device: row.name()?.to_owned(),
                attachment: Attachment {
                    cni_version: String::new(),
                    container_id: text("container_id")?,
                    netns: text("pod_netns"),
                    ifname: text("ifname").unwrap_or_default(),
                    pod_name: text("pod_name").unwrap_or_default(),
                    pod_namespace: text("pod_namespace").unwrap_or_default(),
                    pod_uid: text("pod_uid"),
                },
            })
        })
        .collect()
}

/// The intervals of [`keep`].
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// The time between two comparisons with the kernel.
    pub recheck: Duration,
    /// The time after which a host end without a port is dead: longer than an ADD can take, including its undoing.
    pub grace: Duration,
}

/// Keeps the ports, indefinitely. Starts when the pods are listed.
pub async fn keep(attacher: &Attacher, attachments: &Attachments, pace: Pace) {
    let Attacher { ovs, links, .. } = attacher;
    let mut pods = attacher.pods.clone();
    // The sender lives as long as the process.
    let _ = pods.wait_for(|seen| seen.synced).await;
    let mut again = tokio::time::interval(pace.recheck);
    again.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let (mut podless, mut portless, mut wanted) = (Podless::default(), Portless::default(), Wanted::default());
    let (mut connected, mut changed) = (ovs.connected(), ovs.changed());
    let mut tunnels = Tunnels::of(attacher);
    loop {
        let (ticked, begun) = tokio::select! {
            _ = again.tick() => (true, false),
            Ok(()) = connected.changed() => (false, *connected.borrow_and_update()),
            Ok(()) = changed.changed() => {
                restore(attachments, wanted.compare(attacher).await);
                continue;
            }
            Ok(()) = pods.changed() => (false, false),
            () = tunnels.changed() => {
                wanted.forget();
                restore(attachments, wanted.compare(attacher).await);
                continue;
            }
        };
        let mut plugged = ovs.read(plugged);
        let all = if ticked || begun { look(links).await } else { None };
        if let Some(all) = all.as_deref().filter(|_| *ovs.connected().borrow()) {
            host_ends::label(links, &plugged, all).await;
            host_ends::set_up(links, all).await;
            let (lost, dead) = host_ends::sort(host_ends::without_port(ovs, all), &plugged, &pods.borrow());
            restore(attachments, lost);
            for link in portless.since(dead, Instant::now(), pace.grace) {
                if let Err(error) = host_ends::delete(links, &link).await {
                    tracing::warn!(link, %error, "a host end without a port was not deleted");
                }
            }
            wanted.forget();
        }
        // A row that somebody changed does not say whose port it is.
        let different = wanted.compare(attacher).await;
        let is_different =
            |port: &Plugged| different.iter().any(|of| crate::attach::host_ifname(&of.container_id) == port.device);
        plugged.retain(|port| !is_different(port));
        restore(attachments, different);
        let names = match all {
            Some(all) => Some(existing(all, &plugged, links).await),
            None => None,
        };
        let dead = {
            let pods = pods.borrow_and_update();
            // Two comparisons in a row are an interval apart.
            let podless = if ticked { podless.still(&plugged, &pods) } else { BTreeSet::new() };
            dead(plugged, names.as_ref(), &pods, &podless)
        };
        // At once, so that they are one transaction. A failure is logged there, and the next comparison finds the port again.
        let dead = dead.into_iter().map(|port| {
            tracing::info!(device = port.device, pod = port.attachment.pod_name, "unplugging a dead port");
            attachments.del(port.attachment)
        });
        drop(futures::future::join_all(dead).await);
    }
}

/// Requests the ports of these running containers.
fn restore(attachments: &Attachments, all: Vec<Attachment>) {
    for attachment in all {
        let attachments = attachments.clone();
        // A failure is logged there, and the next comparison finds the port again.
        tokio::spawn(async move { attachments.restore(attachment).await });
    }
}

async fn look(links: &Links) -> Option<Vec<Link>> {
    links.all().await.inspect_err(|error| tracing::warn!(%error, "the kernel's links are not read")).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seen::Pod;

    pub(super) fn pod(uid: &str) -> Pod {
        Pod {
            uid: uid.to_owned(),
            config_hash: None,
            mirror: Ok(None),
            netem: Ok(None),
            limits: Default::default(),
            routes: Ok(Vec::new()),
            going: false,
        }
    }

    pub(super) fn port(pod: &str, netns: &str) -> Plugged {
        Plugged {
            device: format!("{pod}_h"),
            attachment: Attachment {
                cni_version: String::new(),
                container_id: pod.to_owned(),
                netns: Some(netns.to_owned()),
                ifname: "eth0".to_owned(),
                pod_name: pod.to_owned(),
                pod_namespace: "ns".to_owned(),
                pod_uid: Some(format!("uid-{pod}")),
            },
        }
    }
}
