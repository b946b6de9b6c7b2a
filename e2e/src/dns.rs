//! The cluster's DNS: CoreDNS in pods of the network that is tested, with the objects that kubeadm would have made. Like there,
//! it may be applied before there is a network; its pods are Pending until then.

use anyhow::Result;

use crate::kube::kubectl;

/// Applies its objects.
pub async fn up() -> Result<()> {
    let objects = concat!(env!("CARGO_MANIFEST_DIR"), "/coredns/coredns.yaml");
    kubectl(&["apply", "--server-side", "--filename", objects]).await.map(drop)
}

/// Waits until its pods are Ready, which they are when they answer questions.
pub async fn settled() -> Result<()> {
    kubectl(&["--namespace=kube-system", "rollout", "status", "deployment/coredns", "--timeout=60s"]).await.map(drop)
}
