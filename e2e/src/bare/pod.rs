//! A pod of the lab without container runtimes: the object, a network namespace on a node, and `lab-peer` in it. The
//! plugins run as a container runtime runs them, with the configuration that the agent has installed.

use std::fs;
use std::net::IpAddr;

use ::kube::api::{Patch, PatchParams};
use ::kube::{Api, Client};
use anyhow::{Context, Result};
use k8s_openapi::api::core::v1::Pod as PodObject;
use serde_json::{Map, Value, json};

use super::create;
use crate::cluster::Place;
use crate::cluster::place::HTTP;
use crate::layout::{IMAGE, Node, sibling};
use crate::{process, rootfs};

/// The configuration of the network.
const CONFLIST: &str = "/etc/cni/net.d/01-kube-ovn.conflist";
/// The directory of the plugins.
const PLUGINS: &str = "/opt/cni/bin";

/// A pod. Clones are the same pod.
#[derive(Clone, Debug)]
pub struct Pod {
    /// The namespace of the object.
    pub namespace: String,
    /// The name of the object, and of the network namespace.
    pub name: String,
    /// The node.
    pub node: Node,
    /// The addresses, known once the pod is plugged.
    pub ips: Vec<IpAddr>,
    host_port: Option<u16>,
}

impl Pod {
    /// Returns a pod that does not exist yet. Its name is unique on its node.
    pub fn new(namespace: &str, name: &str, node: Node) -> Self {
        Self { namespace: namespace.to_owned(), name: name.to_owned(), node, ips: Vec::new(), host_port: None }
    }

    /// Makes the HTTP port of the pod available on a port of its node.
    #[must_use]
    pub fn host_port(mut self, port: u16) -> Self {
        self.host_port = Some(port);
        self
    }

    /// Creates the pod, attaches it, and starts `lab-peer` in it, unless an earlier run of the tests did.
    pub async fn plug(mut self, client: &Client) -> Result<Self> {
        let ports: Vec<_> = self.host_port.iter().map(|p| json!({"containerPort": HTTP, "hostPort": p})).collect();
        let object = create(
            client,
            json!({
                "apiVersion": "v1", "kind": "Pod",
                "metadata": {"namespace": self.namespace, "name": self.name},
                "spec": {
                    "nodeName": self.node.name(),
                    "containers": [{"name": "peer", "image": IMAGE, "args": ["serve"], "ports": ports}],
                },
            }),
        );
        let object = object.await?;
        if let Some(ips) = object.data["status"]["podIPs"].as_array() {
            self.ips = ips.iter().filter_map(|ip| ip["ip"].as_str()?.parse().ok()).collect();
            return Ok(self);
        }
        let uid = object.metadata.uid.context("an object has a uid")?;
        for line in [["netns", "add", &self.name].as_slice(), &["-n", &self.name, "link", "set", "lo", "up"]] {
            process::run(process::on(self.node, "ip", line)?).await?;
        }
        let result = self.call("ADD", &uid).await.with_context(|| self.place().to_string())?;
        let addresses = result["ips"].as_array().into_iter().flatten().filter_map(|ip| ip["address"].as_str());
        self.ips = addresses.filter_map(|net| net.split('/').next()?.parse().ok()).collect();
        let status = json!({"status": {
            "phase": "Running",
            "podIP": self.ips.first(),
            "podIPs": self.ips.iter().map(|ip| json!({"ip": ip})).collect::<Vec<_>>(),
            "hostIP": self.node.ip4(),
            "conditions": [{"type": "Ready", "status": "True"}],
        }});
        let api: Api<PodObject> = Api::namespaced(client.clone(), &self.namespace);
        api.patch_status(&self.name, &PatchParams::default(), &Patch::Merge(status)).await?;
        let peer = sibling("static/lab-peer")?.display().to_string();
        process::start(&format!("pod-{}", self.name), self.place().command(&peer, &["serve", &self.name])?)?;
        Ok(self)
    }

    /// Returns the pod as a place.
    pub fn place(&self) -> Place {
        Place::Plugged { node: self.node, netns: self.name.clone() }
    }

    /// Adds, changes and removes (null) annotations.
    pub async fn annotate(&self, client: &Client, annotations: Value) -> Result<()> {
        let api: Api<PodObject> = Api::namespaced(client.clone(), &self.namespace);
        let patch = Patch::Merge(json!({ "metadata": { "annotations": annotations } }));
        api.patch(&self.name, &PatchParams::default(), &patch).await.map(drop).context("the annotations")
    }

    /// Returns the address of a family.
    pub fn ip(&self, v6: bool) -> Result<IpAddr> {
        let found = self.ips.iter().find(|ip| ip.is_ipv6() == v6).copied();
        found.with_context(|| format!("{} has {:?}", self.name, self.ips))
    }

    /// Returns the addresses of both families, IPv4 first.
    pub fn both(&self) -> Result<[IpAddr; 2]> {
        Ok([self.ip(false)?, self.ip(true)?])
    }

    /// Runs all plugins of the configuration, each with the result of the one before. Returns the last result.
    async fn call(&self, verb: &str, uid: &str) -> Result<Value> {
        let path = rootfs::file(self.node, CONFLIST)?;
        let list: Value = serde_json::from_slice(&fs::read(&path).context(CONFLIST)?)?;
        let mut result = Value::Null;
        for plugin in list["plugins"].as_array().context("a list of plugins")? {
            let mut conf: Map<String, Value> = serde_json::from_value(plugin.clone())?;
            for key in ["cniVersion", "name"] {
                conf.insert(key.to_owned(), list[key].clone());
            }
            if plugin["capabilities"]["portMappings"] == true {
                let port = |port| json!({"hostPort": port, "containerPort": HTTP, "protocol": "tcp"});
                let ports: Vec<_> = self.host_port.map(port).into_iter().collect();
                conf.insert("runtimeConfig".to_owned(), json!({"portMappings": ports}));
            }
            if !result.is_null() {
                conf.insert("prevResult".to_owned(), result);
            }
            let kind = plugin["type"].as_str().context("a plugin has a type")?;
            let printed = process::feed(self.plugin(kind, verb, uid)?, &json!(conf).to_string()).await?;
            result = serde_json::from_str(&printed).with_context(|| format!("{kind}: {printed}"))?;
        }
        Ok(result)
    }

    fn plugin(&self, kind: &str, verb: &str, uid: &str) -> Result<std::process::Command> {
        let Self { namespace, name, .. } = self;
        let variables = [
            format!("CNI_COMMAND={verb}"),
            format!("CNI_CONTAINERID={:0<64}", uid.replace('-', "")),
            format!("CNI_NETNS=/run/netns/{name}"),
            "CNI_IFNAME=eth0".to_owned(),
            format!("CNI_ARGS=K8S_POD_NAMESPACE={namespace};K8S_POD_NAME={name};K8S_POD_UID={uid}"),
            format!("CNI_PATH={PLUGINS}"),
            "PATH=/usr/sbin:/usr/bin:/sbin:/bin".to_owned(),
        ];
        let mut words = vec!["--ignore-environment"];
        words.extend(variables.iter().map(String::as_str));
        let program = format!("{PLUGINS}/{kind}");
        words.push(&program);
        process::on(self.node, "env", &words)
    }
}
