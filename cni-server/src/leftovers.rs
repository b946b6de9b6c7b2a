//! What containers of another time left behind: found from the Interface rows, the kernel's links and the API.
//!
//! A runtime may lose a DEL: the node was restarted, or its own record was. Promise: only what is certainly dead goes. A
//! port is dead when its device is gone, when both its pod (by uid) and its namespace are, or when its pod has been gone from
//! one comparison with the kernel to the next: a runtime that is killed amid an ADD leaves the namespace and forgets the
//! container. A host end is dead when it has no port.
//!
//! Ports are looked at when a pod of this node goes, and all is compared with the kernel once in a while: it announces
//! neither that a namespace has gone nor whose a device was.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use cni_wire::rpc::Attachment;
use ovn::local::Interface;
use ovsdb::Replica;
use tokio::sync::watch;

use crate::attachments::Attachments;
use crate::link::{LinkError, Links};
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

/// Unplugs what is dead, for ever: with the kernel's links at first and every `recheck`, and as soon as a pod goes.
/// Begins when the pods are known.
pub async fn clear(
    attachments: &Attachments,
    ovs: &Ovs,
    links: &Links,
    mut pods: watch::Receiver<Seen<Pod>>,
    recheck: Duration,
) {
    // The sender lives as long as the process.
    let _ = pods.wait_for(|seen| seen.synced).await;
    let mut again = tokio::time::interval(recheck);
    again.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut forsaken = Forsaken::default();
    loop {
        let thorough = tokio::select! {
            _ = again.tick() => true,
            Ok(()) = pods.changed() => false,
        };
        let plugged = ovs.read(plugged);
        let names = if thorough { names(links).await } else { None };
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

async fn names(links: &Links) -> Option<BTreeSet<String>> {
    let all =
        links.all().await.inspect_err(|error| tracing::warn!(%error, "ports without a device are not looked for"));
    Some(all.ok()?.into_iter().map(|link| link.name).collect())
}

/// Deletes host ends that have no port. Only before the first ADD: one that is under way has a device before it has a
/// port. The caller has seen the session come up.
pub async fn delete_orphans(ovs: &Ovs, links: &Links) -> Result<usize, LinkError> {
    let with_port: BTreeSet<String> =
        ovs.read(|replica| Interface::all(replica).filter_map(|row| row.name().map(str::to_owned)).collect());
    let mut deleted = 0;
    for link in links.all().await? {
        if link.veth && is_host_end(&link.name) && !with_port.contains(&link.name) {
            tracing::info!(link = link.name, "deleting a host end without a port");
            links.delete(&link.name).await?;
            deleted += 1;
        }
    }
    Ok(deleted)
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
        let pod = |uid: &str| Pod { uid: uid.to_owned(), config_hash: None, net: Ok(None) };
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
        let pod = Pod { uid: "uid-a".to_owned(), config_hash: None, net: Ok(None) };
        let both = Seen { synced: true, objects: [("a.ns".to_owned(), pod.clone()), ("b.ns".to_owned(), pod)].into() };
        let one = Seen { synced: true, objects: [("a.ns".to_owned(), both.objects["a.ns"].clone())].into() };
        let ports = [port("a", "/proc/self/ns/net"), port("gone", "/proc/self/ns/net")];
        let mut forsaken = Forsaken::default();
        assert!(forsaken.still(&ports, &Seen::default()).is_empty(), "nothing is known of the pods yet");
        assert!(forsaken.still(&ports, &both).is_empty(), "it may be on its way out by itself");
        assert_eq!(forsaken.still(&ports, &one), ["gone".to_owned()].into());
    }

    #[test]
    fn foreign_links_are_no_host_ends() {
        assert!(is_host_end("9688b4ab4bec_h"));
        for other in ["eth0", "veth_h", "9688b4ab4be_h", "9688b4ab4bec_c", "zzzzzzzzzzzz_h"] {
            assert!(!is_host_end(other), "{other}");
        }
    }
}
