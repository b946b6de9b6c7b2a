//! Measures clusters with many pods on many nodes. The nodes are only objects, and the pods never run.

use std::str::FromStr;

use anyhow::{Context, Result};
use futures::{StreamExt, TryStreamExt, stream};
use k8s_openapi::api::core::v1::Node;
use kube::Api;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use serde_json::json;

use super::alone::{self, Alone};
use super::bed::{AT_ONCE, Bed};
use super::held::{self, End, Restart};
use super::pods::{self, Burst};
use super::replicas;
use super::report::Bar;
use super::seen::Seen;
use crate::cluster::Scene;

/// The number of pods up to which a restart has a limit.
const LIMITED: usize = 10_000;

/// The size of a cluster.
#[derive(Clone, Copy, Debug)]
pub struct Size {
    /// The number of pods.
    pub pods: usize,
    /// The number of nodes that they are on.
    pub nodes: usize,
}

impl FromStr for Size {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let number = |text: &str| text.parse().ok().filter(|number| *number > 0);
        let sizes = text.split_once('/').and_then(|(pods, nodes)| Some((number(pods)?, number(nodes)?)));
        let (pods, nodes) = sizes.ok_or_else(|| format!("{text}: expected <pods>/<nodes>"))?;
        Ok(Self { pods, nodes })
    }
}

/// The measurements of a large cluster.
#[derive(Clone, Debug)]
pub struct Large {
    /// Its size.
    pub size: Size,
    /// All its pods at once.
    pub ours: Burst,
    /// The same load on the API server alone.
    pub alone: Alone,
    /// A restart of the only controller, beside all pods.
    pub restart: Restart,
}

impl Large {
    /// Returns the limit of the restart in seconds.
    pub fn bar(&self) -> Bar<'static> {
        if self.size.pods <= LIMITED { Bar::AtMost(&[3.0]) } else { Bar::None }
    }
}

/// Measures a cluster of this size, and removes its pods and nodes.
pub async fn measure(scene: &Scene, namespace: &str, size: Size) -> Result<Large> {
    replicas::none().await?;
    replicas::both().await?;
    let client = scene.cluster().client();
    let names: Vec<String> = (0..size.nodes).map(|at| format!("{namespace}-{at}")).collect();
    let api: Api<Node> = Api::all(client);
    create(&api, &names).await?;
    let bed = Bed::new(scene.cluster(), namespace, names.clone()).await?;
    let ours = pods::burst(&bed, size.pods).await?;
    let restart = held::restart(&bed, End::Asked, "next").await?;
    replicas::both().await?;
    bed.clear().await?;
    replicas::none().await?;
    let alone = alone::burst(&bed, size.pods, &ours.template).await?;
    replicas::both().await?;
    let deletions = names.iter().map(|name| {
        let api = api.clone();
        async move { api.delete(name, &DeleteParams::default()).await.map(drop) }
    });
    stream::iter(deletions).buffer_unordered(AT_ONCE).try_collect::<()>().await?;
    Ok(Large { size, ours, alone, restart })
}

/// Creates nodes, and waits until each has its address.
async fn create(api: &Api<Node>, names: &[String]) -> Result<()> {
    let allocated = |node: &Node| {
        let annotations = node.metadata.annotations.as_ref();
        annotations.is_some_and(|annotations| annotations.contains_key("ovn.kubernetes.io/ip_address"))
    };
    let seen = Seen::follow(api.clone(), allocated).await?;
    let before = seen.len();
    let creations = names.iter().enumerate().map(|(at, name)| async move {
        let node = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}});
        api.create(&PostParams::default(), &serde_json::from_value(node)?).await?;
        // Addresses of the range for benchmarks (RFC 2544).
        let address = format!("198.18.{}.{}", at / 250, at % 250 + 1);
        let status = json!({"status": {"addresses": [{"type": "InternalIP", "address": address}]}});
        api.patch_status(name, &PatchParams::default(), &Patch::Merge(status)).await?;
        anyhow::Ok(())
    });
    stream::iter(creations).buffer_unordered(AT_ONCE).try_collect::<()>().await?;
    seen.count(before + names.len()).await.context("annotated nodes")
}
