//! Tests of the pods that wait for an address, and of the order in which they are woken.

use proptest::prelude::*;

use super::*;

const SMALL: &str = "10.23.0.0/29,fd00:23::/125";

impl Scene {
    /// The pods that were decided since the last call.
    fn unpublished_pods(&mut self) -> Vec<String> {
        let pods = self.engine.take_unpublished().into_iter().filter_map(|object| match object {
            Object::Pod(port) => Some(port.to_string()),
            _ => None,
        });
        pods.collect()
    }

    /// The outcome of every pod.
    fn outcomes(&self) -> Vec<(String, String)> {
        let paths = self.cluster.pods.values().map(|pod| format!("{}/{}", pod.namespace, pod.name));
        paths.map(|path| (path.clone(), self.outcome(&path))).collect()
    }
}

#[test]
fn a_released_address_wakes_the_pod_that_gets_it_and_the_next_one() {
    let mut scene = Scene::new();
    scene.namespace("ns", json!({}));
    scene.subnet("net", json!({ "cidrBlock": "10.23.0.0/29", "namespaces": ["ns"] }));
    for n in 0..100 {
        scene.pod(&format!("ns/p{n:02}"), json!({}));
    }
    scene.unpublished_pods();
    for (gone, served, refused) in [("p03", "p05", "p06"), ("p00", "p06", "p07")] {
        scene.pod_gone(&format!("ns/{gone}"));
        assert_eq!(scene.unpublished_pods(), [gone, served, refused].map(|pod| format!("{pod}.ns")));
        assert!(scene.outcome(&format!("ns/{served}")).ends_with("of net"));
    }
    // Three events at once. If a woken pod is deleted, the next one is woken.
    for gone in ["p01", "p02", "p07"] {
        let event = Event::Pods(WatchEvent::Delete(pod(&format!("ns/{gone}"), "uid-1", json!({}))));
        scene.cluster.observe(event).into_iter().for_each(|observed| scene.engine.mark(observed.object));
    }
    scene.engine.decide(&scene.cluster);
    assert_eq!(scene.unpublished_pods(), ["p01", "p02", "p07", "p08", "p09", "p10"].map(|pod| format!("{pod}.ns")));
    // The subnet has changed, so all waiting pods are decided.
    scene.subnet("net", json!({ "cidrBlock": "10.23.0.0/29", "namespaces": ["ns"], "excludeIps": ["10.23.0.6"] }));
    assert_eq!(scene.unpublished_pods().len(), 95, "all that are there");
}

#[test]
fn a_pod_that_waits_for_a_mac_gets_it_when_its_holder_in_any_subnet_is_gone() {
    let mut scene = Scene::new();
    scene.subnet("net", json!({ "cidrBlock": "10.23.0.0/24" }));
    let mac = json!({ "ovn.kubernetes.io/mac_address": "00:00:00:53:6b:b6" });
    let there = json!({
        "ovn.kubernetes.io/mac_address": "00:00:00:53:6b:b6", "ovn.kubernetes.io/logical_switch": "net",
    });
    assert_eq!(scene.pod("default/a", mac.clone()), "10.16.0.2 of ovn-default");
    assert!(scene.pod("default/b", there).contains("MAC 00:00:00:53:6b:b6 is held by a.default"));
    assert!(scene.pod("default/c", mac).contains("held by a.default"));
    scene.pod_gone("default/a");
    assert_eq!(scene.outcome("default/b"), "10.23.0.2 of net");
    assert!(scene.outcome("default/c").contains("held by b.default"), "{}", scene.outcome("default/c"));
    scene.pod_gone("default/b");
    assert_eq!(scene.outcome("default/c"), "10.16.0.3 of ovn-default");
}

/// Changes to a few pods that want different addresses of one small subnet.
#[derive(Debug, Clone)]
enum Change {
    Come(usize, usize),
    Go(usize),
    Pool(bool),
    Exclude(bool),
}

fn change() -> impl Strategy<Value = Change> {
    let pod = 0..16_usize;
    prop_oneof![
        6 => (pod.clone(), 0..9_usize).prop_map(|(pod, wish)| Change::Come(pod, wish)),
        6 => pod.prop_map(Change::Go),
        1 => any::<bool>().prop_map(Change::Pool),
        1 => any::<bool>().prop_map(Change::Exclude),
    ]
}

/// The annotations of a pod.
fn wish(which: usize) -> Value {
    let one = |name: &str, value: &str| json!({ format!("ovn.kubernetes.io/{name}"): value });
    match which {
        0 | 1 => json!({}),
        2 => one("ip_family", "ipv4"),
        3 => one("ip_family", "ipv6"),
        4 => one("ip_address", "10.23.0.3"),
        5 => one("ip_pool", "10.23.0.3,10.23.0.4"),
        6 => one("ip_pool", "pool"),
        7 => one("mac_address", "00:00:00:53:6b:b6"),
        _ => json!({
            "ovn.kubernetes.io/mac_address": "00:00:00:53:6b:b6", "ovn.kubernetes.io/logical_switch": "ovn-default",
        }),
    }
}

proptest! {
    #[test]
    fn no_pod_waits_that_could_be_served(changes in prop::collection::vec(change(), 1..60)) {
        let mut scene = Scene::new();
        scene.namespace("ns", json!({}));
        scene.subnet("net", json!({ "cidrBlock": SMALL, "namespaces": ["ns"] }));
        for change in changes {
            match change {
                Change::Come(n, which) => {
                    scene.pod(&format!("ns/p{n:02}"), wish(which));
                }
                Change::Go(n) => scene.pod_gone(&format!("ns/p{n:02}")),
                Change::Pool(true) => scene.pool("pool", "net", &["10.23.0.5..10.23.0.6", "fd00:23::6"], &[]),
                Change::Pool(false) => {
                    scene.apply(Event::IpPools(WatchEvent::Delete(pool("pool", "net", &["10.23.0.5"], &[]))));
                }
                Change::Exclude(some) => {
                    let exclude: &[&str] = if some { &["10.23.0.2", "fd00:23::2"] } else { &[] };
                    scene.subnet("net", json!({ "cidrBlock": SMALL, "namespaces": ["ns"], "excludeIps": exclude }));
                }
            }
            let served = |scene: &Scene| {
                let all = scene.outcomes().into_iter().filter(|(_, outcome)| !outcome.starts_with("refused"));
                all.collect::<Vec<_>>()
            };
            let before = served(&scene);
            for port in scene.cluster.pods.keys().cloned().collect::<Vec<_>>() {
                scene.engine.mark(Object::Pod(port));
            }
            scene.engine.decide(&scene.cluster);
            prop_assert_eq!(before, served(&scene));
        }
    }
}

#[test]
fn a_released_address_wakes_no_pod_that_waits_for_another() {
    let mut scene = Scene::new();
    scene.subnet("net", json!({ "cidrBlock": "10.23.0.0/24" }));
    let at = |n: u8| json!({ "ovn.kubernetes.io/logical_switch": "net", "ovn.kubernetes.io/ip_address": format!("10.23.0.{n}") });
    for n in 10..60 {
        scene.pod(&format!("default/old{n}"), at(n));
        scene.pod(&format!("default/new{n}"), at(n));
    }
    scene.unpublished_pods();
    scene.pod_gone("default/old12");
    assert_eq!(scene.unpublished_pods(), ["new12.default", "old12.default"]);
    assert_eq!(scene.outcome("default/new12"), "10.23.0.12 of net");
}
