//! Events on the objects that something is wrong with, where `kubectl describe` shows them.
//!
//! A notice is told once for each message; Kubernetes counts repetitions of the same event by itself.

use std::collections::HashMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::ObjectReference;
use kube::Client;
use kube::runtime::events::{Event, EventType, Recorder, Reporter};
use tokio::sync::mpsc;

use crate::cluster::{Cluster, Object};
use crate::engine::Engine;

/// One event to tell.
#[derive(Debug)]
pub struct Notice {
    about: ObjectReference,
    reason: &'static str,
    message: String,
}

/// The owner's end: remembers what was told.
#[derive(Debug)]
pub struct Notices {
    told: HashMap<Object, String>,
    sender: mpsc::UnboundedSender<Notice>,
}

impl Notices {
    /// Nothing has been told yet.
    pub fn new(sender: mpsc::UnboundedSender<Notice>) -> Self {
        Self { told: HashMap::new(), sender }
    }

    /// Tells what is wrong with an object, if anything is and it was not told already.
    pub fn about(&mut self, engine: &Engine, cluster: &Cluster, object: &Object) {
        let Some((about, reason, message)) = complaint(engine, cluster, object) else {
            self.told.remove(object);
            return;
        };
        if self.told.get(object) != Some(&message) {
            self.told.insert(object.clone(), message.clone());
            // The receiver lives as long as the process.
            let _ = self.sender.send(Notice { about, reason, message });
        }
    }
}

fn complaint(engine: &Engine, cluster: &Cluster, object: &Object) -> Option<(ObjectReference, &'static str, String)> {
    match object {
        Object::Pod(port) => {
            let pod = cluster.pods.get(port)?;
            let refused = engine.refused(port)?;
            let about = reference("Pod", &pod.name, Some(&pod.namespace), &pod.uid);
            Some((about, "AcquireAddressFailed", refused.message.clone()))
        }
        Object::Node(name) => {
            let node = cluster.nodes.get(name)?;
            let refused = engine.refused(&node.port())?;
            // By kubelet's convention events on a Node carry its name as uid.
            Some((reference("Node", name, None, name), "AcquireAddressFailed", refused.message.clone()))
        }
        Object::Namespace(name) => {
            let namespace = cluster.namespaces.get(name)?;
            let error = namespace.net.as_ref().err()?;
            Some((reference("Namespace", name, None, &namespace.uid), "ValidateNamespaceFailed", error.to_string()))
        }
        Object::Subnet(_) | Object::StatefulSet(_) | Object::Ip(_) => None,
    }
}

fn reference(kind: &str, name: &str, namespace: Option<&str>, uid: &str) -> ObjectReference {
    ObjectReference {
        api_version: Some("v1".to_owned()),
        kind: Some(kind.to_owned()),
        name: Some(name.to_owned()),
        namespace: namespace.map(ToOwned::to_owned),
        uid: Some(uid.to_owned()),
        ..ObjectReference::default()
    }
}

/// Sends notices to the API server until the owner is gone. A notice that is not taken is logged and dropped: what is
/// wrong stays visible in conditions and logs.
pub async fn run(client: Client, identity: Arc<str>, mut notices: mpsc::UnboundedReceiver<Notice>) {
    let reporter = Reporter { controller: "kube-ovn-controller".to_owned(), instance: Some(identity.to_string()) };
    let recorder = Recorder::new(client, reporter);
    while let Some(Notice { about, reason, message }) = notices.recv().await {
        let event = Event {
            type_: EventType::Warning,
            reason: reason.to_owned(),
            note: Some(message),
            action: "Allocating".to_owned(),
            secondary: None,
        };
        if let Err(error) = recorder.publish(&event, &about).await {
            tracing::warn!(%error, kind = about.kind, name = about.name, "an event was not taken");
        }
    }
}
