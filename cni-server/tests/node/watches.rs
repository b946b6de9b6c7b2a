//! Tests of the agent's watches of the API server.

use std::time::Duration;

use api::annotations::{NODE_NAME_LABEL, SUBNET_LABEL};
use cni_server::seen::{Cluster, Seen};
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::api_server::ApiServer;
use crate::sandbox::{PodNs, in_netns, run};
use crate::scene::{Scene, attachment};

fn subnet(uid: &str, cidr: &str, in_force: bool, used: u32) -> Value {
    let networks = json!([{ "cidr": cidr, "gateway": "10.16.0.1" }]);
    let in_force = in_force.then(|| json!({ "networks": networks, "natOutgoing": true }));
    json!({
        "metadata": { "uid": uid },
        "spec": { "cidrBlock": cidr },
        "status": { "v4UsingIPs": used, "inForce": in_force },
    })
}

fn ip(holder: &str, address: &str, subnet: &str) -> Value {
    json!({
        "metadata": { "labels": { NODE_NAME_LABEL: "n1", SUBNET_LABEL: subnet } },
        "spec": {
            "ipAddress": address, "macAddress": "0a:00:00:00:00:05", "subnet": subnet, "podUid": holder, "nodeName": "n1",
        },
    })
}

fn node() -> Value {
    json!({ "metadata": { "uid": "uid-n1" }, "status": { "addresses": [{ "type": "InternalIP", "address": "172.31.0.1" }] } })
}

/// Waits until these objects are kept.
async fn until<T: std::fmt::Debug>(seen: &mut watch::Receiver<Seen<T>>, names: &[&str]) {
    let are = |seen: &Seen<T>| seen.synced && seen.objects.keys().eq(names);
    let waits = tokio::time::timeout(Duration::from_secs(10), seen.wait_for(are)).await.map(drop);
    assert!(waits.is_ok(), "never {names:?}: {:?}", seen.borrow());
}

#[test]
fn what_users_write_does_not_matter() {
    in_netns(|| async {
        let (server, client) = ApiServer::start().await;
        server.put("nodes", "n1", node());
        let forged = json!({
            "ovn.kubernetes.io/allocated": "true",
            "ovn.kubernetes.io/routed": "true",
            "ovn.kubernetes.io/logical_switch": "ovn-default",
            "ovn.kubernetes.io/ip_address": "10.16.0.66",
            "ovn.kubernetes.io/mac_address": "0a:00:00:00:00:66",
            "ovn.kubernetes.io/cidr": "10.16.0.0/16",
            "ovn.kubernetes.io/gateway": "10.16.0.1",
        });
        let pod = json!({ "metadata": { "namespace": "ns", "uid": "uid-5", "annotations": forged }, "spec": { "nodeName": "n1" } });
        server.put("pods", "pod-5", pod);
        server.put("subnets", "ovn-default", subnet("a", "10.16.0.0/16", false, 0));
        let mut scene = Scene::new([]);
        let mut cluster = Cluster::watch(&client, "n1", scene.attacher.ovs.clone());
        cluster.synced(|_| {}).await;

        scene.attacher.pods = cluster.pods.clone();
        scene.attacher.leases = cluster.leases.clone();
        scene.attacher.subnets = cluster.subnets.clone();
        scene.attacher.patience = Duration::from_secs(1);
        scene.attacher.ovs.bridge().await;
        let pod = PodNs::new();
        let add = async || scene.attacher.add(&attachment(5, &pod)).await.map_err(|error| error.details);
        assert_eq!(add().await.unwrap_err(), "no address yet: see the pod's events");
        server.put("ips", "pod-5.ns", ip("uid-5", "10.16.0.5", "ovn-default"));
        until(&mut cluster.leases, &["pod-5.ns"]).await;
        assert_eq!(add().await.unwrap_err(), "subnet ovn-default is not in force yet");
        server.put("subnets", "ovn-default", subnet("a", "10.16.0.0/16", true, 0));
        until(&mut cluster.subnets, &["ovn-default"]).await;
        scene.attacher.patience = Duration::from_secs(20);
        let added = scene.attacher.add(&attachment(5, &pod)).await.unwrap();
        assert_eq!((added.ips[0].address.as_str(), added.mac.as_str()), ("10.16.0.5/16", "0a:00:00:00:00:05"));
    });
}

#[test]
fn a_subnet_deleted_by_force_is_kept_as_long_as_an_ip_object_names_it() {
    in_netns(|| async {
        let (server, client) = ApiServer::start().await;
        for name in ["a", "b", "c"] {
            server.put("subnets", name, subnet(name, "10.16.0.0/16", true, 0));
        }
        // Its pod is on another node.
        let mut other = ip("uid-9", "10.16.0.9", "a");
        other["metadata"]["labels"][NODE_NAME_LABEL] = "n2".into();
        server.put("ips", "pod-9.ns", other);
        let scene = Scene::new([]);
        let ovs = scene.attacher.ovs.clone();
        let mut subnets = Cluster::watch(&client, "n1", ovs.clone()).subnets;
        until(&mut subnets, &["a", "b", "c"]).await;

        // A changed count wakes no receiver; a later change does.
        subnets.mark_unchanged();
        server.put("subnets", "a", subnet("a", "10.16.0.0/16", true, 7));
        server.put("subnets", "c", subnet("c", "10.16.0.0/16", false, 0));
        subnets.changed().await.unwrap();
        assert!(subnets.borrow_and_update().objects.keys().eq(["a", "b"]), "c was deleted properly");

        // No IP object names b.
        server.delete("subnets", "a");
        server.delete("subnets", "b");
        until(&mut subnets, &["a"]).await;

        // An agent that starts now knows it, too.
        let mut changed = ovs.changed();
        let recorded = || ovs.external_id("kube-ovn-kept-subnets").is_some_and(|text| !text.contains(r#""b""#));
        while !recorded() {
            changed.changed().await.unwrap();
        }
        until(&mut Cluster::watch(&client, "n1", ovs.clone()).subnets, &["a"]).await;

        server.put("subnets", "a", subnet("new", "10.17.0.0/16", false, 0));
        server.put("subnets", "d", subnet("d", "10.18.0.0/16", true, 0));
        until(&mut subnets, &["a", "d"]).await;
        let cidrs =
            |subnets: &watch::Receiver<Seen<api::EffectiveSubnet>>| subnets.borrow().objects["a"].cidrs.to_string();
        assert_eq!(cidrs(&subnets), "10.16.0.0/16");
        server.delete("ips", "pod-9.ns");
        until(&mut subnets, &["d"]).await;
        while ovs.external_id("kube-ovn-kept-subnets").is_some() {
            changed.changed().await.unwrap();
        }
        server.put("subnets", "a", subnet("new", "10.17.0.0/16", true, 0));
        until(&mut subnets, &["a", "d"]).await;
        assert_eq!(cidrs(&subnets), "10.17.0.0/16");
    });
}

#[test]
fn an_object_that_is_not_readable_does_not_affect_others() {
    in_netns(|| async {
        let (server, client) = ApiServer::start().await;
        server.put("nodes", "n1", node());
        server.put("subnets", "a", subnet("a", "10.16.0.0/16", true, 0));
        let mut odd = subnet("odd", "10.17.0.0/16", true, 0);
        odd["status"]["inForce"] = "odd".into();
        server.put("subnets", "odd", odd);
        server.put("ips", "a.ns", ip("uid-a", "10.16.0.5", "a"));
        let mut odd = ip("uid-odd", "10.16.0.6", "a");
        odd["spec"]["ipAddress"] = json!(["10.16.0.6"]);
        server.put("ips", "odd.ns", odd);
        let mut elsewhere = ip("uid-b", "10.16.0.7", "a");
        elsewhere["metadata"]["labels"][NODE_NAME_LABEL] = "n2".into();
        server.put("ips", "b.ns", elsewhere);
        let scene = Scene::new([]);
        let mut cluster = Cluster::watch(&client, "n1", scene.attacher.ovs.clone());
        until(&mut cluster.subnets, &["a"]).await;
        until(&mut cluster.leases, &["a.ns", "odd.ns"]).await;
        let leases = cluster.leases.borrow();
        assert!(leases.objects["a.ns"].is_ok());
        let said = leases.objects["odd.ns"].as_ref().unwrap_err().to_string();
        assert!(said.starts_with("ip odd.ns: spec: "), "{said}");
    });
}

/// Packets to the API server are dropped, so neither end learns that the connection is gone.
#[test]
fn a_watch_notices_by_itself_that_its_connection_is_dead() {
    in_netns(|| async {
        let scene = Scene::new([]);
        let (server, client) = ApiServer::start().await;
        server.put("subnets", "a", subnet("a", "10.16.0.0/16", true, 0));
        let mut subnets = Cluster::watch(&client, "n1", scene.attacher.ovs.clone()).subnets;
        until(&mut subnets, &["a"]).await;
        run("iptables", &["-A", "INPUT", "-i", "lo", "-p", "tcp", "-j", "DROP"]);
        server.put("subnets", "b", subnet("b", "10.17.0.0/16", true, 0));
        // The kernel sends the event again after 0.2, 0.4, ... 6.4 and 12.8 s.
        tokio::time::sleep(Duration::from_secs(14)).await;
        assert!(subnets.borrow().objects.keys().eq(["a"]));
        run("iptables", &["-F", "INPUT"]);
        until(&mut subnets, &["a", "b"]).await;
    });
}
