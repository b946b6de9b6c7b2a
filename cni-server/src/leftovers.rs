//! Finds and removes what containers have left, by comparing the Interface rows, the kernel's links and the pods.
//!
//! A runtime can lose a DEL, for example when the node restarts. The agent removes only what is certainly dead. A port is
//! dead if its device is gone, if both its pod (by uid) and its namespace are gone, or if its pod is gone in two
//! comparisons with the kernel in a row: a runtime that is killed during an ADD leaves the namespace and forgets the
//! container. A host end is dead if its pod is gone and it has had no port for longer than an ADD can take, because an ADD
//! creates the device before the port.
//!
//! A host end without a port whose pod exists has lost it, for example with the whole database of Open vSwitch. The agent
//! adds the port again. The host end says which container and which pod it is of ([`Label`]).
//!
//! The agent checks the ports when a pod of this node is deleted. It compares everything with the kernel when the session
//! with Open vSwitch begins, and at intervals, because the kernel announces neither that a namespace is gone nor which pod
//! a device belonged to.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::{Duration, Instant};

use cni_wire::rpc::Attachment;
use links::{Link, LinkError, Links};
use ovn::local::Interface;
use ovsdb::Replica;
use tokio::sync::watch;

use crate::attach::Label;
use crate::attachments::Attachments;
use crate::ovs::Ovs;
use crate::seen::{Pod, Seen};

/// The port of a pod, from its row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plugged {
    /// The device.
    pub device: String,
    /// The attachment that it belongs to.
    pub attachment: Attachment,
}

/// Returns all ports of containers.
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

/// Returns the dead ports, given this node's pods, the containers whose pods were gone twice in a row, and the names of the
/// kernel's links if they were read. The links must be read after the ports, because a device exists before its port.
pub fn dead(
    plugged: Vec<Plugged>,
    links: Option<&BTreeSet<String>>,
    pods: &Seen<Pod>,
    podless: &BTreeSet<String>,
) -> Vec<Plugged> {
    let lives = |port: &Plugged| {
        let a = &port.attachment;
        let device = links.is_none_or(|links| links.contains(&port.device));
        let netns = || a.netns.as_ref().is_some_and(|path| Path::new(path).exists());
        device && (has_pod(port, pods) || !podless.contains(&a.container_id) && netns())
    };
    plugged.into_iter().filter(|port| !lives(port)).collect()
}

/// Returns whether the port's pod exists, or is not known to be gone.
fn has_pod(port: &Plugged, pods: &Seen<Pod>) -> bool {
    let a = &port.attachment;
    let name = api::pod_port(&a.pod_name, &a.pod_namespace);
    let known = |pod: &Pod| a.pod_uid.as_deref().is_none_or(|uid| pod.has_uid(uid));
    !pods.synced || pods.objects.get(&name).is_some_and(known)
}

/// The containers whose pods were gone in the last comparison with the kernel.
#[derive(Debug, Default)]
struct Podless(BTreeSet<String>);

impl Podless {
    /// Returns those whose pods were gone in the last comparison and are in this one.
    fn still(&mut self, plugged: &[Plugged], pods: &Seen<Pod>) -> BTreeSet<String> {
        let gone = plugged.iter().filter(|port| !has_pod(port, pods));
        let before = std::mem::replace(&mut self.0, gone.map(|port| port.attachment.container_id.clone()).collect());
        before.intersection(&self.0).cloned().collect()
    }
}

/// The host ends without a port, each with the time when it was first seen without one.
#[derive(Debug, Default)]
struct Portless(BTreeMap<String, Instant>);

impl Portless {
    /// Takes the host ends without a port at `now`. Returns those that have had none for `grace`.
    fn since(&mut self, found: BTreeSet<String>, now: Instant, grace: Duration) -> Vec<String> {
        self.0.retain(|name, _| found.contains(name));
        for name in found {
            self.0.entry(name).or_insert(now);
        }
        let dead = self.0.iter().filter(|(_, since)| now.duration_since(**since) >= grace);
        dead.map(|(name, _)| name.clone()).collect()
    }
}

/// The intervals of [`clear`].
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// The time between two comparisons with the kernel.
    pub recheck: Duration,
    /// The time after which a host end without a port is dead: longer than an ADD can take, including its undoing.
    pub grace: Duration,
}

/// Removes what is dead, indefinitely: when a pod is deleted, and after a comparison with the kernel at the start and at each
/// interval. Starts when the pods are listed.
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
    let (mut podless, mut portless) = (Podless::default(), Portless::default());
    let mut connected = ovs.connected();
    loop {
        let (ticked, begun) = tokio::select! {
            _ = again.tick() => (true, false),
            Ok(()) = connected.changed() => (false, *connected.borrow_and_update()),
            Ok(()) = pods.changed() => (false, false),
        };
        let plugged = ovs.read(plugged);
        let all = if ticked || begun { look(links).await } else { None };
        if let Some(all) = all.as_deref().filter(|_| *ovs.connected().borrow()) {
            label(links, &plugged, all).await;
            let (lost, dead) = sort(without_port(ovs, all), &plugged, &pods.borrow());
            for attachment in lost {
                let attachments = attachments.clone();
                // A failure is logged there, and the next comparison finds the host end again.
                tokio::spawn(async move { attachments.restore(attachment).await });
            }
            for link in portless.since(dead, Instant::now(), pace.grace) {
                if let Err(error) = delete(links, &link).await {
                    tracing::warn!(link, %error, "a host end without a port was not deleted");
                }
            }
        }
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
        for port in dead {
            tracing::info!(device = port.device, pod = port.attachment.pod_name, "unplugging a dead port");
            // A failure is logged there, and the next comparison finds the port again.
            let _ = attachments.del(port.attachment).await;
        }
    }
}

/// Returns the names of these links, and of those that only a question by name finds. The kernel leaves links out of a list
/// that changes while it is read (`NLM_F_DUMP_INTR`), and no running pod may lose its port for that.
pub async fn existing(all: Vec<Link>, plugged: &[Plugged], links: &Links) -> BTreeSet<String> {
    let mut names: BTreeSet<String> = all.into_iter().map(|link| link.name).collect();
    for Plugged { device, .. } in plugged {
        // A link counts as there if the kernel does not answer.
        if !names.contains(device) && !matches!(links.find(device).await, Ok(None)) {
            names.insert(device.clone());
        }
    }
    names
}

async fn look(links: &Links) -> Option<Vec<Link>> {
    links.all().await.inspect_err(|error| tracing::warn!(%error, "the kernel's links are not read")).ok()
}

/// Deletes host ends that have no port and do not say whose they are: an ADD was interrupted right after it had created
/// the device. Call it before the first ADD, and with a live session.
pub async fn delete_orphans(ovs: &Ovs, links: &Links) -> Result<usize, LinkError> {
    let all = links.all().await?;
    let orphans: Vec<&Link> =
        without_port(ovs, &all).into_iter().filter(|link| Label::parse(&link.alias).is_none()).collect();
    for link in &orphans {
        delete(links, &link.name).await?;
    }
    Ok(orphans.len())
}

/// Reads the ports, after the links were read: a device exists before its port.
fn without_port<'a>(ovs: &Ovs, links: &'a [Link]) -> Vec<&'a Link> {
    let host_ends = links.iter().filter(|link| link.veth && is_host_end(&link.name));
    ovs.read(|replica| host_ends.filter(|link| Interface::find(replica, &link.name).is_none()).collect())
}

/// Sorts host ends without a port: the attachments of pods that exist and have no other port, and the names of all others.
fn sort(host_ends: Vec<&Link>, plugged: &[Plugged], pods: &Seen<Pod>) -> (Vec<Attachment>, BTreeSet<String>) {
    let (mut lost, mut dead) = (Vec::new(), BTreeSet::new());
    let port = |a: &Attachment| api::pod_port(&a.pod_name, &a.pod_namespace);
    let connected: BTreeSet<String> = plugged.iter().map(|plugged| port(&plugged.attachment)).collect();
    for link in host_ends {
        let label = Label::parse(&link.alias);
        let name = label.as_ref().and_then(|label| {
            let mut pods = pods.objects.iter();
            let (name, _) = pods.find(|(name, pod)| pod.has_uid(&label.pod_uid) && !connected.contains(*name))?;
            // A pod's name can contain dots, a namespace's cannot.
            name.rsplit_once('.')
        });
        match (label, name) {
            (Some(label), Some((name, namespace))) => lost.push(label.attachment(name, namespace)),
            _ => drop(dead.insert(link.name.clone())),
        }
    }
    (lost, dead)
}

/// Labels the host ends of earlier versions, which had no labels.
async fn label(links: &Links, plugged: &[Plugged], all: &[Link]) {
    let bare: BTreeSet<&str> =
        all.iter().filter(|link| link.veth && link.alias.is_empty()).map(|link| link.name.as_str()).collect();
    for port in plugged.iter().filter(|port| bare.contains(port.device.as_str())) {
        let Some(alias) = Label::of(&port.attachment).and_then(|label| label.print()) else { continue };
        if let Err(error) = links.set_alias(&port.device, &alias).await {
            tracing::warn!(device = port.device, %error, "a host end was not labelled");
        }
    }
}

async fn delete(links: &Links, link: &str) -> Result<(), LinkError> {
    tracing::info!(link, "deleting a host end without a port");
    links.delete(link).await.map(drop)
}

/// Returns whether the name has the form of [`crate::attach::host_ifname`].
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
        // The pods are not listed yet, so only the device counts.
        assert_eq!(names(dead(all.clone(), Some(&links), &Seen::default(), &none)), ["unplugged"]);
        // The links were not read, so only pods and namespaces count.
        assert_eq!(names(dead(all.clone(), None, &pods, &none)), ["gone", "reborn"]);
        // A namespace does not keep a port for ever.
        let podless = ["a", "forced"].map(str::to_owned).into();
        assert_eq!(names(dead(all, None, &pods, &podless)), ["gone", "forced", "reborn"], "a has its pod again");
    }

    #[test]
    fn a_pod_that_stays_gone_takes_its_port_along() {
        let pod = Pod { uid: "uid-a".to_owned(), config_hash: None };
        let both = Seen { synced: true, objects: [("a.ns".to_owned(), pod.clone()), ("b.ns".to_owned(), pod)].into() };
        let one = Seen { synced: true, objects: [("a.ns".to_owned(), both.objects["a.ns"].clone())].into() };
        let ports = [port("a", "/proc/self/ns/net"), port("gone", "/proc/self/ns/net")];
        let mut podless = Podless::default();
        assert!(podless.still(&ports, &Seen::default()).is_empty(), "nothing is known of the pods yet");
        assert!(podless.still(&ports, &both).is_empty(), "it may be on its way out by itself");
        assert_eq!(podless.still(&ports, &one), ["gone".to_owned()].into());
    }

    #[test]
    fn a_host_end_without_a_port_is_of_a_pod_or_dead() {
        let host_end = |name: &str, alias: &str| Link {
            index: 1,
            name: format!("{name}_h"),
            up: true,
            mtu: 1400,
            mac: vec![],
            veth: true,
            loopback: false,
            alias: alias.to_owned(),
        };
        let all = [
            host_end("runs", "kube-ovn runs eth0 uid-a /netns/a"),
            host_end("gone", "kube-ovn gone eth0 uid-gone /netns/b"),
            host_end("earlier", "kube-ovn earlier eth0 uid-c /netns/c"),
            host_end("bare", ""),
        ];
        let pod = |uid: &str| Pod { uid: uid.to_owned(), config_hash: None };
        let pods = [("a.b.ns".to_owned(), pod("uid-a")), ("c.ns".to_owned(), pod("uid-c"))];
        let pods = Seen { synced: true, objects: pods.into() };
        // A later container of pod c has a port.
        let (lost, dead) = sort(all.iter().collect(), &[port("c", "/netns/d")], &pods);
        let lost: Vec<_> =
            lost.iter().map(|a| (&*a.container_id, &*a.pod_name, &*a.pod_namespace, a.netns.as_deref())).collect();
        assert_eq!(lost, [("runs", "a.b", "ns", Some("/netns/a"))]);
        assert_eq!(dead.into_iter().collect::<Vec<_>>(), ["bare_h", "earlier_h", "gone_h"]);
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
