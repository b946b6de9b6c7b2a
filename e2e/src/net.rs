//! The links of the lab: two bridges on the host, two veth pairs for each node, and a network namespace that acts as a
//! host outside of the cluster. Every name begins with `lab` or `vlab`, so `down` finds them without a record.

use anyhow::Result;

use crate::layout::{
    BRIDGE, CONTROL_PLANE, CONTROL_PLANE_6, MAX_NODES, Node, OUTSIDE, OUTSIDE_6, OUTSIDE_NETNS, TUNNEL_BRIDGE, sibling,
};
use crate::process::{run, sh};

/// Creates the bridges, the host's addresses, and the outside host.
pub async fn up() -> Result<()> {
    for bridge in [BRIDGE, TUNNEL_BRIDGE] {
        // Disable multicast snooping: a snooping bridge drops the first neighbor solicitations.
        sh(&format!("ip link add {bridge} type bridge mcast_snooping 0")).await?;
        sh(&format!("ip link set {bridge} up")).await?;
    }
    sh(&format!("ip address add {CONTROL_PLANE}/24 dev {BRIDGE}")).await?;
    sh(&format!("ip address add {CONTROL_PLANE_6}/64 dev {BRIDGE} nodad")).await?;
    namespace(OUTSIDE_NETNS).await?;
    cable(OUTSIDE_NETNS, "eth0", &format!("v{OUTSIDE_NETNS}"), BRIDGE, &[OUTSIDE, OUTSIDE_6]).await
}

/// Creates the node's network namespace with `eth0` on the node network, and `eth1` without an address for tunnels.
pub async fn plug(node: Node) -> Result<()> {
    let netns = node.netns();
    namespace(&netns).await?;
    cable(&netns, "eth0", &format!("v{netns}"), BRIDGE, &[&node.ip4(), &node.ip6()]).await?;
    for (family, via) in [("-4", CONTROL_PLANE), ("-6", CONTROL_PLANE_6)] {
        sh(&format!("ip {family} -n {netns} route add default via {via}")).await?;
    }
    cable(&netns, "eth1", &format!("v{netns}t"), TUNNEL_BRIDGE, &[]).await
}

/// Removes the node's veth pairs and its network namespace.
pub async fn unplug(node: Node) -> Result<()> {
    let netns = node.netns();
    sh(&format!("ip netns delete {netns}")).await?;
    for cable in [format!("v{netns}"), format!("v{netns}t")] {
        // The kernel also removes them with the namespace, but later.
        let gone = sh(&format!("ip link delete {cable}")).await;
        if std::path::Path::new("/sys/class/net").join(&cable).exists() {
            gone?;
        }
    }
    Ok(())
}

/// Sets both cables of a node to `up` or `down`, while they stay in their places.
pub async fn cables(node: Node, state: &str) -> Result<()> {
    for cable in [format!("v{}", node.netns()), format!("v{}t", node.netns())] {
        sh(&format!("ip link set {cable} {state}")).await?;
    }
    Ok(())
}

/// Moves this thread to a network namespace. What it opens stays there.
pub fn enter(netns: &std::path::Path) -> std::io::Result<()> {
    Ok(nix::sched::setns(std::fs::File::open(netns)?, nix::sched::CloneFlags::CLONE_NEWNET)?)
}

/// Removes all links and namespaces. Missing ones are not an error.
pub async fn down() -> Vec<anyhow::Error> {
    let mut lines = Vec::new();
    let nodes = Node::first(MAX_NODES).map(Node::netns);
    for netns in nodes.chain([OUTSIDE_NETNS.to_owned()]) {
        if std::path::Path::new("/run/netns").join(&netns).exists() {
            lines.push(format!("ip netns delete {netns}"));
        }
    }
    let mut errors = Vec::new();
    for line in lines {
        errors.extend(sh(&line).await.err());
    }
    // `ip` mounts this directory for its first namespace. The mount stays in use while other namespaces exist.
    if std::fs::read_dir("/run/netns").is_ok_and(|mut d| d.next().is_none()) {
        let _ = nix::mount::umount("/run/netns");
    }
    // The kernel removes a namespace and its links some time after its last process exits. Remove the links now.
    let devices: Vec<_> = std::fs::read_dir("/sys/class/net").into_iter().flatten().flatten().collect();
    for device in devices {
        let name = device.file_name().to_string_lossy().into_owned();
        if [BRIDGE, TUNNEL_BRIDGE].contains(&name.as_str()) || name.starts_with("vlab") {
            let gone = sh(&format!("ip link delete {name}")).await;
            errors.extend(gone.err().filter(|_| device.path().exists()));
        }
    }
    errors
}

async fn namespace(name: &str) -> Result<()> {
    sh(&format!("ip netns add {name}")).await?;
    sh(&format!("ip -n {name} link set lo up")).await.map(drop)
}

async fn cable(netns: &str, inside: &str, outside: &str, bridge: &str, addresses: &[&str]) -> Result<()> {
    sh(&format!("ip link add {outside} type veth peer name {inside} netns {netns}")).await?;
    sh(&format!("ip link set {outside} master {bridge} up")).await?;
    for address in addresses {
        let (length, nodad) = if address.contains(':') { (64, "nodad") } else { (24, "") };
        sh(&format!("ip -n {netns} address add {address}/{length} dev {inside} {nodad}")).await?;
    }
    sh(&format!("ip -n {netns} link set {inside} up")).await.map(drop)
}

/// Starts `lab-peer serve` on the outside host.
pub fn outside() -> Result<()> {
    let peer = sibling("static/lab-peer")?;
    crate::process::start(OUTSIDE_NETNS, crate::process::in_netns(OUTSIDE_NETNS, peer, &["serve", "outside"]))
}

/// Runs `program` in a network namespace that acts as a host, for example [`OUTSIDE_NETNS`], and waits for it.
pub async fn on_host(netns: &str, program: &str, arguments: &[&str]) -> Result<String> {
    run(crate::process::in_netns(netns, program, arguments)).await
}
