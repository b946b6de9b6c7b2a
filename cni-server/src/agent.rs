//! Starts all parts, and decides when the node is ready.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use kit::endpoint::{Endpoint, Readiness};
use links::Links;
use tokio::sync::watch;

use crate::args::Args;
use crate::attach::{self, Attacher};
use crate::attachments::Attachments;
use crate::check;
use crate::conflist::{Install, Installation};
use crate::databases;
use crate::leftovers;
use crate::metrics::Metrics;
use crate::node_net;
use crate::node_port::NodePort;
use crate::ovs::Ovs;
use crate::own_networks;
use crate::rivals::Rivals;
use crate::rules;
use crate::seen::Cluster;
use crate::socket::{self, Agent};

/// Runs until the process is asked to stop. Fails only if it cannot start, for example because an address is in use or
/// the kubeconfig is not readable.
pub async fn run(args: Args) -> anyhow::Result<()> {
    let readiness = Readiness::waiting_for("starting");
    let registry = prometheus::Registry::new();
    let metrics = Metrics::register(&registry, &args.node_name).context("register metrics")?;
    let client = kit::kubernetes::client(args.kubeconfig.as_deref(), &registry).await?;
    let endpoint = Endpoint::bind(args.endpoint(), registry, readiness.clone())
        .await
        .with_context(|| format!("listen on {}", args.endpoint()))?;
    tokio::spawn(endpoint.serve());

    let ovs = Ovs::connect(&args.ovs_socket);
    let cluster = Cluster::watch(&client, &args.node_name, ovs.clone());
    let links = Links::here().context("open a netlink socket")?;
    let own = own_networks::watch(links.clone()).context("listen to netlink")?;
    let served = node_net::serve(cluster.subnets.clone(), own);
    let restored = watch::Sender::new(0);
    let node_port = NodePort {
        name: args.node_name.clone(),
        ovs: ovs.clone(),
        links: links.clone(),
        node: cluster.node.clone(),
        leases: cluster.leases.clone(),
        served: served.clone(),
        restored: restored.subscribe(),
        ifaces: args.iface.clone(),
        network_type: args.network_type,
        encap_checksum: args.encap_checksum,
        mtu: args.mtu,
    };
    let node_port = node_port.spawn().context("listen to netlink")?;
    let rules = rules::Inputs {
        served,
        sources: node_port.sources,
        databases: databases::watch(&client, &args.node_name, &args.database_nodes),
        services: args.service_cluster_ip_range.iter().copied().collect(),
        firewall: args.firewall,
        metrics: metrics.clone(),
    };
    let owners = Owners {
        node_port: node_port.ready,
        rules: rules::keep(rules),
        rivals: match args.install() {
            Some(Install { conf_dir, conf_name, .. }) => Rivals { conf_dir, conf_name }.spawn(),
            // The agent installs no conflist, so the folder is not known.
            None => watch::channel(Ok(())).1,
        },
    };

    if let Some(Install { conf_dir, conf_name, .. }) = args.install() {
        let args = check::Args {
            node_name: args.node_name.clone(),
            kubeconfig: None,
            ovs_socket: args.ovs_socket.clone(),
            cni_conf_dir: conf_dir,
            cni_conf_name: conf_name,
            port: args.endpoint().port(),
        };
        tokio::spawn(check::publish(args, client.clone(), ovs.clone(), metrics.clone()));
    }

    let attacher = Attacher {
        ovs: ovs.clone(),
        links: links.clone(),
        pods: cluster.pods.clone(),
        leases: cluster.leases.clone(),
        subnets: cluster.subnets.clone(),
        mtu: node_port.mtu,
        patience: args.patience(),
        metrics,
        restored,
        making: Arc::default(),
    };
    let agent = Agent { attachments: Attachments::spawn(attacher), ovs: ovs.clone(), readiness: readiness.clone() };
    let (stop, stopping) = watch::channel(false);
    let stopped = async {
        let asked = kit::signals::stop_requested().await;
        stop.send_replace(true);
        asked.context("listen for signals")
    };
    let serve = async { tokio::try_join!(stopped, serve(&args, agent, &links, &cluster, stopping)).map(drop) };
    tokio::select! {
        ended = serve => ended,
        never = ready(&args, cluster.clone(), &ovs, owners, &readiness) => match never {},
    }
}

/// Removes what an earlier process left, then serves the plugin, and ends when it is to stop. Without Open vSwitch no ADD
/// can succeed, and as long as there is no socket, the plugin tells the runtime to try again.
async fn serve(
    args: &Args,
    agent: Agent,
    links: &Links,
    cluster: &Cluster,
    mut stop: watch::Receiver<bool>,
) -> anyhow::Result<()> {
    let path = args.bind_socket.display();
    tokio::select! {
        () = agent.ovs.bridge() => {}
        _ = stop.wait_for(|stop| *stop) => return Ok(()),
    }
    if let Err(error) = leftovers::delete_orphans(&agent.ovs, links).await {
        tracing::warn!(%error, "host ends without a port were not all deleted");
    }
    let listener = socket::bind(&args.bind_socket).with_context(|| format!("bind {path}"))?;
    let methods = socket::methods(agent.clone()).context("register the agent's methods")?;
    tracing::info!(node = args.node_name, socket = %path, "serving the plugin");
    let pace = leftovers::Pace { recheck: RECHECK, grace: args.patience() + attach::UNPLUG };
    let clear = leftovers::clear(&agent.attachments, &agent.ovs, links, cluster.pods.clone(), pace);
    tokio::select! {
        () = socket::serve(listener, &args.bind_socket, methods, stop, FINISH) => Ok(()),
        () = clear => Ok(()),
    }
}

/// The time that requests have to end after the agent is asked to stop. It fits into the grace of the pod and of the unit.
const FINISH: Duration = Duration::from_secs(20);

/// Why a node is not ready without its Open vSwitch.
const NO_OVS: &str = "Open vSwitch is away";

/// The state of each owner's part: ready, or why not.
struct Owners {
    node_port: watch::Receiver<Result<(), String>>,
    rules: watch::Receiver<Result<(), String>>,
    rivals: watch::Receiver<Result<(), String>>,
}

/// Publishes whether the node is ready. Installs the conflist when the node is ready for the first time, even beside that
/// of another network, so that pods get our network as soon as the other one is gone. Without the conflist, the node is not
/// ready.
async fn ready(
    args: &Args,
    mut cluster: Cluster,
    ovs: &Ovs,
    mut owners: Owners,
    readiness: &Readiness,
) -> std::convert::Infallible {
    let mut connected = ovs.connected();
    if !*connected.borrow() {
        readiness.not_ready(NO_OVS.to_owned());
        // The sender lives as long as the process.
        let _ = connected.wait_for(|connected| *connected).await;
    }
    cluster.synced(|kind| readiness.not_ready(format!("waiting for the API server to list {kind}"))).await;
    let mut installation = Installation::new(args.install());
    loop {
        let mut now = if *connected.borrow_and_update() { Ok(()) } else { Err(NO_OVS.to_owned()) }
            .and(owners.node_port.borrow_and_update().clone())
            .and(owners.rules.borrow_and_update().clone());
        let rivals = owners.rivals.borrow_and_update().clone();
        if now.is_ok() {
            now = installation.finish().await;
        }
        let recheck = if now.is_ok() { RECHECK } else { INSTALL };
        match now.and(rivals) {
            Ok(()) => readiness.ready(),
            Err(why) => readiness.not_ready(why),
        }
        tokio::select! {
            Ok(()) = connected.changed() => {}
            Ok(()) = owners.node_port.changed() => {}
            Ok(()) = owners.rules.changed() => {}
            Ok(()) = owners.rivals.changed() => {}
            () = tokio::time::sleep(recheck) => {}
        }
    }
}

/// How often ports are compared with the kernel although no change is known: a namespace that is gone is not announced.
const RECHECK: Duration = Duration::from_secs(30);

/// The pause before a file that could not be written is tried again: nobody tells when a disk has room again.
const INSTALL: Duration = Duration::from_secs(5);
