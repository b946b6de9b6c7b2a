//! A Service of the lab without controllers, with the `EndpointSlices` that they would write.

use std::net::IpAddr;

use ::kube::Client;
use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::{Pod, create};
use crate::cluster::place::{HTTP, UDP};

/// The addresses of a Service. The ports of a cluster address are those of `lab-peer`.
#[derive(Clone, Debug)]
pub struct Exposed {
    /// The cluster addresses of both families.
    pub cluster_ips: Vec<IpAddr>,
    /// The port of every node that leads to the HTTP port.
    pub http: u16,
    /// The port of every node that leads to the UDP port.
    pub udp: u16,
}

/// Creates a Service of type `NodePort` with these pods behind it, of both families. `policy` is the
/// `externalTrafficPolicy`.
pub async fn expose(client: &Client, namespace: &str, name: &str, policy: &str, pods: &[&Pod]) -> Result<Exposed> {
    let ports = json!([
        {"name": "http", "port": HTTP, "protocol": "TCP"},
        {"name": "udp", "port": UDP, "protocol": "UDP"},
    ]);
    let metadata = json!({"namespace": namespace, "name": name});
    let spec = json!({
        "type": "NodePort", "externalTrafficPolicy": policy, "ipFamilyPolicy": "RequireDualStack", "ports": ports,
    });
    let service = json!({"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": spec});
    let service = create(client, service).await?.data;
    for family in ["IPv4", "IPv6"] {
        let endpoint = |pod: &&Pod| {
            Ok(json!({
                "addresses": [pod.ip(family == "IPv6")?], "nodeName": pod.node.name(), "conditions": {"ready": true},
            }))
        };
        let endpoints: Vec<Value> = pods.iter().map(endpoint).collect::<Result<_>>()?;
        let labels = json!({"kubernetes.io/service-name": name});
        let metadata =
            json!({"namespace": namespace, "name": format!("{name}-{}", family.to_lowercase()), "labels": labels});
        create(
            client,
            json!({
                "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "metadata": metadata,
                "addressType": family, "endpoints": endpoints, "ports": ports_of_endpoints(),
            }),
        )
        .await?;
    }
    let node_port = |index: usize| {
        let port = service["spec"]["ports"][index]["nodePort"].as_u64();
        port.and_then(|port| u16::try_from(port).ok()).context("a port of the node")
    };
    let ips = service["spec"]["clusterIPs"].as_array().into_iter().flatten();
    Ok(Exposed {
        cluster_ips: ips.filter_map(|ip| ip.as_str()?.parse().ok()).collect(),
        http: node_port(0)?,
        udp: node_port(1)?,
    })
}

fn ports_of_endpoints() -> Value {
    json!([
        {"name": "http", "port": HTTP, "protocol": "TCP"},
        {"name": "udp", "port": UDP, "protocol": "UDP"},
    ])
}
