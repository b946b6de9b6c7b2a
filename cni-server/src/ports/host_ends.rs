//! The host ends of pods' links that have no port. Such a host end is of a pod that exists and has lost its port, or it is
//! dead if it has had none for longer than an ADD can take, because an ADD creates the device before the port.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use cni_wire::rpc::Attachment;
use links::{Link, LinkError, LinkKind, Links};
use ovn::local::Interface;

use super::Plugged;
use crate::attach::Label;
use crate::ovs::Ovs;
use crate::seen::{Pod, Seen};

/// The host ends without a port, each with the time when it was first seen without one.
#[derive(Debug, Default)]
pub(super) struct Portless(BTreeMap<String, Instant>);

impl Portless {
    /// Takes the host ends without a port at `now`. Returns those that have had none for `grace`.
    pub(super) fn since(&mut self, found: BTreeSet<String>, now: Instant, grace: Duration) -> Vec<String> {
        self.0.retain(|name, _| found.contains(name));
        for name in found {
            self.0.entry(name).or_insert(now);
        }
        let dead = self.0.iter().filter(|(_, since)| now.duration_since(**since) >= grace);
        dead.map(|(name, _)| name.clone()).collect()
    }
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
pub(super) fn without_port<'a>(ovs: &Ovs, links: &'a [Link]) -> Vec<&'a Link> {
    let host_ends = links.iter().filter(|link| link.kind == LinkKind::Veth && is_host_end(&link.name));
    ovs.read(|replica| host_ends.filter(|link| Interface::find(replica, &link.name).is_none()).collect())
}

/// Sorts host ends without a port: the attachments of pods that exist and have no other port, and the names of all others.
pub(super) fn sort(
    host_ends: Vec<&Link>,
    plugged: &[Plugged],
    pods: &Seen<Pod>,
) -> (Vec<Attachment>, BTreeSet<String>) {
    let (mut lost, mut dead) = (Vec::new(), BTreeSet::new());
    let port = |a: &Attachment| api::pod_port(&a.pod_name, &a.pod_namespace);
    let connected: BTreeSet<String> = plugged.iter().map(|plugged| port(&plugged.attachment)).collect();
    for link in host_ends {
        let attachment = Label::parse(&link.alias).and_then(|label| label.attachment(pods));
        match attachment.filter(|attachment| !connected.contains(&port(attachment))) {
            Some(attachment) => lost.push(attachment),
            None => drop(dead.insert(link.name.clone())),
        }
    }
    (lost, dead)
}

/// Labels the host ends of earlier versions, which had no labels.
pub(super) async fn label(links: &Links, plugged: &[Plugged], all: &[Link]) {
    let bare: BTreeSet<&str> = all
        .iter()
        .filter(|link| link.kind == LinkKind::Veth && link.alias.is_empty())
        .map(|link| link.name.as_str())
        .collect();
    for port in plugged.iter().filter(|port| bare.contains(port.device.as_str())) {
        let Some(alias) = Label::of(&port.attachment).and_then(|label| label.print()) else { continue };
        if let Err(error) = links.set_alias(&port.device, &alias).await {
            tracing::warn!(device = port.device, %error, "a host end was not labelled");
        }
    }
}

/// Sets host ends of ours up that somebody has set down.
pub(super) async fn set_up(links: &Links, all: &[Link]) {
    let is_ours = |link: &&Link| is_host_end(&link.name) && Label::parse(&link.alias).is_some();
    for link in all.iter().filter(is_ours).filter(|link| !link.up) {
        match links.set_up(link).await {
            Ok(()) => tracing::warn!(device = link.name, "a host end was down"),
            Err(error) => tracing::warn!(device = link.name, %error, "a host end is down"),
        }
    }
}

pub(super) async fn delete(links: &Links, link: &str) -> Result<(), LinkError> {
    tracing::info!(link, "deleting a host end without a port");
    links.delete(link).await.map(drop)
}

/// Returns whether the name has the form of [`crate::attach::host_ifname`].
pub(crate) fn is_host_end(name: &str) -> bool {
    let hex = |id: &str| id.len() == 12 && id.bytes().all(|b| b.is_ascii_hexdigit());
    name.strip_suffix("_h").is_some_and(hex)
}

#[cfg(test)]
mod tests {
    use super::super::tests::{pod, port};
    use super::*;

    #[test]
    fn a_host_end_without_a_port_is_of_a_pod_or_dead() {
        let host_end = |name: &str, alias: &str| Link {
            index: 1,
            name: format!("{name}_h"),
            up: true,
            noarp: false,
            mtu: 1400,
            mac: vec![],
            kind: LinkKind::Veth,
            alias: alias.to_owned(),
        };
        let all = [
            host_end("runs", "kube-ovn runs eth0 uid-a /netns/a"),
            host_end("gone", "kube-ovn gone eth0 uid-gone /netns/b"),
            host_end("earlier", "kube-ovn earlier eth0 uid-c /netns/c"),
            host_end("bare", ""),
        ];
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
