//! ADD and DEL while something is missing: an address, flows, Open vSwitch, the API server.

use std::time::{Duration, Instant};

use api::{EffectiveSubnet, FieldError};
use cni_server::attach::Attacher;
use cni_server::ports;
use cni_server::seen::{Lease, Pod, Seen};
use cni_wire::rpc::{Attached, Attachment};
use cni_wire::{CniError, Code};
use tokio::task::JoinHandle;

use crate::sandbox::{PodNs, in_netns};
use crate::scene::{Scene, addressed, attachment, lease, leases, links, pods, seen, subnet};

#[test]
fn an_add_waits_for_the_address_and_gives_up_in_time() {
    in_netns(|| async {
        let scene = Scene::without_flows(pods([5]), leases([]), Duration::from_secs(2));
        let Scene { sandbox, pods: sender, attacher: quick, .. } = &scene;
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

        // The address comes, but the flows are not installed, so the ADD is undone.
        scene.leases.send_replace(addressed([5]));
        assert!(quick.add(&no_netns).await.is_err());
        let error = quick.add(&attachment(5, &pod)).await.unwrap_err();
        assert_eq!(error.code, Code::TRY_AGAIN);
        assert!(error.msg.contains("is not connected"), "{error}");
        assert_eq!(error.details, "ovn-controller has not installed the port's flows");
        assert_eq!((sandbox.ports().len(), links().len()), (0, 0));
        assert!(!pod.run("ip", &["-br", "link"]).await.contains("eth0"));

        // A pod with the same name and another uid does not count.
        let other = Attachment { pod_uid: Some("uid-old".to_owned()), ..attachment(5, &pod) };
        assert!(quick.add(&other).await.unwrap_err().details.contains("another uid"));

        // An ADD ends early when its pod is deleted.
        let patient = Attacher { patience: Duration::from_secs(20), ..quick.clone() };
        for before in [leases([]), addressed([5])] {
            scene.leases.send_replace(before);
            sender.send_replace(pods([5]));
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
            assert_eq!((sandbox.ports().len(), links().len()), (0, 0));
        }
        // Or when its deletion has begun: its sandbox is not started any more.
        scene.leases.send_replace(leases([]));
        let mut going = pods([5]);
        going.objects.get_mut("pod-5.ns").unwrap().going = true;
        sender.send_replace(going);
        let start = Instant::now();
        let error = patient.add(&attachment(5, &pod)).await.unwrap_err();
        assert!(error.details.contains("deleted") && start.elapsed() < Duration::from_secs(10), "{error}");
        scene.leases.send_replace(addressed([5]));
        sender.send_replace(pods([5]));

        // A connection that begins without the firewall rules would go on without them.
        let (rules, there) = tokio::sync::watch::channel(Err("nft: no end".to_owned()));
        let without = Attacher { rules: there, ..quick.clone() };
        let error = without.add(&attachment(5, &pod)).await.unwrap_err();
        assert!(error.msg.contains("the firewall rules are not in place"), "{error}");
        assert_eq!((error.code, error.details.as_str()), (Code::TRY_AGAIN, "nft: no end"));
        assert_eq!((sandbox.ports().len(), links().len()), (0, 0));
        drop(rules);

        sandbox.play_ovn_controller();
        patient.add(&attachment(5, &pod)).await.unwrap();
    });
}

/// Starts an ADD.
fn start(scene: &Scene, pod: &PodNs) -> JoinHandle<Result<Attached, CniError>> {
    let (attacher, attachment) = (scene.attacher.clone(), attachment(5, pod));
    tokio::spawn(async move { attacher.add(&attachment).await })
}

#[test]
fn an_add_waits_for_the_address_of_the_pods_uid_in_a_subnet_in_force() {
    in_netns(|| async {
        let mut scene = Scene::without_flows(pods([5]), leases([]), Duration::from_secs(1));
        scene.sandbox.play_ovn_controller();
        scene.attacher.ovs.bridge().await;
        let pod = PodNs::new();
        let held = |holder: &str| Lease { holder: holder.to_owned(), ..lease(5) };
        let odd = FieldError::new("ip pod-5.ns", "spec.ipAddress", "odd");
        let narrow = EffectiveSubnet { cidrs: "10.17.0.0/16".parse().unwrap(), ..subnet() };
        for (lease, subnets, code, said) in [
            (
                Ok(held("uid-old")),
                vec![subnet()],
                Code::TRY_AGAIN,
                "no address yet: ip pod-5.ns is still for another one",
            ),
            (Ok(held("")), vec![subnet()], Code::TRY_AGAIN, "no address yet"),
            (Err(odd), vec![subnet()], Code::ALLOCATION, "ip pod-5.ns: spec.ipAddress: odd"),
            (Ok(lease(5)), vec![], Code::TRY_AGAIN, "subnet ovn-default is not in force yet"),
            (Ok(lease(5)), vec![narrow], Code::TRY_AGAIN, "is not inside subnet ovn-default, which has 10.17.0.0/16"),
        ] {
            scene.leases.send_replace(leases([(5, lease)]));
            scene.subnets.send_replace(seen(subnets));
            let error = start(&scene, &pod).await.unwrap().unwrap_err();
            assert_eq!(error.code, code, "{error}");
            assert!(error.details.contains(said), "{error}");
        }
        assert!(links().is_empty());

        // All objects appear while an ADD waits. The IP object is corrected before the subnet appears.
        scene.attacher.patience = Duration::from_secs(20);
        scene.pods.send_replace(Seen::default());
        scene.leases.send_replace(Seen::default());
        scene.subnets.send_replace(Seen::default());
        let add = start(&scene, &pod);
        let meanwhile = || tokio::time::sleep(Duration::from_millis(50));
        scene.pods.send_replace(pods([5]));
        meanwhile().await;
        scene.leases.send_replace(leases([(5, Ok(held("uid-old")))]));
        meanwhile().await;
        scene.leases.send_replace(leases([(5, Ok(lease(5)))]));
        meanwhile().await;
        scene.leases.send_replace(leases([(5, Ok(Lease { holder: "uid-5".to_owned(), ..lease(6) }))]));
        meanwhile().await;
        assert!(!add.is_finished());
        scene.subnets.send_replace(seen([subnet()]));
        assert_eq!(add.await.unwrap().unwrap().ips[0].address, "10.16.0.6/16");
    });
}

#[test]
fn a_static_pods_address_is_found_by_the_uid_of_the_api_server() {
    in_netns(|| async {
        let scene = Scene::new([5]);
        let pod = PodNs::new();
        let mirror = Pod {
            uid: "uid-5".to_owned(),
            config_hash: Some("hash".to_owned()),
            mirror: Ok(None),
            netem: Ok(None),
            limits: Default::default(),
            routes: Ok(Vec::new()),
            going: false,
        };
        scene.pods.send_replace(Seen { synced: true, objects: [("pod-5.ns".to_owned(), mirror)].into() });
        let attachment = Attachment { pod_uid: Some("hash".to_owned()), ..attachment(5, &pod) };
        assert_eq!(scene.attacher.add(&attachment).await.unwrap().ips[0].address, "10.16.0.5/16");
    });
}

#[test]
fn an_add_whose_address_changes_is_undone_and_the_next_one_gets_the_new_one() {
    in_netns(|| async {
        let scene = Scene::without_flows(pods([5]), addressed([5]), Duration::from_secs(20));
        let attacher = &scene.attacher;
        let pod = PodNs::new();
        let add = start(&scene, &pod);
        let mut changed = attacher.ovs.changed();
        while attacher.ovs.read(ports::plugged).is_empty() {
            changed.changed().await.unwrap();
        }
        let began = Instant::now();
        scene.leases.send_replace(leases([(5, Ok(Lease { holder: "uid-5".to_owned(), ..lease(6) }))]));
        let error = add.await.unwrap().unwrap_err();
        assert_eq!(error.code, Code::TRY_AGAIN);
        assert_eq!(error.details, "the pod's addresses are not 10.16.0.5,fd00:16::5 any more");
        assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
        assert_eq!((scene.sandbox.ports().len(), links().len()), (0, 0));

        scene.sandbox.play_ovn_controller();
        assert_eq!(start(&scene, &pod).await.unwrap().unwrap().ips[0].address, "10.16.0.6/16");
    });
}

#[test]
fn an_api_server_that_is_away_is_try_again() {
    in_netns(|| async {
        let patience = Duration::from_secs(1);
        let scene = Scene::without_flows(Seen::default(), Seen::default(), patience);
        let quick = &scene.attacher;
        let pod = PodNs::new();
        let start = Instant::now();
        let error = quick.add(&attachment(5, &pod)).await.unwrap_err();
        assert_eq!(error.code, Code::TRY_AGAIN);
        assert!(error.details.contains("not listed yet"), "{error}");
        assert!((patience..patience * 5).contains(&start.elapsed()), "{:?}", start.elapsed());
        // A DEL does not need the API server.
        assert!(!quick.del(&attachment(5, &pod)).await.unwrap());
    });
}

#[test]
fn ovs_away_is_try_again() {
    in_netns(|| async {
        let Scene { sandbox, attacher, .. } =
            &mut Scene::without_flows(pods([5]), addressed([5]), Duration::from_secs(2));
        sandbox.play_ovn_controller();
        attacher.ovs.bridge().await;
        sandbox.kill_database();
        let mut connected = attacher.ovs.connected();
        connected.wait_for(|connected| !connected).await.unwrap();
        let pod = PodNs::new();
        let attachment = attachment(5, &pod);
        assert_eq!(attacher.add(&attachment).await.unwrap_err().code, Code::TRY_AGAIN);
        assert_eq!(attacher.del(&attachment).await.unwrap_err().code, Code::TRY_AGAIN);
        assert!(links().is_empty());
        sandbox.start_database();
        connected.wait_for(|connected| *connected).await.unwrap();
        // ovs-vswitchd takes some time to connect to its database again.
        attacher.patience = Duration::from_secs(20);
        attacher.add(&attachment).await.unwrap();
        attacher.del(&attachment).await.unwrap();
    });
}

#[test]
fn ovs_that_goes_amid_an_add_leaves_nothing_for_long() {
    in_netns(|| async {
        let Scene { sandbox, attacher, .. } =
            &mut Scene::without_flows(pods([5]), addressed([5]), Duration::from_secs(2));
        attacher.ovs.bridge().await;
        let pod = PodNs::new();
        let attachment = attachment(5, &pod);
        let add = tokio::spawn({
            let (attacher, attachment) = (attacher.clone(), attachment.clone());
            async move { attacher.add(&attachment).await }
        });
        let mut changed = attacher.ovs.changed();
        while attacher.ovs.read(ports::plugged).is_empty() {
            changed.changed().await.unwrap();
        }
        sandbox.kill_database();
        assert_eq!(add.await.unwrap().unwrap_err().code, Code::TRY_AGAIN);
        assert!(links().is_empty());
        sandbox.start_database();
        attacher.ovs.connected().wait_for(|connected| *connected).await.unwrap();
        attacher.del(&attachment).await.unwrap();
        assert!(attacher.ovs.read(ports::plugged).is_empty());
    });
}
