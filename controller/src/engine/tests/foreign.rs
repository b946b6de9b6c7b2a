//! Foreign subnets and fields of other writers are not changed; addresses that pods must not have are refused.

use super::*;
use crate::engine::Verdict;
use crate::visible;

fn write(scene: &Scene, object: Object) -> Option<Value> {
    visible::write(&scene.engine, &scene.cluster, &object).map(|action| action.patch())
}

#[test]
fn a_foreign_subnet_is_not_edited_for_a_namespace_that_names_it() {
    for foreign in [json!({ "provider": "else.ovn" }), json!({ "vpc": "blue" }), json!({ "vlan": "vlan-7" })] {
        let mut scene = Scene::new();
        let mut spec = json!({ "cidrBlock": "10.33.0.0/24" });
        spec.as_object_mut().unwrap().extend(foreign.as_object().unwrap().clone());
        scene.subnet("theirs", spec);
        scene.namespace("shop", json!({ "ovn.kubernetes.io/logical_switch": "theirs" }));
        assert_eq!(scene.engine.verdict("theirs"), Some(&Verdict::Foreign));
        assert_eq!(write(&scene, Object::Subnet("theirs".into())), None, "{foreign}");
        assert_eq!(write(&scene, Object::Namespace("shop".into())), None);
        let refused = scene.refused(&Object::Namespace("shop".into()));
        assert_eq!(
            refused,
            "namespace shop: annotation ovn.kubernetes.io/logical_switch: subnet theirs is not served here"
        );
        assert!(scene.pod("shop/a", json!({})).contains("subnet theirs is not served here"));
        // It is served from now on.
        scene.subnet("theirs", json!({ "cidrBlock": "10.33.0.0/24" }));
        assert_eq!(scene.outcome("shop/a"), "10.33.0.2 of theirs");
    }
}

#[test]
fn a_subnet_that_becomes_foreign_loses_our_finalizer_and_nothing_else() {
    let mut scene = Scene::new();
    let mut net = subnet("net", json!({ "cidrBlock": "10.33.0.0/24" }));
    net.metadata.finalizers = Some(vec!["other/one".to_owned(), api::FINALIZER.to_owned()]);
    scene.apply(Event::Subnets(WatchEvent::Apply(net.clone())));
    let in_force = |scene: &Scene| {
        let status =
            visible::status(&scene.engine, &scene.cluster, &Object::Subnet("net".into()), jiff::Timestamp::UNIX_EPOCH);
        status.map(|action| action.patch()["status"].clone())
    };
    net.status = Some(serde_json::from_value(in_force(&scene).unwrap()).unwrap());
    net.spec.provider = Some("else.ovn".to_owned());
    scene.apply(Event::Subnets(WatchEvent::Apply(net.clone())));
    let patch = write(&scene, Object::Subnet("net".into())).unwrap();
    assert_eq!((&patch["metadata"]["finalizers"], &patch["spec"]), (&json!(["other/one"]), &json!({})));
    net.metadata.finalizers = Some(vec!["other/one".to_owned()]);
    scene.apply(Event::Subnets(WatchEvent::Apply(net.clone())));
    assert_eq!(write(&scene, Object::Subnet("net".into())), None);
    let status = in_force(&scene).unwrap();
    assert_eq!(
        (&status["inForce"], &status["conditions"], &status["v4availableIPs"]),
        (&json!(null), &json!([]), &json!(0))
    );
    net.status = Some(serde_json::from_value(status).unwrap());
    // kube-ovn, whose finalizer has the same name, serves it now.
    net.metadata.finalizers = Some(vec![api::FINALIZER.to_owned()]);
    scene.apply(Event::Subnets(WatchEvent::Apply(net)));
    assert_eq!((write(&scene, Object::Subnet("net".into())), in_force(&scene)), (None, None));
}

#[test]
fn pods_get_no_address_of_the_join_subnet() {
    let mut scene = Scene::new();
    let join = json!({ "ovn.kubernetes.io/logical_switch": "join" });
    assert!(
        scene.pod("default/a", join.clone()).contains("subnet join: it is the nodes' own, pods get no addresses of it")
    );
    scene.namespace("shop", join);
    assert!(scene.pod("shop/b", json!({})).contains("subnet join is the nodes' own"));
    assert_eq!(write(&scene, Object::Namespace("shop".into())), None);
    scene.namespace("blue", json!({}));
    scene.subnet("join", json!({ "cidrBlock": "100.64.0.0/16", "namespaces": ["blue"] }));
    assert_eq!(scene.pod("blue/c", json!({})), "10.16.0.2 of ovn-default");
    let [remark] = scene.engine.remarks(&scene.cluster, &Object::Subnet("join".into())).try_into().unwrap();
    assert!(remark.message.starts_with("subnet join: spec.namespaces: it is the nodes' own"), "{}", remark.message);
}

#[test]
fn defaults_are_written_once_and_do_not_take_fields_from_the_user() {
    let mut scene = Scene::new();
    scene.subnet("net", json!({ "cidrBlock": "10.33.0.7/24", "excludeIps": ["10.33.0.9"] }));
    let patch = write(&scene, Object::Subnet("net".into())).unwrap();
    assert_eq!(
        patch["spec"],
        json!({
            "cidrBlock": "10.33.0.0/24", "excludeIps": ["10.33.0.9", "10.33.0.1"], "protocol": "IPv4",
            "gateway": "10.33.0.1", "gatewayType": "distributed", "provider": "ovn", "vpc": "ovn-cluster",
            "default": false, "natOutgoing": false, "private": false,
        })
    );
    assert_eq!(patch["metadata"]["finalizers"], json!([api::FINALIZER]));

    let mut net = subnet("net", json!({ "cidrBlock": "10.33.0.0/24", "excludeIps": ["10.33.0.9"], "private": true }));
    net.metadata.finalizers = Some(vec![api::FINALIZER.to_owned()]);
    scene.apply(Event::Subnets(WatchEvent::Apply(net.clone())));
    let applied = write(&scene, Object::Subnet("net".into())).unwrap()["spec"].clone();
    assert_eq!(
        applied,
        json!({
            "protocol": "IPv4", "gateway": "10.33.0.1", "gatewayType": "distributed", "provider": "ovn", "vpc": "ovn-cluster",
            "default": false, "natOutgoing": false,
        }),
        "not what the author wrote, and the gateways are put among the excluded addresses only once"
    );
    // The user sets the gateway and removes another field.
    net.spec = serde_json::from_value(json!({
        "cidrBlock": "10.33.0.0/24", "private": true, "protocol": "IPv4", "gateway": "10.33.0.2", "provider": "ovn",
        "vpc": "ovn-cluster", "default": false, "natOutgoing": false,
    }))
    .unwrap();
    let owned = json!([{
        "manager": "kube-ovn-controller", "operation": "Apply", "apiVersion": "kubeovn.io/v1", "fieldsType": "FieldsV1",
        "fieldsV1": { "f:spec": { "f:protocol": {}, "f:provider": {}, "f:vpc": {}, "f:default": {}, "f:natOutgoing": {} } },
    }]);
    net.metadata.managed_fields = Some(serde_json::from_value(owned).unwrap());
    scene.apply(Event::Subnets(WatchEvent::Apply(net)));
    let applied = write(&scene, Object::Subnet("net".into())).unwrap()["spec"].clone();
    assert_eq!(
        applied,
        json!({
            "protocol": "IPv4", "gatewayType": "distributed", "provider": "ovn", "vpc": "ovn-cluster", "default": false,
            "natOutgoing": false,
        })
    );
}

#[test]
fn a_subnet_becomes_ready_with_its_defaults_and_stays_so() {
    let mut scene = Scene::new();
    let net = Object::Subnet("net".into());
    let ready = |scene: &mut Scene, mut object: Subnet| {
        object.metadata.finalizers = Some(vec![api::FINALIZER.to_owned()]);
        scene.apply(Event::Subnets(WatchEvent::Apply(object.clone())));
        let status = visible::status(&scene.engine, &scene.cluster, &net, jiff::Timestamp::UNIX_EPOCH).unwrap();
        object.status = Some(serde_json::from_value(status.patch()["status"].clone()).unwrap());
        let conditions = &object.status.as_ref().unwrap().conditions;
        let ready = conditions.iter().find(|condition| condition.type_ == "Ready").unwrap();
        (ready.reason.clone(), object)
    };
    // A refused spec gets the finalizer, and no defaults.
    let (reason, refused) = ready(&mut scene, subnet("net", json!({ "cidrBlock": "10.33.0.0" })));
    assert_ne!(reason, "InForce");
    let mut corrected = subnet("net", json!({ "cidrBlock": "10.33.0.0/24" }));
    corrected.status = refused.status;
    let (reason, mut corrected) = ready(&mut scene, corrected);
    assert_eq!(reason, "DefaultsPending");
    let applied = write(&scene, net.clone()).unwrap()["spec"].clone();
    let mut spec = serde_json::to_value(&corrected.spec).unwrap();
    spec.as_object_mut().unwrap().extend(applied.as_object().unwrap().clone());
    corrected.spec = serde_json::from_value(spec).unwrap();
    let (reason, mut complete) = ready(&mut scene, corrected);
    assert_eq!(reason, "InForce");
    complete.spec.gateway = None;
    complete.spec.exclude_ips = vec!["10.33.0.9".to_owned()];
    assert_eq!(ready(&mut scene, complete).0, "InForce", "what is in force has not changed");
}

#[test]
fn an_unreadable_annotation_does_not_affect_others() {
    let mut scene = Scene::new();
    let secured = json!({ "ovn.kubernetes.io/port_security": "true" });
    scene.pod("default/a", secured);
    let is_secured = |scene: &mut Scene| {
        scene.facts_about("Logical_Switch_Port a.default").iter().any(|fact| fact.contains("port_security"))
    };
    assert!(is_secured(&mut scene));
    scene.pod("default/a", json!({ "ovn.kubernetes.io/port_security": "true", "ovn.kubernetes.io/mirror": "yes" }));
    assert!(is_secured(&mut scene));
    let remarks = scene.engine.remarks(&scene.cluster, &Object::Pod("a.default".into()));
    assert!(remarks[0].message.contains("annotation ovn.kubernetes.io/mirror"), "{remarks:?}");
    // The previous value stays in force, also after a change of leaders.
    for (before, security) in [("true", true), ("false", false)] {
        scene.pod("default/a", json!({ "ovn.kubernetes.io/port_security": before }));
        scene.pod("default/a", json!({ "ovn.kubernetes.io/port_security": "maybe" }));
        assert_eq!(is_secured(&mut scene), security);
        let replica = recovery::written(&scene);
        scene.engine = Engine::recover(install(), &scene.cluster, &replica);
        assert_eq!(is_secured(&mut scene), security);
    }
    scene.pod_gone("default/a");
    assert!(scene.pod("default/a", json!({ "ovn.kubernetes.io/port_security": "maybe" })).starts_with("10.16."));
    assert!(is_secured(&mut scene), "of a pod of which nothing was in force it is on");
    // Where it is on by default, a pod can switch it off.
    let replica = Replica::new(ovn::northbound());
    scene.engine = Engine::recover(Install { port_security: true, ..install() }, &scene.cluster, &replica);
    for (annotation, security) in [(None, true), (Some("false"), false), (Some("true"), true)] {
        scene.pod("default/a", json!({ "ovn.kubernetes.io/port_security": annotation.unwrap_or_default() }));
        assert_eq!(is_secured(&mut scene), security, "{annotation:?}");
    }
    let bandwidth = json!({ "ovn.kubernetes.io/vip": "10.0.0.9", "ovn.kubernetes.io/egress_rate": "fast" });
    assert!(scene.pod("default/b", bandwidth).starts_with("10.16."), "the pod runs");
    let remarks = scene.engine.remarks(&scene.cluster, &Object::Pod("b.default".into()));
    let remarks: Vec<String> =
        remarks.into_iter().map(|remark| format!("{}: {}", remark.reason, remark.message)).collect();
    let unserved =
        "AnnotationNotServed: pod default/b: annotation ovn.kubernetes.io/vip: this version does not serve it";
    assert!(
        remarks.iter().any(|line| line == unserved) && remarks[0].starts_with("UnreadableAnnotation: "),
        "{remarks:?}"
    );
}

#[test]
fn a_pod_that_is_created_again_does_not_have_the_port_security_of_its_predecessor() {
    let mut scene = Scene::new();
    let owner =
        json!([{ "apiVersion": "apps/v1", "kind": "StatefulSet", "name": "db", "uid": "s", "controller": true }]);
    let member = |uid: &str, security: &str| {
        let annotations = json!({ "ovn.kubernetes.io/port_security": security });
        let metadata = json!({ "name": "db-0", "namespace": "default", "uid": uid, "annotations": annotations, "ownerReferences": owner });
        Pod::from_view(&object(json!({ "metadata": metadata, "spec": { "nodeName": "n1" } }))).unwrap()
    };
    let set = json!({ "metadata": { "name": "db", "namespace": "default" }, "spec": { "replicas": 1 } });
    let set = crate::cluster::StatefulSet::from_view(&object(set));
    scene.apply(Event::StatefulSets(WatchEvent::Apply(set)));
    let is_secured = |scene: &Scene| scene.engine.world.port("db-0.default").map(|port| port.port_security);
    scene.apply(Event::Pods(WatchEvent::Apply(member("uid-1", "false"))));
    scene.apply(Event::Pods(WatchEvent::Apply(member("uid-1", "maybe"))));
    let replica = recovery::written(&scene);
    scene.engine = Engine::recover(install(), &scene.cluster, &replica);
    assert_eq!(is_secured(&scene), Some(false));
    scene.apply(Event::Pods(WatchEvent::Delete(member("uid-1", "maybe"))));
    assert!(scene.engine.is_reserved("db-0.default"));
    scene.apply(Event::Pods(WatchEvent::Apply(member("uid-2", "maybe"))));
    assert_eq!(is_secured(&scene), Some(true));
}

#[test]
fn a_pod_cannot_have_the_mac_of_a_gateway() {
    let mut scene = Scene::new();
    let mac = plan::router_mac("ovn-cluster", "ovn-default");
    let refused = scene.pod("default/a", json!({ "ovn.kubernetes.io/mac_address": mac.to_uppercase() }));
    let why = format!("AddressConflict: {mac} is the MAC of subnet ovn-default's gateway");
    assert_eq!(refused, format!("refused: pod default/a: annotation ovn.kubernetes.io/mac_address: {why}"));
    let gateway = scene.pod("default/b", json!({ "ovn.kubernetes.io/ip_address": "10.16.0.1" }));
    assert!(gateway.starts_with("refused: AddressConflict: "), "{gateway}");
}
