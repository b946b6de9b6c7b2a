//! Annotations of real objects and of hostile ones.

mod namespaces;
mod table;

use serde_json::{Value, json};

use super::*;
use crate::{NamespaceView, NodeView, PodView};

const P: &str = "ovn.kubernetes.io/";

/// An object with annotations. A name without a prefix gets ours.
fn object<T: serde::de::DeserializeOwned>(mut metadata: Value, annotations: &[(&str, &str)]) -> T {
    let full = |name: &str| if name.contains('/') { name.to_owned() } else { format!("{P}{name}") };
    let annotations: BTreeMap<_, _> = annotations.iter().map(|(name, value)| (full(name), *value)).collect();
    metadata["annotations"] = json!(annotations);
    serde_json::from_value(json!({ "metadata": metadata })).unwrap()
}

fn pod(annotations: &[(&str, &str)]) -> PodView {
    object(json!({"name": "a", "namespace": "test-ns"}), annotations)
}

fn member(ordinal: usize, annotations: &[(&str, &str)]) -> PodView {
    let owner = json!([{"apiVersion": "apps/v1", "kind": "StatefulSet", "name": "db", "uid": "", "controller": true}]);
    object(json!({"name": format!("db-{ordinal}"), "namespace": "test-ns", "ownerReferences": owner}), annotations)
}

fn namespace(annotations: &[(&str, &str)]) -> NamespaceView {
    object(json!({"name": "test-ns"}), annotations)
}

const RESULT: [(&str, &str); 7] = [
    ("allocated", "true"),
    ("routed", "true"),
    ("logical_switch", "dual-net"),
    ("ip_address", "10.23.0.2,fd00:23::2"),
    ("mac_address", "66:dc:b2:f4:2e:e3"),
    ("cidr", "10.23.0.0/24,fd00:23::/112"),
    ("gateway", "10.23.0.1,fd00:23::1"),
];

#[test]
fn a_pod_s_result_goes_round() {
    let pod = pod(&RESULT);
    let net = Placement::of_pod(&pod).unwrap().unwrap();
    assert_eq!(net.switch, "dual-net");
    assert!(net.complete);
    assert_eq!(&net.pod_annotations(), pod.annotations());
    let unrouted: Vec<_> = RESULT.iter().copied().filter(|(name, _)| *name != "routed").collect();
    assert!(!Placement::of_pod(&self::pod(&unrouted)).unwrap().unwrap().complete);
}

#[test]
fn a_result_that_lacks_something_is_an_error() {
    assert_eq!(Placement::of_pod(&pod(&[])), Ok(None));
    assert_eq!(Placement::of_pod(&pod(&RESULT[1..])), Ok(None), "not allocated");
    for (missing, _) in &RESULT[2..] {
        let rest: Vec<_> = RESULT.iter().copied().filter(|(name, _)| name != missing).collect();
        let error = Placement::of_pod(&pod(&rest)).unwrap_err().to_string();
        let expected = format!("pod test-ns/a: annotation {P}{missing}: missing on an allocated object");
        assert_eq!(error, expected);
    }
}

#[test]
fn a_node_s_result_goes_round() {
    let annotations = [
        ("allocated", "true"),
        ("logical_switch", "join"),
        ("ip_address", "100.64.0.2"),
        ("mac_address", "b6:ea:86:6a:a5:9b"),
        ("cidr", "100.64.0.0/16"),
        ("gateway", "100.64.0.1"),
        ("port_name", "node-n1"),
    ];
    let node: NodeView = object(json!({"name": "n1"}), &annotations);
    let net = Placement::of_node(&node).unwrap().unwrap();
    assert!(net.complete);
    assert_eq!(&net.node_annotations(&node.port_name()), node.annotations());
    assert_eq!(Placement::of_node(&object(json!({"name": "n1"}), &[])), Ok(None));
    for (name, annotations) in [("n2", &annotations[..]), ("n1", &annotations[..6])] {
        let node: NodeView = object(json!({ "name": name }), annotations);
        assert!(!Placement::of_node(&node).unwrap().unwrap().complete, "{name}: its port's name is not said");
    }
}

#[test]
fn a_static_wish_is_told_from_a_result() {
    let wish = [("ip_address", "10.17.0.50"), ("mac_address", "00:00:00:AA:BB:CC"), ("logical_switch", "net")];
    let want = PodWant::parse(&pod(&wish)).address.unwrap();
    assert_eq!(want.ips, PodIps::Exact("10.17.0.50".parse().unwrap()));
    assert_eq!(want.mac, Some("00:00:00:aa:bb:cc".parse().unwrap()));
    assert_eq!(want.switch.as_deref(), Some("net"));

    assert_eq!(PodWant::parse(&pod(&RESULT)), PodWant::default());
}

#[test]
fn rates_and_switches_of_a_pod() {
    let want = PodWant::parse(&pod(&[
        ("ingress_rate", "10"),
        ("egress_rate", "0"),
        ("ingress_burst", "8"),
        ("egress_burst", "-x"),
        ("kubernetes.io/ingress-bandwidth", "7M"),
        ("kubernetes.io/egress-bandwidth", "7M"),
        ("mirror", "true"),
        ("port_security", "true"),
    ]));
    let limit = |rate, burst| LimitWant::Limit(Limit { rate, burst });
    assert_eq!(want.limits.ingress, limit(10_000, 8000), "ours goes before Kubernetes' own");
    assert_eq!(want.limits.egress, LimitWant::Unlimited, "0 lifts the limit, whatever the burst");
    assert_eq!((want.mirror, want.port_security), (Ok(Some(true)), Ok(Some(true))));
    let want = PodWant::parse(&pod(&[("kubernetes.io/egress-bandwidth", "7M"), ("mirror", "")]));
    assert_eq!((want.limits.egress, want.mirror), (limit(7000, 5600), Ok(None)));
    assert_eq!(want.limits.ingress, LimitWant::Unset);
}

#[test]
fn pools_of_addresses() {
    let list = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect::<Vec<_>>();
    let pool = |text: &str| PodWant::parse(&pod(&[("ip_pool", text)])).address.map(|want| want.ips);
    let member = |n, text: &str| PodWant::parse(&member(n, &[("ip_pool", text)])).address.map(|want| want.ips);
    let exact = |text: &str| Ok(PodIps::Exact(text.parse().unwrap()));

    assert_eq!(pool("10.0.0.5,10.0.0.6"), Ok(PodIps::FirstFree(list(&["10.0.0.5", "10.0.0.6"]))));
    assert_eq!(pool("10.0.0.5, fd00::5; 10.0.0.6,fd00::6;").map(|ips| format!("{ips:?}")).unwrap(), {
        format!("{:?}", PodIps::FirstFree(list(&["10.0.0.5,fd00::5", "10.0.0.6,fd00::6"])))
    });
    assert_eq!(pool("10.0.0.5,fd00::5"), Ok(PodIps::FirstFree(list(&["10.0.0.5,fd00::5"]))));
    assert_eq!(pool("shop-pool"), Ok(PodIps::Pool("shop-pool".into())));
    assert_eq!(pool("fd00::5"), Ok(PodIps::FirstFree(list(&["fd00::5"]))));
    assert_eq!(member(1, "10.0.0.5,10.0.0.6"), exact("10.0.0.6"));
    assert_eq!(member(0, "10.0.0.5,fd00::5;10.0.0.6,fd00::6"), exact("10.0.0.5,fd00::5"));
    let error = member(2, "10.0.0.5,10.0.0.6").unwrap_err().to_string();
    assert!(error.contains("ip_pool: it has 2 addresses, none for number 2 of stateful set db"), "{error}");
    for bad in ["10.0.0.5,", ",", ";", "10.0.0.5,x", "10.0.0.5;10.0.0.6,10.0.0.7", "10.0.0.1..10.0.0.5", "Shop"] {
        match pool(bad) {
            // A trailing separator is ignored.
            Ok(ips) => assert_eq!((bad, ips), ("10.0.0.5,", PodIps::FirstFree(list(&["10.0.0.5"])))),
            Err(e) => assert!(e.to_string().starts_with("pod test-ns/a: annotation ovn.kubernetes.io/ip_pool:"), "{e}"),
        }
    }
}

#[test]
fn errors_name_pod_and_annotation() {
    let error = |name: &str, value: &str| {
        let errors: Vec<_> = PodWant::parse(&pod(&[(name, value)])).unreadable().map(ToString::to_string).collect();
        assert_eq!(errors.len(), 1, "{errors:?}");
        errors.concat()
    };
    let prefix = |name: &str| format!("pod test-ns/a: annotation {P}{name}: ");
    for (name, value) in [
        ("ip_address", "10.0.0.300"),
        ("ip_address", "10.0.0.1,10.0.0.2"),
        ("mac_address", "ff:ff:ff:ff:ff:ff"),
        ("ingress_rate", "ten"),
        ("egress_rate", "-5"),
        ("egress_burst", "5M"),
        ("mirror", "yes"),
        ("port_security", "1"),
    ] {
        let error = error(name, value);
        assert!(error.starts_with(&prefix(name)) && error.contains(value), "{error}");
    }
}

#[test]
fn each_annotation_of_a_pod_is_read_by_itself() {
    let good = [
        ("logical_switch", "net"),
        ("ingress_rate", "10"),
        ("egress_rate", "11"),
        ("ingress_burst", "12"),
        ("egress_burst", "13"),
        ("mirror", "true"),
        ("port_security", "true"),
        ("kubernetes.io/ingress-bandwidth", "7M"),
        ("kubernetes.io/egress-bandwidth", "7M"),
    ];
    let all = PodWant::parse(&pod(&good));
    assert_eq!(all.unreadable().count(), 0);
    for (broken, _) in &good[..7] {
        let want = PodWant::parse(&pod(&good.map(|(name, value)| (name, if name == *broken { "-x" } else { value }))));
        let errors: Vec<_> = want.unreadable().cloned().collect();
        let [error] = errors.as_slice() else { panic!("{broken}: {errors:?}") };
        assert_eq!(error.field, format!("annotation {P}{broken}"));
        let mut expected = all.clone();
        match *broken {
            "logical_switch" => expected.address = Err(error.clone()),
            "ingress_rate" | "ingress_burst" => expected.limits.ingress = LimitWant::Unreadable,
            "egress_rate" | "egress_burst" => expected.limits.egress = LimitWant::Unreadable,
            "mirror" => expected.mirror = Err(error.clone()),
            _ => expected.port_security = Err(error.clone()),
        }
        if broken.ends_with("_rate") || broken.ends_with("_burst") {
            expected.limits.unreadable = errors;
        }
        assert_eq!(want, expected, "{broken}: the others are as they were");
    }
    let want = PodWant::parse(&pod(&good.map(|(name, _)| (name, "-x"))));
    let fields: Vec<_> = want.unreadable().map(|error| error.field["annotation ".len()..].to_owned()).collect();
    assert_eq!(fields, good[..7].iter().map(|(name, _)| format!("{P}{name}")).collect::<Vec<_>>());
}
