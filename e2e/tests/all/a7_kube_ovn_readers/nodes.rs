//! Nodes: their annotations, `ovn0`, and the addresses by which pods see them.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use e2e::cluster::{Place, nb};
use e2e::{Cluster, central, process};
use k8s_openapi::api::core::v1::{Node, Pod, Service};
use kube::Api;
use serde_json::{Value, json};
use tokio::try_join;

use super::{SOON, object};

const NAME: &str = "a7-nodes";

/// Runs `ip -d -j` on a node.
async fn ip_json(node: &Place, arguments: &[&str]) -> Result<Vec<Value>> {
    let printed = node.run("ip", &[&["-d", "-j"], arguments].concat()).await?;
    Ok(serde_json::from_str(&printed)?)
}

#[tokio::test]
async fn a7_a_node_tells_its_address_and_chassis() -> Result<()> {
    let cluster = Cluster::running().await?;
    let join = object(&cluster, "Subnet", "join").await?;
    let network = |key: &str| join["spec"][key].as_str().unwrap_or_default().to_owned();
    let nodes: Api<Node> = Api::all(cluster.client());
    let mut all = BTreeSet::new();
    for machine in cluster.nodes() {
        let (name, place) = (machine.name(), cluster.node(&machine.name())?);
        let annotations = nodes.get(&name).await?.metadata.annotations.unwrap_or_default();
        let get = |key: &str| annotations.get(&format!("ovn.kubernetes.io/{key}")).cloned().unwrap_or_default();
        for (key, expected) in [
            ("allocated", "true".to_owned()),
            ("cidr", network("cidrBlock")),
            ("gateway", network("gateway")),
            ("logical_switch", "join".to_owned()),
            ("port_name", format!("node-{name}")),
        ] {
            assert_eq!(get(key), expected, "{key} of {name}");
        }
        get("mac_address").parse::<api::Mac>().with_context(|| get("mac_address"))?;
        let groups: Vec<usize> = get("chassis").split('-').map(str::len).collect();
        assert_eq!(groups, [8, 4, 4, 4, 12], "{} is a UUID", get("chassis"));
        let chassis = nb::find_southbound("Chassis", &[&format!("name={}", get("chassis"))]).await?;
        assert_eq!(chassis.first().context("no such chassis")?["hostname"], json!(name));
        ensure!(all.insert(get("chassis")), "two nodes have one chassis");

        let links = ip_json(&place, &["address", "show", "ovn0"]).await?;
        let infos = links.first().and_then(|link| link["addr_info"].as_array()).context("no addresses")?;
        let own = infos.iter().filter(|info| info["scope"] != "link").filter_map(|info| info["local"].as_str());
        let given: BTreeSet<IpAddr> = get("ip_address").split(',').map(str::parse).collect::<Result<_, _>>()?;
        assert_eq!(own.map(str::parse).collect::<Result<BTreeSet<IpAddr>, _>>()?, given, "ovn0 of {name}");
        for info in infos.iter().filter(|info| info["scope"] != "link") {
            let net = format!("/{}", info["prefixlen"]);
            ensure!(network("cidrBlock").split(',').any(|cidr| cidr.ends_with(&net)), "{info}");
        }

        // The route to the join subnet has the address of ovn0, and comes back.
        let connected = async || {
            let routes = ip_json(&place, &["route", "show", "dev", "ovn0"]).await?;
            let to = network("cidrBlock").split(',').next().unwrap_or_default().to_owned();
            let route = routes.into_iter().find(|route| route["dst"] == json!(to)).with_context(|| to.clone())?;
            ensure!(given.iter().any(|ip| route["prefsrc"] == json!(ip.to_string())), "{route}");
            Ok(to)
        };
        let to = connected().await?;
        place.run("ip", &["route", "del", &to, "dev", "ovn0"]).await?;
        process::until(Duration::from_secs(10), connected).await.with_context(|| format!("on {name}"))?;
    }

    // A node's port that somebody deletes comes back.
    central::nbctl(&["lsp-del", "node-n2"]).await?;
    nb::until("Logical_Switch_Port", "node-n2", &["external_ids:node=n2"]).await?;
    central::nbctl(&["--timeout=30", "--wait=hv", "sync"]).await?;
    cluster.node("n2")?.ping("100.64.0.1").await
}

#[tokio::test]
async fn a7_a_node_is_seen_by_its_own_address_directly_and_through_services() -> Result<()> {
    let cluster = Cluster::running().await?;
    let scene = cluster.scene(NAME).await?;
    scene.namespace(NAME, &[]).await?;
    let (one, two) = try_join!(scene.pod(NAME, "one").on("n1").ready(), scene.pod(NAME, "two").on("n2").ready())?;
    let pods: Api<Pod> = Api::namespaced(cluster.client(), NAME);
    let services: Api<Service> = Api::namespaced(cluster.client(), NAME);
    let mut clusters = Vec::new();
    for pod in [&one, &two] {
        // A Service that leads to this pod alone.
        let patch = json!({"metadata": {"labels": {"a7": pod.name()}}});
        pods.patch(pod.name(), &kube::api::PatchParams::default(), &kube::api::Patch::Merge(patch)).await?;
        let spec = json!({
            "selector": {"a7": pod.name()}, "ipFamilyPolicy": "RequireDualStack", "type": "NodePort",
            "ports": [{"port": e2e::cluster::place::HTTP, "protocol": "TCP"}],
        });
        let metadata = json!({"namespace": NAME, "name": pod.name()});
        scene.create(json!({"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": spec})).await?;
        let spec = services.get(pod.name()).await?.spec.unwrap_or_default();
        let port = spec.ports.unwrap_or_default().first().and_then(|port| port.node_port).context("no node port")?;
        clusters.push((pod, spec.cluster_ips.unwrap_or_default(), port));
    }
    for machine in cluster.nodes() {
        // As a pod of the host's network does.
        let node = cluster.node(&machine.name())?;
        for (pod, ips, port) in &clusters {
            ensure!(ips.len() == 2, "{ips:?}");
            for ip in ips {
                let own = if ip.contains(':') { machine.ip6() } else { machine.ip4() };
                // kube-proxy needs a moment for a new Service.
                let answer = process::until(SOON, || node.tcp(ip)).await?;
                assert_eq!((answer.who.as_str(), answer.seen.to_string()), (pod.name(), own), "{ip}");
            }
            let own = machine.ip4();
            let url = format!("http://{own}:{port}/");
            let seen = node.run("curl", &["-sS", "--noproxy", "*", "--max-time", "5", &url]).await?;
            assert_eq!(seen.trim(), format!("{} {own}", pod.name()), "through the node port");
        }
    }
    // From a pod, the node's address is no secret either, and what it only forwards has that of ovn0.
    for (from, (to, ips, _)) in [(&one, &clusters[1]), (&two, &clusters[0]), (&one, &clusters[0])] {
        for ip in ips {
            let answer = from.place().tcp(ip).await?;
            ensure!(answer.who == to.name(), "{ip} is {}", answer.who);
        }
    }
    Ok(())
}
