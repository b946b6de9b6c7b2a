//! Starts the controller's tasks and connects them with channels.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use api::{ExternalHost, Ip, IpPool, NamespaceView, NodeView, PodView, StatefulSetView, Subnet};
use keys::{Identity, Requester, Role};
use kit::endpoint::{Endpoint, Readiness};
use kube::{Api, Client};
use ovn::ports;
use prometheus::Registry;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;

use crate::args::Args;
use crate::cluster::{Event, IpRecord, Namespace, Node, Pod, StatefulSet};
use crate::election::{self, Standing};
use crate::engine::{Install, NewSubnet};
use crate::metrics::Metrics;
use crate::notices::Notices;
use crate::owner::{Inputs, Outputs, Owner, Witness};
use crate::publish::Publisher;
use crate::watch::follow;
use crate::{api_servers, chassis, databases, notices, services};

/// Runs the controller until a stop signal arrives.
pub async fn run(args: Args) -> anyhow::Result<()> {
    let identity = args.identity();
    let northbound = args.northbound();
    let southbound = args.southbound();
    if args.issued().is_none() {
        databases::check(&northbound).context("northbound database")?;
        southbound.as_ref().map(databases::check).transpose().context("southbound database")?;
    }
    let registry = Registry::new();
    let metrics = Metrics::new(&registry).context("register metrics")?;
    let client = kit::kubernetes::client(args.kubeconfig.as_deref(), &registry).await?;
    let readiness = Readiness::waiting_for("waiting for the API server");
    let endpoint = Endpoint::bind(args.endpoint(), registry, readiness.clone())
        .await
        .with_context(|| format!("listen on {} for metrics and health", args.endpoint()))?;
    let nodes_with_databases = databases::nodes(&client, &args.database_nodes);
    // None of them ends. One that did would leave a controller that looks well and does nothing.
    let mut tasks = JoinSet::new();
    let key = args.issued().map(|keys| {
        let identity = Identity::new(Role::Controller, "kube-ovn-controller");
        let requester = Requester::new(&client, &args.pod_namespace, identity, None, keys);
        let ready = requester.ready();
        tasks.spawn(async { match requester.run().await {} });
        ready
    });
    let (northbound, changes) = databases::spawn(northbound, ports::NORTHBOUND, &nodes_with_databases, key.as_ref());

    let (events_in, events) = mpsc::channel(1 << 14);
    let (notices_in, notices) = mpsc::channel(notices::WAITING);
    let (standing_in, standing) = watch::channel(Standing::Standby);
    let (stop, stopped) = oneshot::channel::<()>();

    let (nodes_in, nodes) = watch::channel(None);
    let publisher = {
        let (client, standing) = (client.clone(), standing.clone());
        Box::new(move || Publisher::spawn(client.clone(), standing.clone()))
    };
    let outputs = Outputs {
        northbound,
        publisher,
        witness: Witness::new(client.clone()),
        notices: Notices::new(notices_in, args.allocation_events),
        metrics,
        readiness,
        nodes: nodes_in,
    };
    tasks.spawn(notices::run(client.clone(), Arc::from(identity.as_str()), notices, standing.clone()));
    let inputs = Inputs { events, standing: standing.clone(), changes };
    tasks.spawn(Owner::new(install(&args), outputs).run(inputs));
    tasks.spawn(async { match endpoint.serve().await {} });
    if let Some(southbound) = southbound {
        let port = if southbound.tls.is_some() { ports::SOUTHBOUND_ADMIN } else { ports::SOUTHBOUND };
        let (southbound, changes) = databases::spawn(southbound, port, &nodes_with_databases, key.as_ref());
        let witness = chassis::ApiServer { client: client.clone(), standing: standing.clone() };
        tasks.spawn(chassis::run(southbound, changes, nodes, witness, events_in.clone()));
    }
    watches(&client, &events_in, &mut tasks);
    tasks.spawn(api_servers::run(client.clone(), events_in.clone()));
    tasks.spawn(services::run(client.clone(), args.service_cluster_ip_range, events_in.clone()));
    let mut election = tokio::spawn(election::run(
        client,
        args.pod_namespace.clone(),
        identity.clone(),
        args.lease_duration,
        standing_in,
        async { drop(stopped.await) },
    ));
    tracing::info!(identity, version = env!("CARGO_PKG_VERSION"), "started");

    let outcome = tokio::select! {
        stop = kit::signals::stop_requested() => stop.context("listen for signals"),
        ended = tasks.join_next() => Err(anyhow::anyhow!("a task ended: {ended:?}")),
        ended = &mut election => return Err(anyhow::anyhow!("the election ended: {ended:?}")),
    };
    drop(stop);
    // Giving the Lease back takes two requests. The timeout bounds the shutdown when the API server does not answer.
    let _ = tokio::time::timeout(Duration::from_secs(5), election).await;
    outcome
}

fn watches(client: &Client, owner: &mpsc::Sender<Event>, tasks: &mut JoinSet<()>) {
    let namespaces = Api::<NamespaceView>::all(client.clone());
    let nodes = Api::<NodeView>::all(client.clone());
    let pods = Api::<PodView>::all(client.clone());
    let hosts = Api::<ExternalHost>::all(client.clone());
    let sets = Api::<StatefulSetView>::all(client.clone());
    let subnets = Api::<Subnet>::all(client.clone());
    let pools = Api::<IpPool>::all(client.clone());
    let ips = Api::<Ip>::all(client.clone());
    tasks.spawn(follow(namespaces, |view| Some(Namespace::from_view(&view)), Event::Namespaces, owner.clone()));
    tasks.spawn(follow(nodes, |view| Some(Node::from_view(&view)), Event::Nodes, owner.clone()));
    tasks.spawn(follow(pods, |view| Pod::from_view(&view), Event::Pods, owner.clone()));
    let host = |host| Some(crate::cluster::ExternalHost::from_object(host));
    tasks.spawn(follow(hosts, host, Event::ExternalHosts, owner.clone()));
    tasks.spawn(follow(sets, |view| Some(StatefulSet::from_view(&view)), Event::StatefulSets, owner.clone()));
    tasks.spawn(follow(subnets, Some, Event::Subnets, owner.clone()));
    tasks.spawn(follow(pools, Some, Event::IpPools, owner.clone()));
    tasks.spawn(follow(ips, |ip| Some(IpRecord::from_object(ip)), Event::Ips, owner.clone()));
}

fn install(args: &Args) -> Install {
    Install {
        settings: plan::Settings {
            router: args.cluster_router.as_str().into(),
            node_switch: args.node_switch.as_str().into(),
        },
        southbound: args.southbound().is_some(),
        default_subnet: args.default_ls.as_str().into(),
        port_security: args.enable_port_security,
        services: args.service_cluster_ip_range,
        default_net: NewSubnet {
            cidrs: args.default_cidr,
            gateway: args.default_gateway,
            exclude: args.default_exclude_ips.clone(),
        },
        join_net: NewSubnet { cidrs: args.node_switch_cidr, gateway: args.node_switch_gateway, exclude: Vec::new() },
    }
}
