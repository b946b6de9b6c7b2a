//! ADD and DEL while something is missing: an address, flows, Open vSwitch, the API server.

use std::time::{Duration, Instant};

use cni_server::attach::Attacher;
use cni_server::leftovers;
use cni_server::seen::Seen;
use cni_wire::Code;
use cni_wire::rpc::Attachment;

use crate::sandbox::{PodNs, in_netns};
use crate::scene::{Scene, addressed, attachment, links, net, pods};

#[test]
fn an_add_waits_for_the_address_and_gives_up_in_time() {
    in_netns(|| async {
        let scene = Scene::without_flows(pods([(5, None)]), Duration::from_secs(2));
        let Scene { sandbox, pods: sender, attacher: quick } = &scene;
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
        assert_eq!((sandbox.ports().len(), links().len()), (0, 0));
        assert!(!pod.run("ip", &["-br", "link"]).await.contains("eth0"));

        // Another pod of the same name does not count.
        let other = Attachment { pod_uid: Some("uid-old".to_owned()), ..attachment(5, &pod) };
        assert!(quick.add(&other).await.unwrap_err().details.contains("another uid"));

        // A pod that is deleted while its ADD waits is not waited for.
        let patient = Attacher { patience: Duration::from_secs(20), ..quick.clone() };
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
            assert_eq!((sandbox.ports().len(), links().len()), (0, 0));
        }
        sender.send_replace(pods([(5, Some(net(5)))]));

        sandbox.play_ovn_controller();
        patient.add(&attachment(5, &pod)).await.unwrap();
    });
}

#[test]
fn an_api_server_that_is_away_is_try_again() {
    in_netns(|| async {
        let patience = Duration::from_secs(1);
        let scene = Scene::without_flows(Seen::default(), patience);
        let quick = &scene.attacher;
        let pod = PodNs::new();
        let start = Instant::now();
        let error = quick.add(&attachment(5, &pod)).await.unwrap_err();
        assert_eq!(error.code, Code::TRY_AGAIN);
        assert!(error.details.contains("not listed yet"), "{error}");
        assert!((patience..patience * 5).contains(&start.elapsed()), "{:?}", start.elapsed());
        // A DEL needs nothing of it.
        assert!(!quick.del(&attachment(5, &pod)).await.unwrap());
    });
}

#[test]
fn ovs_away_is_try_again() {
    in_netns(|| async {
        let Scene { sandbox, attacher, .. } = &mut Scene::without_flows(addressed([5]), Duration::from_secs(2));
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
        // ovs-vswitchd takes its time to come back to its database.
        attacher.patience = Duration::from_secs(20);
        attacher.add(&attachment).await.unwrap();
        attacher.del(&attachment).await.unwrap();
    });
}

#[test]
fn ovs_that_goes_amid_an_add_leaves_nothing_for_long() {
    in_netns(|| async {
        let Scene { sandbox, attacher, .. } = &mut Scene::without_flows(addressed([5]), Duration::from_secs(2));
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
        sandbox.kill_database();
        assert_eq!(add.await.unwrap().unwrap_err().code, Code::TRY_AGAIN);
        assert!(links().is_empty());
        sandbox.start_database();
        attacher.ovs.connected().wait_for(|connected| *connected).await.unwrap();
        attacher.del(&attachment).await.unwrap();
        assert!(attacher.ovs.read(leftovers::plugged).is_empty());
    });
}
