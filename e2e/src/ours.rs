//! Our own programs: two replicas of the controller on hosts of their own, an agent on every node, the plugin in
//! `/opt/cni/bin`. They are the ones built beside this binary, so a rebuild and `lab restart` is all it takes to try a change.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use futures::future::try_join_all;

use crate::layout::{CONTROL_PLANE, Node, SERVICES, kubeconfig, sibling, state};
use crate::{kube, net, process};

/// What `e2e/build` builds for the host; the static ones lie in `static`, see [`plugin`].
const DAEMONS: [&str; 2] = ["kube-ovn-controller", "kube-ovn-cni"];

/// Checks that all of it has been built.
pub fn present() -> Result<()> {
    for path in DAEMONS.map(sibling).into_iter().chain([plugin()]) {
        let path = path?;
        ensure!(path.exists(), "{} is missing: run e2e/build", path.display());
    }
    Ok(())
}

fn plugin() -> std::io::Result<PathBuf> {
    sibling("static/kube-ovn")
}

/// CRDs, controllers, agents; a node gets its network a moment after this returns.
pub async fn up(nodes: &[Node]) -> Result<()> {
    // The controllers wait for the CRDs, and the agents for the controllers.
    let crds = concat!(env!("CARGO_MANIFEST_DIR"), "/../yamls/crds");
    kube::kubectl(&["apply", "-f", crds]).await?;
    for replica in 0..net::CONTROLLERS.len() {
        controller(replica)?;
    }
    for node in nodes {
        agent(*node)?;
    }
    Ok(())
}

/// What the controllers' processes are called, in the order of [`net::CONTROLLERS`].
pub fn controllers() -> [String; 2] {
    [1, 2].map(|replica| format!("kube-ovn-controller-{replica}"))
}

/// The network namespace that a replica runs in, and the address at which it answers there: one of the controllers' hosts where
/// the lab runs it, else, in a pod, the node in its place.
pub fn controller_host(replica: usize) -> (String, String) {
    let node = Node::first(2).nth(replica).filter(|_| !state("pid").join(&controllers()[replica]).exists());
    node.map_or_else(
        || (net::CONTROLLERS[replica].0.to_owned(), net::CONTROLLERS[replica].1.to_owned()),
        |node| (node.netns(), node.ip4()),
    )
}

/// Starts one of them; it must not run.
pub fn controller(replica: usize) -> Result<()> {
    let (host, ..) = net::CONTROLLERS.get(replica).context("no such replica")?;
    let name = &controllers()[replica];
    let flags = [
        format!("--kubeconfig={}", kubeconfig().display()),
        format!("--ovn-nb-addr=tcp:{CONTROL_PLANE}:6641"),
        format!("--ovn-sb-addr=tcp:{CONTROL_PLANE}:6642"),
        "--default-cidr=10.16.0.0/16,fd00:10:16::/112".to_owned(),
        "--node-switch-cidr=100.64.0.0/16,fd00:100:64::/112".to_owned(),
        format!("--service-cluster-ip-range={SERVICES}"),
        format!("--pod-name={name}"),
    ];
    let flags: Vec<_> = flags.iter().map(String::as_str).collect();
    process::start(name, process::in_netns(host, sibling(DAEMONS[0])?, &flags))
}

/// Starts the agent of a node, with the plugin that has been built; it must not run.
pub fn agent(node: Node) -> Result<()> {
    let name = node.name();
    let installed = node.dir().join("root/opt/cni/bin/kube-ovn");
    // A running plugin's file cannot be written to, but its name can be taken over.
    let new = installed.with_extension("new");
    fs::copy(plugin()?, &new).with_context(|| new.display().to_string())?;
    fs::rename(&new, &installed)?;
    let flags = [
        format!("--node-name={name}"),
        "--iface=br-phy".to_owned(),
        "--ovs-socket=unix:/run/openvswitch/db.sock".to_owned(),
        "--bind-socket=/run/openvswitch/kube-ovn-daemon.sock".to_owned(),
        format!("--kubeconfig={}", kubeconfig().display()),
        format!("--service-cluster-ip-range={SERVICES}"),
        "--cni-conf-dir=/etc/cni/net.d".to_owned(),
        "--install-cni-config=/opt/cni/bin/kube-ovn".to_owned(),
    ];
    let flags: Vec<_> = flags.iter().map(String::as_str).collect();
    process::start(&format!("kube-ovn-cni-{name}"), process::on(node, sibling(DAEMONS[1])?, &flags)?)
}

/// `lab restart`: ends every `controller` or `agent` and starts what is built now.
pub async fn restart(what: &str) -> Result<()> {
    let grace = Duration::from_secs(10);
    match what {
        "controller" => {
            for (replica, name) in controllers().into_iter().enumerate() {
                process::stop(&state("pid").join(name), grace).await?;
                controller(replica)?;
            }
        }
        "agent" => {
            try_join_all(Node::running().into_iter().map(|node| async move {
                process::stop(&state("pid").join(format!("kube-ovn-cni-{}", node.name())), grace).await?;
                agent(node)
            }))
            .await?;
        }
        other => bail!("there is no {other} to restart; controller or agent"),
    }
    Ok(())
}
