//! Checks that all records of pods' addresses and ports agree: pods and nodes, IP objects, the northbound database, the
//! Open vSwitch database and links of each node, and the status of the Subnets.
//!
//! One check returns a list of disagreements. [`agree`] waits until the list is empty.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use api::annotations::IP_RESERVED_LABEL;
use api::{Ip, NodeView, Placement, PodView, Subnet};
use kube::Api;
use kube::api::ListParams;
use serde_json::Value;

use crate::cluster::nb::{self, Row};
use crate::cluster::{Cluster, Place};
use crate::layout::Node;

/// The record of a port: its addresses as sorted text, and its MAC address.
type Record = (Vec<String>, String);

/// The time limit. It is longer than the interval of 30 s at which the agents compare their state with the kernel.
const PATIENCE: Duration = Duration::from_secs(75);

/// Waits until all records agree. Returns how long it took. The error lists the remaining disagreements.
pub async fn agree(cluster: &Cluster) -> Result<Duration> {
    let start = Instant::now();
    loop {
        let amiss = read(cluster).await?;
        if amiss.is_empty() {
            return Ok(start.elapsed());
        }
        if start.elapsed() > PATIENCE {
            bail!("{} disagreements after {PATIENCE:?}:\n  {}", amiss.len(), amiss.join("\n  "));
        }
        // Polls, because no single watch shows when five different sources agree.
        tokio::time::sleep(Duration::from_millis(250)).await;
    }
}

/// Returns the current disagreements.
pub async fn read(cluster: &Cluster) -> Result<Vec<String>> {
    let all = ListParams::default();
    let pods = Api::<PodView>::all(cluster.client()).list(&all).await?.items;
    let pods: Vec<PodView> = pods.into_iter().filter(|p| p.wants_network() && !p.is_done()).collect();
    let nodes = Api::<NodeView>::all(cluster.client()).list(&all).await?.items;
    let ips = Api::<Ip>::all(cluster.client()).list(&all).await?.items;
    let subnets = Api::<Subnet>::all(cluster.client()).list(&all).await?.items;
    let mut amiss = Vec::new();

    let placed = pods.iter().filter(|pod| pod.node_name().is_some());
    let placed = placed.map(|pod| (pod.port_name(), Placement::of_pod(pod)));
    let mut wanted: BTreeMap<String, Record> = BTreeMap::new();
    for (name, place) in placed.chain(nodes.iter().map(|node| (node.port_name(), Placement::of_node(node)))) {
        match place {
            Ok(Some(Placement { ips, mac, .. })) => {
                wanted.insert(name, (split(&ips.to_string(), ','), mac.to_string()));
            }
            Ok(None) => amiss.push(format!("{name} has no address by its annotations")),
            Err(error) => amiss.push(error.to_string()),
        }
    }
    // An address that is reserved for a pod of a StatefulSet has only its IP object.
    let kept = |ip: &&Ip| {
        let label = ip.metadata.labels.as_ref().and_then(|labels| labels.get(IP_RESERVED_LABEL));
        label.is_some_and(|value| value == "true")
    };
    let records = ips.iter().filter(|ip| !kept(ip)).map(|ip| {
        let record = (split(&ip.spec.ip_address, ','), ip.spec.mac_address.to_lowercase());
        (ip.metadata.name.clone().unwrap_or_default(), record)
    });
    compare("IP object", &wanted, &records.collect(), &mut amiss);
    compare("logical switch port", &wanted, &logical_ports().await?, &mut amiss);

    let mut holders: BTreeMap<&str, &str> = BTreeMap::new();
    for (name, (addresses, _)) in &wanted {
        for address in addresses {
            if let Some(other) = holders.insert(address, name) {
                amiss.push(format!("{address} is both {other}'s and {name}'s"));
            }
        }
    }
    for node in cluster.nodes() {
        on_node(node, &pods, &mut amiss).await?;
    }
    for subnet in &subnets {
        counted(subnet, &ips, &mut amiss);
    }
    Ok(amiss)
}

fn split(text: &str, separator: char) -> Vec<String> {
    let mut parts: Vec<String> = text.split(separator).filter(|part| !part.is_empty()).map(str::to_owned).collect();
    parts.sort();
    parts
}

fn compare(what: &str, wanted: &BTreeMap<String, Record>, found: &BTreeMap<String, Record>, amiss: &mut Vec<String>) {
    for (name, record) in wanted {
        match found.get(name) {
            None => amiss.push(format!("{name} has no {what}")),
            Some(other) if other != record => amiss.push(format!("{name}: annotated {record:?}, its {what} {other:?}")),
            Some(_) => {}
        }
    }
    let left = found.iter().filter(|(name, _)| !wanted.contains_key(*name));
    amiss.extend(left.map(|(name, record)| format!("{what} {name} {record:?} has neither pod nor node")));
}

/// Returns our ports of pods and nodes.
async fn logical_ports() -> Result<BTreeMap<String, Record>> {
    let rows = nb::find("Logical_Switch_Port", &["external_ids:vendor=kube-ovn"]).await?;
    let ports = rows.iter().filter(|row| row.get("type").is_none_or(|kind| kind == ""));
    ports
        .map(|row| {
            let addresses = text(row, "addresses");
            let (mac, ips) = addresses.split_once(' ').unwrap_or((&addresses, ""));
            Ok((text(row, "name"), (split(ips, ' '), mac.to_lowercase())))
        })
        .collect()
}

fn text(row: &Row, column: &str) -> String {
    row.get(column).and_then(Value::as_str).unwrap_or_default().to_owned()
}

/// Checks that each pod on the node has exactly one interface and link, and that there are no others.
async fn on_node(node: Node, pods: &[PodView], amiss: &mut Vec<String>) -> Result<()> {
    let (place, on) = (Place::Node(node), node.name());
    let here = pods.iter().filter(|pod| pod.node_name() == Some(&on));
    let mut expected: BTreeMap<String, &str> = here.map(|pod| (pod.port_name(), pod.uid())).collect();
    let mut devices = BTreeSet::new();
    for row in nb::find_local(&place, "Interface", &["external_ids:vendor=kube-ovn"]).await? {
        let device = text(&row, "name");
        let ids = row.get("external_ids").and_then(Value::as_object).context("external_ids is a map")?;
        let (port, uid) = (text(ids, "iface-id"), text(ids, "pod_uid"));
        if text(ids, "container_id").is_empty() {
            continue; // the node's own interface
        }
        match expected.remove(&port) {
            Some(of) if of == uid => {}
            Some(of) => amiss.push(format!("{on}: interface {device} of {port} is for uid {uid}, not {of}")),
            None => amiss.push(format!("{on}: interface {device} of {port} has no pod, or the pod has another one")),
        }
        devices.insert(device);
    }
    amiss.extend(expected.keys().map(|port| format!("{on}: {port} has no interface")));
    let printed = place.run("ip", &["-o", "link", "show", "type", "veth"]).await?;
    let links = printed.lines().filter_map(|line| line.split_whitespace().nth(1)?.split(['@', ':']).next());
    let links: BTreeSet<String> = links.filter(|name| name.ends_with("_h")).map(str::to_owned).collect();
    amiss.extend(links.difference(&devices).map(|link| format!("{on}: link {link} has no interface")));
    amiss.extend(devices.difference(&links).map(|device| format!("{on}: interface {device} has no link")));
    Ok(())
}

/// Checks that the Subnet's status contains exactly the addresses of its IP objects, of both families.
fn counted(subnet: &Subnet, ips: &[Ip], amiss: &mut Vec<String>) {
    let name = subnet.metadata.name.as_deref().unwrap_or_default();
    let status = subnet.status.clone().unwrap_or_default();
    let of_subnet = || ips.iter().filter(|ip| ip.spec.subnet == name);
    let held = |address: fn(&Ip) -> &str| of_subnet().filter_map(move |ip| address(ip).parse().ok()).collect();
    let (v4, v6) = (held(|ip| &ip.spec.v4_ip_address), held(|ip| &ip.spec.v6_ip_address));
    compare_counts(name, &v4, &status.v4_using_ip_range, status.v4_using_ips, amiss);
    compare_counts(name, &v6, &status.v6_using_ip_range, status.v6_using_ips, amiss);
}

fn compare_counts(name: &str, held: &BTreeSet<IpAddr>, ranges: &str, using: f64, amiss: &mut Vec<String>) {
    let told = expand(ranges);
    if told.as_ref() != Some(held) {
        let told = told.unwrap_or_default();
        let (more, less): (Vec<_>, Vec<_>) = (told.difference(held).collect(), held.difference(&told).collect());
        amiss.push(format!("subnet {name}: in use by its status alone {more:?}, by IP objects alone {less:?}"));
    }
    let count = held.len().to_string();
    if using.to_string() != count {
        amiss.push(format!("subnet {name} counts {using} addresses in use, and there are {count}"));
    }
}

/// Expands `a-b,c` to single addresses.
fn expand(ranges: &str) -> Option<BTreeSet<IpAddr>> {
    let mut all = BTreeSet::new();
    for range in ranges.split(',').filter(|range| !range.is_empty()) {
        let (start, end) = range.split_once('-').unwrap_or((range, range));
        match (start.parse().ok()?, end.parse().ok()?) {
            (IpAddr::V4(start), IpAddr::V4(end)) => {
                all.extend((u32::from(start)..=u32::from(end)).map(|bits| IpAddr::V4(bits.into())));
            }
            (IpAddr::V6(start), IpAddr::V6(end)) => {
                all.extend((u128::from(start)..=u128::from(end)).map(|bits| IpAddr::V6(bits.into())));
            }
            _ => return None,
        }
    }
    Some(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_expanded() {
        let addresses = |texts: &[&str]| Some(texts.iter().map(|t| t.parse().unwrap()).collect::<BTreeSet<IpAddr>>());
        assert_eq!(expand(""), addresses(&[]));
        assert_eq!(expand("10.0.0.2-10.0.0.4,10.0.0.9"), addresses(&["10.0.0.2", "10.0.0.3", "10.0.0.4", "10.0.0.9"]));
        assert_eq!(expand("fd00::9-fd00::a"), addresses(&["fd00::9", "fd00::a"]));
        assert_eq!(expand("nonsense"), None);
    }

    #[test]
    fn every_disagreement_is_named() {
        let record = |ip: &str| (vec![ip.to_owned()], "mac".to_owned());
        let wanted = [("same", "1"), ("other", "2"), ("missing", "3")].map(|(n, ip)| (n.to_owned(), record(ip))).into();
        let found = [("same", "1"), ("other", "4"), ("left", "5")].map(|(n, ip)| (n.to_owned(), record(ip))).into();
        let mut amiss = Vec::new();
        compare("IP object", &wanted, &found, &mut amiss);
        assert_eq!(
            amiss,
            [
                "missing has no IP object",
                r#"other: annotated (["2"], "mac"), its IP object (["4"], "mac")"#,
                r#"IP object left (["5"], "mac") has neither pod nor node"#
            ]
        );
    }
}
