//! Row E1, before the installation: a real API server accepts the manifest, and helm runs its checks against it.

use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use e2e::central::members;
use e2e::kube::kubectl;
use e2e::layout::kubeconfig;
use e2e::{Cluster, central, install as page, operator, process};
use kube::ResourceExt;
use yamls::HelmError;

/// Returns the manifest of an installation, or the error that prevents it.
fn install(values: &[&str]) -> Result<String, HelmError> {
    let kubeconfig = format!("--kubeconfig={}", kubeconfig().display());
    let mut line = vec!["install", "another", yamls::CHART, "--namespace=kube-system", "--dry-run=server"];
    // The lab already has all of these objects, with another owner.
    line.extend(["--take-ownership", kubeconfig.as_str()]);
    line.extend(values.iter().flat_map(|value| ["--set", value]));
    yamls::helm(&line)
}

fn refused(values: &[&str], why: &str) -> Result<()> {
    match install(values) {
        Err(HelmError::Refused(said)) if said.contains(why) => Ok(()),
        Ok(_) => bail!("{values:?} is taken"),
        Err(other) => bail!("{values:?} is refused, but not for {why:?}: {other}"),
    }
}

#[tokio::test]
async fn e1_the_api_server_takes_every_object_of_the_manifest() -> Result<()> {
    let _cluster = Cluster::running().await?;
    let said = kubectl(&["apply", "--dry-run=server", "--filename", yamls::MANIFEST]).await?;
    let objects = yamls::objects(&std::fs::read_to_string(yamls::MANIFEST)?)?;
    ensure!(said.lines().count() == objects.len(), "of {} objects these were taken: {said}", objects.len());
    Ok(())
}

#[tokio::test]
async fn e1_other_settings_are_rendered_and_applied_as_the_page_says() -> Result<()> {
    let _cluster = Cluster::running().await?;
    let line = page::command("helm template ")?;
    ensure!(line.ends_with("| kubectl apply -f -"), "{line}");
    let said = process::run(operator::shell(&operator::project(), &format!("{line} --dry-run=server"))).await?;
    ensure!(said.contains("deployment.apps/kube-ovn-controller"), "{said}");
    Ok(())
}

#[tokio::test]
async fn e1_helm_compares_with_the_cluster_before_it_installs() -> Result<()> {
    let cluster = Cluster::running().await?;
    let node = cluster.nodes().first().context("the lab has no nodes")?.name();
    let label = |word: &'static str| {
        let node = node.clone();
        async move { kubectl(&["label", "node", &node, word, "--overwrite"]).await }
    };
    let was = cluster.node_object(&node).await?.labels().contains_key("kube-ovn/role");
    label("kube-ovn/role-").await?;
    let outcome = async {
        refused(&[], "cidrs.services: is 10.96.0.0/12, but the API server gives Services addresses of")?;
        let dual = [
            "cidrs.pods.ipv6=fd00:10:16::/112",
            "cidrs.join.ipv6=fd00:100:64::/112",
            "cidrs.services.ipv6=fd00:10:96::/112",
        ];
        refused(&dual, "central.nodeSelector: no node is labelled so; kubectl label node NAME kube-ovn/role=master")?;
        label("kube-ovn/role=master").await?;
        install(&dual)?;
        Ok(())
    };
    let outcome = outcome.await;
    label(if was { "kube-ovn/role=master" } else { "kube-ovn/role-" }).await?;
    // The member ended with the label, and comes back with its data.
    members::whole(&cluster, &[central::NODE], Duration::from_secs(30)).await?;
    outcome
}
