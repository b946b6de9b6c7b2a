//! A2: a pod's IP object and the status of its subnet follow the creation and the deletion of the pod.

use anyhow::{Context, Result, ensure};
use api::{Ip, Subnet};
use e2e::Cluster;
use e2e::cluster::{nb, subnet_ready};
use kube::Api;
use serde_json::json;

#[tokio::test]
async fn a2_subnets_and_ips_tell_what_is_used() -> Result<()> {
    let cluster = Cluster::running().await?;
    let scene = cluster.scene("a2").await?;
    scene
        .create(json!({
            "apiVersion": "kubeovn.io/v1", "kind": "Subnet", "metadata": {"name": "a2"},
            "spec": {"cidrBlock": "10.19.0.0/24", "namespaces": ["a2"]},
        }))
        .await?;
    let (subnets, ips): (Api<Subnet>, Api<Ip>) = (Api::all(cluster.client()), Api::all(cluster.client()));
    let empty = cluster.until(subnets.clone(), "a2", subnet_ready).await?.status.context("a status")?;
    scene.namespace("a2", &[]).await?;
    let pod = scene.pod("a2", "web").on("n1").ready().await?;

    let ip = cluster.until(ips.clone(), "web.a2", |_| Ok(())).await?;
    assert_eq!(ip.spec.v4_ip_address, pod.ip4()?);
    assert_eq!((ip.spec.subnet.as_str(), ip.spec.node_name.as_str()), ("a2", "n1"));
    assert_eq!(Some(ip.spec.mac_address.as_str()), pod.annotation("ovn.kubernetes.io/mac_address"));
    cluster.until(subnets.clone(), "a2", counts(1.0, empty.v4_available_ips - 1.0)).await?;

    pod.delete().await?;
    cluster.until_gone(ips, "web.a2").await?;
    cluster.until(subnets, "a2", counts(0.0, empty.v4_available_ips)).await?;
    assert!(nb::find("Logical_Switch_Port", &["name=web.a2"]).await?.is_empty(), "the port goes with its pod");
    Ok(())
}

fn counts(using: f64, available: f64) -> impl Fn(&Subnet) -> Result<()> {
    move |subnet| {
        let status = subnet.status.as_ref().context("no status")?;
        let found = (status.v4_using_ips, status.v4_available_ips);
        ensure!(found == (using, available), "used and available are {found:?}, not {:?}", (using, available));
        Ok(())
    }
}
