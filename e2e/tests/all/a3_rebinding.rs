//! A3: several namespaces share a subnet, and a namespace with running pods can be bound to another subnet.

use anyhow::Result;
use api::Subnet;
use e2e::Cluster;
use e2e::cluster::subnet_ready;
use kube::Api;
use kube::api::{Patch, PatchParams};
use serde_json::json;

#[tokio::test]
async fn a3_a_rebound_namespace_keeps_its_running_pods() -> Result<()> {
    let cluster = Cluster::running().await?;
    let scene = cluster.scene("a3").await?;
    let subnets: Api<Subnet> = Api::all(cluster.client());
    for (name, cidr, namespaces) in
        [("a3-old", "10.20.0.0/24", json!(["a3-one", "a3-two"])), ("a3-new", "10.21.0.0/24", json!([]))]
    {
        let spec = json!({"cidrBlock": cidr, "namespaces": namespaces});
        scene
            .create(json!({"apiVersion": "kubeovn.io/v1", "kind": "Subnet", "metadata": {"name": name}, "spec": spec}))
            .await?;
        cluster.until(subnets.clone(), name, subnet_ready).await?;
    }
    scene.namespace("a3-one", &[]).await?;
    scene.namespace("a3-two", &[]).await?;
    let one = scene.pod("a3-one", "before").on("n1").ready().await?;
    let two = scene.pod("a3-two", "before").on("n2").ready().await?;
    assert!(
        one.ip4()?.starts_with("10.20.0.") && two.ip4()?.starts_with("10.20.0."),
        "{} and {}",
        one.ip4()?,
        two.ip4()?
    );

    for (name, namespaces) in [("a3-old", json!(["a3-two"])), ("a3-new", json!(["a3-one"]))] {
        let patch = json!({"spec": {"namespaces": namespaces}});
        subnets.patch(name, &PatchParams::default(), &Patch::Merge(patch)).await?;
    }
    // The namespace's annotation shows when the new subnet is in effect.
    let namespaces: Api<k8s_openapi::api::core::v1::Namespace> = Api::all(cluster.client());
    cluster
        .until(namespaces, "a3-one", |ns| {
            let found = ns.metadata.annotations.as_ref().and_then(|a| a.get("ovn.kubernetes.io/logical_switch"));
            anyhow::ensure!(found.is_some_and(|s| s == "a3-new"), "bound to {found:?}");
            Ok(())
        })
        .await?;
    let after = scene.pod("a3-one", "after").on("n2").ready().await?;
    assert!(after.ip4()?.starts_with("10.21.0."), "a pod started after the change has {}", after.ip4()?);

    // The old pod keeps its address. Pods on the old and the new subnet reach each other in both directions.
    assert_eq!(one.clone().ready().await?.ip4()?, one.ip4()?);
    for (from, to) in [(&one, &after), (&after, &one), (&one, &two), (&two, &after)] {
        from.place().ping(&to.ip4()?).await?;
        assert_eq!(from.place().tcp(&to.ip4()?).await?.seen.to_string(), from.ip4()?);
    }
    Ok(())
}

#[tokio::test]
async fn a3_a_namespace_moves_with_its_labels() -> Result<()> {
    let cluster = Cluster::running().await?;
    let scene = cluster.scene("a3-labels").await?;
    let subnets: Api<Subnet> = Api::all(cluster.client());
    for (name, cidr, selectors) in [
        ("a3-red", "10.46.0.0/24", json!([{"matchLabels": {"a3": "red"}}])),
        (
            "a3-blue",
            "10.47.0.0/24",
            json!([{"matchExpressions": [{"key": "a3", "operator": "In", "values": ["blue"]}]}]),
        ),
    ] {
        let spec = json!({"cidrBlock": cidr, "namespaceSelectors": selectors});
        scene
            .create(json!({"apiVersion": "kubeovn.io/v1", "kind": "Subnet", "metadata": {"name": name}, "spec": spec}))
            .await?;
        cluster.until(subnets.clone(), name, subnet_ready).await?;
    }
    scene.namespace("a3-labels", &[]).await?;
    let namespaces: Api<k8s_openapi::api::core::v1::Namespace> = Api::all(cluster.client());
    let mut pods = Vec::new();
    for (label, subnet, range) in [
        (json!("red"), "a3-red", "10.46.0."),
        (json!("blue"), "a3-blue", "10.47.0."),
        (json!(null), "ovn-default", "10.16."),
    ] {
        let patch = json!({"metadata": {"labels": {"a3": label}}});
        namespaces.patch("a3-labels", &PatchParams::default(), &Patch::Merge(patch)).await?;
        cluster
            .until(namespaces.clone(), "a3-labels", |ns| {
                let found = ns.metadata.annotations.as_ref().and_then(|a| a.get("ovn.kubernetes.io/logical_switch"));
                anyhow::ensure!(found.is_some_and(|s| s == subnet), "bound to {found:?}");
                Ok(())
            })
            .await?;
        let pod = scene.pod("a3-labels", subnet).on("n1").ready().await?;
        assert!(pod.ip4()?.starts_with(range), "{label}: {}", pod.ip4()?);
        pods.push(pod);
    }
    for to in &pods[1..] {
        pods[0].place().ping(&to.ip4()?).await?;
    }
    Ok(())
}
