//! Where pods are made that nobody starts, and how they are made and removed.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use api::{Ip, PodView};
use futures::{StreamExt, TryStreamExt, stream};
use http::Request;
use kube::api::{DeleteParams, ListParams};
use kube::{Api, Client};
use serde_json::{Value, json};

use super::seen::Seen;
use crate::central;
use crate::cluster::Cluster;
use crate::layout::IMAGE;

/// Pods that are created at the same time.
pub const CREATORS: usize = 32;

/// A namespace, a node, and eyes on both kinds of objects.
pub struct Bed {
    client: Client,
    namespace: Arc<str>,
    node: String,
    /// Pods that have their address.
    pub pods: Seen,
    /// IP objects of this namespace.
    pub ips: Seen,
}

impl Bed {
    /// In a namespace without pods.
    pub async fn new(cluster: &Cluster, namespace: &str, node: &str) -> Result<Self> {
        let client = cluster.client();
        let allocated = |pod: &PodView| {
            let annotations = pod.metadata.annotations.as_ref();
            annotations.and_then(|a| a.get("ovn.kubernetes.io/allocated")).is_some_and(|a| a == "true")
        };
        let pods = Seen::follow(Api::<PodView>::namespaced(client.clone(), namespace), allocated).await?;
        let of = namespace.to_owned();
        let ips = Seen::follow(Api::<Ip>::all(client.clone()), move |ip| ip.spec.namespace == of).await?;
        ensure!(pods.is_empty() && ips.is_empty(), "namespace {namespace} is not empty");
        Ok(Self { client, namespace: namespace.into(), node: node.to_owned(), pods, ips })
    }

    /// A client of the API server.
    pub fn client(&self) -> Client {
        self.client.clone()
    }

    /// The namespace.
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// `count` names.
    pub fn names(count: usize) -> Vec<String> {
        (0..count).map(|n| format!("pod-{n}")).collect()
    }

    /// What IP objects and ports are called.
    pub fn ports(&self, names: &[String]) -> Vec<String> {
        names.iter().map(|name| format!("{name}.{}", self.namespace)).collect()
    }

    /// Creates one pod; when the API server had taken it.
    pub async fn create(&self, name: &str) -> Result<Instant> {
        create(&self.client, &self.namespace, &self.node, name).await
    }

    /// Creates them all, [`CREATORS`] at a time, each by a task of its own; when each was taken, in order.
    pub async fn create_all(&self, names: &[String], taken: impl Fn(&str)) -> Result<Vec<Instant>> {
        let creations = names.iter().enumerate().map(|(at, name)| {
            let (client, namespace, node) = (self.client.clone(), Arc::clone(&self.namespace), self.node.clone());
            let name = name.clone();
            tokio::spawn(async move {
                let when = create(&client, &namespace, &node, &name).await?;
                anyhow::Ok((at, name, when))
            })
        });
        let mut when = vec![Instant::now(); names.len()];
        let mut creations = stream::iter(creations).buffer_unordered(CREATORS);
        while let Some(created) = creations.try_next().await? {
            let (at, name, created) = created?;
            taken(&name);
            when[at] = created;
        }
        Ok(when)
    }

    /// Deletes all pods; how long that took the API server, and how long after it the last IP object and port were gone.
    pub async fn clear(&self) -> Result<(Duration, Duration)> {
        let start = Instant::now();
        let pods: Api<PodView> = Api::namespaced(self.client.clone(), &self.namespace);
        pods.delete_collection(&DeleteParams::default().grace_period(0), &ListParams::default()).await?;
        self.pods.count(0).await.context("pods to be gone")?;
        let by_api = start.elapsed();
        loop {
            let left = ports(&self.namespace).await?.len();
            if left == 0 {
                break;
            }
            ensure!(start.elapsed() < Duration::from_mins(5), "{left} ports stay though their pods are gone");
            tokio::time::sleep(Duration::from_millis(20)).await; // a database that is only looked at tells nothing by itself
        }
        self.ips.count(0).await.context("IP objects to be gone")?;
        Ok((by_api, start.elapsed().saturating_sub(by_api)))
    }

    /// Nothing was lost: every pod has its port in the northbound database, with addresses that no other has, and its IP
    /// object.
    pub async fn audit(&self, names: &[String]) -> Result<()> {
        let ports = ports(&self.namespace).await?;
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

/// Ports of a namespace's pods in the northbound database, with MAC and IP addresses.
async fn ports(namespace: &str) -> Result<BTreeMap<String, Vec<String>>> {
    let printed = central::nbctl(&["--format=json", "--columns=name,addresses", "list", "Logical_Switch_Port"]).await?;
    let Value::Object(table) = serde_json::from_str(&printed)? else { bail!("not a table: {printed}") };
    let suffix = format!(".{namespace}");
    let rows = table.get("data").and_then(Value::as_array).into_iter().flatten();
    let named = rows.filter_map(|row| Some((row[0].as_str()?.to_owned(), row[1].as_str().unwrap_or_default())));
    let ours = named.filter(|(name, _)| name.ends_with(&suffix));
    Ok(ours.map(|(name, addresses)| (name, addresses.split_whitespace().map(str::to_owned).collect())).collect())
}
