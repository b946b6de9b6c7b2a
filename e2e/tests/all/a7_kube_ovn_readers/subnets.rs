//! Subnets: the fields that the controller fills in, the ranges in use, and the namespaces that they serve.

use std::collections::BTreeSet;

use anyhow::{Context, Result, ensure};
use e2e::Cluster;
use e2e::cluster::nb;
use futures::future::try_join_all;
use k8s_openapi::api::core::v1::Namespace;
use kube::Api;
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};

use super::{SOON, Workload, ips, same, set, status_is, subnet};

#[tokio::test]
async fn a7_a_subnet_is_complete_when_it_is_ready() -> Result<()> {
    let cluster = Cluster::running().await?;
    let scene = cluster.scene("a7-fields").await?;
    // As clients in Go write them: fields without a value are there, and empty.
    let plain = |cidr: &str, exclude: Value| {
        json!({
            "default": false, "protocol": "", "namespaces": [], "cidrBlock": cidr, "gateway": "", "excludeIps": exclude,
            "gatewayNode": "", "natOutgoing": false, "private": false, "allowSubnets": [],
        })
    };
    // The last address of an IPv6 network is an address like any other. kube-ovn leaves it out.
    for (name, spec, protocol, gateway, excluded, counts) in [
        (
            "a7-dual",
            json!({"cidrBlock": "10.123.0.0/24,fd00:123::/112"}),
            "Dual",
            "10.123.0.1,fd00:123::1",
            vec!["10.123.0.1", "fd00:123::1"],
            (253, 65534),
        ),
        ("a7-v4", plain("10.124.0.37/24", json!([])), "IPv4", "10.124.0.1", vec!["10.124.0.1"], (253, 0)),
        (
            "a7-v6",
            plain("fd00:124::/96", json!([])),
            "IPv6",
            "fd00:124::1",
            vec!["fd00:124::1"],
            (0, 4_294_967_294_u64),
        ),
        (
            "a7-less",
            plain("10.125.0.0/24", json!(["10.125.0.7", "10.125.0.20..10.125.0.29"])),
            "IPv4",
            "10.125.0.1",
            vec!["10.125.0.1", "10.125.0.7", "10.125.0.20..10.125.0.29"],
            (242, 0),
        ),
    ] {
        let object = subnet(&scene, name, spec).await?;
        assert_eq!(object["metadata"]["finalizers"], json!(["kubeovn.io/kube-ovn-controller"]), "{name}");
        let (spec, status) = (&object["spec"], &object["status"]);
        let fields = json!({"protocol": protocol, "gateway": gateway, "gatewayType": "distributed"});
        same(spec, &fields).with_context(|| name.to_owned())?;
        let excludes: BTreeSet<String> = spec["excludeIps"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|ip| Some(ip.as_str()?.to_owned()))
            .collect();
        assert_eq!(excludes, set(&excluded), "{name}");
        for absent in ["default", "natOutgoing", "private", "gatewayNode", "namespaces", "allowSubnets"] {
            ensure!([json!(null), json!(false), json!(""), json!([])].contains(&spec[absent]), "{absent}: {spec}");
        }
        let counts = json!({
            "v4usingIPs": 0, "v6usingIPs": 0, "v4availableIPs": counts.0, "v6availableIPs": counts.1,
        });
        same(status, &counts).with_context(|| name.to_owned())?;
        ensure!([json!(null), json!("")].contains(&status["activateGateway"]), "{status}");
    }
    Ok(())
}

#[tokio::test]
async fn a7_a_subnet_tells_which_addresses_are_used() -> Result<()> {
    let cluster = Cluster::running().await?;
    let scene = cluster.scene("a7-ranges").await?;
    scene.namespace("a7-ranges", &[]).await?;
    let (scene, cluster) = (&scene, &cluster);

    // Addresses that are not chosen for pods are there on request.
    let requested = async {
        let small = json!({"cidrBlock": "10.126.0.0/30", "excludeIps": ["10.126.0.1", "10.126.0.2"]});
        let small = subnet(scene, "a7-small", small).await?;
        same(&small["status"], &json!({"v4availableIPs": 0, "v6availableIPs": 0}))?;
        for (key, name) in [("ip_address", "one"), ("ip_pool", "two")] {
            let pod = scene.pod("a7-ranges", name).on("n1").annotation("ovn.kubernetes.io/logical_switch", "a7-small");
            let pod = pod.annotation(&format!("ovn.kubernetes.io/{key}"), "10.126.0.2").ready().await?;
            assert_eq!(pod.ip4()?, "10.126.0.2");
            pod.delete().await?;
        }
        anyhow::Ok(())
    };
    let ranges = async {
        subnet(scene, "a7-ranges", json!({"cidrBlock": "10.127.0.0/24"})).await?;
        let on = |name: &str| scene.pod("a7-ranges", name).annotation("ovn.kubernetes.io/logical_switch", "a7-ranges");
        let shows = |using: &'static str, available: &'static str| {
            let expected = json!({"v4usingIPrange": using, "v4availableIPrange": available});
            status_is(cluster, "Subnet", "a7-ranges", expected)
        };
        shows("", "10.127.0.2-10.127.0.254").await?;
        let pods = try_join_all(["a", "b", "c"].map(|name| on(name).on("n1").ready())).await?;
        shows("10.127.0.2-10.127.0.4", "10.127.0.5-10.127.0.254").await?;
        try_join_all(pods.into_iter().map(e2e::cluster::Pod::delete)).await?;
        shows("", "10.127.0.2-10.127.0.254").await?;

        let fixed = |name: &str, ip: &str| on(name).on("n2").annotation("ovn.kubernetes.io/ip_address", ip).ready();
        let (d, e) = tokio::try_join!(fixed("d", "10.127.0.10"), fixed("e", "10.127.0.12"))?;
        shows("10.127.0.10,10.127.0.12", "10.127.0.2-10.127.0.9,10.127.0.11,10.127.0.13-10.127.0.254").await?;
        tokio::try_join!(d.delete(), e.delete()).map(drop)
    };
    // A released address is assigned again after all others.
    let again = async {
        let net = subnet(scene, "a7-rolled", json!({"cidrBlock": "10.128.0.0/24"})).await?;
        let asked = json!({"ovn.kubernetes.io/logical_switch": "a7-rolled"});
        let web = Workload::new(scene, "a7-ranges", ("Deployment", "web"), json!({"replicas": 2}), asked).await?;
        let first = web.pods(2, &net, &[]).await?;
        let second = web.again(&first, &net).await?;
        let all = |pods: &[_]| pods.iter().flat_map(ips).collect::<BTreeSet<_>>();
        assert_eq!(all(&first), set(&["10.128.0.2", "10.128.0.3"]));
        assert_eq!(all(&second), set(&["10.128.0.4", "10.128.0.5"]));
        let expected = json!({
            "v4usingIPrange": "10.128.0.4-10.128.0.5",
            "v4availableIPrange": "10.128.0.2-10.128.0.3,10.128.0.6-10.128.0.254",
        });
        status_is(cluster, "Subnet", "a7-rolled", expected).await
    };
    // The MAC address of the gateway is not for pods.
    let conflict = async {
        let port = nb::find("Logical_Router_Port", &["name=ovn-cluster-ovn-default"]).await?;
        let mac = port.first().context("no port")?["mac"].as_str().unwrap_or_default().to_owned();
        let pod = scene.pod("a7-ranges", "gateway").on("n1").annotation("ovn.kubernetes.io/mac_address", &mac);
        let pod = pod.annotation("ovn.kubernetes.io/logical_switch", "ovn-default").create().await?;
        pod.told("AddressConflict", &["AddressConflict", &mac]).await
    };
    tokio::try_join!(requested, ranges, again, conflict).map(drop)
}

#[tokio::test]
async fn a7_a_namespace_shows_the_subnet_that_selects_it() -> Result<()> {
    const KEY: &str = "ovn.kubernetes.io/logical_switch";
    let cluster = Cluster::running().await?;
    let scene = cluster.scene("a7-selected").await?;
    let namespaces: Api<Namespace> = Api::all(cluster.client());
    let subnets: Api<api::Subnet> = Api::all(cluster.client());
    let bound = |namespace: &Namespace| {
        let all = namespace.metadata.annotations.as_ref();
        all.and_then(|all| all.get(KEY)).is_some_and(|subnet| subnet == "a7-selected")
    };
    let until = async |name: &str, expected: bool| {
        let right = |namespace: &Namespace| {
            ensure!(bound(namespace) == expected, "{:?}", namespace.metadata.annotations);
            Ok(())
        };
        cluster.until(namespaces.clone(), name, right).await.map(drop)
    };
    let label = async |name: &str, value: Value| {
        let patch = json!({"metadata": {"labels": {"a7.example.com/project": value}}});
        namespaces.patch(name, &PatchParams::default(), &Patch::Merge(patch)).await
    };
    let edit = async |spec: Value| {
        subnets.patch("a7-selected", &PatchParams::default(), &Patch::Merge(json!({ "spec": spec }))).await
    };
    let select = |values: &[&str]| {
        let of = |value: &&str| json!({"matchLabels": {"a7.example.com/project": value}});
        json!(values.iter().map(of).collect::<Vec<_>>())
    };
    for name in ["a7-one", "a7-two"] {
        scene.namespace(name, &[]).await?;
        label(name, json!(name)).await?;
    }

    // The annotation is there when the Subnet is Ready.
    subnet(&scene, "a7-selected", json!({"cidrBlock": "10.129.0.0/24", "namespaceSelectors": select(&["a7-one"])}))
        .await?;
    ensure!(bound(&namespaces.get("a7-one").await?), "the Subnet was Ready before the namespace was bound");
    ensure!(!bound(&namespaces.get("a7-two").await?));

    // By a selector, by a label, by both ways, by one of them.
    edit(json!({"namespaceSelectors": select(&["a7-one", "a7-two"])})).await?;
    until("a7-two", true).await?;
    label("a7-two", json!(null)).await?;
    until("a7-two", false).await?;
    edit(json!({"namespaces": ["a7-two"]})).await?;
    until("a7-two", true).await?;
    label("a7-two", json!("a7-two")).await?;
    edit(json!({"namespaces": []})).await?;
    // This edit is in force when a7-one is not bound any more.
    edit(json!({"namespaceSelectors": select(&["a7-two"])})).await?;
    until("a7-one", false).await?;
    ensure!(bound(&namespaces.get("a7-two").await?), "it is selected");
    edit(json!({"namespaceSelectors": []})).await?;
    until("a7-two", false).await?;
    // No Subnet is left behind that waits for anything.
    e2e::process::until(SOON, || async {
        ensure!(!bound(&namespaces.get("a7-one").await?));
        Ok(())
    })
    .await
}
