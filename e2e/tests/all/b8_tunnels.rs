//! B8: Geneve and VXLAN both carry the traffic of pods between nodes, with the MTU that fits, over IPv4 and IPv6, and the type
//! changes on a running cluster. A subnet goes by the network of the nodes that it names.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use api::Subnet;
use e2e::cluster::traffic::Pings;
use e2e::cluster::{Capture, Place, Pod};
use e2e::kube::kubectl;
use e2e::{Cluster, layout, process};
use futures::future::try_join_all;
use k8s_openapi::api::core::v1::Node;
use kube::Api;
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};

/// The time from the edit until all nodes have tunnels of the other type.
const CHANGED: Duration = Duration::from_mins(2);
/// The time from another edit to its effect.
const LIVE: Duration = Duration::from_secs(10);

/// Gives the agents this type of tunnels, as a `helm upgrade` with `tunnel.type` does.
async fn change(to: &str) -> Result<()> {
    let object = ["--namespace", "kube-system", "daemonset/kube-ovn-cni"];
    let output = "jsonpath={.spec.template.spec.containers[0].args}";
    let printed = kubectl(&[&["get"], object.as_slice(), &["--output", output]].concat()).await?;
    let arguments: Vec<String> = serde_json::from_str(&printed)?;
    let at = arguments.iter().position(|argument| argument.starts_with("--network-type=")).context("the flag")?;
    let patch = json!([{
        "op": "replace", "path": format!("/spec/template/spec/containers/0/args/{at}"),
        "value": format!("--network-type={to}"),
    }]);
    kubectl(&[&["patch"], object.as_slice(), &["--type=json", "--patch", &patch.to_string()]].concat()).await?;
    kubectl(&[&["rollout", "status"], object.as_slice(), &["--timeout=180s"]].concat()).await.map(drop)
}

/// Sends the largest packets that the pods' MTU allows, in both families.
async fn carries(from: &Pod, to: &Pod, mtu: u32) -> Result<()> {
    let place = from.place();
    for (address, headers) in [(to.ip4()?, 28), (to.ip6()?, 48)] {
        let size = (mtu - headers).to_string();
        place.run("ping", &["-c", "3", "-i", "0.2", "-W", "2", "-M", "do", "-s", &size, &address]).await?;
    }
    ensure!(place.tcp(&to.ip4()?).await?.who == to.name());
    Ok(())
}

async fn mtu(pod: &Pod) -> Result<u32> {
    let link = pod.place().run("cat", &["/sys/class/net/eth0/mtu"]).await?;
    Ok(link.trim().parse()?)
}

#[tokio::test]
async fn b8_tunnels_of_both_types_carry_the_traffic_of_pods() -> Result<()> {
    let cluster = Cluster::running().await?;
    let scene = cluster.scene("b8").await?;
    scene.namespace("b8", &[]).await?;
    let on = |name: &'static str, node: &'static str| scene.pod("b8", name).on(node);
    let (one, two) = tokio::try_join!(on("one", "n1").ready(), on("two", "n2").ready())?;
    let geneve = mtu(&one).await?;
    carries(&one, &two, geneve).await?;

    let outcome = async {
        change("vxlan").await?;
        // Running pods keep their MTU.
        process::until(CHANGED, || carries(&one, &two, geneve)).await?;
        let nodes: Vec<Place> = cluster.nodes().into_iter().map(Place::Node).collect();
        let tunnels = try_join_all(
            nodes.iter().map(|node| node.run("ovs-vsctl", &["--bare", "--columns=type", "list", "interface"])),
        )
        .await?;
        ensure!(tunnels.iter().all(|types| types.contains("vxlan") && !types.contains("geneve")), "{tunnels:?}");
        let (three, four) = tokio::try_join!(on("three", "n1").ready(), on("four", "n2").ready())?;
        let vxlan = mtu(&three).await?;
        ensure!(vxlan == geneve + 50, "the MTU is {vxlan} with VXLAN and {geneve} with Geneve");
        carries(&three, &four, vxlan).await?;
        carries(&four, &one, geneve).await
    };
    let outcome = Box::pin(outcome).await;
    change("geneve").await?;
    process::until(CHANGED, || carries(&two, &one, geneve)).await?;
    outcome
}

/// The network of the nodes for some subnets. Its addresses are on `br-phy`, beside those of all tunnels.
const STORAGE: &str = "172.31.9";
const NODE_NETWORKS: &str = "ovn.kubernetes.io/node_networks";

async fn annotate(node: &str, annotations: Value) -> Result<()> {
    let nodes: Api<Node> = Api::all(Cluster::running().await?.client());
    let patch = Patch::Merge(json!({ "metadata": { "annotations": annotations } }));
    nodes.patch(node, &PatchParams::default(), &patch).await.map(drop).with_context(|| format!("annotate {node}"))
}

/// Adds or deletes an address of `br-phy` of each node.
async fn addresses(cluster: &Cluster, action: &str, net: &str) -> Result<()> {
    for (at, node) in cluster.nodes().into_iter().enumerate() {
        let address = net.replace('N', &(at + 1).to_string());
        Place::Node(node).run("ip", &["address", action, &address, "dev", "br-phy", "nodad"]).await?;
    }
    Ok(())
}

/// Returns how many of the packets between two pods cross the network for storage, of three echoes in both directions.
async fn by_storage(from: &Pod, to: &Pod) -> Result<usize> {
    let node = layout::Node::named("n1").context("n1")?;
    let filter = format!("udp port 6081 and host {STORAGE}.1 and host {STORAGE}.2");
    let capture = Capture::start(node, "eth1", &filter).await?;
    from.place().run("ping", &["-c", "3", "-i", "0.2", "-W", "2", &to.ip4()?]).await?;
    Ok(capture.packets().await?.iter().filter(|line| line.contains("ICMP echo")).count())
}

#[tokio::test]
async fn b8_a_subnet_goes_by_the_network_that_it_names() -> Result<()> {
    const SUBNET: &str = "b8-storage";
    let cluster = Cluster::running().await?;
    let scene = cluster.scene("b8-storage").await?;
    scene.subnet(SUBNET, "10.90.0.0/24").await?;
    scene.namespace("b8-plain", &[]).await?;
    let on = |namespace: &'static str, name: &'static str, node: &'static str| scene.pod(namespace, name).on(node);
    let (one, two, plain, far) = tokio::try_join!(
        on(SUBNET, "one", "n1").ready(),
        on(SUBNET, "two", "n2").ready(),
        on("b8-plain", "plain", "n1").ready(),
        on("b8-plain", "far", "n2").ready()
    )?;
    let subnets: Api<Subnet> = Api::all(cluster.client());
    let names = async |network: Value| {
        let patch = Patch::Merge(json!({ "spec": { "nodeNetwork": network } }));
        subnets.patch(SUBNET, &PatchParams::default(), &patch).await.map(drop).context("the subnet's network")
    };
    let goes = |all: bool| {
        let (one, two) = (&one, &two);
        async move {
            let crossed = by_storage(one, two).await?;
            ensure!(crossed == if all { 6 } else { 0 }, "{crossed} of 6 packets crossed the network for storage");
            Ok(())
        }
    };

    addresses(&cluster, "add", &format!("{STORAGE}.N/24")).await?;
    let outcome = async {
        for node in ["n1", "n2"] {
            let address = format!("{STORAGE}.{}", &node[1..]);
            annotate(node, json!({ NODE_NETWORKS: json!({ "storage": address }).to_string() })).await?;
        }
        process::until(LIVE, || goes(false)).await?;
        // Pods that run.
        names(json!("storage")).await?;
        process::until(LIVE, || goes(true)).await?;
        let apart = || async {
            ensure!(by_storage(&plain, &far).await? == 0, "another subnet goes by the network for storage");
            Ok(())
        };
        process::until(LIVE, apart).await?;
        // New pods.
        let (three, four) = tokio::try_join!(on(SUBNET, "three", "n1").ready(), on(SUBNET, "four", "n2").ready())?;
        let crossed = || async {
            ensure!(by_storage(&three, &four).await? == 6, "new pods do not go by the network for storage");
            Ok(())
        };
        process::until(LIVE, crossed).await?;
        one.place().run("ping", &["-c", "2", "-i", "0.2", "-W", "2", &far.ip4()?]).await?;

        // What cannot be read changes nothing.
        annotate("n1", json!({ NODE_NETWORKS: "storage" })).await?;
        let fields = "involvedObject.name=n1,reason=UnreadableAnnotation";
        cluster.told("default", fields, &["node n1: annotation ovn.kubernetes.io/node_networks"]).await?;
        process::until(LIVE, || goes(true)).await?;
        names(Value::Null).await?;
        process::until(LIVE, || goes(false)).await
    };
    let outcome = Box::pin(outcome).await;
    for node in ["n1", "n2"] {
        annotate(node, json!({ NODE_NETWORKS: null })).await?;
    }
    addresses(&cluster, "del", &format!("{STORAGE}.N/24")).await?;
    outcome?;
    process::until(LIVE, || goes(false)).await
}

#[tokio::test]
async fn b8_tunnels_go_over_ipv6_when_nodes_have_nothing_else_there() -> Result<()> {
    let cluster = Cluster::running().await?;
    let scene = cluster.scene("b8-six").await?;
    scene.namespace("b8-six", &[]).await?;
    let on = |name: &'static str, node: &'static str| scene.pod("b8-six", name).on(node);
    let (one, two) = tokio::try_join!(on("one", "n1").ready(), on("two", "n2").ready())?;
    let before = mtu(&one).await?;
    let outcome = async {
        addresses(&cluster, "add", "fd00:31::N/64").await?;
        addresses(&cluster, "del", "172.31.0.N/24").await?;
        process::until(LIVE, || carries(&one, &two, before)).await?;
        let tunnels =
            cluster.node("n1")?.run("ovs-vsctl", &["--bare", "--columns=options", "list", "interface"]).await?;
        ensure!(tunnels.contains("remote_ip=fd00:31::2") && !tunnels.contains("172.31.0."), "{tunnels}");
        let (three, four) = tokio::try_join!(on("three", "n1").ready(), on("four", "n2").ready())?;
        let now = mtu(&three).await?;
        ensure!(now == before - 20, "the MTU is {now} over IPv6 and {before} over IPv4");
        carries(&three, &four, now).await
    };
    let outcome = Box::pin(outcome).await;
    addresses(&cluster, "add", "172.31.0.N/24").await?;
    addresses(&cluster, "del", "fd00:31::N/64").await?;
    process::until(LIVE, || carries(&two, &one, before)).await?;
    outcome
}

/// What the annotation does with the kernel's datapath, `e2e/tests/kernel/b8_moves.rs` shows.
#[tokio::test]
async fn b8_the_userspace_datapath_keeps_its_interface() -> Result<()> {
    const ANNOTATION: &str = "ovn.kubernetes.io/tunnel_interface";
    let cluster = Cluster::running().await?;
    let scene = cluster.scene("b8-named").await?;
    scene.namespace("b8-named", &[]).await?;
    let on = |name: &'static str, node: &'static str| scene.pod("b8-named", name).on(node);
    let (one, two) = tokio::try_join!(on("one", "n1").ready(), on("two", "n2").ready())?;
    let outcome = async {
        // An interface that packets of this datapath do not leave by, and one that it has taken over.
        for named in ["eth0", "eth1"] {
            annotate("n1", json!({ ANNOTATION: named })).await?;
            on(named, "n1").ready().await?;
            carries(&one, &two, mtu(&one).await?).await?;
        }
        annotate("n1", json!({ ANNOTATION: "(" })).await?;
        let fields = "involvedObject.name=n1,reason=UnreadableAnnotation";
        cluster.told("default", fields, &["node n1: annotation ovn.kubernetes.io/tunnel_interface"]).await?;
        carries(&one, &two, mtu(&one).await?).await
    };
    let outcome = Box::pin(outcome).await;
    annotate("n1", json!({ ANNOTATION: null })).await?;
    outcome
}

/// Whenever a link of its node changes, ovs-vswitchd reads the kernel's routes anew. It keeps those that `ovs-ovn` has told it.
#[tokio::test]
async fn b8_tunnels_stay_while_links_of_the_nodes_come_and_go() -> Result<()> {
    const CHANGES: usize = 40;
    let cluster = Cluster::running().await?;
    let scene = cluster.scene("b8-links").await?;
    scene.namespace("b8-links", &[]).await?;
    let on = |name: &'static str, node: &'static str| scene.pod("b8-links", name).on(node);
    let (one, two) = tokio::try_join!(on("one", "n1").ready(), on("two", "n2").ready())?;
    let pings = Pings::start(&one.netns().await?, &two.ip4()?)?;
    for _ in 0..CHANGES {
        for node in ["n1", "n2"] {
            let change = "ip link add passing type veth peer name by && sleep 0.05 && ip link delete passing";
            cluster.node(node)?.run("sh", &["-c", change]).await?;
        }
    }
    let (sent, lost) = pings.stop().await?;
    println!("{} of {sent} pings had no answer while links changed {} times", lost.len(), 4 * CHANGES);
    ensure!(lost.len() * 2 <= CHANGES, "{} of {sent} pings had no answer: {lost:?}", lost.len());
    Ok(())
}

/// The interface of the tunnels is a port of the bridge that has its addresses. Only the bridge answers for them.
#[tokio::test]
async fn b8_the_interface_of_the_tunnels_does_not_answer_for_its_bridge() -> Result<()> {
    let cluster = Cluster::running().await?;
    let (one, two) = (cluster.node("n1")?, cluster.node("n2")?);
    let printed = two.run("ip", &["-brief", "-4", "address", "show", "dev", "br-phy"]).await?;
    let address = printed.split_whitespace().find_map(|word| word.split_once('/')).context("no address")?.0;
    let capture = Capture::start(layout::Node::named("n1").context("no such node")?, "br-phy", "arp").await?;
    let ask = format!("ip neighbour flush dev br-phy; ping -c 1 -W 2 {address}; sleep 0.5");
    one.run("sh", &["-c", &ask]).await?;
    let packets = capture.packets().await?;
    let answers: Vec<_> = packets.iter().filter(|line| line.contains(&format!("Reply {address} is-at"))).collect();
    let mac = two.run("cat", &["/sys/class/net/br-phy/address"]).await?;
    ensure!(answers.iter().all(|line| line.contains(mac.trim())) && !answers.is_empty(), "{mac}: {packets:?}");
    Ok(())
}

/// Gives the network of the tunnels another MTU.
async fn underlay(cluster: &Cluster, mtu: u32) -> Result<()> {
    let mtu = mtu.to_string();
    for node in cluster.nodes() {
        process::sh(&format!("ip link set v{}t mtu {mtu}", node.netns())).await?;
        Place::Node(node).run("ip", &["link", "set", "eth1", "mtu", &mtu]).await?;
    }
    Ok(())
}

async fn ovn0_has(cluster: &Cluster, mtu: u32) -> Result<()> {
    for node in cluster.nodes() {
        let now = Place::Node(node).run("cat", &["/sys/class/net/ovn0/mtu"]).await?;
        ensure!(now.trim() == mtu.to_string(), "the MTU of ovn0 of {} is {now}", node.name());
    }
    Ok(())
}

#[tokio::test]
async fn b8_pods_get_what_a_network_with_jumbo_frames_leaves() -> Result<()> {
    let cluster = Cluster::running().await?;
    let scene = cluster.scene("b8-jumbo").await?;
    scene.namespace("b8-jumbo", &[]).await?;
    let on = |name: &'static str, node: &'static str| scene.pod("b8-jumbo", name).on(node);
    let before = mtu(&on("before", "n1").ready().await?).await?;
    let outcome = async {
        underlay(&cluster, 9000).await?;
        process::until(LIVE, || ovn0_has(&cluster, before + 7500)).await?;
        let (one, two) = tokio::try_join!(on("one", "n1").ready(), on("two", "n2").ready())?;
        ensure!(mtu(&one).await? == before + 7500, "the MTU of a pod is {}", mtu(&one).await?);
        carries(&one, &two, before + 7500).await
    };
    let outcome = Box::pin(outcome).await;
    underlay(&cluster, 1500).await?;
    outcome?;
    process::until(LIVE, || ovn0_has(&cluster, before)).await
}
