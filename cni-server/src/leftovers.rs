//! What containers of another time left behind: found from the Interface rows, the kernel's links and the API.
//!
//! A runtime may lose a DEL: the node was restarted, or its own record was. Promise: only what is certainly dead goes. A
//! port is dead when its device is gone, when both its pod (by uid) and its namespace are, or when its pod has been gone from
//! one comparison with the kernel to the next: a runtime that is killed amid an ADD leaves the namespace and forgets the
//! container. A host end is dead when it has had no port for longer than an ADD may take: one that is under way makes the
//! device first.
//!
//! Ports are looked at when a pod of this node goes, and all is compared with the kernel once in a while: it announces
//! neither that a namespace has gone nor whose a device was.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::{Duration, Instant};

use cni_wire::rpc::Attachment;
use ovn::local::Interface;
use ovsdb::Replica;
use tokio::sync::watch;

use crate::attachments::Attachments;
use crate::link::{Link, LinkError, Links};
use crate::ovs::Ovs;
use crate::seen::{Pod, Seen};

/// A pod's port as its row records it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plugged {
    /// The device.
    pub device: String,
    /// Whose it is.
    pub attachment: Attachment,
}

/// Every port of ours that belongs to a container.
pub fn plugged(replica: &Replica) -> Vec<Plugged> {
    let ours = Interface::all(replica).filter(|row| row.external_id(ovn::VENDOR.0) == Some(ovn::VENDOR.1));
    ours.filter_map(|row| {
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

/// The ports that are dead, given this node's pods, the containers whose pods have been gone for a while, and, when they
/// were looked at, the names of the kernel's links. The links are looked at after the ports, since a port is written when its
/// device is there.
pub fn dead(
    plugged: Vec<Plugged>,
    links: Option<&BTreeSet<String>>,
    pods: &Seen<Pod>,
    forsaken: &BTreeSet<String>,
) -> Vec<Plugged> {
    let lives = |port: &Plugged| {
        let a = &port.attachment;
        let device = links.is_none_or(|links| links.contains(&port.device));
        let netns = || a.netns.as_ref().is_some_and(|path| Path::new(path).exists());
        device && (has_pod(port, pods) || !forsaken.contains(&a.container_id) && netns())
    };
    plugged.into_iter().filter(|port| !lives(port)).collect()
}

/// Whether a port's pod is there, as far as is known.
fn has_pod(port: &Plugged, pods: &Seen<Pod>) -> bool {
    let a = &port.attachment;
    let name = api::pod_port(&a.pod_name, &a.pod_namespace);
    let known = |pod: &Pod| a.pod_uid.as_deref().is_none_or(|uid| pod.has_uid(uid));
    !pods.synced || pods.objects.get(&name).is_some_and(known)
}

/// Containers whose pods were gone at the last comparison with the kernel.
#[derive(Debug, Default)]
struct Forsaken(BTreeSet<String>);

impl Forsaken {
    /// Those whose pods were gone then and are now, as of this comparison.
    fn still(&mut self, plugged: &[Plugged], pods: &Seen<Pod>) -> BTreeSet<String> {
        let gone = plugged.iter().filter(|port| !has_pod(port, pods));
        let before = std::mem::replace(&mut self.0, gone.map(|port| port.attachment.container_id.clone()).collect());
        before.intersection(&self.0).cloned().collect()
    }
}

/// Host ends without a port, each with the time when it was first found so.
#[derive(Debug, Default)]
struct Portless(BTreeMap<String, Instant>);

impl Portless {
    /// Takes in what has no port at `now`; gives what has had none for `grace`.
    fn since(&mut self, found: BTreeSet<String>, now: Instant, grace: Duration) -> Vec<String> {
        self.0.retain(|name, _| found.contains(name));
        for name in found {
            self.0.entry(name).or_insert(now);
        }
        let dead = self.0.iter().filter(|(_, since)| now.duration_since(**since) >= grace);
        dead.map(|(name, _)| name.clone()).collect()
    }
}

/// How often, and how long, [`clear`] waits.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// From one comparison with the kernel to the next.
    pub recheck: Duration,
    /// Until a host end without a port is dead: longer than an ADD may take, its undoing included.
    pub grace: Duration,
}

/// Takes away what is dead, for ever: by the kernel's links too at first and at every recheck, and as soon as a pod goes.
/// Begins when the pods are known.
pub async fn clear(
    attachments: &Attachments,
    ovs: &Ovs,
    links: &Links,
    mut pods: watch::Receiver<Seen<Pod>>,
    pace: Pace,
) {
    // The sender lives as long as the process.
    let _ = pods.wait_for(|seen| seen.synced).await;
    let mut again = tokio::time::interval(pace.recheck);
    again.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let (mut forsaken, mut portless) = (Forsaken::default(), Portless::default());
    loop {
        let thorough = tokio::select! {
            _ = again.tick() => true,
            Ok(()) = pods.changed() => false,
        };
        let plugged = ovs.read(plugged);
        let all = if thorough { look(links).await } else { None };
        if let Some(all) = all.as_deref().filter(|_| *ovs.connected().borrow()) {
            for link in portless.since(host_ends_without_port(ovs, all), Instant::now(), pace.grace) {
                if let Err(error) = delete(links, &link).await {
                    tracing::warn!(link, %error, "a host end without a port was not deleted");
                }
            }
        }
        let names = all.map(|all| all.into_iter().map(|link| link.name).collect());
        let dead = {
            let pods = pods.borrow_and_update();
            let forsaken = if thorough { forsaken.still(&plugged, &pods) } else { BTreeSet::new() };
            dead(plugged, names.as_ref(), &pods, &forsaken)
        };
        for port in dead {
            tracing::info!(device = port.device, pod = port.attachment.pod_name, "unplugging a dead port");
            // Its failure is logged where it happens, and it is found dead again.
            let _ = attachments.del(port.attachment).await;
        }
    }
}

async fn look(links: &Links) -> Option<Vec<Link>> {
    links.all().await.inspect_err(|error| tracing::warn!(%error, "the kernel's links are not compared")).ok()
}

/// Deletes host ends that have no port. Only before the first ADD: one that is under way has a device before it has a
/// port. The caller has seen the session come up.
pub async fn delete_orphans(ovs: &Ovs, links: &Links) -> Result<usize, LinkError> {
    let orphans = host_ends_without_port(ovs, &links.all().await?);
    for link in &orphans {
        delete(links, link).await?;
    }
    Ok(orphans.len())
}

/// The links are older than what is read of the ports here: a port is written when its device is there.
fn host_ends_without_port(ovs: &Ovs, links: &[Link]) -> BTreeSet<String> {
    let host_ends = links.iter().filter(|link| link.veth && is_host_end(&link.name));
    ovs.read(|replica| {
        host_ends.filter(|link| Interface::find(replica, &link.name).is_none()).map(|link| link.name.clone()).collect()
    })
}

async fn delete(links: &Links, link: &str) -> Result<(), LinkError> {
    tracing::info!(link, "deleting a host end without a port");
    links.delete(link).await.map(drop)
}

/// Whether a name is one of [`crate::attach::host_ifname`].
fn is_host_end(name: &str) -> bool {
    let hex = |id: &str| id.len() == 12 && id.bytes().all(|b| b.is_ascii_hexdigit());
    name.strip_suffix("_h").is_some_and(hex)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn port(pod: &str, netns: &str) -> Plugged {
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

    #[test]
    fn only_what_is_certainly_dead_goes() {
        let pod = |uid: &str| Pod { uid: uid.to_owned(), config_hash: None };
        let pods = [("a.ns".to_owned(), pod("uid-a")), ("reborn.ns".to_owned(), pod("another"))];
        let pods = Seen { synced: true, objects: pods.into() };
        let all = vec![
            port("a", "/nonexistent"),
            port("gone", "/nonexistent"),
            port("forced", "/proc/self/ns/net"),
            port("reborn", "/nonexistent"),
            port("unplugged", "/proc/self/ns/net"),
        ];
        let none = BTreeSet::new();
        let links = ["a_h", "gone_h", "forced_h", "reborn_h"].map(str::to_owned).into();
        let names = |dead: Vec<Plugged>| dead.into_iter().map(|p| p.attachment.pod_name).collect::<Vec<_>>();
        assert_eq!(names(dead(all.clone(), Some(&links), &pods, &none)), ["gone", "reborn", "unplugged"]);
        // Nothing is known of the pods yet: only the device counts.
        assert_eq!(names(dead(all.clone(), Some(&links), &Seen::default(), &none)), ["unplugged"]);
        // The kernel was not asked: only pods and namespaces count.
        assert_eq!(names(dead(all.clone(), None, &pods, &none)), ["gone", "reborn"]);
        // A namespace is no sign of life for ever.
        let forsaken = ["a", "forced"].map(str::to_owned).into();
        assert_eq!(names(dead(all, None, &pods, &forsaken)), ["gone", "forced", "reborn"], "a has its pod again");
    }

    #[test]
    fn a_pod_that_stays_gone_takes_its_port_along() {
        let pod = Pod { uid: "uid-a".to_owned(), config_hash: None };
        let both = Seen { synced: true, objects: [("a.ns".to_owned(), pod.clone()), ("b.ns".to_owned(), pod)].into() };
        let one = Seen { synced: true, objects: [("a.ns".to_owned(), both.objects["a.ns"].clone())].into() };
        let ports = [port("a", "/proc/self/ns/net"), port("gone", "/proc/self/ns/net")];
        let mut forsaken = Forsaken::default();
        assert!(forsaken.still(&ports, &Seen::default()).is_empty(), "nothing is known of the pods yet");
        assert!(forsaken.still(&ports, &both).is_empty(), "it may be on its way out by itself");
        assert_eq!(forsaken.still(&ports, &one), ["gone".to_owned()].into());
    }

    #[test]
    fn a_host_end_is_dead_when_no_add_can_be_at_it_any_more() {
        let (start, grace) = (Instant::now(), Duration::from_secs(40));
        let mut portless = Portless::default();
        let mut at = |secs, names: &[&str]| {
            let found = names.iter().map(|name| (*name).to_owned()).collect();
            portless.since(found, start + Duration::from_secs(secs), grace).join(" ")
        };
        assert_eq!(at(0, &["a", "b"]), "");
        assert_eq!(at(30, &["a"]), "", "an ADD may still be at it");
        assert_eq!(at(60, &["a", "b"]), "a", "b had a port meanwhile");
        assert_eq!(at(100, &["b"]), "b");
    }

    #[test]
    fn foreign_links_are_no_host_ends() {
        assert!(is_host_end("9688b4ab4bec_h"));
        for other in ["eth0", "veth_h", "9688b4ab4be_h", "9688b4ab4bec_c", "zzzzzzzzzzzz_h"] {
            assert!(!is_host_end(other), "{other}");
        }
    }
}
