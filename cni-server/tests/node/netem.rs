//! The delay and the loss of packets on their way into pods.

use api::FieldError;
use api::annotations::Netem;
use cni_server::netem;
use cni_server::seen::{Pod, Seen};

use crate::sandbox::{PodNs, eventually, in_netns};
use crate::scene::{self, Scene, attachment};

fn pods(asked: &[(u8, Result<Option<Netem>, FieldError>)]) -> Seen<Pod> {
    let mut pods = scene::pods(asked.iter().map(|(n, _)| *n));
    for (n, asked) in asked {
        pods.objects.get_mut(&format!("pod-{n}.ns")).unwrap().netem.clone_from(asked);
    }
    pods
}

#[test]
fn rows_follow_the_annotations_and_go_with_the_pod() {
    in_netns(|| async {
        let scene = Scene::new([5, 6]);
        let slow = Netem { latency: 600, jitter: 30, loss: 5, limit: 0 };
        let slower = Netem { latency: 700, ..slow };
        scene.pods.send_replace(pods(&[(5, Ok(Some(slow))), (6, Ok(None))]));
        let (sandbox, attacher) = (&scene.sandbox, &scene.attacher);
        let [five, six] = [5, 6].map(|n| (n, PodNs::new()));
        let keep = netem::keep(&attacher.ovs, attacher.pods.clone());
        let steps = async {
            for (n, ns) in [&five, &six] {
                attacher.add(&attachment(*n, ns)).await.unwrap();
            }
            let settings = || attacher.ovs.netem("05cafe012345_h");
            let latency = |text: &str| settings().get("latency").is_some_and(|now| now == text);
            eventually("the row is written", || latency("600000")).await;
            assert_eq!(settings().len(), 3, "{:?}", settings());
            assert!(attacher.ovs.netem("06cafe012345_h").is_empty());
            let columns = ["--columns=type,external_ids", "--bare", "list", "qos"];
            assert_eq!(
                sandbox.vsctl(&columns),
                "linux-netem\niface-id=pod-5.ns pod=ns/pod-5 vendor=kube-ovn\n",
                "as kube-ovn's users look for it"
            );
            attacher.check(&attachment(5, &five.1), &[]).await.unwrap();

            // Others change it, and the pod's author does.
            sandbox.vsctl(&["clear", "port", "05cafe012345_h", "qos"]);
            eventually("repaired", || latency("600000")).await;
            scene.pods.send_replace(pods(&[(5, Ok(Some(slower))), (6, Ok(None))]));
            eventually("changed", || latency("700000")).await;
            let unreadable = FieldError::new("pod ns/pod-5".to_owned(), "annotation latency".to_owned(), "odd");
            scene.pods.send_replace(pods(&[(5, Err(unreadable)), (6, Ok(Some(slow)))]));
            eventually("the other pod is served", || !attacher.ovs.netem("06cafe012345_h").is_empty()).await;
            assert!(latency("700000"), "what is not readable changes nothing");
            scene.pods.send_replace(pods(&[(5, Ok(None)), (6, Ok(Some(slow)))]));
            eventually("removed", || settings().is_empty()).await;
            attacher.del(&attachment(6, &six.1)).await.unwrap();
            eventually("the row goes with the port", || sandbox.vsctl(&columns).is_empty()).await;
        };
        tokio::select! {
            () = keep => {}
            () = steps => {}
        }
        // Nobody writes it now.
        scene.pods.send_replace(pods(&[(5, Ok(Some(slow)))]));
        let error = attacher.check(&attachment(5, &five.1), &[]).await.unwrap_err();
        assert!(error.to_string().contains("does not have the delay and loss"), "{error}");
    });
}

#[test]
fn the_ports_of_kube_ovn_follow_the_annotations_and_lose_its_limits() {
    in_netns(|| async {
        let scene = Scene::new([5]);
        let slow = Netem { latency: 600, jitter: 0, loss: 0, limit: 0 };
        scene.pods.send_replace(pods(&[(5, Ok(Some(slow)))]));
        let sandbox = &scene.sandbox;
        // It does not write the container's ID.
        let interface = [
            "add-port",
            "br-int",
            "05cafe012345_h",
            "--",
            "set",
            "interface",
            "05cafe012345_h",
            "type=internal",
            "external_ids={vendor=kube-ovn,iface-id=pod-5.ns,pod_name=pod-5,pod_namespace=ns}",
            "ingress_policing_rate=20000",
            "ingress_policing_burst=16000",
        ];
        sandbox.vsctl(&interface);
        let limits = ["get", "interface", "05cafe012345_h", "ingress_policing_rate", "ingress_policing_burst"];
        let steps = async {
            eventually("the delay is written", || !scene.attacher.ovs.netem("05cafe012345_h").is_empty()).await;
            eventually("the limits are gone", || sandbox.vsctl(&limits) == "0\n0\n").await;
        };
        tokio::select! {
            () = netem::keep(&scene.attacher.ovs, scene.attacher.pods.clone()) => {}
            () = steps => {}
        }
    });
}
