//! Starts all parts.

mod readiness;
mod service;

use std::sync::Arc;

use anyhow::Context;
use keys::Keys;
use kit::endpoint::{self, Endpoint};
use links::Links;
use tokio::sync::watch;

use crate::args::Args;
use crate::attach::{Attacher, Defaults};
use crate::attachments::Attachments;
use crate::chassis_key;
use crate::check;
use crate::conflist::Install;
use crate::databases::{self, Databases};
use crate::metrics::Metrics;
use crate::mirror::{Chosen, Mirror};
use crate::node_net::{self, Own};
use crate::node_port::NodePort;
use crate::ovs::Ovs;
use crate::own_networks;
use crate::reach::{self, Reach};
use crate::rivals::Rivals;
use crate::rules;
use crate::seen::Cluster;
use crate::socket::Agent;
use crate::southbound::{self, Servers};
use readiness::Owners;

/// Runs until the process is asked to stop. Fails only if it cannot start, for example because an address is in use or
/// the kubeconfig is not readable.
pub async fn run(args: Args) -> anyhow::Result<()> {
    let readiness = endpoint::Readiness::waiting_for("starting");
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
    let (answer, reached) = watch::channel(Err(reach::Reason::NotAsked));
    let node_port = NodePort {
        name: args.node_name.clone(),
        ovs: ovs.clone(),
        links: links.clone(),
        node: cluster.node.clone(),
        leases: cluster.leases.clone(),
        served: served.clone(),
        restored: restored.subscribe(),
        reached: reached.clone(),
        tunnels: args.tunnels.clone(),
        keys: Keys::new(args.key_directory.clone()),
        external: false,
    };
    let node_port = node_port.spawn().context("listen to netlink")?;
    let (name, ovn0) = (args.node_name.clone(), node_port.ready);
    tokio::spawn(Reach { name, cluster: cluster.clone(), ovn0, answer }.run());
    let databases = databases::watch(&client, &args.node_name, &args.database_nodes);
    let key = connect(&args, &client, &ovs, &databases);
    let rules = rules::Inputs {
        served,
        sources: node_port.sources,
        databases,
        services: args.service_cluster_ip_range.iter().copied().collect(),
        firewall: args.firewall,
        own: Own { node: args.node_name.clone(), mirror: args.mirror_iface.clone() },
        metrics: metrics.clone(),
    };
    let rules = rules::keep(rules);
    let mirrored = Chosen { all: args.enable_mirror, node: cluster.node.clone(), pods: cluster.pods.clone() };
    let (device, chosen) = (args.mirror_iface.clone(), mirrored.clone());
    let mirror = Mirror { device, ovs: ovs.clone(), links: links.clone(), chosen, rules: rules.clone() };
    // A node whose mirror fails still serves its pods.
    let _mirror = mirror.spawn().context("listen to netlink")?;
    let owners = Owners {
        key,
        node_port: reached,
        rules: rules.clone(),
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
            key_directory: args.key_directory.clone(),
            port: args.endpoint().port(),
        };
        tokio::spawn(check::publish(args, client.clone(), ovs.clone(), metrics.clone()));
    }

    let attacher = Attacher {
        ovs: ovs.clone(),
        links: links.clone(),
        pods: cluster.pods.clone(),
        mirrored,
        leases: cluster.leases.clone(),
        subnets: cluster.subnets.clone(),
        mtu: node_port.mtu,
        rules,
        networks: node_port.networks,
        defaults: Defaults::of(client.clone()),
        patience: args.patience(),
        metrics,
        restored,
        making: Arc::default(),
    };
    let agent =
        Agent { attachments: Attachments::spawn(attacher.clone()), ovs: ovs.clone(), readiness: readiness.clone() };
    let (stop, stopping) = watch::channel(false);
    let stopped = async {
        let asked = kit::signals::stop_requested().await;
        stop.send_replace(true);
        asked.context("listen for signals")
    };
    let serve = async { tokio::try_join!(stopped, service::serve(&args, agent, &attacher, stopping)).map(drop) };
    tokio::select! {
        ended = serve => ended,
        never = readiness::publish(&args, cluster.clone(), &ovs, owners, &readiness) => match never {},
    }
}

/// Tells ovn-controller where the southbound database is, and keeps the key for it. Returns whether there is one, if it is needed.
fn connect(
    args: &Args,
    client: &kube::Client,
    ovs: &Ovs,
    databases: &watch::Receiver<Databases>,
) -> watch::Receiver<keys::Readiness> {
    let keys = Keys::new(args.key_directory.clone());
    let key =
        args.needs_key().then(|| chassis_key::keep(client, &args.pod_namespace, &args.node_name, ovs, keys.clone()));
    if key.is_none() {
        tracing::warn!("the southbound database is reached without TLS");
    }
    let servers = Servers::choose(&args.ovn_sb_addr, databases, args.tls);
    tokio::spawn(southbound::keep(ovs.clone(), servers, key.clone().map(|ready| (keys, ready))));
    key.unwrap_or_else(|| watch::channel(Ok(())).1)
}
