//! Checks the user documentation: every example of the pages about subnets, gateways, limits and mirrors has the
//! described effect.

use anyhow::{Context, Result, ensure};
use api::Subnet;
use e2e::Cluster;
use e2e::cluster::{Place, is_ready, nb, subnet_ready};
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use serde_json::{Value, json};

const PAGES: [&str; 4] = [
    include_str!("../../../docs/subnets.md"),
    include_str!("../../../docs/gateways.md"),
    include_str!("../../../docs/qos.md"),
    include_str!("../../../docs/mirror.md"),
];

/// Returns the YAML documents of the pages, in order.
fn examples() -> Result<Vec<Value>> {
    let blocks =
        PAGES.iter().flat_map(|page| page.split("```yaml\n").skip(1)).filter_map(|rest| rest.split("```").next());
    blocks
        .flat_map(|block| block.split("---\n"))
        .map(|yaml| serde_yaml_ng::from_str(yaml).context(yaml.to_owned()))
        .collect()
}

fn address_in(range: &'static str) -> impl Fn(&Pod) -> Result<()> {
    move |pod| {
        let annotations = pod.metadata.annotations.as_ref();
        let address = annotations.and_then(|a| a.get("ovn.kubernetes.io/ip_address")).map_or("", String::as_str);
        ensure!(address.starts_with(range), "it has the address {address:?}, not one of {range}*");
        Ok(())
    }
}

#[tokio::test]
async fn docs_every_example_does_what_the_page_says() -> Result<()> {
    let cluster = Cluster::running().await?;
    let scene = cluster.scene("docs").await?;
    let subnets: Api<Subnet> = Api::all(cluster.client());
    let examples = examples()?;
    ensure!(examples.len() == 17, "the pages have {} examples, and this test knows of 17", examples.len());
    for mut manifest in examples {
        match manifest["kind"].as_str() {
            Some("Namespace") => {
                let annotations = manifest["metadata"]["annotations"].as_object().cloned().unwrap_or_default();
                let annotations: Vec<(&str, &str)> =
                    annotations.iter().map(|(k, v)| (k.as_str(), v.as_str().unwrap_or_default())).collect();
                let name = manifest["metadata"]["name"].as_str().context("a namespace without a name")?;
                scene.namespace(name, &annotations).await?;
            }
            kind => {
                if kind == Some("Pod") {
                    // Avoids 30 s of termination grace period at the end of the test.
                    manifest["spec"]["terminationGracePeriodSeconds"] = 0.into();
                }
                scene.create(manifest).await?;
            }
        }
    }
    cluster.until(subnets.clone(), "docs-team-net", subnet_ready).await?;
    scene.adopt(&subnets, "docs-team-net").await?;
    cluster.until(subnets.clone(), "docs-shared", subnet_ready).await?;
    for name in ["docs-ruled", "docs-egress", "docs-nat", "docs-audited"] {
        cluster.until(subnets.clone(), name, subnet_ready).await?;
    }
    let pods: Api<Pod> = Api::namespaced(cluster.client(), "docs-shop");
    cluster.until(pods.clone(), "web", address_in("10.41.0.")).await?;
    cluster.until(pods.clone(), "honest", address_in("10.41.0.")).await?;
    cluster.until(pods.clone(), "guest", address_in("10.40.0.11")).await?;
    // The order of the pool's two addresses does not matter.
    cluster.until(pods.clone(), "till", address_in("10.41.0.3")).await?;
    cluster.until(pods.clone(), "north", is_ready).await?;
    cluster.until(pods, "routed", is_ready).await?;
    let routed = Place::Pod { namespace: "docs-shop".to_owned(), name: "routed".to_owned() };
    let printed = routed.run("ip", &["route"]).await?;
    ensure!(printed.contains("192.0.2.0/24 via 10.41.0.9"), "{printed}");
    let rows = nb::find("Logical_Router_Policy", &["priority=29250"]).await?;
    ensure!(rows.iter().any(|row| row["nexthops"] == json!("10.41.0.9")), "{rows:?}");
    let mirrors = nb::find("Mirror", &["name=remote-gre-192.0.2.9-7"]).await?;
    ensure!(mirrors.len() == 1, "{mirrors:?}");
    let pods: Api<Pod> = Api::namespaced(cluster.client(), "docs-shop-db");
    cluster.until(pods, "ledger", address_in("10.41.0.3")).await?;
    Ok(())
}
