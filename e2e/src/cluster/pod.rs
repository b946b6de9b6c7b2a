//! Pods of a scene.

use std::net::IpAddr;

use anyhow::{Context, Result, bail, ensure};
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{Event, Pod as PodObject};
use kube::Api;
use kube::api::{ListParams, Patch, PatchParams};
use serde_json::{Map, Value, json};

use super::place::HTTP;
use super::{Cluster, Place, Scene, nb};
use crate::layout::{IMAGE, Node};
use crate::process;

/// A pod to be created. It answers on the ports of [`super::place`].
#[must_use]
pub struct Builder<'a> {
    scene: &'a Scene,
    namespace: String,
    name: String,
    node: Option<String>,
    annotations: Map<String, Value>,
    labels: Map<String, Value>,
    probe: Option<String>,
    host_port: Option<u16>,
}

impl<'a> Builder<'a> {
    pub(super) fn new(scene: &'a Scene, namespace: &str, name: &str) -> Self {
        let (namespace, name) = (namespace.to_owned(), name.to_owned());
        let (annotations, labels) = (Map::new(), Map::new());
        Self { scene, namespace, name, node: None, annotations, labels, probe: None, host_port: None }
    }

    /// Binds the pod to a node, without the scheduler.
    pub fn on(mut self, node: &str) -> Self {
        self.node = Some(node.to_owned());
        self
    }

    /// Adds an annotation.
    pub fn annotation(mut self, key: &str, value: &str) -> Self {
        self.annotations.insert(key.to_owned(), json!(value));
        self
    }

    /// Adds a label.
    pub fn label(mut self, key: &str, value: &str) -> Self {
        self.labels.insert(key.to_owned(), json!(value));
        self
    }

    /// Makes the HTTP port of the pod available on a port of its node.
    pub fn host_port(mut self, port: u16) -> Self {
        self.host_port = Some(port);
        self
    }

    /// Adds a readiness probe: the pod is ready when this shell command succeeds in it.
    pub fn ready_when(mut self, script: &str) -> Self {
        self.probe = Some(script.to_owned());
        self
    }

    /// Creates the pod without waiting.
    pub async fn create(self) -> Result<Pod> {
        let probe =
            |script| json!({"exec": {"command": ["sh", "-c", script]}, "periodSeconds": 1, "timeoutSeconds": 10});
        let ports: Vec<Value> =
            self.host_port.iter().map(|port| json!({"containerPort": HTTP, "hostPort": port})).collect();
        let metadata = json!({
            "namespace": self.namespace, "name": self.name, "annotations": self.annotations, "labels": self.labels,
        });
        let manifest = json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": metadata,
            "spec": {
                "nodeName": self.node,
                "terminationGracePeriodSeconds": 0,
                "tolerations": [{"operator": "Exists"}],
                "containers": [{
                    "name": "peer", "image": IMAGE, "imagePullPolicy": "Never", "args": ["serve"],
                    "readinessProbe": self.probe.map(probe), "ports": ports,
                }],
            },
        });
        let object: PodObject = self.scene.create(manifest).await?.try_parse()?;
        Ok(Pod { cluster: self.scene.cluster().clone(), object })
    }

    /// Creates the pod and waits until it is Ready.
    pub async fn ready(self) -> Result<Pod> {
        self.create().await?.ready().await
    }
}

/// A pod, with the object as last read.
#[derive(Clone)]
pub struct Pod {
    cluster: Cluster,
    /// The object.
    pub object: PodObject,
}

impl Pod {
    /// Returns the name.
    pub fn name(&self) -> &str {
        self.object.metadata.name.as_deref().unwrap_or_default()
    }

    /// Returns the namespace.
    pub fn namespace(&self) -> &str {
        self.object.metadata.namespace.as_deref().unwrap_or_default()
    }

    /// Returns the name of the node.
    pub fn node(&self) -> Option<&str> {
        self.object.spec.as_ref()?.node_name.as_deref()
    }

    /// Returns an annotation.
    pub fn annotation(&self, key: &str) -> Option<&str> {
        self.object.metadata.annotations.as_ref()?.get(key).map(String::as_str)
    }

    /// Returns the addresses in the pod's status.
    pub fn ips(&self) -> Vec<IpAddr> {
        let ips = self.object.status.as_ref().and_then(|s| s.pod_ips.clone()).unwrap_or_default();
        ips.iter().filter_map(|i| i.ip.parse().ok()).collect()
    }

    /// Returns the IPv4 address.
    pub fn ip4(&self) -> Result<String> {
        self.ip(IpAddr::is_ipv4)
    }

    /// Returns the IPv6 address.
    pub fn ip6(&self) -> Result<String> {
        self.ip(IpAddr::is_ipv6)
    }

    fn ip(&self, family: fn(&IpAddr) -> bool) -> Result<String> {
        let found = self.ips().into_iter().find(family).map(|ip| ip.to_string());
        found.with_context(|| {
            format!("pod {}/{} has no such address, but {:?}", self.namespace(), self.name(), self.ips())
        })
    }

    /// Returns the pod as a place.
    pub fn place(&self) -> Place {
        Place::Pod { namespace: self.namespace().to_owned(), name: self.name().to_owned() }
    }

    /// Returns the pod's network namespace as a place, for programs of this machine.
    pub async fn netns(&self) -> Result<Place> {
        let (node, path) = self.plugged().await?;
        let (_, netns) = path.rsplit_once('/').context("a path")?;
        Ok(Place::Plugged { node, netns: netns.to_owned() })
    }

    /// Returns the node, and the path of the network namespace there.
    async fn plugged(&self) -> Result<(Node, String)> {
        let node = Node::named(self.node().context("a node")?).context("no such node")?;
        // Pods of the same name in other namespaces have ports, too.
        let conditions = [
            format!("external_ids:pod_name={}", self.name()),
            format!("external_ids:pod_namespace={}", self.namespace()),
        ];
        let conditions = conditions.each_ref().map(String::as_str);
        let rows = nb::find_local(&Place::Node(node), "Interface", &conditions).await?;
        let path = rows.first().and_then(|row| row.get("external_ids")?.get("pod_netns")?.as_str());
        Ok((node, path.context("a port")?.to_owned()))
    }

    /// Calls CNI's CHECK for the pod, as a runtime does: with what its ADD was called with, and what that returned.
    pub async fn check(&self) -> Result<()> {
        let (node, netns) = self.plugged().await?;
        let uid = self.object.metadata.uid.as_deref().unwrap_or_default();
        let files = "--files-with-matches --recursive --exclude='cni-loopback-*'";
        let kept = format!("cat \"$(grep {files} {uid} /var/lib/cni/results)\"");
        let kept: Value = serde_json::from_str(&process::run(process::on(node, "sh", &["-c", &kept])?).await?)?;
        let list: ByteString = serde_json::from_value(kept["config"].clone())?;
        let list: Value = serde_json::from_slice(&list.0)?;
        let mut conf = list["plugins"][0].clone();
        (conf["name"], conf["cniVersion"]) = (list["name"].clone(), list["cniVersion"].clone());
        conf["prevResult"] = kept["result"].clone();
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let pairs = kept["cniArgs"].as_array().into_iter().flatten();
        let pairs = pairs.map(|pair| format!("{}={}", text(&pair[0]), text(&pair[1]))).collect::<Vec<_>>().join(";");
        let environment = [
            "CNI_COMMAND=CHECK".to_owned(),
            format!("CNI_CONTAINERID={}", text(&kept["containerId"])),
            format!("CNI_NETNS={netns}"),
            format!("CNI_IFNAME={}", text(&kept["ifName"])),
            format!("CNI_ARGS={pairs}"),
            "CNI_PATH=/opt/cni/bin".to_owned(),
        ];
        let plugin = format!("/opt/cni/bin/{}", text(&conf["type"]));
        let words: Vec<&str> = environment.iter().map(String::as_str).chain([plugin.as_str()]).collect();
        process::feed(process::on(node, "env", &words)?, &conf.to_string()).await.map(drop)
    }

    /// Adds, changes and removes (null) annotations.
    pub async fn annotate(&self, annotations: Value) -> Result<()> {
        let patch = Patch::Merge(json!({ "metadata": { "annotations": annotations } }));
        self.api().patch(self.name(), &PatchParams::default(), &patch).await.map(drop).context("the annotations")
    }

    /// Returns the API of the pod's namespace.
    pub fn api(&self) -> Api<PodObject> {
        Api::namespaced(self.cluster.client(), self.namespace())
    }

    /// Waits until the pod is Ready. The error contains the pod's events.
    pub async fn ready(mut self) -> Result<Self> {
        match self.cluster.until(self.api(), self.name(), is_ready).await {
            Ok(object) => {
                self.object = object;
                Ok(self)
            }
            Err(e) => Err(e.context(self.events().await.unwrap_or_default())),
        }
    }

    /// Waits until the pod has this annotation.
    pub async fn annotated(mut self, key: &str, value: &str) -> Result<Self> {
        let right = |object: &PodObject| {
            let annotations = object.metadata.annotations.as_ref();
            let found = annotations.and_then(|a| a.get(key));
            ensure!(found.is_some_and(|v| v == value), "annotation {key} is {found:?}, not {value:?}");
            Ok(())
        };
        self.object = self.cluster.until(self.api(), self.name(), right).await?;
        Ok(self)
    }

    /// Deletes the pod and waits until it is gone.
    pub async fn delete(self) -> Result<()> {
        self.api().delete(self.name(), &kube::api::DeleteParams::default()).await?;
        self.cluster.until_gone(self.api(), self.name()).await
    }

    /// Waits for an event of the pod with this reason and all of these words in its message.
    pub async fn told(&self, reason: &str, words: &[&str]) -> Result<()> {
        let uid = self.object.metadata.uid.as_deref().unwrap_or_default();
        let fields = format!("involvedObject.uid={uid},reason={reason}");
        match self.cluster.told(self.namespace(), &fields, words).await {
            Err(e) => Err(e.context(self.events().await?)),
            heard => heard,
        }
    }

    /// Returns the pod's events, one line for each.
    pub async fn events(&self) -> Result<String> {
        let events: Api<Event> = Api::namespaced(self.cluster.client(), self.namespace());
        let selector = format!("involvedObject.name={}", self.name());
        let list = events.list(&ListParams::default().fields(&selector)).await?;
        let lines = list
            .items
            .into_iter()
            .map(|e| format!("{}: {}", e.reason.unwrap_or_default(), e.message.unwrap_or_default()));
        Ok(format!("events of pod {}:\n  {}", self.name(), lines.collect::<Vec<_>>().join("\n  ")))
    }
}

/// For [`Cluster::until`]: checks that the pod is Ready.
pub fn is_ready(pod: &PodObject) -> Result<()> {
    let status = pod.status.as_ref().context("no status yet")?;
    let condition = status.conditions.iter().flatten().find(|c| c.type_ == "Ready");
    match condition {
        Some(c) if c.status == "True" => Ok(()),
        other => bail!("phase {:?}, Ready condition {other:?}", status.phase),
    }
}
