//! CHECK and the limits of pods.

use api::annotations::{Limit, LimitWant};

use crate::sandbox::{PodNs, in_netns};
use crate::scene::{Scene, attachment};

#[test]
fn check_sees_a_limit_that_nothing_meters() {
    in_netns(|| async {
        let scene = Scene::new([5]);
        let (pod, limit) = (PodNs::new(), Limit { rate: 10_000, burst: 8000 });
        let request = attachment(5, &pod);
        scene.attacher.add(&request).await.unwrap();
        scene.attacher.check(&request, &[]).await.unwrap();
        scene.pods.send_modify(|pods| {
            let pod = pods.objects.get_mut("pod-5.ns").unwrap();
            pod.limits = [LimitWant::Limit(limit), LimitWant::Unlimited];
        });
        let meter = |verb: &str, rate: u32| {
            let meter = format!("meter=7,kbps,burst,band=type=drop,rate={rate},burst_size=8000");
            scene.sandbox.ofctl(verb, &[&meter]);
        };
        let why = async || scene.attacher.check(&request, &[]).await.unwrap_err().to_string();
        let expected = "no meter limits to 10000 kbit/s with a burst of 8000 kbit";
        assert!(why().await.contains(expected));
        meter("add-meter", 20_000);
        assert!(why().await.contains(expected));
        meter("mod-meter", 10_000);
        scene.attacher.check(&request, &[]).await.unwrap();
    });
}
