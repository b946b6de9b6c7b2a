//! ADD and DEL.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use api::Placement;
use cni_server::attach::{Attacher, host_ifname};
use cni_server::attachments::Attachments;
use cni_server::leftovers::{self, Pace};
use cni_server::link::Links;
use cni_server::metrics::Metrics;
use cni_server::ovs::{OvsError, PodPort};
use cni_server::seen::{Pod, Seen};
use cni_wire::Code;
use cni_wire::rpc::Attachment;
use tokio::sync::watch;

use crate::room::{PodNs, Room, eventually, in_netns, run};

pub fn net(n: u8) -> Placement {
    Placement {
        switch: "ovn-default".to_owned(),
        ips: format!("10.16.0.{n},fd00:16::{n}").parse().unwrap(),
        mac: format!("0a:00:00:00:00:{n:02x}").parse().unwrap(),
        cidrs: "10.16.0.0/16,fd00:16::/64".parse().unwrap(),
        gateway: "10.16.0.1,fd00:16::1".parse().unwrap(),
        complete: true,
    }
}

pub fn pods(nets: impl IntoIterator<Item = (u8, Option<Placement>)>) -> Seen<Pod> {
    let objects = nets
        .into_iter()
        .map(|(n, net)| (format!("pod-{n}.ns"), Pod { uid: format!("uid-{n}"), config_hash: None, net: Ok(net) }));
    Seen { synced: true, objects: objects.collect() }
}

pub fn attachment(n: u8, netns: &PodNs) -> Attachment {
    Attachment {
        cni_version: "1.0.0".to_owned(),
        container_id: format!("{n:02x}cafe0123456789abcdef"),
        netns: Some(netns.path()),
        ifname: "eth0".to_owned(),
        pod_name: format!("pod-{n}"),
        pod_namespace: "ns".to_owned(),
        pod_uid: Some(format!("uid-{n}")),
    }
}

pub fn attacher(room: &Room, pods: watch::Receiver<Seen<Pod>>, patience: Duration) -> Attacher {
    Attacher {
        ovs: room.ovs(),
        links: Links::here().unwrap(),
        pods,
        subnets: watch::channel(Seen::default()).1,
        mtu: watch::channel(Some(1400)).1,
        patience,
        metrics: Metrics::register(&prometheus::Registry::new(), "n1").unwrap(),
        making: Arc::default(),
    }
}

fn links() -> Vec<String> {
    run("ip", &["-br", "link"])
        .lines()
        .filter_map(|l| l.split('@').next())
        .filter(|n| n.ends_with("_h"))
        .map(str::to_owned)
        .collect()
}

#[test]
fn add_plugs_a_pod_and_del_leaves_nothing() {
    in_netns(|| async {
        let room = Room::new();
        room.play_ovn_controller();
        let (_pods, seen) = watch::channel(pods([(5, Some(net(5)))]));
        let attacher = attacher(&room, seen, Duration::from_secs(20));
        let pod = PodNs::new();
        let attachment = attachment(5, &pod);
        let host = host_ifname(&attachment.container_id);

        let reply = attacher.add(&attachment).await.unwrap();
        assert_eq!(reply.ips[0].address, "10.16.0.5/16");
        assert_eq!(reply.ips[1].address, "fd00:16::5/64");
        assert_eq!(reply.routes.len(), 2);

        let link = pod.run("ip", &["link", "show", "eth0"]).await;
        assert!(link.contains("mtu 1400") && link.contains("0a:00:00:00:00:05") && link.contains(",UP"), "{link}");
        let addresses = pod.run("ip", &["address", "show", "eth0"]).await;
        assert!(addresses.contains("inet 10.16.0.5/16") && addresses.contains("inet6 fd00:16::5/64"), "{addresses}");
        assert!(!addresses.contains("tentative") || addresses.matches("tentative").count() == 1, "{addresses}");
        assert!(pod.run("ip", &["route"]).await.contains("default via 10.16.0.1 dev eth0"));
        assert!(pod.run("ip", &["-6", "route"]).await.contains("default via fd00:16::1 dev eth0"));
        let offload = pod.run("ethtool", &["-k", "eth0"]).await;
        assert!(offload.contains("tx-checksumming: off"), "{offload}");
        assert_eq!(pod.run("cat", &["/proc/sys/net/ipv6/conf/eth0/accept_ra"]).await.trim(), "0");

        let outside = run("ip", &["-6", "address", "show", "dev", &host]);
        assert!(outside.is_empty(), "the host end has an address of its own: {outside}");

        assert_eq!(room.ports(), std::slice::from_ref(&host));
        let ids = room.external_ids(&host);
        let expect = BTreeMap::from([
            ("iface-id", "pod-5.ns"),
            ("vendor", "kube-ovn"),
            ("pod_name", "pod-5"),
            ("pod_namespace", "ns"),
            ("pod_uid", "uid-5"),
            ("container_id", attachment.container_id.as_str()),
            ("attached-mac", "0a:00:00:00:00:05"),
            ("ip", "10.16.0.5,fd00:16::5"),
            ("ovn-installed", "true"),
        ]);
        for (key, value) in expect {
            assert_eq!(ids.get(key).map(String::as_str), Some(value), "{key}");
        }

        attacher.check(&attachment, &[]).await.unwrap();
        let promised = ["10.16.0.5/16", "fd00:16::5/64"].map(|text| text.parse().unwrap());
        attacher.check(&attachment, &promised).await.unwrap();
        for other in ["10.16.0.6/16", "10.16.0.5/24", "fd00:16::6/64"] {
            let error = attacher.check(&attachment, &[other.parse().unwrap()]).await.unwrap_err();
            let expected = format!("eth0 does not have address {other} of prevResult");
            assert_eq!((error.code, error.msg), (Code::DIFFERS, expected));
        }
        pod.run("ip", &["address", "del", "fd00:16::5/64", "dev", "eth0"]).await;
        let error = attacher.check(&attachment, &[]).await.unwrap_err();
        assert_eq!((error.code, error.msg.as_str()), (Code::DIFFERS, "eth0 does not have address fd00:16::5"));

        // A second ADD is refused and harms nothing.
        assert_eq!(attacher.add(&attachment).await.unwrap_err().code, Code::PLUMBING);
        assert_eq!((room.ports().len(), links().len()), (1, 1));

        assert!(attacher.del(&attachment).await.unwrap());
        assert!(!attacher.del(&Attachment { netns: None, ..attachment }).await.unwrap());
        assert_eq!((room.ports().len(), links().len()), (0, 0));
    });
}

#[test]
fn neighbours_are_told_and_no_flow_stays() {
    in_netns(|| async {
        let room = Room::new();
        room.play_ovn_controller();
        let (_pods, seen) = watch::channel(pods([(5, Some(net(5)))]));
        let attacher = attacher(&room, seen, Duration::from_secs(20));
        let pod = PodNs::new();
        let attachment = attachment(5, &pod);
        let told = [
            "arp,dl_dst=ff:ff:ff:ff:ff:ff,arp_op=1,arp_spa=10.16.0.5,arp_tpa=10.16.0.5,arp_sha=0a:00:00:00:00:05",
            "icmp6,dl_dst=33:33:00:00:00:01,icmp_type=136,nd_target=fd00:16::5,nd_tll=0a:00:00:00:00:05",
        ];
        for announcement in told {
            room.ofctl("add-flow", &[&format!("{announcement},dl_src=0a:00:00:00:00:05,actions=normal")]);
        }
        let count = || {
            let count = |text| room.ofctl("dump-aggregate", &[text]).contains("packet_count=0");
            told.map(count)
        };
        assert_eq!(count(), [true, true], "nobody has said anything");
        attacher.add(&attachment).await.unwrap();
        eventually("the ADD announces the addresses", || count() == [false, false]).await;
        let net = net(5);
        attacher.ovs.announce(&host_ifname(&attachment.container_id), net.mac, &net.ips).await.unwrap();
        let flows = room.appctl(&["dpctl/dump-flows"]);
        assert!(!flows.contains("arp") && !flows.contains("icmpv6(type=136"), "{flows}");
        // A port that is gone tells nobody anything; a bridge that is away is an error.
        attacher.del(&attachment).await.unwrap();
        attacher.ovs.announce(&host_ifname(&attachment.container_id), net.mac, &net.ips).await.unwrap();
    });
}

#[test]
fn a_recreated_pod_replaces_the_port_of_its_predecessor() {
    in_netns(|| async {
        let room = Room::new();
        room.play_ovn_controller();
        let (_pods, seen) = watch::channel(pods([(5, Some(net(5)))]));
        let attacher = attacher(&room, seen, Duration::from_secs(20));
        let (old, new) = (PodNs::new(), PodNs::new());
        let first = attachment(5, &old);
        let second = Attachment { container_id: "ffff0123456789ab".to_owned(), ..attachment(5, &new) };
        attacher.add(&first).await.unwrap();
        attacher.add(&second).await.unwrap();
        assert_eq!(room.ports(), [host_ifname(&second.container_id)]);
        // The runtime's late DEL of the first container does not touch the second.
        attacher.del(&first).await.unwrap();
        assert_eq!(links(), [host_ifname(&second.container_id)]);
        attacher.del(&second).await.unwrap();
        assert!(links().is_empty());
    });
}

#[test]
fn an_add_waits_for_the_address_and_gives_up_in_time() {
    in_netns(|| async {
        let room = Room::new();
        let (sender, seen) = watch::channel(pods([(5, None)]));
        let quick = attacher(&room, seen.clone(), Duration::from_secs(2));
        quick.ovs.bridge().await;
        let pod = PodNs::new();
        let error = quick.add(&attachment(5, &pod)).await.unwrap_err();
        assert_eq!(error.code, Code::TRY_AGAIN);
        assert!(error.details.contains("no address yet"), "{error}");
        let error = quick.add(&attachment(6, &pod)).await.unwrap_err();
        assert!(error.details.contains("no such pod"), "{error}");
        let missing = Attachment { netns: Some("/run/netns/absent".to_owned()), ..attachment(5, &pod) };
        assert_eq!(quick.add(&missing).await.unwrap_err().code, Code::ENVIRONMENT);
        let no_netns = Attachment { netns: Some("/etc/hostname".to_owned()), ..attachment(5, &pod) };

        // The address comes, but nobody installs the flows: what was made is undone.
        sender.send_replace(pods([(5, Some(net(5)))]));
        assert!(quick.add(&no_netns).await.is_err());
        let error = quick.add(&attachment(5, &pod)).await.unwrap_err();
        assert_eq!(error.code, Code::TRY_AGAIN);
        assert!(error.details.contains("ovn-controller"), "{error}");
        assert_eq!((room.ports().len(), links().len()), (0, 0));
        assert!(!pod.run("ip", &["-br", "link"]).await.contains("eth0"));

        // Another pod of the same name does not count.
        let other = Attachment { pod_uid: Some("uid-old".to_owned()), ..attachment(5, &pod) };
        assert!(quick.add(&other).await.unwrap_err().details.contains("another uid"));

        // A pod that is deleted while its ADD waits is not waited for.
        let patient = attacher(&room, seen.clone(), Duration::from_secs(20));
        for before in [None, Some(net(5))] {
            sender.send_replace(pods([(5, before)]));
            let start = Instant::now();
            let request = attachment(5, &pod);
            let add = tokio::spawn({
                let patient = patient.clone();
                async move { patient.add(&request).await }
            });
            tokio::time::sleep(Duration::from_millis(300)).await;
            sender.send_replace(pods([]));
            let error = add.await.unwrap().unwrap_err();
            assert!(error.details.contains("deleted") && start.elapsed() < Duration::from_secs(10), "{error}");
            assert_eq!((room.ports().len(), links().len()), (0, 0));
        }
        sender.send_replace(pods([(5, Some(net(5)))]));

        room.play_ovn_controller();
        let patient = attacher(&room, seen, Duration::from_secs(20));
        patient.add(&attachment(5, &pod)).await.unwrap();
    });
}

#[test]
fn what_lost_dels_left_is_found() {
    in_netns(|| async {
        let room = Room::new();
        room.play_ovn_controller();
        let (_pods, seen) = watch::channel(pods([5, 6, 7].map(|n| (n, Some(net(n))))));
        let attacher = attacher(&room, seen, Duration::from_secs(20));
        let namespaces = [5, 6, 7].map(|n| (n, PodNs::new()));
        for (n, ns) in &namespaces {
            attacher.add(&attachment(*n, ns)).await.unwrap();
        }
        // 5 loses its device (its node was restarted), 6 its port, and a veth of someone else has neither.
        run("ip", &["link", "del", "05cafe012345_h"]);
        room.vsctl(&["del-port", "06cafe012345_h"]);
        run("ip", &["link", "add", "veth0", "type", "veth", "peer", "name", "veth1"]);
        let ovs = room.ovs();
        ovs.bridge().await;
        let links = Links::here().unwrap();
        assert_eq!(leftovers::delete_orphans(&ovs, &links).await.unwrap(), 1);
        let names = links.all().await.unwrap().into_iter().map(|link| link.name).collect();
        let dead =
            leftovers::dead(ovs.read(leftovers::plugged), Some(&names), &attacher.pods.borrow(), &BTreeSet::new());
        assert_eq!(dead.iter().map(|port| port.device.as_str()).collect::<Vec<_>>(), ["05cafe012345_h"]);
        assert!(names.contains("veth0") && names.contains("07cafe012345_h") && !names.contains("06cafe012345_h"));
    });
}

#[test]
fn a_pod_that_goes_without_a_del_is_unplugged() {
    in_netns(|| async {
        let room = Room::new();
        room.play_ovn_controller();
        let (sender, seen) = watch::channel(pods([5, 6, 7, 8].map(|n| (n, Some(net(n))))));
        let attacher = attacher(&room, seen.clone(), Duration::from_secs(20));
        let attachments = Attachments::spawn(attacher.clone());
        // A namespace's path, which goes before the namespace.
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
            let pods = || ovs.read(leftovers::plugged).into_iter().map(|port| port.attachment.pod_name);
            while pods().collect::<BTreeSet<_>>() != expected.iter().map(|n| format!("pod-{n}")).collect() {
                changed.changed().await.unwrap();
            }
        };
        let clear = |recheck| {
            let pace = Pace { recheck, grace: Duration::from_secs(20) };
            leftovers::clear(&attachments, ovs, &attacher.links, seen.clone(), pace)
        };
        // Pods are deleted and their namespaces gone. What is found at the start may be the first, not the second.
        let by_event = async {
            for (n, rest) in [(5, [6, 7, 8].as_slice()), (6, &[7, 8])] {
                std::fs::remove_file(path(n)).unwrap();
                sender.send_replace(pods(rest.iter().map(|n| (*n, Some(net(*n))))));
                plugged(rest).await;
            }
            // A pod is deleted by force: its namespace is there, and its DEL may be still to come.
            sender.send_replace(pods([(8, Some(net(8)))]));
            tokio::time::sleep(Duration::from_millis(300)).await;
            attachments.check(requests[2].clone(), vec![]).await.unwrap();
        };
        tokio::select! {
            () = clear(Duration::from_hours(1)) => {}
            () = by_event => {}
        }
        // It does not come.
        tokio::select! {
            () = clear(Duration::from_millis(100)) => {}
            () = plugged(&[8]) => {}
        }
        attachments.check(requests[3].clone(), vec![]).await.unwrap();
    });
}

#[test]
fn a_host_end_that_stays_without_a_port_is_deleted() {
    in_netns(|| async {
        let room = Room::new();
        room.play_ovn_controller();
        let (_pods, seen) = watch::channel(pods([(5, Some(net(5)))]));
        let attacher = attacher(&room, seen.clone(), Duration::from_secs(20));
        let attachments = Attachments::spawn(attacher.clone());
        let pod = PodNs::new();
        attachments.add(attachment(5, &pod)).await.unwrap();
        for (host, peer) in [("06cafe012345_h", "a"), ("veth0", "b")] {
            run("ip", &["link", "add", host, "type", "veth", "peer", "name", peer]);
        }
        let pace = Pace { recheck: Duration::from_millis(50), grace: Duration::from_millis(150) };
        tokio::select! {
            () = leftovers::clear(&attachments, &attacher.ovs, &attacher.links, seen.clone(), pace) => {}
            () = eventually("the host end goes", || links() == ["05cafe012345_h"]) => {}
        }
        run("ip", &["link", "show", "veth0"]);
        attachments.check(attachment(5, &pod), vec![]).await.unwrap();
    });
}

#[test]
fn ovs_away_is_try_again() {
    in_netns(|| async {
        let mut room = Room::new();
        room.play_ovn_controller();
        let (_pods, seen) = watch::channel(pods([(5, Some(net(5)))]));
        let attacher = attacher(&room, seen, Duration::from_secs(2));
        attacher.ovs.bridge().await;
        room.kill_database();
        let mut connected = attacher.ovs.connected();
        connected.wait_for(|connected| !connected).await.unwrap();
        let pod = PodNs::new();
        let attachment = attachment(5, &pod);
        assert_eq!(attacher.add(&attachment).await.unwrap_err().code, Code::TRY_AGAIN);
        assert_eq!(attacher.del(&attachment).await.unwrap_err().code, Code::TRY_AGAIN);
        assert!(links().is_empty());
        room.start_database();
        connected.wait_for(|connected| *connected).await.unwrap();
        // ovs-vswitchd takes its time to come back to its database.
        let attacher = Attacher { patience: Duration::from_secs(20), ..attacher };
        attacher.add(&attachment).await.unwrap();
        attacher.del(&attachment).await.unwrap();
    });
}

#[test]
fn an_interface_that_is_there_already_is_left_alone() {
    in_netns(|| async {
        let room = Room::new();
        room.play_ovn_controller();
        let (_pods, seen) = watch::channel(pods([(5, Some(net(5)))]));
        let attacher = attacher(&room, seen, Duration::from_secs(20));
        let pod = PodNs::new();
        pod.run("ip", &["link", "add", "eth0", "type", "veth", "peer", "name", "theirs"]).await;
        let attachment = attachment(5, &pod);
        let error = attacher.add(&attachment).await.unwrap_err();
        assert_eq!(error.code, Code::PLUMBING);
        assert!(error.details.contains("eth0"), "{error}");
        assert_eq!((room.ports().len(), links().len()), (0, 0));
        attacher.del(&attachment).await.unwrap();
        assert!(pod.run("ip", &["link", "show", "eth0"]).await.contains("eth0@theirs"));
    });
}

#[test]
fn an_api_server_that_is_away_is_try_again() {
    in_netns(|| async {
        let room = Room::new();
        let (sender, seen) = watch::channel(Seen::default());
        let patience = Duration::from_secs(1);
        let quick = attacher(&room, seen, patience);
        let pod = PodNs::new();
        let start = Instant::now();
        let error = quick.add(&attachment(5, &pod)).await.unwrap_err();
        assert_eq!(error.code, Code::TRY_AGAIN);
        assert!(error.details.contains("not listed yet"), "{error}");
        assert!((patience..patience * 5).contains(&start.elapsed()), "{:?}", start.elapsed());
        // A DEL needs nothing of it.
        assert!(!quick.del(&attachment(5, &pod)).await.unwrap());
        drop(sender);
    });
}

#[test]
fn ovs_that_goes_amid_an_add_leaves_nothing_for_long() {
    in_netns(|| async {
        let mut room = Room::new();
        let (_pods, seen) = watch::channel(pods([(5, Some(net(5)))]));
        let attacher = attacher(&room, seen, Duration::from_secs(2));
        attacher.ovs.bridge().await;
        let pod = PodNs::new();
        let attachment = attachment(5, &pod);
        let add = tokio::spawn({
            let (attacher, attachment) = (attacher.clone(), attachment.clone());
            async move { attacher.add(&attachment).await }
        });
        let mut changed = attacher.ovs.changed();
        while attacher.ovs.read(leftovers::plugged).is_empty() {
            changed.changed().await.unwrap();
        }
        room.kill_database();
        assert_eq!(add.await.unwrap().unwrap_err().code, Code::TRY_AGAIN);
        assert!(links().is_empty());
        room.start_database();
        attacher.ovs.connected().wait_for(|connected| *connected).await.unwrap();
        attacher.del(&attachment).await.unwrap();
        assert!(attacher.ovs.read(leftovers::plugged).is_empty());
    });
}

#[test]
fn a_port_that_is_refused_takes_no_other_with_it() {
    in_netns(|| async {
        let room = Room::new();
        let ovs = room.ovs();
        ovs.bridge().await;
        // An interface of that name is somebody else's.
        room.vsctl(&["--no-wait", "add-bond", "br-int", "bond0", "bad", "other"]);
        let plug = async |device: &str| {
            let port = PodPort {
                device: device.to_owned(),
                container_id: format!("container-{device}"),
                iface_id: format!("pod-{device}.ns"),
                about: BTreeMap::new(),
            };
            ovs.plug(port, ovs.coming()).await
        };
        let good = ["a", "b", "c", "d"].map(plug);
        let (good, bad) = tokio::join!(futures::future::join_all(good), plug("bad"));
        assert!(good.iter().all(|outcome| outcome.as_ref().is_ok_and(Vec::is_empty)), "{good:?}");
        assert!(matches!(bad, Err(OvsError::Transact { ref what, .. }) if what == "bad"), "{bad:?}");
        assert_eq!(room.ports(), ["a", "b", "bond0", "c", "d"]);
    });
}

#[test]
fn adds_run_at_once_and_dels_leave_nothing() {
    in_netns(|| async {
        const PODS: u8 = 40;
        let room = Room::new();
        room.play_ovn_controller();
        let (_pods, seen) = watch::channel(pods((11..PODS + 11).map(|n| (n, Some(net(n))))));
        let attachments = Attachments::spawn(attacher(&room, seen, Duration::from_secs(20)));
        let namespaces: Vec<_> = (11..PODS + 11).map(|_| PodNs::new()).collect();
        let requests: Vec<_> = (11..PODS + 11).zip(&namespaces).map(|(n, ns)| attachment(n, ns)).collect();

        let (serial, at_once) = requests.split_at(usize::from(PODS) / 2);
        let mut adds = Vec::new();
        let mut dels = Vec::new();
        for request in serial {
            let start = Instant::now();
            attachments.add(request.clone()).await.unwrap();
            adds.push(start.elapsed());
        }
        for chunk in at_once.chunks(10) {
            let start = Instant::now();
            let all = chunk.iter().map(|request| {
                let (attachments, request) = (attachments.clone(), request.clone());
                tokio::spawn(async move {
                    attachments.add(request).await.unwrap();
                    start.elapsed()
                })
            });
            let mut times: Vec<_> = futures::future::join_all(all).await.into_iter().map(Result::unwrap).collect();
            times.sort();
            println!("ADD ten at once: p50 {:?}, last {:?}", times[5], times[9]);
        }
        assert_eq!(room.ports().len(), usize::from(PODS));
        for request in &requests {
            let start = Instant::now();
            attachments.del(request.clone()).await.unwrap();
            dels.push(start.elapsed());
        }
        adds.sort();
        dels.sort();
        println!("ADD serial: p50 {:?}, max {:?}", adds[adds.len() / 2], adds.last());
        println!("DEL serial: p50 {:?}, max {:?}", dels[dels.len() / 2], dels.last());
        assert_eq!((room.ports().len(), links().len()), (0, 0));
    });
}
