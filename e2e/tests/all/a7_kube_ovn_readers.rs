//! A7: what scripts and tests that were written for kube-ovn read: annotations, fields of custom resources, events, rows
//! of the northbound database, and the addresses and routes of nodes. They are read here as they do, by their names in
//! JSON.

mod nodes;
mod pods;
mod pools;
mod subnets;

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use e2e::cluster::{Scene, is_ready};
use e2e::layout::IMAGE;
use e2e::{Cluster, process};
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::{DeleteParams, DynamicObject, ListParams, Patch, PatchParams};
use kube::core::{ApiResource, GroupVersionKind};
use serde_json::{Value, json};

/// The time limit of these tests and scripts for most of what they wait for.
const SOON: Duration = Duration::from_secs(30);

/// Returns an object of `kubeovn.io/v1` as the API server shows it.
async fn object(cluster: &Cluster, kind: &str, name: &str) -> Result<Value> {
    let resource = ApiResource::from_gvk(&GroupVersionKind::gvk("kubeovn.io", "v1", kind));
    let object = Api::<DynamicObject>::all_with(cluster.client(), &resource).get(name).await?;
    Ok(serde_json::to_value(object)?)
}

/// Waits until these fields of an object's status have these values.
async fn status_is(cluster: &Cluster, kind: &str, name: &str, expected: Value) -> Result<()> {
    process::until(SOON, || async {
        let status = object(cluster, kind, name).await?["status"].clone();
        same(&status, &expected).with_context(|| format!("{kind} {name}"))
    })
    .await
}

/// Checks the fields of `expected` in an object. Others may have any value.
fn same(found: &Value, expected: &Value) -> Result<()> {
    for (key, value) in expected.as_object().context("not an object")? {
        // A number is an integer for some readers and a floating-point number for others.
        let equal = match (found[key].as_f64(), value.as_f64()) {
            (Some(one), Some(other)) => (one - other).abs() < 0.5,
            _ => found[key] == *value,
        };
        ensure!(equal, "{key} is {}, not {value}", found[key]);
    }
    Ok(())
}

/// Creates a Subnet and waits until it is Ready. Returns it as the first reading after that shows it.
async fn subnet(scene: &Scene, name: &str, spec: Value) -> Result<Value> {
    scene
        .create(json!({"apiVersion": "kubeovn.io/v1", "kind": "Subnet", "metadata": {"name": name}, "spec": spec}))
        .await?;
    let subnets = Api::<api::Subnet>::all(scene.cluster().client());
    scene.cluster().until(subnets, name, e2e::cluster::subnet_ready).await?;
    object(scene.cluster(), "Subnet", name).await
}

/// Creates an `IPPool` and waits until it is Ready. Returns it as the first reading after that shows it.
async fn pool(scene: &Scene, name: &str, spec: Value) -> Result<Value> {
    scene
        .create(json!({"apiVersion": "kubeovn.io/v1", "kind": "IPPool", "metadata": {"name": name}, "spec": spec}))
        .await?;
    let ready = |pool: &api::IpPool| {
        let conditions = pool.status.as_ref().map(|status| status.conditions.as_slice()).unwrap_or_default();
        ensure!(conditions.iter().any(|c| c.type_ == "Ready" && c.status == "True"), "{conditions:?}");
        Ok(())
    };
    scene.cluster().until(Api::<api::IpPool>::all(scene.cluster().client()), name, ready).await?;
    object(scene.cluster(), "IPPool", name).await
}

fn annotation<'a>(pod: &'a Pod, key: &str) -> Option<&'a str> {
    pod.metadata.annotations.as_ref()?.get(&format!("ovn.kubernetes.io/{key}")).map(String::as_str)
}

fn ips(pod: &Pod) -> BTreeSet<String> {
    let ips = pod.status.as_ref().and_then(|status| status.pod_ips.clone());
    ips.into_iter().flatten().map(|ip| ip.ip).collect()
}

/// Checks the annotations of a pod, and its addresses against them.
fn annotated(pod: &Pod, subnet: &Value) -> Result<()> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let network = |key: &str| text(&subnet["spec"][key]);
    for (key, expected) in [
        ("allocated", "true".to_owned()),
        ("routed", "true".to_owned()),
        ("cidr", network("cidrBlock")),
        ("gateway", network("gateway")),
        ("logical_switch", text(&subnet["metadata"]["name"])),
    ] {
        ensure!(annotation(pod, key) == Some(&expected), "{key} is {:?}, not {expected:?}", annotation(pod, key));
    }
    let mac = annotation(pod, "mac_address").context("no mac_address")?;
    ensure!(mac.parse::<api::Mac>().is_ok(), "{mac}");
    let given = annotation(pod, "ip_address").context("no ip_address")?;
    let given: BTreeSet<String> = given.split(',').map(str::to_owned).collect();
    ensure!(!given.is_empty() && given == ips(pod), "{given:?} in the annotation, {:?} in the status", ips(pod));
    Ok(())
}

/// The pods of a workload.
struct Workload<'a> {
    cluster: &'a Cluster,
    api: Api<Pod>,
    namespace: &'a str,
    name: &'a str,
}

impl<'a> Workload<'a> {
    /// Creates a Deployment or a `StatefulSet`. `spec` is merged into its spec, the annotations are those of its pods.
    async fn new(
        scene: &'a Scene,
        namespace: &'a str,
        (kind, name): (&str, &'a str),
        spec: Value,
        annotations: Value,
    ) -> Result<Self> {
        let mut all = json!({
            "selector": {"matchLabels": {"app": name}},
            "template": {
                "metadata": {"labels": {"app": name}, "annotations": annotations},
                "spec": {
                    "terminationGracePeriodSeconds": 0, "tolerations": [{"operator": "Exists"}],
                    "containers": [{"name": "peer", "image": IMAGE, "imagePullPolicy": "Never", "args": ["serve"]}],
                },
            },
        });
        if kind == "StatefulSet" {
            all["serviceName"] = json!(name);
            all["podManagementPolicy"] = json!("Parallel");
        }
        for (key, value) in spec.as_object().context("not an object")? {
            all[key] = value.clone();
        }
        let metadata = json!({"namespace": namespace, "name": name});
        scene.create(json!({"apiVersion": "apps/v1", "kind": kind, "metadata": metadata, "spec": all})).await?;
        let api = Api::namespaced(scene.cluster().client(), namespace);
        Ok(Self { cluster: scene.cluster(), api, namespace, name })
    }

    /// Waits until the workload has so many pods, all of them Ready, annotated for the subnet, and none of `before`.
    /// Returns them by name.
    async fn pods(&self, count: usize, subnet: &Value, before: &[Pod]) -> Result<Vec<Pod>> {
        let own = ListParams::default().labels(&format!("app={}", self.name));
        process::until(SOON, || async {
            let mut pods = self.api.list(&own).await?.items;
            pods.sort_by(|one, other| one.metadata.name.cmp(&other.metadata.name));
            ensure!(pods.len() == count, "{} pods of {}", pods.len(), self.name);
            for pod in &pods {
                let name = pod.metadata.name.as_deref().unwrap_or_default();
                let old = before.iter().any(|old| old.metadata.uid == pod.metadata.uid);
                ensure!(!old && pod.metadata.deletion_timestamp.is_none(), "{name} is not a new one");
                is_ready(pod).and_then(|()| annotated(pod, subnet)).with_context(|| name.to_owned())?;
            }
            Ok(pods)
        })
        .await
    }

    /// Deletes these pods and waits for as many new ones.
    async fn again(&self, before: &[Pod], subnet: &Value) -> Result<Vec<Pod>> {
        for pod in before {
            self.api.delete(pod.metadata.name.as_deref().unwrap_or_default(), &DeleteParams::default()).await?;
        }
        self.pods(before.len(), subnet, before).await
    }

    /// Sets the number of replicas of a `StatefulSet`.
    async fn scale(&self, replicas: usize) -> Result<()> {
        let sets: Api<StatefulSet> = Api::namespaced(self.cluster.client(), self.namespace);
        let patch = Patch::Merge(json!({"spec": {"replicas": replicas}}));
        Ok(sets.patch(self.name, &PatchParams::default(), &patch).await.map(drop)?)
    }
}

/// The addresses of each pod, by its name.
fn addresses(pods: &[Pod]) -> Vec<(String, BTreeSet<String>)> {
    pods.iter().map(|pod| (pod.metadata.name.clone().unwrap_or_default(), ips(pod))).collect()
}

fn set(list: &[&str]) -> BTreeSet<String> {
    list.iter().map(|&text| text.to_owned()).collect()
}
