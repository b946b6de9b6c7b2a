//! `kube-ovn-cni external-host`: a machine that is no node joins the pod network.
//!
//! It has the same `ovn0` as a node, with the routes to all subnets, but no pods, no rules and no mirror. It joins while an
//! `ExternalHost` with its name exists. `ovs-ovn` runs beside it, as on a node.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use anyhow::Context;
use clap::Parser;
use keys::Keys;
use kit::endpoint::{self, Readiness};
use links::Links;
use ovsdb::client::Endpoint;
use tokio::sync::watch;

use crate::args::{self, Tunnels};
use crate::chassis_key;
use crate::node_net;
use crate::node_port::NodePort;
use crate::ovs::Ovs;
use crate::own_networks;
use crate::reach::{self, Reach};
use crate::seen::Cluster;
use crate::southbound::{self, Servers};

/// Let this machine, which is no node, join the pod network.
#[derive(Clone, Debug, Parser)]
#[command(name = "kube-ovn-cni external-host", bin_name = "kube-ovn-cni external-host")]
pub struct Args {
    /// Name of the external host. `ovs-ovn` has it as --node-name.
    pub name: String,
    /// Path of the kubeconfig.
    #[arg(long, env = "KUBECONFIG")]
    pub kubeconfig: PathBuf,
    /// Servers of the southbound database for the machine's ovn-controller, comma-separated: `ssl:HOST:PORT`, by the key of the
    /// machine's chassis, or `tcp:HOST:PORT`. Default: what Open vSwitch has (`external_ids:ovn-remote`), with the key that is
    /// there.
    #[arg(long, env = "OVN_SB_ADDR", value_delimiter = ',')]
    pub ovn_sb_addr: Vec<Endpoint>,
    /// The flags of the tunnels.
    #[command(flatten)]
    pub tunnels: Tunnels,
    /// Database of the machine's Open vSwitch: a path or `unix:<path>`.
    #[arg(long, default_value = "/run/openvswitch/db.sock", value_parser = args::ovs_socket)]
    pub ovs_socket: PathBuf,
    /// Directory of the key: `keys` beside the database of the machine's Open vSwitch.
    #[arg(long, default_value = chassis_key::DIRECTORY)]
    pub key_directory: PathBuf,
    /// Namespace of ovn-central.
    #[arg(long, default_value = "kube-system")]
    pub namespace: String,
    /// Address of `/metrics`, `/healthz` and `/readyz`.
    #[arg(long, default_value_t = (Ipv4Addr::LOCALHOST, args::PORT).into())]
    pub metrics_address: SocketAddr,
    /// The log flags.
    #[command(flatten)]
    pub logs: kit::logs::Logs,
}

/// Runs until the process is asked to stop. Fails only if it cannot start. `ovn0` stays when it ends.
pub async fn run(args: Args) -> anyhow::Result<()> {
    let readiness = Readiness::waiting_for("starting");
    let registry = prometheus::Registry::new();
    let client = kit::kubernetes::client(Some(&args.kubeconfig), &registry).await?;
    let endpoint = endpoint::Endpoint::bind(args.metrics_address, registry, readiness.clone())
        .await
        .with_context(|| format!("listen on {}", args.metrics_address))?;
    tokio::spawn(endpoint.serve());

    let ovs = Ovs::connect(&args.ovs_socket);
    let keys = Keys::new(args.key_directory);
    let key = args::has_tls(&args.ovn_sb_addr)
        .then(|| chassis_key::keep(&client, &args.namespace, &args.name, &ovs, keys.clone()));
    let kept = key.clone().map(|ready| (keys.clone(), ready));
    tokio::spawn(southbound::keep(ovs.clone(), Servers::Fixed(args.ovn_sb_addr), kept));
    let mut key = key.unwrap_or_else(|| watch::channel(Ok(())).1);
    let mut cluster = Cluster::watch_for_external_host(&client, &args.name, ovs.clone());
    let links = Links::here().context("open a netlink socket")?;
    let own = own_networks::watch(links.clone()).context("listen to netlink")?;
    let (answer, mut reached) = watch::channel(Err(reach::Reason::NotAsked));
    let node_port = NodePort {
        name: args.name.clone(),
        ovs: ovs.clone(),
        links,
        node: cluster.node.clone(),
        leases: cluster.leases.clone(),
        served: node_net::serve(cluster.subnets.clone(), own),
        restored: watch::channel(0).1,
        reached: reached.clone(),
        tunnels: args.tunnels,
        keys,
        external: true,
    };
    let ovn0 = node_port.spawn().context("listen to netlink")?.ready;
    tokio::spawn(Reach { name: args.name, cluster: cluster.clone(), ovn0, answer }.run());
    let mut connected = ovs.connected();
    let publish = async {
        cluster.synced(|kind| readiness.not_ready(format!("waiting for the API server to list {kind}"))).await;
        loop {
            let open = *connected.borrow_and_update();
            let keyed = key.borrow_and_update().clone();
            match reached.borrow_and_update().clone() {
                _ if !open => readiness.not_ready("Open vSwitch is away".to_owned()),
                Ok(_) => readiness.ready(),
                Err(why) => readiness.not_ready(keyed.err().unwrap_or_else(|| why.to_string())),
            }
            tokio::select! {
                Ok(()) = connected.changed() => {}
                Ok(()) = reached.changed() => {}
                Ok(()) = key.changed() => {}
                else => return,
            }
        }
    };
    tokio::select! {
        stop = kit::signals::stop_requested() => stop.context("listen for signals"),
        () = publish => anyhow::bail!("the owner of ovn0 has ended"),
    }
}
