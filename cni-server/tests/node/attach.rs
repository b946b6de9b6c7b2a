//! ADD, CHECK and DEL when nothing is missing.

use std::collections::BTreeMap;
use std::time::Instant;

use api::annotations::PodRoute;
use cni_server::attach::host_ifname;
use cni_server::attachments::Attachments;
use cni_server::ovs::{Encap, OvsError, PodPort};
use cni_wire::Code;
use cni_wire::rpc::Attachment;

use crate::sandbox::{PodNs, Sandbox, eventually, in_netns, run};
use crate::scene::{self, Scene, attachment, lease, links};

#[test]
fn add_plugs_a_pod_and_del_leaves_nothing() {
    in_netns(|| async {
        let Scene { sandbox, attacher, .. } = &Scene::new([5]);
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

        assert_eq!(sandbox.ports(), std::slice::from_ref(&host));
        let ids = sandbox.external_ids(&host);
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

        // A second ADD fails and changes nothing.
        assert_eq!(attacher.add(&attachment).await.unwrap_err().code, Code::PLUMBING);
        assert_eq!((sandbox.ports().len(), links().len()), (1, 1));

        assert!(attacher.del(&attachment).await.unwrap());
        assert!(!attacher.del(&Attachment { netns: None, ..attachment }).await.unwrap());
        assert_eq!((sandbox.ports().len(), links().len()), (0, 0));
    });
}

#[test]
fn a_pod_has_the_routes_of_its_annotation() {
    in_netns(|| async {
        let scene = Scene::new([5, 6]);
        let route = |to: &str, via: &str| PodRoute { to: to.parse().unwrap(), via: via.parse().unwrap() };
        let mut pods = scene::pods([5, 6]);
        let five = pods.objects.get_mut("pod-5.ns").unwrap();
        five.routes = Ok(vec![route("192.0.2.0/24", "10.16.0.9"), route("::/0", "fd00:16::9")]);
        pods.objects.get_mut("pod-6.ns").unwrap().routes = Ok(vec![route("192.0.2.0/24", "10.99.0.9")]);
        scene.pods.send_replace(pods);
        let (five, six) = (PodNs::new(), PodNs::new());
        let reply = scene.attacher.add(&attachment(5, &five)).await.unwrap();
        let routes: Vec<_> = reply.routes.iter().map(|route| format!("{} {}", route.dst, route.gw.unwrap())).collect();
        assert_eq!(routes, ["0.0.0.0/0 10.16.0.1", "192.0.2.0/24 10.16.0.9", "::/0 fd00:16::9"]);
        let four = five.run("ip", &["route"]).await;
        assert!(
            four.contains("default via 10.16.0.1") && four.contains("192.0.2.0/24 via 10.16.0.9 dev eth0"),
            "{four}"
        );
        let default = five.run("ip", &["-6", "route", "show", "default"]).await;
        assert!(default.starts_with("default via fd00:16::9") && default.lines().count() == 1, "{default}");
        scene.attacher.check(&attachment(5, &five), &[]).await.unwrap();

        // The kernel does not reach the next hop of the other one.
        let error = scene.attacher.add(&attachment(6, &six)).await.unwrap_err().to_string();
        assert!(error.contains("192.0.2.0/24 via 10.99.0.9"), "{error}");
        assert_eq!(links().len(), 1, "nothing is left of it");
    });
}

#[test]
fn neighbours_are_told_and_no_flow_stays() {
    in_netns(|| async {
        let Scene { sandbox, attacher, .. } = &Scene::new([5]);
        let pod = PodNs::new();
        let attachment = attachment(5, &pod);
        let told = [
            "arp,dl_dst=ff:ff:ff:ff:ff:ff,arp_op=1,arp_spa=10.16.0.5,arp_tpa=10.16.0.5,arp_sha=0a:00:00:00:00:05",
            "icmp6,dl_dst=33:33:00:00:00:01,icmp_type=136,nd_target=fd00:16::5,nd_tll=0a:00:00:00:00:05",
        ];
        for announcement in told {
            sandbox.ofctl("add-flow", &[&format!("{announcement},dl_src=0a:00:00:00:00:05,actions=normal")]);
        }
        let count = || {
            let count = |text| sandbox.ofctl("dump-aggregate", &[text]).contains("packet_count=0");
            told.map(count)
        };
        assert_eq!(count(), [true, true], "nobody has said anything");
        attacher.add(&attachment).await.unwrap();
        eventually("the ADD announces the addresses", || count() == [false, false]).await;
        let lease = lease(5);
        attacher.ovs.announce(&host_ifname(&attachment.container_id), lease.mac, &lease.ips).await.unwrap();
        let flows = sandbox.appctl(&["dpctl/dump-flows"]);
        assert!(!flows.contains("arp") && !flows.contains("icmpv6(type=136"), "{flows}");
        // Without the port, nothing is announced.
        attacher.del(&attachment).await.unwrap();
        attacher.ovs.announce(&host_ifname(&attachment.container_id), lease.mac, &lease.ips).await.unwrap();
    });
}

#[test]
fn a_recreated_pod_replaces_the_port_of_its_predecessor() {
    in_netns(|| async {
        let Scene { sandbox, attacher, .. } = &Scene::new([5]);
        let (old, new) = (PodNs::new(), PodNs::new());
        let first = attachment(5, &old);
        let second = Attachment { container_id: "ffff0123456789ab".to_owned(), ..attachment(5, &new) };
        attacher.add(&first).await.unwrap();
        attacher.add(&second).await.unwrap();
        assert_eq!(sandbox.ports(), [host_ifname(&second.container_id)]);
        // A late DEL of the first container does not affect the second one.
        attacher.del(&first).await.unwrap();
        assert_eq!(links(), [host_ifname(&second.container_id)]);
        attacher.del(&second).await.unwrap();
        assert!(links().is_empty());
    });
}

/// Multus attaches and detaches each interface of a container by itself.
#[test]
fn a_request_for_another_interface_does_not_touch_the_first_one() {
    in_netns(|| async {
        let Scene { sandbox, attacher, .. } = &Scene::new([5]);
        let pod = PodNs::new();
        let first = attachment(5, &pod);
        let second = Attachment { ifname: "net1".to_owned(), ..first.clone() };
        attacher.add(&first).await.unwrap();
        let refused = attacher.add(&second).await.unwrap_err();
        assert_eq!(
            (refused.code, refused.msg),
            (Code::CONFIG, "container 05cafe0123456789abcdef has interface eth0 already".to_owned())
        );
        let differs = attacher.check(&second, &[]).await.unwrap_err();
        assert!(differs.msg.ends_with("has no port for net1"), "{differs}");
        assert!(!attacher.del(&second).await.unwrap());
        attacher.check(&first, &[]).await.unwrap();
        // Its port is lost, and the host end says which interface it is of.
        sandbox.vsctl(&["del-port", "05cafe012345_h"]);
        eventually("the agent knows", || !attacher.ovs.has_port("pod-5.ns")).await;
        assert_eq!(attacher.add(&second).await.unwrap_err().code, Code::PLUMBING);
        assert!(!attacher.del(&second).await.unwrap());
        assert_eq!(links(), ["05cafe012345_h"]);
        assert!(attacher.del(&first).await.unwrap());
        assert!(links().is_empty());
    });
}

#[test]
fn an_interface_that_is_there_already_is_left_alone() {
    in_netns(|| async {
        let Scene { sandbox, attacher, .. } = &Scene::new([5]);
        let pod = PodNs::new();
        pod.run("ip", &["link", "add", "eth0", "type", "veth", "peer", "name", "theirs"]).await;
        let attachment = attachment(5, &pod);
        let error = attacher.add(&attachment).await.unwrap_err();
        assert_eq!(error.code, Code::PLUMBING);
        assert!(error.details.contains("eth0"), "{error}");
        assert_eq!((sandbox.ports().len(), links().len()), (0, 0));
        attacher.del(&attachment).await.unwrap();
        assert!(pod.run("ip", &["link", "show", "eth0"]).await.contains("eth0@theirs"));
    });
}

#[test]
fn a_port_that_is_refused_takes_no_other_with_it() {
    in_netns(|| async {
        let sandbox = Sandbox::new();
        let ovs = sandbox.ovs();
        ovs.bridge().await;
        // Another port has an interface with that name.
        sandbox.vsctl(&["--no-wait", "add-bond", "br-int", "bond0", "bad", "other"]);
        let plug = async |device: &str| {
            let port = PodPort {
                device: device.to_owned(),
                container_id: format!("container-{device}"),
                iface_id: format!("pod-{device}.ns"),
                about: BTreeMap::new(),
                encap: Encap::Interface,
                mirrored: false,
            };
            ovs.plug(port, ovs.pending_port()).await
        };
        let good = ["a", "b", "c", "d"].map(plug);
        let (good, bad) = tokio::join!(futures::future::join_all(good), plug("bad"));
        assert!(good.iter().all(|outcome| outcome.as_ref().is_ok_and(Vec::is_empty)), "{good:?}");
        assert!(matches!(bad, Err(OvsError::Transact { ref what, .. }) if what == "bad"), "{bad:?}");
        assert_eq!(sandbox.ports(), ["a", "b", "bond0", "c", "d"]);
    });
}

#[test]
fn adds_run_at_once_and_dels_leave_nothing() {
    in_netns(|| async {
        const PODS: u8 = 40;
        let Scene { sandbox, attacher, .. } = &Scene::new(11..PODS + 11);
        let attachments = Attachments::spawn(attacher.clone());
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
        assert_eq!(sandbox.ports().len(), usize::from(PODS));
        for request in &requests {
            let start = Instant::now();
            attachments.del(request.clone()).await.unwrap();
            dels.push(start.elapsed());
        }
        adds.sort();
        dels.sort();
        println!("ADD serial: p50 {:?}, max {:?}", adds[adds.len() / 2], adds.last());
        println!("DEL serial: p50 {:?}, max {:?}", dels[dels.len() / 2], dels.last());
        assert_eq!((sandbox.ports().len(), links().len()), (0, 0));
    });
}
