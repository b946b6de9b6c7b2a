//! E1: the cluster's DNS runs in the network. Pods on every node reach a Service by its name over both address
//! families.

use anyhow::{Result, ensure};
use e2e::Cluster;
use e2e::cluster::{Pod, is_ready};
use e2e::layout::IMAGE;
use futures::future::try_join_all;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Pod as PodObject, Service};
use kube::Api;
use kube::api::ListParams;
use serde_json::json;

const NAMESPACE: &str = "e1-name";

/// For [`Cluster::until`]: all replicas are Ready.
fn complete(deployment: &Deployment) -> Result<()> {
    let wanted = deployment.spec.as_ref().and_then(|spec| spec.replicas);
    let ready = deployment.status.as_ref().and_then(|status| status.ready_replicas);
    ensure!(wanted.is_some() && ready == wanted, "{ready:?} of {wanted:?} pods are Ready");
    Ok(())
}

/// Waits for the cluster's DNS. Returns its addresses.
async fn dns(cluster: &Cluster) -> Result<Vec<String>> {
    cluster.until(Api::namespaced(cluster.client(), "kube-system"), "coredns", complete).await?;
    let service = Api::<Service>::namespaced(cluster.client(), "kube-system").get("kube-dns").await?;
    let addresses = service.spec.and_then(|spec| spec.cluster_ips).unwrap_or_default();
    ensure!(addresses == ["10.96.0.10", "fd00:10:96::a"], "kube-dns is at {addresses:?}");
    Ok(addresses)
}

/// Returns the answer of a pod's resolver from this server, or by default from the server that the kubelet configured.
async fn ask(pod: &Pod, name: &str, server: &str) -> Result<String> {
    // The exit status does not distinguish all answers, but the output does.
    pod.place().run("sh", &["-c", &format!("timeout 10 nslookup {name} {server} 2>&1; true")]).await
}

#[tokio::test]
async fn e1_a_service_is_reached_by_its_name() -> Result<()> {
    let cluster = Cluster::running().await?;
    dns(&cluster).await?;
    let scene = cluster.scene("e1-name").await?;
    scene.namespace(NAMESPACE, &[]).await?;
    let labels = json!({"app": "web"});
    scene
        .create(json!({
            "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web", "namespace": NAMESPACE},
            "spec": {"replicas": 2, "selector": {"matchLabels": labels}, "template": {
                "metadata": {"labels": labels},
                "spec": {
                    "terminationGracePeriodSeconds": 0,
                    "containers": [{"name": "peer", "image": IMAGE, "imagePullPolicy": "Never", "args": ["serve"]}],
                },
            }},
        }))
        .await?;
    scene
        .create(json!({
            "apiVersion": "v1", "kind": "Service", "metadata": {"name": "web", "namespace": NAMESPACE},
            "spec": {"selector": labels, "ports": [{"port": 8080}], "ipFamilyPolicy": "RequireDualStack"},
        }))
        .await?;
    cluster.until(Api::namespaced(cluster.client(), NAMESPACE), "web", complete).await?;
    let pods: Api<PodObject> = Api::namespaced(cluster.client(), NAMESPACE);
    let web = pods.list(&ListParams::default().labels("app=web")).await?;
    let web: Vec<_> = web.items.into_iter().filter_map(|pod| pod.metadata.name).collect();

    // No event shows when kube-proxy and CoreDNS know the Service, so the client pods wait for it, each on its node.
    let heard = "curl -4 -sS -m 3 http://web:8080 && curl -6 -sS -m 3 http://web:8080";
    let clients = try_join_all(cluster.nodes().into_iter().map(|node| {
        let name = node.name();
        let client = scene.pod(NAMESPACE, &format!("on-{name}")).on(&name).ready_when(heard);
        client.ready()
    }))
    .await?;
    for client in &clients {
        for name in ["web", "web.e1-name", "web.e1-name.svc.cluster.local"] {
            for family in [4, 6] {
                let who = client.place().tcp_by_name(name, family).await?.who;
                ensure!(web.contains(&who), "{who} answers {} at {name}, none of {web:?}", client.name());
            }
        }
    }
    Ok(())
}

#[tokio::test]
async fn e1_the_dns_is_in_the_network_and_knows_what_is_not_there() -> Result<()> {
    let cluster = Cluster::running().await?;
    let servers = dns(&cluster).await?;
    let pods: Api<PodObject> = Api::namespaced(cluster.client(), "kube-system");
    let found = pods.list(&ListParams::default().labels("k8s-app=kube-dns")).await?.items;
    let ready: Vec<_> = found.iter().filter(|pod| is_ready(pod).is_ok()).collect();
    ensure!(!ready.is_empty(), "no pod of CoreDNS is Ready");
    for pod in ready {
        let ips = pod.status.as_ref().and_then(|status| status.pod_ips.clone()).unwrap_or_default();
        let ips: Vec<_> = ips.iter().map(|ip| ip.ip.as_str()).collect();
        let ours = matches!(ips[..], [four, six] if four.starts_with("10.16.") && six.starts_with("fd00:10:16::"));
        ensure!(ours, "CoreDNS is at {ips:?}, not in the default subnet");
    }

    let scene = cluster.scene("e1-nxdomain").await?;
    scene.namespace("e1-nxdomain", &[]).await?;
    let pod = scene.pod("e1-nxdomain", "asks").on("n1").ready().await?;
    // An empty server selects the default resolver of the pod.
    for server in ["", servers[0].as_str(), servers[1].as_str()] {
        let there = ask(&pod, "kubernetes.default.svc.cluster.local", server).await?;
        ensure!(there.contains("Address: 10.96.0.1\n"), "asking {server:?} for the API server: {there}");
        let lacking = ask(&pod, "nobody.default.svc.cluster.local", server).await?;
        ensure!(lacking.contains("NXDOMAIN"), "asking {server:?} for a Service that is not there: {lacking}");
    }
    Ok(())
}
