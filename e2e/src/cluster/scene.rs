//! The objects of one test. All have the label `e2e=<scene>`. By this label, they are removed at the end of the test
//! and before its next run, which waits for namespaces that are still there.

use std::fmt::Debug;
use std::process::Command;

use anyhow::{Context, Result};
use api::Subnet;
use kube::Api;
use kube::api::{DynamicObject, Patch, PatchParams, PostParams};
use kube::core::{ApiResource, GroupVersionKind};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::{Cluster, pod, subnet_ready};
use crate::layout::kubeconfig;
use crate::{kube as control_plane, process};

/// The label.
pub const LABEL: &str = "e2e";
/// The kinds of objects in a scene, in the order of removal. A subnet cannot be removed before its pods, and the
/// deletion of a namespace with pods takes seconds longer.
const KINDS: [&str; 6] =
    ["pods", "namespaces", "ippools.kubeovn.io", "subnets.kubeovn.io", "externalhosts.kubeovn.io", "nodes"];

/// The objects of one test. Dropping it removes them.
pub struct Scene {
    cluster: Cluster,
    name: &'static str,
}

impl Scene {
    pub(super) async fn empty(cluster: Cluster, name: &'static str) -> Result<Self> {
        let scene = Self { cluster, name };
        let left = process::run(scene.list()).await?;
        for command in scene.removals(&left, true) {
            process::run(command).await?;
        }
        Ok(scene)
    }

    /// Returns the cluster.
    pub fn cluster(&self) -> &Cluster {
        &self.cluster
    }

    /// Creates an object from the JSON of its manifest.
    pub async fn create(&self, mut manifest: Value) -> Result<DynamicObject> {
        manifest["metadata"]["labels"][LABEL] = json!(self.name);
        let object: DynamicObject =
            serde_json::from_value(manifest).context("a manifest has apiVersion, kind and metadata")?;
        let types = object.types.clone().context("a manifest has apiVersion and kind")?;
        let resource = ApiResource::from_gvk(&GroupVersionKind::try_from(&types)?);
        let api: Api<DynamicObject> = match &object.metadata.namespace {
            Some(namespace) => Api::namespaced_with(self.cluster.client(), namespace, &resource),
            None => Api::all_with(self.cluster.client(), &resource),
        };
        let name = object.metadata.name.clone().unwrap_or_default();
        api.create(&PostParams::default(), &object).await.with_context(|| format!("creating {} {name}", types.kind))
    }

    /// Creates a namespace. On return, pods can be created in it.
    pub async fn namespace(&self, name: &str, annotations: &[(&str, &str)]) -> Result<()> {
        let annotations: Value =
            annotations.iter().map(|(k, v)| ((*k).to_owned(), json!(v))).collect::<serde_json::Map<_, _>>().into();
        let metadata = json!({"name": name, "annotations": annotations});
        self.create(json!({"apiVersion": "v1", "kind": "Namespace", "metadata": metadata})).await?;
        let accounts: Api<k8s_openapi::api::core::v1::ServiceAccount> = Api::namespaced(self.cluster.client(), name);
        self.cluster.until(accounts, "default", |_| Ok(())).await.map(drop)
    }

    /// Creates a Subnet and a namespace of the same name that is bound to it. Waits until the Subnet is Ready.
    pub async fn subnet(&self, name: &str, cidr: &str) -> Result<()> {
        let spec = json!({"cidrBlock": cidr, "namespaces": [name]});
        self.create(json!({"apiVersion": "kubeovn.io/v1", "kind": "Subnet", "metadata": {"name": name}, "spec": spec}))
            .await?;
        self.cluster.until(Api::<Subnet>::all(self.cluster.client()), name, subnet_ready).await?;
        self.namespace(name, &[]).await
    }

    /// Adds the label to an object that our controller made for the scene, for example a Subnet, so that it is removed
    /// too.
    pub async fn adopt<K>(&self, api: &Api<K>, name: &str) -> Result<()>
    where
        K: Clone + Debug + DeserializeOwned,
    {
        let patch = json!({"metadata": {"labels": {LABEL: self.name}}});
        api.patch(name, &PatchParams::default(), &Patch::Merge(patch))
            .await
            .with_context(|| format!("adopting {name}"))
            .map(drop)
    }

    /// Returns a [`pod::Builder`].
    pub fn pod(&self, namespace: &str, name: &str) -> pod::Builder<'_> {
        pod::Builder::new(self, namespace, name)
    }

    /// Returns the command that lists all objects, `<kind>/<name>` in each line.
    fn list(&self) -> Command {
        let selector = format!("--selector={LABEL}={}", self.name);
        kubectl(&["get", &KINDS.join(","), "--all-namespaces", &selector, "--output=name"])
    }

    /// Returns the commands that remove the objects of a list and wait until they are gone. Namespaces take seconds, in which
    /// nothing of the network happens: these may be waited for or not.
    fn removals(&self, list: &str, wait_for_namespaces: bool) -> Vec<Command> {
        let selector = format!("--selector={LABEL}={}", self.name);
        let delete = |kind: &str| {
            let wait = format!("--wait={}", wait_for_namespaces || kind != "namespaces");
            kubectl(&["delete", kind, "--all-namespaces", &selector, "--timeout=60s", &wait])
        };
        // A list names the kind in the singular.
        let listed = |kind: &&&str| {
            let (plural, group) = kind.split_once('.').unwrap_or((kind, ""));
            let singular = plural.strip_suffix('s').unwrap_or(plural);
            list.lines()
                .filter_map(|line| line.split_once('/'))
                .any(|(kind, _)| kind.split_once('.').unwrap_or((kind, "")) == (singular, group))
        };
        KINDS.iter().filter(listed).map(|kind| delete(kind)).collect()
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        // A failure here makes the next run of the scene fail. A panic here would hide the failure of the test.
        let left = self.list().output().map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
        for mut command in self.removals(&left.unwrap_or_default(), false) {
            if let Ok(output) = command.output()
                && !output.status.success()
            {
                eprintln!("clearing {}: {}", self.name, String::from_utf8_lossy(&output.stderr));
            }
        }
    }
}

fn kubectl(arguments: &[&str]) -> Command {
    let kubeconfig = format!("--kubeconfig={}", kubeconfig().display());
    let arguments: Vec<&str> = [kubeconfig.as_str()].into_iter().chain(arguments.iter().copied()).collect();
    process::command(control_plane::program("kubectl"), &arguments)
}
