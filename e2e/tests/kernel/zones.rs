//! The kernel's connection tracking keeps the same connection apart in the zones of its two ports and in that of the
//! node, which translates it.

use std::collections::BTreeSet;
use std::net::IpAddr;

use anyhow::{Context, Result, ensure};
use e2e::Cluster;
use e2e::bare::{self, Pod};
use e2e::cluster::place::{Answer, HTTP};
use e2e::cluster::{Place, Target, nb};
use e2e::layout::{Node, OUTSIDE};
use serde_json::json;

use crate::stage::{answers, subnet};

/// Returns the connections that the node tracks between these addresses.
async fn tracked(node: Node, from: IpAddr, to: IpAddr) -> Result<Vec<String>> {
    let (from, to) = (from.to_string(), to.to_string());
    let arguments = ["-L", "-p", "tcp", "--src", &from, "--dst", &to];
    let printed = Place::Node(node).run("conntrack", &arguments).await?;
    Ok(printed.lines().map(str::to_owned).collect())
}

/// Sends an HTTP request from a pod.
async fn ask(pod: &Pod, to: IpAddr) -> Result<Answer> {
    let mut answers = pod.place().ask(&[Target::Tcp((to, HTTP).into())]).await?;
    answers.remove(0)
}

/// Returns the zone of a connection. The kernel does not print zone 0.
fn zone(line: &str) -> u16 {
    let zone = line.split_whitespace().find_map(|word| word.strip_prefix("zone="));
    zone.and_then(|zone| zone.parse().ok()).unwrap_or(0)
}

#[tokio::test]
async fn zones_keep_connections_apart() -> Result<()> {
    let cluster = Cluster::running().await?;
    let client = cluster.client();
    bare::namespace(&client, "zones").await?;
    // The rules of a private subnet track connections. Without the last network, they let nothing out.
    let spec = json!({
        "cidrBlock": "10.43.0.0/24,fd00:43::/112", "namespaces": ["zones"], "natOutgoing": true,
        "private": true, "allowSubnets": ["172.30.0.0/24"],
    });
    subnet(&cluster, "zones", spec).await?;
    let one = Pod::new("zones", "zone-one", Node::ONE).plug(&client).await?;
    let two = Pod::new("zones", "zone-two", Node::ONE).plug(&client).await?;
    answers(&two.place()).await?;

    let (from, to, outside): (_, _, IpAddr) = (one.ip(false)?, two.ip(false)?, OUTSIDE.parse()?);
    let bridges = nb::find_local(&Place::Node(Node::ONE), "Bridge", &["name=br-int"]).await?;
    let known = bridges.first().and_then(|bridge| bridge.get("external_ids")).context("br-int")?;
    let of = |pod: &Pod| {
        let zone = known.get(format!("ct-zone-{}.{}", pod.name, pod.namespace));
        zone.and_then(|zone| zone.as_str()?.parse::<u16>().ok()).with_context(|| format!("{} in {known}", pod.name))
    };
    let ports = BTreeSet::from([of(&one)?, of(&two)?]);
    ensure!(ports.len() == 2 && !ports.contains(&0), "the zones of the ports: {known}");

    assert_eq!(ask(&one, to).await?.who, "zone-two");
    let both = tracked(Node::ONE, from, to).await?;
    let zones: BTreeSet<_> = both.iter().map(|line| zone(line)).collect();
    println!("between the pods: zones {zones:?}, of the ports {ports:?}");
    ensure!(zones == ports, "one connection between two pods: {both:#?}");

    // The node masquerades in its own zone. The zone of the port still has the pod's address in both directions.
    assert_eq!(ask(&one, outside).await?.seen.to_string(), Node::ONE.ip4());
    let out = tracked(Node::ONE, from, outside).await?;
    println!("to the outside: {out:#?}");
    let back = |zone_of: u16, address: &str| {
        out.iter().any(|line| zone(line) == zone_of && line.matches(&format!("dst={address} ")).count() == 1)
    };
    ensure!(back(0, &Node::ONE.ip4()) && back(of(&one)?, &from.to_string()), "one connection to the outside: {out:#?}");
    Ok(())
}
