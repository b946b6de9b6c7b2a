//! Random edits of subnets, namespaces, pods and nodes, while agents and controllers are killed. Afterwards every pod
//! reaches what it should, with the source that its subnet says, is mirrored and limited as its annotations say, and each
//! node is as a new agent would make it. `KUBE_OVN_SEED` repeats a run; `KUBE_OVN_SECONDS` is its length.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use api::Subnet;
use e2e::cluster::{Place, Pod, Scene, nb, subnet_ready};
use e2e::layout::{Node, OUTSIDE};
use e2e::part::Part;
use e2e::random::Random;
use e2e::{Cluster, process};
use k8s_openapi::api::core::v1::Node as NodeObject;
use kube::Api;
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};

/// The subnets, each with the namespace of the same name.
const SUBNETS: [&str; 2] = ["b9-a", "b9-b"];
const NODES: [&str; 2] = ["n1", "n2"];
const MIRROR: &str = "ovn.kubernetes.io/mirror";
const RATE: &str = "ovn.kubernetes.io/ingress_rate";
/// The time after the last edit in which everything is in force. A container that was killed starts after a while.
const SETTLED: Duration = Duration::from_mins(1);

/// What was asked for last.
struct Asked {
    pods: BTreeMap<String, Pod>,
    /// By subnet: whether its traffic is translated, and its gateway node if it is centralized.
    nat: BTreeMap<&'static str, (bool, Option<&'static str>)>,
    /// By pod.
    mirrored: BTreeMap<String, bool>,
    limited: BTreeMap<String, bool>,
    /// By node.
    all_mirrored: BTreeMap<&'static str, bool>,
    next: u32,
    done: Vec<String>,
}

/// Makes a random change.
async fn change(cluster: &Cluster, scene: &Scene, random: &mut Random, asked: &mut Asked) -> Result<()> {
    let subnet = *random.one_of(&SUBNETS);
    let node = *random.one_of(&NODES);
    let some = random.one_of(&asked.pods.keys().cloned().collect::<Vec<_>>()).clone();
    let yes = random.below(2) == 0;
    let what = match random.below(8) {
        0 if asked.pods.len() < 8 => {
            let name = format!("p{}", asked.next);
            asked.next += 1;
            let pod = scene.pod(subnet, &name).on(node).create().await?;
            asked.pods.insert(name.clone(), pod);
            format!("{name} in {subnet} on {node}")
        }
        1 if asked.pods.len() > 3 => {
            let pod = asked.pods.remove(&some).context("it is there")?;
            pod.delete().await?;
            asked.mirrored.remove(&some);
            asked.limited.remove(&some);
            format!("{some} goes")
        }
        2 => {
            let value = *random.one_of(&[Some("true"), Some("false"), None]);
            asked.pods[&some].annotate(json!({ MIRROR: value })).await?;
            asked.mirrored.insert(some.clone(), value == Some("true"));
            format!("{some} mirror {value:?}")
        }
        3 => {
            let value = *random.one_of(&[Some("10"), Some("50"), Some("0"), None]);
            asked.pods[&some].annotate(json!({ RATE: value })).await?;
            asked.limited.insert(some.clone(), matches!(value, Some("10" | "50")));
            format!("{some} rate {value:?}")
        }
        4 => {
            let nodes: Api<NodeObject> = Api::all(cluster.client());
            let value = if yes { json!("true") } else { json!(null) };
            let patch = Patch::Merge(json!({ "metadata": { "annotations": { MIRROR: value } } }));
            nodes.patch(node, &PatchParams::default(), &patch).await?;
            asked.all_mirrored.insert(node, yes);
            format!("{node} mirror {value}")
        }
        5 => {
            // A leader that was killed a moment ago has no successor before its Lease ends.
            let part = if yes {
                Part::Agent(Node::named(node).context("a node")?)
            } else {
                process::until(SETTLED, Part::leader).await?
            };
            part.revive().await?;
            format!("{} was killed", part.name())
        }
        _ => {
            let now = asked.nat.get_mut(subnet).context("a subnet")?;
            let spec = if random.below(2) == 0 {
                now.0 = yes;
                json!({ "natOutgoing": yes })
            } else {
                now.1 = yes.then_some(node);
                json!({ "gatewayType": if yes { "centralized" } else { "distributed" }, "gatewayNode": now.1 })
            };
            let subnets: Api<Subnet> = Api::all(cluster.client());
            subnets.patch(subnet, &PatchParams::default(), &Patch::Merge(json!({ "spec": spec }))).await?;
            format!("{subnet} {spec}")
        }
    };
    asked.done.push(what);
    Ok(())
}

/// Checks that a pod reaches the others and the host outside, which sees the right source.
async fn reaches(pod: &Pod, asked: &Asked) -> Result<()> {
    let place = pod.place();
    for other in asked.pods.values().filter(|other| other.name() != pod.name()) {
        let answer = place.tcp(&other.clone().ready().await?.ip4()?).await?;
        ensure!(answer.who == other.name(), "{} is {}", other.name(), answer.who);
    }
    let (nat, gateway) = asked.nat[pod.namespace()];
    if nat {
        let by = gateway.or(pod.node()).and_then(Node::named).context("a node")?;
        let seen = place.tcp(OUTSIDE).await?.seen.to_string();
        ensure!(seen == by.ip4(), "{} is seen as {seen} instead of {}", pod.name(), by.ip4());
    }
    Ok(())
}

/// Checks that the ports of pods are mirrored, and limited in the northbound database, as was asked for last.
async fn is_as_asked(asked: &Asked) -> Result<()> {
    for node in NODES {
        let place = Place::Node(Node::named(node).context("a node")?);
        let mirrors = nb::find_local(&place, "Mirror", &["name=m0"]).await?;
        let mirror = mirrors.first().with_context(|| format!("{node} has no mirror"))?;
        let selected = |id: &Value| ["select_src_port", "select_dst_port"].map(|column| has(&mirror[column], id));
        let ports: BTreeMap<String, Value> = nb::find_local(&place, "Port", &[])
            .await?
            .into_iter()
            .filter_map(|mut port| Some((port.remove("name")?.as_str()?.to_owned(), port.remove("_uuid")?)))
            .collect();
        for interface in nb::find_local(&place, "Interface", &["external_ids:container_id!=\"\""]).await? {
            let name = interface["external_ids"]["pod_name"].as_str().unwrap_or_default();
            if !asked.pods.contains_key(name) {
                continue;
            }
            let all = asked.all_mirrored.get(node).copied().unwrap_or_default();
            let wanted = all || asked.mirrored.get(name).copied().unwrap_or_default();
            let port = ports.get(interface["name"].as_str().unwrap_or_default()).context("a port")?;
            ensure!(selected(port) == [wanted; 2], "{name} on {node}: mirrored {:?}, not {wanted}", selected(port));
        }
    }
    let rules = nb::find("QoS", &["direction=to-lport"]).await?;
    for (name, pod) in &asked.pods {
        let port = format!("outport == \"{name}.{}\"", pod.namespace());
        let is = rules.iter().any(|rule| rule["match"] == port.as_str());
        let wanted = asked.limited.get(name).copied().unwrap_or_default();
        ensure!(is == wanted, "{name} is limited: {is}, not {wanted}");
    }
    Ok(())
}

fn has(column: &Value, id: &Value) -> bool {
    column == id || column.as_array().is_some_and(|all| all.contains(id))
}

/// Returns all that the agent of a node writes, as text.
async fn written(node: Node) -> Result<Vec<String>> {
    let place = Place::Node(node);
    let mut all = Vec::new();
    for line in [
        "nft --stateless list table ip kube-ovn",
        "nft --stateless list table ip6 kube-ovn",
        "ip route show dev ovn0",
        "ip -6 route show dev ovn0 proto static",
        "ip -brief address show ovn0",
        "ip -brief link show mirror0",
        "ovs-vsctl --columns=select_src_port,select_dst_port,output_port,select_all list mirror",
        "ovs-vsctl --columns=name,interfaces,qos list port",
        "ovs-vsctl --columns=name,type,external_ids list interface",
        "ovs-vsctl get open_vswitch . external_ids",
    ] {
        let mut words = line.split(' ');
        let program = words.next().context("a program")?;
        let printed = place.run(program, &words.collect::<Vec<_>>()).await?;
        // ovs-vsctl lists rows in any order.
        let mut lines: Vec<&str> = printed.lines().collect();
        if program == "ovs-vsctl" {
            lines.sort_unstable();
        }
        all.push(format!("{line}\n{}", lines.join("\n")));
    }
    Ok(all)
}

#[tokio::test]
async fn b9_random_changes_leave_each_node_as_a_new_one() -> Result<()> {
    let mut random = Random::from_environment()?;
    let length = std::env::var("KUBE_OVN_SECONDS").ok().and_then(|text| text.parse().ok()).unwrap_or(120);
    let cluster = Cluster::running().await?;
    let scene = cluster.scene("b9").await?;
    for (subnet, net) in SUBNETS.into_iter().zip([90, 91]) {
        scene.subnet(subnet, &format!("10.{net}.0.0/24,fd00:{net}::/64")).await?;
    }
    let mut asked = Asked {
        pods: BTreeMap::new(),
        nat: SUBNETS.map(|subnet| (subnet, (false, None))).into(),
        mirrored: BTreeMap::new(),
        limited: BTreeMap::new(),
        all_mirrored: BTreeMap::new(),
        next: 3,
        done: Vec::new(),
    };
    for (name, subnet, node) in [("p0", SUBNETS[0], "n1"), ("p1", SUBNETS[1], "n2"), ("p2", SUBNETS[0], "n2")] {
        asked.pods.insert(name.to_owned(), scene.pod(subnet, name).on(node).ready().await?);
    }
    let start = Instant::now();
    let outcome = async {
        while start.elapsed() < Duration::from_secs(length) {
            change(&cluster, &scene, &mut random, &mut asked).await?;
            tokio::time::sleep(Duration::from_millis(random.below(800))).await; // a random pause
        }
        for subnet in SUBNETS {
            cluster.until(Api::<Subnet>::all(cluster.client()), subnet, subnet_ready).await?;
        }
        for pod in asked.pods.values_mut() {
            *pod = pod.clone().ready().await?;
        }
        process::until(SETTLED, || is_as_asked(&asked)).await?;
        for pod in asked.pods.values() {
            process::until(SETTLED, || reaches(pod, &asked)).await.with_context(|| pod.name().to_owned())?;
        }
        for node in NODES.into_iter().filter_map(Node::named) {
            let before = written(node).await?;
            Part::Agent(node).revive().await?;
            let same = || async {
                let now = written(node).await?;
                let other = before.iter().zip(&now).find(|(before, now)| before != now);
                ensure!(other.is_none(), "a new agent on {} changes {other:#?}", node.name());
                Ok(())
            };
            // It begins with what the old one has written, and ends with the same.
            process::until(SETTLED, same).await?;
            tokio::time::sleep(Duration::from_secs(3)).await;
            same().await?;
        }
        Ok(())
    };
    let outcome: Result<()> = Box::pin(outcome).await;
    let nodes: Api<NodeObject> = Api::all(cluster.client());
    for node in NODES {
        let patch = Patch::Merge(json!({ "metadata": { "annotations": { MIRROR: null } } }));
        nodes.patch(node, &PatchParams::default(), &patch).await?;
    }
    println!("{} changes in {length} s", asked.done.len());
    outcome.with_context(|| format!("seed {}: {:#?}", random.seed, asked.done))
}
