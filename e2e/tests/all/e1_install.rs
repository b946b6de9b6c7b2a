//! Row E1 on a lab started with `lab up`: a cluster without a network, our image, the chart, and kubectl.

use anyhow::{Result, ensure};
use e2e::cluster::is_ready;
use e2e::{Cluster, by_hand};
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::ListParams;

/// The workloads by label, which is the same as in kube-ovn, and the number of pods on two nodes.
const WORKLOADS: [(&str, usize); 4] = [("ovn-central", 1), ("ovs", 2), ("kube-ovn-cni", 2), ("kube-ovn-controller", 2)];

#[tokio::test]
async fn e1_installed_all_of_it_runs_in_pods() -> Result<()> {
    let cluster = Cluster::running().await?;
    let pods: Api<Pod> = Api::namespaced(cluster.client(), "kube-system");
    for (app, count) in WORKLOADS {
        let found = pods.list(&ListParams::default().labels(&format!("app={app}"))).await?;
        let ready = found.items.iter().filter(|pod| is_ready(pod).is_ok()).count();
        ensure!((found.items.len(), ready) == (count, count), "of {app} {ready} of {} are ready", found.items.len());
    }
    ensure!(!by_hand::is_up(), "this lab was brought up by hand, and is not an installed one");
    Ok(())
}
