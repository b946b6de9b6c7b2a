//! The cluster's DNS: CoreDNS in pods of the tested network, with the same objects as kubeadm creates. They can be
//! applied before the network exists; the pods are Pending until then.

use anyhow::Result;

use crate::kube::kubectl;

/// Applies the objects.
pub async fn up() -> Result<()> {
    let objects = concat!(env!("CARGO_MANIFEST_DIR"), "/coredns/coredns.yaml");
    kubectl(&["apply", "--server-side", "--filename", objects]).await.map(drop)
}

/// Waits until the pods are Ready, that is, until they answer queries.
pub async fn settled() -> Result<()> {
    kubectl(&["--namespace=kube-system", "rollout", "status", "deployment/coredns", "--timeout=60s"]).await.map(drop)
}
