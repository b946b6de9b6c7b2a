//! A4: annotations that users write are requests. The controller decides the address of a pod.

use anyhow::{Result, ensure};
use e2e::Cluster;
use e2e::cluster::Scene;
use e2e::cluster::pod::Builder;
use e2e::ours;

/// Returns a pod with the annotations that the controller writes.
fn annotated<'a>(scene: &'a Scene, name: &str, address: &str) -> Builder<'a> {
    let all = [
        ("allocated", "true"),
        ("routed", "true"),
        ("ip_address", address),
        ("mac_address", "0a:58:0a:37:00:37"),
        ("cidr", "10.55.0.0/16"),
        ("gateway", "10.55.0.99"),
        ("logical_switch", "a4-forged"),
    ];
    let pod = scene.pod("a4-forged", name).on("n1");
    all.into_iter().fold(pod, |pod, (key, value)| pod.annotation(&format!("ovn.kubernetes.io/{key}"), value))
}

#[tokio::test]
async fn a4_annotations_written_by_hand_give_no_address() -> Result<()> {
    let cluster = Cluster::running().await?;
    let scene = cluster.scene("a4-forged").await?;
    scene.subnet("a4-forged", "10.55.0.0/24").await?;
    let original = scene.pod("a4-forged", "original").on("n1").ready().await?;
    assert_eq!(original.ip4()?, "10.55.0.2");

    let forged = annotated(&scene, "forged", "10.55.0.55").ready().await?;
    assert_eq!(forged.ip4()?, "10.55.0.3");
    let inside = forged.place().run("ip", &["-brief", "address", "show", "eth0"]).await?;
    ensure!(inside.contains("10.55.0.3/24"), "{inside}");
    let routes = forged.place().run("ip", &["route"]).await?;
    ensure!(routes.contains("default via 10.55.0.1 "), "{routes}");
    forged.place().ping("10.55.0.1").await?;

    // Create a copy of a running pod while no controller runs, as a restored backup or `kubectl debug --copy-to` does.
    let copy = annotated(&scene, "copy", &original.ip4()?).create();
    let copy = ours::away(&cluster, copy).await?.ready().await?;
    assert_eq!(copy.ip4()?, "10.55.0.4");
    copy.place().ping(&original.ip4()?).await?;
    assert_eq!(copy.place().tcp(&original.ip4()?).await?.who, "original");
    Ok(())
}
