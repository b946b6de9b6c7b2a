//! `ovn0`: the node's own port on the join switch, by which the node and its pods reach each other.
//!
//! One task owns the port, its link, its addresses and routes, and the node's settings in Open vSwitch. It acts when
//! something that it depends on changes: the Node, its IP object, the subnets that the node serves, the OVS database, or
//! the link in the kernel. It writes only what differs, and does not change other routes on the link.

mod claim;
mod device;
mod error;
mod mtu;
mod sources;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use api::FieldError;
use api::annotations::{NODE_NETWORKS, NodeWant, TUNNEL_INTERFACE};
use futures::StreamExt;
use keys::Keys;
use links::{Event, Link, LinkError, Links, Route, concerns, concerns_address, concerns_link};
use ovn::Encapsulation;
use ovn::local::{Interface, NewPort, REMOTE, SOUTHBOUND_CLUSTER, UNDERLAY};
use ovn::southbound::{CMS_OPTIONS, NodeReport};
use tokio::sync::watch;

use crate::allocation::{self, Allocation};
use crate::args::Tunnels;
use crate::node_net::Served;
use crate::ovs::{Ovs, OvsError};
use crate::reach;
use crate::seen::{Lease, Leases, Node, Seen, publish};
use crate::southbound;
use crate::tunnel::{self, LEAST, LEAST_IPV6, Mtu, Names, Networks, Tunnel, TunnelError};
use claim::{Claim, Wanted};
use error::Reason;
use mtu::tell_of_mtu;

pub use error::NodePortError;
pub use sources::Sources;

/// The device.
pub const DEVICE: &str = "ovn0";

/// Why it is not ready before its first pass has ended.
pub(crate) const STARTING: &str = "starting";

/// What the owner of `ovn0` needs.
#[derive(Debug)]
pub struct NodePort {
    /// The node's name in Kubernetes.
    pub name: String,
    /// The node's Open vSwitch.
    pub ovs: Ovs,
    /// The node's links.
    pub links: Links,
    /// The Node.
    pub node: watch::Receiver<Seen<Node>>,
    /// The IP objects of this node.
    pub leases: watch::Receiver<Leases>,
    /// The subnets that this node serves, and its own networks.
    pub served: watch::Receiver<Served>,
    /// The number of ports of running pods that were added again.
    pub restored: watch::Receiver<u32>,
    /// Whether the router answers through `ovn0`.
    pub reached: watch::Receiver<reach::Answer>,
    /// The flags of the tunnels.
    pub tunnels: Tunnels,
    /// The key of the node's chassis.
    pub keys: Keys,
    /// Whether this is an external host. It loses its port when its object is deleted; a node keeps it until the Node comes
    /// back.
    pub external: bool,
}

/// What the owner publishes.
#[derive(Clone, Debug)]
pub struct State {
    /// The MTU of pods. `None` while there is no tunnel interface, or its MTU is too small.
    pub mtu: watch::Receiver<Option<Mtu>>,
    /// The further networks of the node. `None` while they are not known.
    pub networks: watch::Receiver<Option<Networks>>,
    /// Whether `ovn0` is ready, or why not.
    pub ready: watch::Receiver<Result<(), String>>,
    /// The source addresses of the node's traffic to pods. `None` before they are known.
    pub sources: watch::Receiver<Option<Sources>>,
}

/// The senders of [`State`].
struct Senders {
    mtu: watch::Sender<Option<Mtu>>,
    networks: watch::Sender<Option<Networks>>,
    ready: watch::Sender<Result<(), String>>,
    sources: watch::Sender<Option<Sources>>,
}

/// What the owner remembers from one pass to the next.
#[derive(Debug, Default)]
struct Known {
    /// The IP object of the node in the last pass, and whether IP objects were listed.
    lease: (bool, Option<Result<Lease, FieldError>>),
    /// The addresses of the Node in the last pass, and those of its further networks.
    own_ips: Vec<IpAddr>,
    /// The subnets of the last pass.
    served: Served,
    /// The tunnel that was found last.
    tunnel: Option<Tunnel>,
    /// What the readable annotations of the Node said last: the interfaces for tunnels, and the further networks.
    interfaces: Option<Names>,
    named: Option<BTreeMap<String, IpAddr>>,
    /// The further networks that were found, and why others cannot be used.
    networks: Networks,
    /// The claim to the tunnel's address.
    claim: Claim,
    /// The routes that the kernel has refused.
    refused: BTreeSet<Route>,
}

impl NodePort {
    /// Starts the owner. It ends when the last receiver of [`State::ready`] is dropped.
    pub fn spawn(self) -> std::io::Result<State> {
        let events = links::events()?;
        let (mtu_sender, mtu) = watch::channel(None);
        let (networks_sender, networks) = watch::channel(None);
        let (ready_sender, ready) = watch::channel(Err(STARTING.to_owned()));
        let (sources_sender, sources) = watch::channel(None);
        let senders =
            Senders { mtu: mtu_sender, networks: networks_sender, ready: ready_sender, sources: sources_sender };
        tokio::spawn(self.run(events, senders));
        Ok(State { mtu, networks, ready, sources })
    }

    async fn run(mut self, mut events: impl futures::Stream<Item = Event> + Unpin, senders: Senders) {
        let mut changed = self.ovs.changed();
        let mut pause = RETRY.0;
        let mut known = Known::default();
        loop {
            let result = self.reconcile(&senders, &mut known).await;
            let index = result.as_ref().ok().copied();
            pause = if result.is_ok() { RETRY.0 } else { (pause * 2).min(RETRY.1) };
            let latest = match &result {
                Ok(_) if known.refused.is_empty() => RECHECK,
                Ok(_) => RETRY.1,
                Err(_) => pause,
            };
            report(&senders.ready, result.map(drop).map_err(|error| error.to_string()));
            // Waits for a relevant change. Tries a failure again after a while, too, because not every cause of a failure is
            // announced.
            let again = tokio::time::sleep(latest);
            tokio::pin!(again);
            loop {
                tokio::select! {
                    () = &mut again => break,
                    () = senders.ready.closed() => return,
                    Ok(()) = self.node.changed() => break,
                    // Most IP objects are those of pods.
                    Ok(()) = self.leases.changed() => {
                        if self.lease() != known.lease {
                            break;
                        }
                    }
                    // The addresses of other nodes are for the rules.
                    Ok(()) = self.served.changed() => {
                        if !self.served.borrow().has_networks_of(&known.served) {
                            break;
                        }
                    }
                    Ok(()) = changed.changed() => {
                        if index.is_none() || !self.plugged() || !known.claim.is_made_at(self.southbound_servers().as_ref()) {
                            break;
                        }
                    }
                    Ok(()) = self.restored.changed() => {
                        // The ports of other pods follow.
                        tokio::time::sleep(RESTORING).await;
                        break;
                    }
                    Ok(()) = self.reached.changed() => break,
                    () = known.claim.changed() => break,
                    Some(event) = events.next() => {
                        let below = |tunnel: &Tunnel| concerns_link(&event, tunnel.index);
                        if index.is_none_or(|index| concerns(&event, index))
                            || known.tunnel.as_ref().is_some_and(below)
                            || known.networks.values().flatten().any(|network| concerns_link(&event, network.index))
                            || concerns_address(&event, &known.own_ips)
                        {
                            break;
                        }
                    }
                }
            }
            links::skip_arrived(&mut events);
        }
    }

    /// Returns whether our row still exists. It is cheap, because it runs for each change of the database.
    fn plugged(&self) -> bool {
        let wanted = api::node_port(&self.name);
        self.ovs.read(|replica| {
            Interface::find(replica, DEVICE).is_some_and(|i| i.iface_id() == Some(&wanted) && i.ofport() > Some(0))
        })
    }

    /// Returns the IP object of the node, and whether IP objects are listed.
    fn lease(&self) -> (bool, Option<Result<Lease, FieldError>>) {
        let leases = self.leases.borrow();
        (leases.synced, leases.objects.get(&api::node_port(&self.name)).cloned())
    }

    /// Runs one pass. Returns the index of the link.
    async fn reconcile(&mut self, senders: &Senders, known: &mut Known) -> Result<u32, NodePortError> {
        known.lease = self.lease();
        let node = self.node.borrow_and_update().objects.get(&self.name).cloned();
        let served = self.served.borrow_and_update().clone();
        known.served.clone_from(&served);
        let node = match node {
            Some(node) => node,
            None if self.external => {
                if self.node.borrow().synced {
                    self.cut_off().await?;
                }
                return Err(NodePortError::NoExternalHost(self.name.clone()));
            }
            None => return Err(NodePortError::NoNode(self.name.clone())),
        };
        self.read_wants(&node, known).await?;
        known.own_ips =
            node.internal_ips.iter().copied().chain(known.named.iter().flatten().map(|(_, ip)| *ip)).collect();
        let name = api::node_port(&self.name);
        let net = allocation::find(&self.leases.borrow(), &served.in_force, &name, &node.uid);
        if self.external && matches!(net, Err(allocation::Missing::OtherHolder(_))) {
            // A Node has the name, and with it the port.
            self.cut_off().await?;
        }

        let limits = self.limits(net.as_ref().ok());
        let found = self.tunnel(&node, limits, known.interfaces.as_ref()).await;
        let found = found.map_err(NodePortError::from);
        let networks = known.named.clone().unwrap_or_default();
        let networks = tunnel::networks(&self.links, &networks, self.tunnels.network_type, limits).await?;
        for (name, network) in networks.iter().filter(|(name, network)| known.networks.get(*name) != Some(network)) {
            if let Err(why) = network {
                tracing::warn!(
                    "annotation {NODE_NETWORKS}: network {name}: {why}; subnets that use it get no pods here"
                );
            }
        }
        known.networks = networks;
        let now = known.named.is_some().then(|| known.networks.clone());
        publish(&senders.networks, now);
        let address = found.as_ref().ok().map(|tunnel| tunnel.address);
        let taken = address.and_then(|address| Some((address, self.claim(address, known)?)));
        let wanted = found.as_ref().ok().map(|tunnel| (tunnel.address, tunnel.mtu.most));
        let found = match &taken {
            Some((address, chassis)) => Err(NodePortError::Taken { address: *address, chassis: chassis.clone() }),
            None => found,
        };
        // Without a tunnel, or with one that would lose packets, no pod is attached.
        let now = found.as_ref().ok().map(|tunnel| tunnel.mtu);
        publish(&senders.mtu, now);
        let written = self.settings(&served, wanted, taken, known).await;
        let tunnel = match found {
            Ok(tunnel) => tunnel,
            Err(error) => {
                // The address of the tunnel may have gone, and with it the routes whose source it was. The pods on this
                // node need none of the tunnels.
                if let (Ok(net), Some(link)) = (&net, self.links.find(DEVICE).await?)
                    && !served.left_out.contains_key(&net.lease.subnet)
                {
                    self.routes(&node, net, &served, &link, senders, known).await?;
                }
                written?;
                return Err(error);
            }
        };
        written?;
        if let Some(before) = known.tunnel.replace(tunnel.clone()) {
            tell_of_mtu(&before, &tunnel);
        }

        let net = net.map_err(|why| NodePortError::NoAddress(self.name.clone(), Reason(why)))?;
        if let Some(overlap) = served.left_out.get(&net.lease.subnet) {
            return Err(NodePortError::Overlap(overlap.clone()));
        }
        let mtu = served.device_mtu(tunnel.mtu, &known.networks);
        let port = self.port(&net, mtu);
        if self.ovs.own_port(&port).await? {
            tracing::info!(port = port.seed, ips = %net.lease.ips, "wrote ovn0 to the bridge");
        }
        let link = self.links.find(DEVICE).await?;
        let link = link.ok_or_else(|| NodePortError::NoDevice(self.ovs.explain(DEVICE)))?;
        if self.ovs.userspace() {
            links::netns::tx_checksum_off(DEVICE).map_err(NodePortError::Offload)?;
        }
        self.links.configure(&link, Some(net.lease.mac.bytes()), mtu).await?;
        device::addresses(&self.links, &link, &net).await?;
        self.routes(&node, &net, &served, &link, senders, known).await?;
        Ok(link.index)
    }

    /// Writes the routes, and publishes their source addresses.
    async fn routes(
        &self,
        node: &Node,
        net: &Allocation,
        served: &Served,
        link: &Link,
        senders: &Senders,
        known: &mut Known,
    ) -> Result<(), LinkError> {
        let assigned = self.links.assigned().await?;
        let usable = assigned.iter().filter(|address| address.usable).map(|address| address.own).collect();
        let sources = Sources::choose(node, &net.lease, &usable);
        let mtu = known.tunnel.as_ref().map(|tunnel| tunnel.mtu);
        let wanted = served.routes(net, sources, mtu, &known.networks);
        known.refused = device::routes(&self.links, link, &wanted, &known.refused).await?;
        publish(&senders.sources, Some(sources));
        Ok(())
    }

    /// Claims the tunnel's address for the node's chassis, and those in further networks. Returns the other chassis that has
    /// the first one.
    fn claim(&self, address: IpAddr, known: &mut Known) -> Option<String> {
        let chassis = self.ovs.external_id("system-id").filter(|id| !id.is_empty())?;
        let servers = self.southbound_servers()?;
        let reported = self.reported().taken;
        let (others, encapsulation) = (self.other_encaps(known), self.tunnels.network_type.as_str());
        known
            .claim
            .make(&Wanted { address, others, encapsulation, chassis, servers, keys: self.keys.clone() }, reported)
    }

    /// Returns the servers of the southbound database that ovn-controller is told of.
    fn southbound_servers(&self) -> Option<BTreeSet<String>> {
        let remote = self.ovs.external_id(REMOTE)?;
        Some(southbound::in_list(&remote).into_iter().map(str::to_owned).collect())
    }

    /// Removes `ovn0` of an external host that is not, or no longer, let in.
    async fn cut_off(&self) -> Result<(), OvsError> {
        if self.ovs.remove_own_port(DEVICE).await? {
            tracing::info!("removed ovn0: this external host is not let in any more");
        }
        Ok(())
    }

    /// Returns what was reported last, by this process or by an earlier one.
    fn reported(&self) -> NodeReport {
        NodeReport::parse(&self.ovs.external_id(CMS_OPTIONS).unwrap_or_default())
    }

    /// Writes the node's settings for ovn-controller, and the report for the controller. `tunnel` is its address and the
    /// largest MTU of pods, `taken` the other chassis that has this address.
    async fn settings(
        &mut self,
        served: &Served,
        tunnel: Option<(IpAddr, u32)>,
        taken: Option<(IpAddr, String)>,
        known: &mut Known,
    ) -> Result<(), OvsError> {
        // Before the node's own networks are known, the report of an earlier process stays.
        if !served.in_force.synced {
            return Ok(());
        }
        let address = match &taken {
            Some(_) => Some(claim::stand_in(&self.ovs.external_id("system-id").unwrap_or_default())),
            None => tunnel.map(|(address, _)| address),
        };
        let address = address.map(|address| address.to_string());
        let registered = self.encaps();
        let has = |other: &IpAddr| known.claim.allows(*other, registered.contains(&other.to_string()));
        let others: Vec<String> =
            self.other_encaps(known).iter().filter(|other| has(other)).map(ToString::to_string).collect();
        let all = address.as_ref().map(|address| [std::slice::from_ref(address), others.as_slice()].concat().join(","));
        let mut settings = vec![("ovn-monitor-all", "true"), ("ovn-encap-type", self.tunnels.network_type.as_str())];
        settings.push(("ovn-encap-csum", if self.tunnels.encap_checksum { "true" } else { "false" }));
        settings.extend(all.as_deref().map(|all| ("ovn-encap-ip", all)));
        settings.extend(address.as_deref().map(|address| ("ovn-encap-ip-default", address)));
        let reached = self.reached.borrow_and_update().clone();
        let up = match reached {
            Ok(uid) => Some(uid),
            Err(reach::Reason::NotAsked) => self.reported().up,
            Err(reach::Reason::Because(_)) => None,
        };
        let cluster = known.claim.cluster().await.map(|id| id.to_string());
        settings.extend(cluster.as_deref().map(|id| (SOUTHBOUND_CLUSTER, id)));
        let report = NodeReport {
            networks: served.own.clone(),
            mtu: tunnel.map(|(_, most)| most),
            taken,
            vxlan: self.tunnels.network_type == Encapsulation::Vxlan,
            restored: *self.restored.borrow_and_update(),
            up,
            external: self.external,
        };
        if self.ovs.settings(&settings, &report).await? {
            let encap_ip = all.unwrap_or_default();
            tracing::info!(
                encap_ip,
                encap_type = self.tunnels.network_type.as_str(),
                "wrote the node's settings for ovn-controller"
            );
        }
        Ok(())
    }

    /// Reads the annotations of the Node about tunnels. What cannot be read leaves what was in force before; after a start of
    /// this process, that is the interface with the address of the tunnels.
    async fn read_wants(&self, node: &Node, known: &mut Known) -> Result<(), NodePortError> {
        let NodeWant { mirror: _, tunnel_interface, networks } = &node.want;
        match tunnel_interface {
            Ok(said) => {
                // The userspace datapath has taken over an interface, and its address is on the bridge.
                let bridge = if self.ovs.userspace() { UNDERLAY } else { "" };
                let said = said.as_ref().map(|said| format!("{bridge},{said}"));
                // The names were compiled where the annotation was read.
                known.interfaces = said.and_then(|said| Names::of_annotation(TUNNEL_INTERFACE, &said).ok());
            }
            Err(unreadable) if known.tunnel.is_none() => {
                self.ovs.settings_known().await;
                if let Some(address) = self.encaps().first().and_then(|now| now.parse::<IpAddr>().ok()) {
                    let (all, assigned) = (self.links.all().await?, self.links.assigned().await?);
                    let place = assigned.iter().find(|assigned| assigned.own == address).map(|assigned| assigned.link);
                    let link = all.iter().find(|link| Some(link.index) == place);
                    let link = link.ok_or_else(|| NodePortError::Unreadable(unreadable.clone(), address))?;
                    known.interfaces = Some(Names::exactly(&link.name));
                }
            }
            Err(_) => {}
        }
        match networks {
            Ok(named) => known.named = Some(named.clone()),
            Err(_) if known.named.is_none() => self.ovs.settings_known().await,
            Err(_) => {}
        }
        Ok(())
    }

    /// Returns the tunnel addresses of the node's chassis, that of the tunnel interface first.
    fn encaps(&self) -> Vec<String> {
        let all = self.ovs.external_id("ovn-encap-ip").unwrap_or_default();
        all.split(',').filter(|one| !one.is_empty()).map(str::to_owned).collect()
    }

    /// Returns the tunnel addresses in further networks. While the annotation was never readable, they stay as they are.
    fn other_encaps(&self, known: &Known) -> Vec<IpAddr> {
        match known.named {
            Some(_) => known.networks.values().flatten().map(|network| network.address).collect(),
            None => self.encaps().iter().skip(1).filter_map(|address| address.parse().ok()).collect(),
        }
    }

    fn limits(&self, net: Option<&Allocation>) -> tunnel::Wanted {
        let ipv6 = net.is_some_and(|net| net.lease.ips.v6().is_some());
        tunnel::Wanted { mtu: self.tunnels.mtu, least: if ipv6 { LEAST_IPV6 } else { LEAST } }
    }

    async fn tunnel(&self, node: &Node, wanted: tunnel::Wanted, said: Option<&Names>) -> Result<Tunnel, TunnelError> {
        let names = said.unwrap_or(&self.tunnels.iface);
        tunnel::find(&self.links, names, &node.internal_ips, self.tunnels.network_type, wanted).await
    }

    fn port(&self, net: &Allocation, mtu: u32) -> NewPort {
        let name = api::node_port(&self.name);
        let ids =
            [("iface-id", name.clone()), ("ip", net.lease.ips.to_string()), (ovn::VENDOR.0, ovn::VENDOR.1.to_owned())];
        NewPort {
            name: DEVICE.to_owned(),
            seed: name,
            kind: "internal",
            mac: Some(net.lease.mac.to_string()),
            mtu: Some(mtu),
            external_ids: ids.map(|(key, value)| (key.to_owned(), value)).into_iter().collect::<BTreeMap<_, _>>(),
        }
    }
}

/// How often a pass runs although no change was announced: the kernel may drop announcements.
const RECHECK: Duration = Duration::from_mins(1);

/// The time in which the ports of all pods of a node are added again, so that they are reported together.
const RESTORING: Duration = Duration::from_secs(2);

/// The shortest and the longest pause before a failed pass is tried again.
const RETRY: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(5));

fn report(ready: &watch::Sender<Result<(), String>>, now: Result<(), String>) {
    ready.send_if_modified(|before| {
        if *before == now {
            return false;
        }
        match &now {
            Ok(()) => tracing::info!("ovn0 is ready"),
            Err(why) => tracing::warn!(why, "ovn0 is not ready"),
        }
        *before = now;
        true
    });
}
