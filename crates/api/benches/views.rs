//! How long a pod takes to read from a watch event, and how much of that its `managedFields` are.

use std::hint::black_box;
use std::time::{Duration, Instant};

use api::PodView;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::Deserialize;
use serde_json::{Value, json};

const ROUNDS: u32 = 20_000;

/// A pod as a Deployment makes it: one container, a projected token, the controller's annotations, three managers.
fn pod() -> Value {
    let fields = |names: &[&str]| -> Value {
        names
            .iter()
            .map(|name| (format!("f:{name}"), json!({ ".": {}, "f:x": {}, "f:y": {} })))
            .collect::<serde_json::Map<_, _>>()
            .into()
    };
    let manager = |name: &str, names: &[&str]| {
        json!({ "manager": name, "operation": "Update", "apiVersion": "v1", "time": "2026-01-01T00:00:00Z", "fieldsType": "FieldsV1",
            "fieldsV1": { "f:metadata": { "f:annotations": fields(names), "f:labels": fields(names) }, "f:spec": fields(names), "f:status": fields(names) } })
    };
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {
            "name": "web-7d9c6b5f4-abcde", "namespace": "shop", "uid": "0c217923-7af0-5f2a-a2ed-1e673789cb3a", "resourceVersion": "123456",
            "creationTimestamp": "2026-01-01T00:00:00Z", "labels": { "app": "web", "pod-template-hash": "7d9c6b5f4" },
            "annotations": {
                "ovn.kubernetes.io/allocated": "true", "ovn.kubernetes.io/cidr": "10.16.0.0/16", "ovn.kubernetes.io/gateway": "10.16.0.1",
                "ovn.kubernetes.io/ip_address": "10.16.0.2", "ovn.kubernetes.io/logical_switch": "ovn-default",
                "ovn.kubernetes.io/mac_address": "0a:58:0a:10:00:02", "ovn.kubernetes.io/routed": "true",
            },
            "ownerReferences": [{ "apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web-7d9c6b5f4", "uid": "1", "controller": true }],
            "managedFields": [
                manager("kube-controller-manager", &["containers", "dnsPolicy", "enableServiceLinks", "restartPolicy", "schedulerName", "securityContext"]),
                manager("kube-ovn-controller", &["allocated", "cidr", "gateway", "ip_address", "logical_switch", "mac_address", "routed"]),
                manager("kubelet", &["conditions", "containerStatuses", "hostIP", "phase", "podIP", "podIPs", "startTime"]),
            ],
        },
        "spec": {
            "nodeName": "n1",
            "containers": [{ "name": "web", "image": "registry.example/web:1", "ports": [{ "containerPort": 80 }],
                "resources": { "requests": { "cpu": "100m", "memory": "64Mi" } }, "volumeMounts": [{ "name": "token", "mountPath": "/var/run/secrets" }] }],
            "volumes": [{ "name": "token", "projected": { "sources": [{ "serviceAccountToken": { "expirationSeconds": 3607, "path": "token" } },
                { "configMap": { "name": "kube-root-ca.crt", "items": [{ "key": "ca.crt", "path": "ca.crt" }] } }] } }],
            "tolerations": [{ "key": "node.kubernetes.io/not-ready", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300 }],
        },
        "status": { "phase": "Running", "podIPs": [{ "ip": "10.16.0.2" }], "conditions": [{ "type": "Ready", "status": "True" }] },
    })
}

/// The same, with all of its metadata.
#[derive(Deserialize)]
#[allow(dead_code)]
struct Whole {
    metadata: ObjectMeta,
    spec: Spec,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
#[allow(dead_code)]
struct Spec {
    node_name: Option<String>,
}

fn time<T: serde::de::DeserializeOwned>(text: &str) -> Duration {
    let start = Instant::now();
    for _ in 0..ROUNDS {
        black_box(serde_json::from_str::<T>(black_box(text)).ok());
    }
    start.elapsed() / ROUNDS
}

fn main() {
    let text = pod().to_string();
    for _ in 0..2 {
        time::<PodView>(&text);
        time::<Whole>(&text);
    }
    let (view, whole) = (time::<PodView>(&text), time::<Whole>(&text));
    println!("a pod of {} bytes: read in {view:.1?}; with all of its metadata it takes {whole:.1?}", text.len());
}
