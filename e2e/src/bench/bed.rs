//! The namespace and the nodes for pods that never run, and the creation and deletion of these pods.

use std::collections::BTreeSet;
use std::fmt::Debug;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use api::{Ip, PodView};
use futures::{StreamExt, TryStreamExt, stream};
use http::Request;
use kube::api::{DeleteParams, ListParams};
use kube::{Api, Client};
use serde::de::DeserializeOwned;
use serde_json::json;

use super::ports::Ports;
use super::seen::Seen;
use crate::cluster::Cluster;
use crate::layout::IMAGE;

/// The number of concurrent create or delete requests.
pub const AT_ONCE: usize = 32;

/// A namespace, nodes, and watches of pods and IP objects.
pub struct Bed {
    client: Client,
    namespace: Arc<str>,
    nodes: Arc<[String]>,
    /// Pods with an address.
    pub pods: Seen,
    /// IP objects of this namespace.
    pub ips: Seen,
}

/// The durations of a deletion of all pods.
#[derive(Clone, Copy, Debug)]
pub struct Cleared {
    /// The time of the API server.
    pub by_api: Duration,
    /// The time from then until the last port was deleted.
    pub ports: Duration,
    /// The time from then until the last IP object was deleted.
    pub records: Duration,
}

impl Bed {
    /// Uses a namespace without pods. The pods are spread over the nodes.
    pub async fn new(cluster: &Cluster, namespace: &str, nodes: impl IntoIterator<Item = String>) -> Result<Self> {
        let client = cluster.client();
        let allocated = |pod: &PodView| {
            let annotations = pod.metadata.annotations.as_ref();
            annotations.and_then(|a| a.get("ovn.kubernetes.io/allocated")).is_some_and(|a| a == "true")
        };
        let pods = Seen::follow(Api::<PodView>::namespaced(client.clone(), namespace), allocated).await?;
        let of = namespace.to_owned();
        let ips = Seen::follow(Api::<Ip>::all(client.clone()), move |ip| ip.spec.namespace == of).await?;
        ensure!(pods.is_empty() && ips.is_empty(), "namespace {namespace} is not empty");
        let nodes: Arc<[String]> = nodes.into_iter().collect();
        ensure!(!nodes.is_empty(), "no node for the pods");
        Ok(Self { client, namespace: namespace.into(), nodes, pods, ips })
    }

    /// Returns a client of the API server.
    pub fn client(&self) -> Client {
        self.client.clone()
    }

    /// Returns the namespace.
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// Returns `count` names.
    pub fn names(count: usize) -> Vec<String> {
        (0..count).map(|n| format!("pod-{n}")).collect()
    }

    /// Returns the name of a pod's IP object and port.
    pub fn port(&self, name: &str) -> String {
        format!("{name}.{}", self.namespace)
    }

    /// Returns the names of several pods' ports.
    pub fn ports(&self, names: &[String]) -> Vec<String> {
        names.iter().map(|name| self.port(name)).collect()
    }

    /// Creates one pod. Returns when the API server accepted it.
    pub async fn create(&self, name: &str) -> Result<Instant> {
        create(&self.client, &self.namespace, &self.nodes[0], name).await
    }

    /// Creates all pods, [`AT_ONCE`] at a time, each in its own task. Returns when each was accepted, in order.
    pub async fn create_all(&self, names: &[String], taken: impl Fn(&str)) -> Result<Vec<Instant>> {
        let creations = names.iter().enumerate().map(|(at, name)| {
            let (client, namespace) = (self.client.clone(), Arc::clone(&self.namespace));
            let node = self.nodes[at % self.nodes.len()].clone();
            let name = name.clone();
            tokio::spawn(async move {
                let when = create(&client, &namespace, &node, &name).await?;
                anyhow::Ok((at, name, when))
            })
        });
        let mut when = vec![Instant::now(); names.len()];
        let mut creations = stream::iter(creations).buffer_unordered(AT_ONCE);
        while let Some(created) = creations.try_next().await? {
            let (at, name, created) = created?;
            taken(&name);
            when[at] = created;
        }
        Ok(when)
    }

    /// Creates `count` pods and waits until each has its address.
    pub async fn fill(&self, count: usize) -> Result<()> {
        let names = Self::names(count);
        self.create_all(&names, |_| ()).await?;
        self.pods.count(count).await.context("annotated pods")?;
        self.ips.count(count).await.context("IP objects")?;
        self.audit(&names).await
    }

    /// Deletes all pods with the same concurrency and waits until all their ports and IP objects are gone.
    pub async fn clear(&self) -> Result<Cleared> {
        let pods: Api<PodView> = Api::namespaced(self.client.clone(), &self.namespace);
        let listed = pods.list_metadata(&ListParams::default()).await?;
        let names = listed.items.into_iter().filter_map(|pod| pod.metadata.name).collect();
        let mut ports = Ports::of(&self.namespace).await?;
        let start = Instant::now();
        delete_all(&pods, names).await?;
        let done = Instant::now();
        let ports = ports.gone().await?;
        self.ips.count(0).await.context("IP objects to be gone")?;
        let records = Instant::now();
        self.pods.count(0).await.context("pods to be gone")?;
        Ok(Cleared {
            by_api: done - start,
            ports: ports.saturating_duration_since(done),
            records: records.saturating_duration_since(done),
        })
    }

    /// Checks that nothing is missing: every pod has a port in the northbound database with unique addresses, and an IP
    /// object.
    pub async fn audit(&self, names: &[String]) -> Result<()> {
        let ports = Ports::of(&self.namespace).await?.addresses();
        let wanted = self.ports(names);
        let missing: Vec<_> = wanted.iter().filter(|name| !ports.contains_key(*name)).collect();
        ensure!(missing.is_empty(), "{} of {} pods have no port, {:?} for one", missing.len(), names.len(), missing[0]);
        let mut held = BTreeSet::new();
        for (name, addresses) in &ports {
            ensure!(!addresses.is_empty(), "port {name} has no address");
            for address in addresses {
                ensure!(held.insert(address), "{address} of {name} is another port's too");
            }
        }
        self.ips.when(&wanted).context("an IP object is missing").map(drop)
    }
}

async fn create(client: &Client, namespace: &str, node: &str, name: &str) -> Result<Instant> {
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name},
        "spec": {
            "nodeName": node, "terminationGracePeriodSeconds": 0, "tolerations": [{"operator": "Exists"}],
            "containers": [{"name": "pause", "image": IMAGE, "imagePullPolicy": "Never"}],
        },
    });
    let request =
        Request::post(format!("/api/v1/namespaces/{namespace}/pods")).header("content-type", "application/json");
    let answer = client.request_text(request.body(serde_json::to_vec(&pod)?)?).await;
    answer.with_context(|| format!("creating pod {name}"))?;
    Ok(Instant::now())
}

/// Deletes objects, [`AT_ONCE`] at a time, without a grace period.
pub(super) async fn delete_all<K>(api: &Api<K>, names: Vec<String>) -> Result<()>
where
    K: Clone + DeserializeOwned + Debug + Send + 'static,
{
    let deletions = names.into_iter().map(|name| {
        let api = api.clone();
        tokio::spawn(async move {
            let deleted = api.delete(&name, &DeleteParams::default().grace_period(0)).await;
            deleted.map(drop).with_context(|| format!("deleting {name}"))
        })
    });
    let deletions = stream::iter(deletions).buffer_unordered(AT_ONCE).map_err(anyhow::Error::from);
    deletions.try_for_each(|deleted| async { deleted }).await
}
