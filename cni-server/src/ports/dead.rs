//! Finds dead ports. A port is dead if its device is gone, if both its pod (by uid) and its namespace are gone, or if its
//! pod is gone in two comparisons with the kernel in a row: a runtime that is killed during an ADD leaves the namespace and
//! forgets the container.

use std::collections::BTreeSet;
use std::path::Path;

use links::{Link, Links};

use super::Plugged;
use crate::seen::{Pod, Seen};

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
pub(super) struct Podless(BTreeSet<String>);

impl Podless {
    /// Returns those whose pods were gone in the last comparison and are in this one.
    pub(super) fn still(&mut self, plugged: &[Plugged], pods: &Seen<Pod>) -> BTreeSet<String> {
        let gone = plugged.iter().filter(|port| !has_pod(port, pods));
        let before = std::mem::replace(&mut self.0, gone.map(|port| port.attachment.container_id.clone()).collect());
        before.intersection(&self.0).cloned().collect()
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

#[cfg(test)]
mod tests {
    use super::super::tests::{pod, port};
    use super::*;

    #[test]
    fn only_what_is_certainly_dead_goes() {
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
        let pod = pod("uid-a");
        let both = Seen { synced: true, objects: [("a.ns".to_owned(), pod.clone()), ("b.ns".to_owned(), pod)].into() };
        let one = Seen { synced: true, objects: [("a.ns".to_owned(), both.objects["a.ns"].clone())].into() };
        let ports = [port("a", "/proc/self/ns/net"), port("gone", "/proc/self/ns/net")];
        let mut podless = Podless::default();
        assert!(podless.still(&ports, &Seen::default()).is_empty(), "nothing is known of the pods yet");
        assert!(podless.still(&ports, &both).is_empty(), "it may be on its way out by itself");
        assert_eq!(podless.still(&ports, &one), ["gone".to_owned()].into());
    }
}
