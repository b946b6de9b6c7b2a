//! Security: the authority for the keys of the databases is replaced with the commands of the documentation, while everything runs.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use e2e::cluster::traffic::Pings;
use e2e::kube::kubectl;
use e2e::layout::Node;
use e2e::{Cluster, operator, process};
use k8s_openapi::api::certificates::v1::CertificateSigningRequest;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use keys::{Held, SIGNER};
use kube::api::ListParams;
use kube::{Api, ResourceExt};

const PAGE: &str = include_str!("../../../docs/operations.md");

/// Returns the two steps of the page: a new authority beside the old one, and the old one is gone.
fn steps() -> Result<(&'static str, &'static str)> {
    operator::commands(PAGE, "get secret kube-ovn-ca")?
        .split_once("# Later")
        .context("the page has two steps")
        .map(|(first, later)| (first, later.trim_start_matches(|c| c != '\n')))
}

/// Returns the key of a node.
fn key(node: Node) -> PathBuf {
    node.dir().join("root/etc/origin/openvswitch/keys/tls.pem")
}

/// Checks that each node and each controller has a certificate of the authority that signs now, and returns what is trusted.
fn renewed(cluster: &Cluster, trusted: &str, requests: &[CertificateSigningRequest]) -> Result<()> {
    for node in cluster.nodes() {
        let held = Held::parse(&fs::read(key(node))?)?;
        ensure!(held.is_signed_by_first(trusted), "{} has still its former key", node.name());
    }
    let of_controllers = requests.iter().filter(|request| {
        let certificate = request.status.as_ref().and_then(|status| status.certificate.as_ref());
        request.name_any().starts_with("kube-ovn-controller-")
            && certificate.is_some_and(|pem| Held::parse(&pem.0).is_ok_and(|held| held.is_signed_by_first(trusted)))
    });
    ensure!(of_controllers.count() >= 2, "not both controllers have a new key");
    Ok(())
}

#[tokio::test]
async fn sec_the_authority_is_replaced_while_everything_runs() -> Result<()> {
    let cluster = Cluster::running().await?;
    let scene = cluster.scene("sec-keys").await?;
    scene.namespace("sec-keys", &[]).await?;
    let (one, other) = tokio::try_join!(
        scene.pod("sec-keys", "one").on("n1").ready(),
        scene.pod("sec-keys", "other").on("n2").ready(),
    )?;
    // The userspace datapath drops a packet now and then while flows of a new pod are added, so no pod comes meanwhile.
    let pings = Pings::start(&one.netns().await?, &other.ip4()?)?;
    let (first, later) = steps()?;
    let folder = tempfile::tempdir()?;
    let maps = Api::<ConfigMap>::namespaced(cluster.client(), "kube-system");
    let requests = Api::<CertificateSigningRequest>::all(cluster.client());
    let of_ours = ListParams::default().fields(&format!("spec.signerName={SIGNER}"));
    let trusted =
        |map: &ConfigMap| map.data.as_ref().and_then(|data| data.get(keys::TRUSTED)).cloned().unwrap_or_default();
    let before = trusted(&maps.get(keys::AUTHORITY).await?);
    let stolen = fs::read_to_string(key(Node::TWO))?;

    process::run(operator::shell(folder.path(), first)).await?;
    let both = cluster.until(maps.clone(), keys::AUTHORITY, |map| {
        let now = trusted(map);
        ensure!(now != before && now.matches("BEGIN").count() == 2, "{now}");
        Ok(())
    });
    let both = trusted(&both.await?);
    let began = std::time::Instant::now();
    loop {
        let seen = renewed(&cluster, &both, &requests.list(&of_ours).await?.items);
        match seen {
            Ok(()) => break,
            Err(why) => ensure!(began.elapsed().as_secs() < 20, "{why:#}"),
        }
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    println!("all have new keys after {:?}", began.elapsed());
    none_lost(pings).await?;
    scene.pod("sec-keys", "between").on("n2").ready().await?;

    let pings = Pings::start(&one.netns().await?, &other.ip4()?)?;
    process::run(operator::shell(folder.path(), later)).await?;
    cluster
        .until(maps, keys::AUTHORITY, |map| {
            ensure!(trusted(map).matches("BEGIN").count() == 1, "the former authority is still trusted");
            Ok(())
        })
        .await?;
    let secret = Api::<Secret>::namespaced(cluster.client(), "kube-system").get(keys::AUTHORITY).await?;
    let has = |name: &str| secret.data.as_ref().is_some_and(|data| data.contains_key(name));
    ensure!(
        has("tls.crt") && has("tls.key") && !has("ca.crt"),
        "{:?}",
        secret.data.map(|data| data.into_keys().collect::<Vec<_>>())
    );
    // The key that somebody has kept opens nothing any more.
    let file = "/etc/openvswitch/former.pem";
    let pods = kubectl(&["get", "pods", "--namespace=kube-system", "--selector=app=ovs", "--output=name"]).await?;
    let pod = pods.lines().next().context("no pod of ovs-ovn")?;
    for node in cluster.nodes() {
        fs::write(node.dir().join("root/etc/origin/openvswitch/former.pem"), &stolen)?;
    }
    let address = format!("ssl:{}:6642", e2e::central::NODE.ip4());
    let tries = async |key: &str| {
        let (own, certificate) = (format!("--private-key={key}"), format!("--certificate={key}"));
        let command =
            ["ovsdb-client", &own, &certificate, "--ca-cert=/etc/openvswitch/keys/ca.pem", "list-dbs", &address];
        kubectl(&[&["exec", "--namespace=kube-system", pod, "--", "timeout", "3"], &command[..]].concat()).await
    };
    let began = std::time::Instant::now();
    while tries(file).await.is_ok() {
        ensure!(began.elapsed().as_secs() < 20, "a certificate of the former authority is still accepted");
    }
    let began = std::time::Instant::now();
    while let Err(why) = tries("/etc/openvswitch/keys/tls.pem").await {
        ensure!(began.elapsed().as_secs() < 20, "the new key of a node: {why:#}");
    }
    for node in cluster.nodes() {
        fs::remove_file(node.dir().join("root/etc/origin/openvswitch/former.pem"))?;
    }
    none_lost(pings).await?;
    scene.pod("sec-keys", "after").on("n1").ready().await.map(drop)
}

/// Checks that running pods have lost no packet.
async fn none_lost(pings: Pings) -> Result<()> {
    let (sent, lost) = pings.stop().await?;
    println!("of {sent} pings between running pods, {} had no answer", lost.len());
    ensure!(lost.is_empty(), "{lost:?}");
    Ok(())
}
