//! The parts put together: who watches what, and when the node counts as ready.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use ipnet::IpNet;
use kit::endpoint::{Endpoint, Readiness};
use tokio::sync::watch;

use crate::args::Args;
use crate::attach::{self, Attacher};
use crate::attachments::Attachments;
use crate::conflist::Install;
use crate::leftovers;
use crate::link::Links;
use crate::masquerade::{self, Masquerade};
use crate::metrics::Metrics;
use crate::node_net::{self, Subnets};
use crate::node_port::NodePort;
use crate::ovs::Ovs;
use crate::rivals::Rivals;
use crate::seen::Cluster;
use crate::socket::{self, Agent};

/// Runs until the process is asked to stop. Fails only when it cannot start: a socket or address that is taken, a
/// kubeconfig that does not parse.
pub async fn run(args: Args) -> anyhow::Result<()> {
    let readiness = Readiness::waiting_for("starting");
    let registry = prometheus::Registry::new();
    let metrics = Metrics::register(&registry, &args.node_name).context("register metrics")?;
    let client = kit::kubernetes::client(args.kubeconfig.as_deref(), &registry).await?;
    let endpoint = Endpoint::bind(args.endpoint(), registry, readiness.clone())
        .await
        .with_context(|| format!("listen on {}", args.endpoint()))?;
    tokio::spawn(endpoint.serve());

    let cluster = Cluster::watch(&client, &args.node_name);
    let ovs = Ovs::connect(&args.ovs_socket);
    let links = Links::here().context("open a netlink socket")?;
    let node_port = NodePort {
        name: args.node_name.clone(),
        ovs: ovs.clone(),
        links: links.clone(),
        node: cluster.node.clone(),
        subnets: cluster.subnets.clone(),
        ifaces: args.iface.clone(),
        network_type: args.network_type,
        mtu: args.mtu,
    };
    let node_port = node_port.spawn().context("listen to netlink")?;
    let services = args.service_cluster_ip_range.iter().map(IpNet::trunc).collect();
    let owners = Owners {
        node_port: node_port.ready,
        rules: keep_rules(cluster.subnets.clone(), services),
        rivals: match args.install() {
            Some(Install { conf_dir, conf_name, .. }) => Rivals { conf_dir, conf_name }.spawn(),
            // Who puts the conflist elsewhere does not say where.
            None => watch::channel(Ok(())).1,
        },
    };

    let attacher = Attacher {
        ovs: ovs.clone(),
        links: links.clone(),
        pods: cluster.pods.clone(),
        subnets: cluster.subnets.clone(),
        mtu: node_port.mtu,
        patience: args.patience(),
        metrics,
        making: Arc::default(),
    };
    let agent = Agent { attachments: Attachments::spawn(attacher), ovs: ovs.clone(), readiness: readiness.clone() };
    tokio::select! {
        stopped = kit::signals::stop_requested() => stopped.context("listen for signals"),
        failed = serve(&args, agent, &links, &cluster) => failed,
        never = ready(&args, cluster.clone(), &ovs, owners, &readiness) => match never {},
    }
}

/// Clears away what an earlier time left, then serves the plugin. Before Open vSwitch is there no ADD could work, and
/// the plugin tells the runtime to try again as long as there is no socket.
async fn serve(args: &Args, agent: Agent, links: &Links, cluster: &Cluster) -> anyhow::Result<()> {
    let path = args.bind_socket.display();
    agent.ovs.bridge().await;
    if let Err(error) = leftovers::delete_orphans(&agent.ovs, links).await {
        tracing::warn!(%error, "host ends without a port were not all deleted");
    }
    let listener = socket::bind(&args.bind_socket).with_context(|| format!("bind {path}"))?;
    let methods = socket::methods(agent.clone()).context("register the agent's methods")?;
    tracing::info!(node = args.node_name, socket = %path, "serving the plugin");
    let pace = leftovers::Pace { recheck: RECHECK, grace: args.patience() + attach::UNPLUG };
    let clear = leftovers::clear(&agent.attachments, &agent.ovs, links, cluster.pods.clone(), pace);
    tokio::join!(socket::serve(listener, methods), clear);
    Ok(())
}

/// What the owners say of their part: whether it is as it should be, or why not.
struct Owners {
    node_port: watch::Receiver<Result<(), String>>,
    rules: watch::Receiver<Result<(), String>>,
    rivals: watch::Receiver<Result<(), String>>,
}

/// Says whether the node is ready, and installs the conflist the first time it can take pods: beside that of another network,
/// too, so that pods get ours as soon as the other one is gone.
async fn ready(
    args: &Args,
    mut cluster: Cluster,
    ovs: &Ovs,
    mut owners: Owners,
    readiness: &Readiness,
) -> std::convert::Infallible {
    readiness.not_ready("the API server has not answered yet");
    cluster.synced().await;
    let mut connected = ovs.connected();
    let mut install = args.install();
    loop {
        let now = if *connected.borrow_and_update() { Ok(()) } else { Err("Open vSwitch is away".to_owned()) }
            .and(owners.node_port.borrow_and_update().clone())
            .and(owners.rules.borrow_and_update().clone());
        let rivals = owners.rivals.borrow_and_update().clone();
        if let Err(why) = now {
            readiness.not_ready(why);
        } else {
            if let Some(files) = &install {
                match files.apply() {
                    Ok(()) => {
                        tracing::info!(dir = %files.conf_dir.display(), "conflist in place: the node takes pods");
                        install = None;
                    }
                    Err(error) => tracing::error!(dir = %files.conf_dir.display(), %error, "conflist not written"),
                }
            }
            match rivals {
                Ok(()) => readiness.ready(),
                Err(why) => readiness.not_ready(why),
            }
        }
        tokio::select! {
            Ok(()) = connected.changed() => {}
            Ok(()) = owners.node_port.changed() => {}
            Ok(()) = owners.rules.changed() => {}
            Ok(()) = owners.rivals.changed() => {}
            () = tokio::time::sleep(RECHECK) => {}
        }
    }
}

/// How often rules and ports are compared with the kernel although nothing that we know of has changed: others write
/// there too, and neither iptables nor a namespace announces anything. Also how soon a file that could not be written is tried again.
const RECHECK: Duration = Duration::from_secs(30);

/// Starts the owner of the masquerade rules: says whether they are in place, or why not.
fn keep_rules(mut subnets: watch::Receiver<Subnets>, services: BTreeSet<IpNet>) -> watch::Receiver<Result<(), String>> {
    let (sender, receiver) = watch::channel(Err("masquerade rules are not written yet".to_owned()));
    tokio::spawn(async move {
        let mut masquerade = Masquerade::default();
        loop {
            let seen = subnets.borrow_and_update().clone();
            if seen.synced {
                let wanted = node_net::masquerade(&seen, &services);
                let result = match masquerade::forward() {
                    Ok(()) => masquerade.apply(&wanted).await.map_err(|error| error.to_string()),
                    Err(error) => Err(format!("turn forwarding on: {error}")),
                };
                match &result {
                    Ok(written) if *written == masquerade::Written::default() => {}
                    Ok(written) => {
                        tracing::info!(sets = written.sets, rules = written.rules, "masquerade rules written");
                    }
                    Err(why) => tracing::error!(why, "masquerade rules not in place"),
                }
                drop(sender.send_replace(result.map(drop)));
            }
            tokio::select! {
                Ok(()) = subnets.changed() => {}
                () = tokio::time::sleep(RECHECK) => {}
            }
        }
    });
    receiver
}
