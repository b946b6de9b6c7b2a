//! The ports of running pods, and the removal of those of pods that were deleted without a DEL.

use std::collections::BTreeSet;
use std::time::Duration;

use links::Links;

use cni_server::attachments::Attachments;
use cni_server::ports::{self, Pace};
use cni_wire::rpc::Attachment;

use crate::sandbox::{PodNs, eventually, in_netns, run};
use crate::scene::{Scene, attachment, links, pods};

#[test]
fn what_lost_dels_left_is_found() {
    in_netns(|| async {
        let Scene { sandbox, attacher, .. } = &Scene::new([5, 6, 7]);
        let namespaces = [5, 6, 7].map(|n| (n, PodNs::new()));
        for (n, ns) in &namespaces {
            attacher.add(&attachment(*n, ns)).await.unwrap();
        }
        // 5 loses its device, as after a restart of the node. 6 loses its port. An ADD for 8 was interrupted. Another veth
        // pair never had a port.
        run("ip", &["link", "del", "05cafe012345_h"]);
        sandbox.vsctl(&["del-port", "06cafe012345_h"]);
        run("ip", &["link", "add", "08cafe012345_h", "type", "veth", "peer", "name", "eight"]);
        run("ip", &["link", "add", "veth0", "type", "veth", "peer", "name", "veth1"]);
        let ovs = sandbox.ovs();
        ovs.bridge().await;
        let links = Links::here().unwrap();
        assert_eq!(ports::delete_orphans(&ovs, &links).await.unwrap(), 1);
        let names = links.all().await.unwrap().into_iter().map(|link| link.name).collect();
        // A list of links can be incomplete.
        let asked = ports::existing(Vec::new(), &ovs.read(ports::plugged), &links).await;
        assert_eq!(asked.into_iter().collect::<Vec<_>>(), ["07cafe012345_h"], "05 is gone, and 06 has no port");
        let dead = ports::dead(ovs.read(ports::plugged), Some(&names), &attacher.pods.borrow(), &BTreeSet::new());
        assert_eq!(dead.iter().map(|port| port.device.as_str()).collect::<Vec<_>>(), ["05cafe012345_h"]);
        for (name, there) in
            [("veth0", true), ("06cafe012345_h", true), ("07cafe012345_h", true), ("08cafe012345_h", false)]
        {
            assert_eq!(names.contains(name), there, "{name}");
        }
    });
}

/// The database of Open vSwitch is lost, as far as pods are concerned, also for a pod that an earlier version attached.
#[test]
fn ports_of_running_pods_come_back() {
    in_netns(|| async {
        let scene = Scene::new([5, 6, 7]);
        let attacher = &scene.attacher;
        let attachments = Attachments::spawn(attacher.clone());
        let pods = [5, 6, 7].map(|n| (n, PodNs::new()));
        for (n, pod) in &pods {
            attachments.add(attachment(*n, pod)).await.unwrap();
        }
        run("ip", &["link", "set", "05cafe012345_h", "alias", ""]);
        let pace = Pace { recheck: Duration::from_millis(50), grace: Duration::from_millis(500) };
        let keep = ports::keep(attacher, &attachments, pace);
        let lose_all = async {
            let labelled = || run("ip", &["link", "show", "05cafe012345_h"]).contains("alias kube-ovn");
            eventually("the host end of an earlier version is labelled", labelled).await;
            // 7 is deleted while its port is gone.
            scene.pods.send_replace(crate::scene::pods([5, 6]));
            for host in ["05cafe012345_h", "06cafe012345_h", "07cafe012345_h"] {
                scene.sandbox.vsctl(&["--if-exists", "del-port", host]);
            }
            eventually("7 goes", || links() == ["05cafe012345_h", "06cafe012345_h"]).await;
            let both = || {
                let mut ports: Vec<_> = attacher.ovs.read(ports::plugged).into_iter().map(|p| p.attachment).collect();
                ports.sort_by(|one, other| one.pod_name.cmp(&other.pod_name));
                let wanted =
                    pods[..2].iter().map(|(n, pod)| Attachment { cni_version: String::new(), ..attachment(*n, pod) });
                ports == wanted.collect::<Vec<_>>()
            };
            eventually("5 and 6 have their ports", both).await;
        };
        tokio::select! {
            () = keep => {}
            () = lose_all => {}
        }
        for (n, pod) in &pods[..2] {
            attachments.check(attachment(*n, pod), vec![]).await.unwrap();
        }
    });
}

#[test]
fn a_pod_that_goes_without_a_del_is_unplugged() {
    in_netns(|| async {
        let scene = Scene::new([5, 6, 7, 8]);
        let attacher = &scene.attacher;
        let attachments = Attachments::spawn(attacher.clone());
        // Paths of the namespaces that can be deleted before the namespaces.
        let dir = tempfile::tempdir().unwrap();
        let path = |n: u8| dir.path().join(n.to_string());
        let namespaces = [5, 6, 7, 8].map(|n| (n, PodNs::new()));
        let requests = namespaces.each_ref().map(|(n, ns)| {
            std::os::unix::fs::symlink(ns.path(), path(*n)).unwrap();
            Attachment { netns: Some(path(*n).to_str().unwrap().to_owned()), ..attachment(*n, ns) }
        });
        for request in &requests {
            attachments.add(request.clone()).await.unwrap();
        }
        let ovs = &attacher.ovs;
        let plugged = async |expected: &[u8]| {
            let mut changed = ovs.changed();
            let there = || ovs.read(ports::plugged).into_iter().map(|port| port.attachment.pod_name);
            while there().collect::<BTreeSet<_>>() != expected.iter().map(|n| format!("pod-{n}")).collect() {
                changed.changed().await.unwrap();
            }
        };
        let keep = |recheck| {
            let pace = Pace { recheck, grace: Duration::from_secs(20) };
            ports::keep(attacher, &attachments, pace)
        };
        // Two pods are deleted, and their namespaces are gone. The comparison at the start may find the first one.
        let by_event = async {
            for (n, rest) in [(5, [6, 7, 8].as_slice()), (6, &[7, 8])] {
                std::fs::remove_file(path(n)).unwrap();
                scene.pods.send_replace(pods(rest.iter().copied()));
                plugged(rest).await;
            }
            // A pod is deleted by force: its namespace exists, and its DEL may still come.
            scene.pods.send_replace(pods([8]));
            tokio::time::sleep(Duration::from_millis(300)).await;
            attachments.check(requests[2].clone(), vec![]).await.unwrap();
        };
        tokio::select! {
            () = keep(Duration::from_hours(1)) => {}
            () = by_event => {}
        }
        // The DEL does not come.
        tokio::select! {
            () = keep(Duration::from_millis(100)) => {}
            () = plugged(&[8]) => {}
        }
        attachments.check(requests[3].clone(), vec![]).await.unwrap();
    });
}

#[test]
fn a_host_end_that_stays_without_a_port_is_deleted() {
    in_netns(|| async {
        let scene = Scene::new([5]);
        let attacher = &scene.attacher;
        let attachments = Attachments::spawn(attacher.clone());
        let pod = PodNs::new();
        attachments.add(attachment(5, &pod)).await.unwrap();
        for (host, peer) in [("06cafe012345_h", "a"), ("veth0", "b")] {
            run("ip", &["link", "add", host, "type", "veth", "peer", "name", peer]);
        }
        let pace = Pace { recheck: Duration::from_millis(50), grace: Duration::from_millis(150) };
        tokio::select! {
            () = ports::keep(attacher, &attachments, pace) => {}
            () = eventually("the host end goes", || links() == ["05cafe012345_h"]) => {}
        }
        run("ip", &["link", "show", "veth0"]);
        attachments.check(attachment(5, &pod), vec![]).await.unwrap();
    });
}

#[test]
fn a_host_end_that_is_down_is_seen_and_set_up() {
    in_netns(|| async {
        let scene = Scene::new([5]);
        let attachments = Attachments::spawn(scene.attacher.clone());
        let pod = PodNs::new();
        attachments.add(attachment(5, &pod)).await.unwrap();
        run("ip", &["link", "set", "05cafe012345_h", "down"]);
        let why = scene.attacher.check(&attachment(5, &pod), &[]).await.unwrap_err().to_string();
        assert!(why.contains("05cafe012345_h is down"), "{why}");
        let pace = Pace { recheck: Duration::from_millis(50), grace: Duration::from_secs(20) };
        let up = async {
            while scene.attacher.check(&attachment(5, &pod), &[]).await.is_err() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::select! {
            () = ports::keep(&scene.attacher, &attachments, pace) => {}
            up = tokio::time::timeout(Duration::from_secs(10), up) => up.unwrap(),
        }
    });
}

/// Somebody changes what Open vSwitch knows of the ports, or removes one. No comparison with the kernel is due.
#[test]
fn ports_of_running_pods_are_repaired_at_once() {
    in_netns(|| async {
        let scene = Scene::new([5, 6]);
        let attacher = &scene.attacher;
        let attachments = Attachments::spawn(attacher.clone());
        let pods = [5, 6].map(|n| (n, PodNs::new()));
        attachments.add(attachment(5, &pods[0].1)).await.unwrap();
        let pace = Pace { recheck: Duration::from_hours(1), grace: Duration::from_hours(1) };
        let (five, six) = ("05cafe012345_h", "06cafe012345_h");
        let ids = |device: &str| scene.sandbox.vsctl(&["get", "interface", device, "external_ids"]);
        let change = async {
            // This one comes later.
            attachments.add(attachment(6, &pods[1].1)).await.unwrap();
            let (own, before) = (ids(five), ids(six));
            // It would get the traffic of the other pod.
            scene.sandbox.vsctl(&["set", "interface", six, "external_ids:iface-id=pod-5.ns"]);
            eventually("6 has its logical port again", || ids(six) == before).await;
            for key in ["vendor", "container_id", "pod_netns", "pod_uid", "ip", "ifname"] {
                scene.sandbox.vsctl(&["remove", "interface", six, "external_ids", key]);
                eventually(key, || ids(six) == before).await;
            }
            scene.sandbox.vsctl(&["clear", "interface", six, "external_ids"]);
            eventually("6 has all of them again", || ids(six).contains("iface-id=pod-6.ns")).await;
            scene.sandbox.vsctl(&["set", "interface", six, "external_ids:note=mine"]);
            // Keys of others are left alone.
            scene.sandbox.vsctl(&["del-port", five]);
            eventually("5 has its port again", || attacher.ovs.has_port("pod-5.ns")).await;
            eventually("5 has its flows again", || ids(five) == own).await;
            assert!(ids(six).contains("note=mine"));
            // A DEL is no loss.
            attachments.del(attachment(5, &pods[0].1)).await.unwrap();
            scene.pods.send_replace(crate::scene::pods([6]));
            attachments.check(attachment(6, &pods[1].1), vec![]).await.unwrap();
            assert!(!attacher.ovs.has_port("pod-5.ns"));
        };
        tokio::select! {
            () = ports::keep(attacher, &attachments, pace) => {}
            () = change => {}
        }
        assert_eq!(*attacher.restored.borrow(), 9);
    });
}
