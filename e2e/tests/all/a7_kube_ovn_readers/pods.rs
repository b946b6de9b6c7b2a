//! Annotations of pods, and which addresses pods of workloads get.

use anyhow::{Result, ensure};
use api::Ip;
use e2e::cluster::Scene;
use e2e::{Cluster, ours};
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use serde_json::json;
use tokio::try_join;

use super::{Workload, addresses, annotated, annotation, ips, set, subnet};

const NAME: &str = "a7-pods";

#[tokio::test]
async fn a7_pods_and_workloads_have_what_they_asked_for() -> Result<()> {
    let cluster = Cluster::running().await?;
    let scene = cluster.scene(NAME).await?;
    let net = subnet(&scene, NAME, json!({"cidrBlock": "10.120.0.0/24", "namespaces": [NAME]})).await?;
    scene.namespace(NAME, &[]).await?;
    let (scene, net) = (&scene, &net);

    let fixed = async {
        let pod = scene.pod(NAME, "fixed").annotation("ovn.kubernetes.io/ip_address", "10.120.0.77");
        let pod = pod.annotation("ovn.kubernetes.io/mac_address", "00:00:00:53:6e:07").on("n1").ready().await?;
        let pod = pod.annotated("ovn.kubernetes.io/routed", "true").await?.object;
        annotated(&pod, net)?;
        assert_eq!(annotation(&pod, "ip_address"), Some("10.120.0.77"));
        assert_eq!(annotation(&pod, "mac_address"), Some("00:00:00:53:6e:07"));
        anyhow::Ok(())
    };
    let listed = async {
        let list = "10.120.0.80,10.120.0.81,10.120.0.82";
        let pod = scene.pod(NAME, "listed").annotation("ovn.kubernetes.io/ip_pool", list).on("n2").ready().await?;
        let pod = pod.annotated("ovn.kubernetes.io/routed", "true").await?.object;
        annotated(&pod, net)?;
        assert_eq!(annotation(&pod, "ip_pool"), Some(list));
        ensure!(list.split(',').any(|ip| annotation(&pod, "ip_address") == Some(ip)), "{:?}", ips(&pod));
        Ok(())
    };
    let deployment = async {
        let list = json!({"ovn.kubernetes.io/ip_pool": "10.120.0.90;10.120.0.91;10.120.0.92"});
        let web = Workload::new(scene, NAME, ("Deployment", "web"), json!({"replicas": 3}), list).await?;
        let first = web.pods(3, net, &[]).await?;
        let again = web.again(&first, net).await?;
        for pods in [first, again] {
            let all: std::collections::BTreeSet<_> = pods.iter().flat_map(ips).collect();
            assert_eq!(all, set(&["10.120.0.90", "10.120.0.91", "10.120.0.92"]));
        }
        Ok(())
    };
    // Each separator of the list, for the pods of a StatefulSet in their order.
    let sets = futures::future::try_join_all([("semicolons", ";", 100), ("commas", ",", 110)].map(
        |(name, separator, at)| async move {
            let list = [0, 1].map(|n| format!("10.120.0.{}", at + n));
            let annotations = json!({"ovn.kubernetes.io/ip_pool": list.join(separator)});
            let db = Workload::new(scene, NAME, ("StatefulSet", name), json!({"replicas": 2}), annotations).await?;
            let first = db.pods(2, net, &[]).await?;
            assert_eq!(addresses(&first), [0, 1].map(|n| (format!("{name}-{n}"), [list[n].clone()].into())));
            assert_eq!(addresses(&db.again(&first, net).await?), addresses(&first));
            anyhow::Ok(())
        },
    ));
    let ordinals = async {
        let spec = json!({"replicas": 3, "ordinals": {"start": 10}});
        let db = Workload::new(scene, NAME, ("StatefulSet", "late"), spec, json!({})).await?;
        let first = db.pods(3, net, &[]).await?;
        let names: Vec<_> = first.iter().filter_map(|pod| pod.metadata.name.as_deref()).collect();
        assert_eq!(names, ["late-10", "late-11", "late-12"]);
        let again = db.again(&first, net).await?;
        assert_eq!(addresses(&again), addresses(&first));
        // The pods with the highest ordinals go, and others come in their place.
        db.scale(1).await?;
        let one = db.pods(1, net, &first).await?;
        assert_eq!(addresses(&one)[0], addresses(&first)[0]);
        db.scale(3).await?;
        assert_eq!(addresses(&db.pods(3, net, &first).await?)[0], addresses(&first)[0]);
        Ok(())
    };
    try_join!(fixed, listed, deployment, sets, ordinals)?;
    Box::pin(created_again_while_no_controller_runs(scene)).await
}

/// A pod with the name of an earlier one is another pod: its IP object and its annotations agree, whoever had what.
async fn created_again_while_no_controller_runs(scene: &Scene) -> Result<()> {
    let cluster = scene.cluster();
    let ip_objects: Api<Ip> = Api::all(cluster.client());
    let pod = || scene.pod(NAME, "again").on("n1");
    let agrees = |pod: Pod| {
        let ip_objects = ip_objects.clone();
        async move {
            let ip = ip_objects.get("again.a7-pods").await?;
            assert_eq!(annotation(&pod, "ip_address"), Some(ip.spec.ip_address.as_str()));
            assert_eq!(annotation(&pod, "mac_address"), Some(ip.spec.mac_address.as_str()));
            assert_eq!((annotation(&pod, "allocated"), annotation(&pod, "routed")), (Some("true"), Some("true")));
            assert_eq!(pod.metadata.uid, Some(ip.spec.pod_uid));
            let mac: api::Mac = ip.spec.mac_address.parse()?;
            anyhow::Ok((ips(&pod), mac))
        }
    };
    let first = pod().ready().await?.annotated("ovn.kubernetes.io/routed", "true").await?;
    let (had, mac) = agrees(first.object.clone()).await?;

    let created = async {
        first.delete().await?;
        pod().create().await
    };
    let again = Box::pin(ours::away(cluster, created))
        .await?
        .ready()
        .await?
        .annotated("ovn.kubernetes.io/routed", "true")
        .await?;
    let (has, now) = agrees(again.object.clone()).await?;
    // A generated MAC address follows from the IPv4 address.
    assert_eq!(had == has, mac == now, "{had:?} {mac}, then {has:?} {now}");
    again.place().ping("10.120.0.1").await
}
