//! `ovn0`: the node's own port on the join switch, by which the node and its pods reach each other.
//!
//! One task owns the port, its link, its addresses and routes, and the node's settings in Open vSwitch. It acts when what
//! it depends on changes (the Node's annotations, Subnets, the OVS database, netlink events on the link) and on nothing
//! else. Promise: what is right already is not written; routes of others on the link stay.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use api::Placement;
use futures::StreamExt;
use ipnet::IpNet;
use netlink_packet_route::RouteNetlinkMessage;
use ovn::local::{Interface, NewPort};
use ovn::southbound::{self, NodeReport};
use rtnetlink::MulticastGroup;
use tokio::sync::watch;

use crate::link::{Link, LinkError, Links};
use crate::node_net::{self, Subnets};
use crate::ovs::{Ovs, OvsError};
use crate::seen::{Node, Seen};
use crate::tunnel::{self, LEAST, LEAST_IPV6, Mtu, Names, NetworkType, Tunnel, TunnelError};

/// The device.
pub const DEVICE: &str = "ovn0";

/// What the owner of `ovn0` works with.
#[derive(Debug)]
pub struct NodePort {
    /// The node's name in Kubernetes.
    pub name: String,
    /// The node's Open vSwitch.
    pub ovs: Ovs,
    /// The node's links.
    pub links: Links,
    /// The node's own object.
    pub node: watch::Receiver<Seen<Node>>,
    /// All Subnets.
    pub subnets: watch::Receiver<Subnets>,
    /// Tunnel interfaces in order of preference.
    pub ifaces: Names,
    /// How packets travel.
    pub network_type: NetworkType,
    /// MTU of the pods in bytes; 0: by itself.
    pub mtu: u32,
}

/// What the others may know.
#[derive(Clone, Debug)]
pub struct State {
    /// MTU of the pods, while there is a tunnel interface and what it leaves will do.
    pub mtu: watch::Receiver<Option<Mtu>>,
    /// Whether `ovn0` is as it should be, or why not.
    pub ready: watch::Receiver<Result<(), String>>,
}

/// Why `ovn0` is not as it should be.
#[derive(Debug, thiserror::Error)]
pub enum NodePortError {
    /// The API has not told about this node yet.
    #[error("node {0} is not known to Kubernetes yet")]
    NoNode(String),
    /// The controller has not given the node an address yet.
    #[error("node {0} has no address on the join switch yet")]
    NoAddress(String),
    /// The node's annotations are malformed.
    #[error(transparent)]
    Annotations(#[from] api::FieldError),
    /// No tunnel interface, or none that does.
    #[error(transparent)]
    Tunnel(#[from] TunnelError),
    /// Open vSwitch.
    #[error(transparent)]
    Ovs(#[from] OvsError),
    /// The kernel.
    #[error(transparent)]
    Link(#[from] LinkError),
    /// The checksum offload of `ovn0` cannot be turned off.
    #[error("turn checksum offload of {DEVICE} off: {0}")]
    Offload(std::io::Error),
    /// ovs-vswitchd has not made the device yet.
    #[error("device {DEVICE} is not there yet: {0}")]
    NoDevice(String),
}

impl NodePort {
    /// Starts the owner.
    pub fn spawn(self) -> std::io::Result<State> {
        let groups = [
            MulticastGroup::Link,
            MulticastGroup::Ipv4Ifaddr,
            MulticastGroup::Ipv6Ifaddr,
            MulticastGroup::Ipv4Route,
            MulticastGroup::Ipv6Route,
        ];
        let (connection, _, events) = rtnetlink::new_multicast_connection(&groups)?;
        tokio::spawn(connection);
        let (mtu_sender, mtu) = watch::channel(None);
        let (ready_sender, ready) = watch::channel(Err("starting".to_owned()));
        let events = events.map(|(message, _)| message.payload);
        tokio::spawn(self.run(events, mtu_sender, ready_sender));
        Ok(State { mtu, ready })
    }

    async fn run(
        mut self,
        mut events: impl futures::Stream<Item = Payload> + Unpin,
        mtu: watch::Sender<Option<Mtu>>,
        ready: watch::Sender<Result<(), String>>,
    ) {
        let mut changed = self.ovs.changed();
        let mut pause = RETRY.0;
        let mut tunnel = None;
        loop {
            let result = self.reconcile(&mtu, &mut tunnel).await;
            let index = result.as_ref().ok().copied();
            pause = if result.is_ok() { RETRY.0 } else { (pause * 2).min(RETRY.1) };
            let latest = if result.is_ok() { RECHECK } else { pause };
            report(&ready, result.map(drop).map_err(|error| error.to_string()));
            // Wait for something that concerns us; a failure is tried again after a while too, since not everything that it
            // may have failed of announces itself.
            let again = tokio::time::sleep(latest);
            tokio::pin!(again);
            loop {
                tokio::select! {
                    () = &mut again => break,
                    Ok(()) = self.node.changed() => break,
                    Ok(()) = self.subnets.changed() => break,
                    Ok(()) = changed.changed() => {
                        if index.is_none() || !self.plugged() {
                            break;
                        }
                    }
                    Some(event) = events.next() => {
                        let below = |tunnel: &Tunnel| concerns_tunnel(&event, tunnel.index);
                        if index.is_none_or(|index| concerns(&event, index)) || tunnel.as_ref().is_some_and(below) {
                            break;
                        }
                    }
                }
            }
            // What has queued up meanwhile is covered by the pass that follows.
            while let Some(Some(_)) = futures::FutureExt::now_or_never(events.next()) {}
        }
    }

    /// Whether our row is still there: cheap, for each change of the database.
    fn plugged(&self) -> bool {
        let wanted = api::node_port(&self.name);
        self.ovs.read(|replica| {
            Interface::find(replica, DEVICE).is_some_and(|i| i.iface_id() == Some(&wanted) && i.ofport() > Some(0))
        })
    }

    /// One pass; gives the index of the link. `known` is the tunnel that was found last.
    async fn reconcile(
        &mut self,
        mtu: &watch::Sender<Option<Mtu>>,
        known: &mut Option<Tunnel>,
    ) -> Result<u32, NodePortError> {
        let node = self.node.borrow_and_update().objects.get(&self.name).cloned();
        let subnets = self.subnets.borrow_and_update().clone();
        let node = node.ok_or_else(|| NodePortError::NoNode(self.name.clone()))?;

        let found = self.tunnel(&node).await;
        // Without a tunnel, or with one that would lose packets, no pod is plugged in, whether it was found just now or before.
        let now = found.as_ref().ok().map(|tunnel| tunnel.mtu);
        mtu.send_if_modified(|known| std::mem::replace(known, now) != now);
        let tunnel = found?;
        if let Some(before) = known.replace(tunnel.clone()) {
            tell_of_mtu(&before, &tunnel);
        }
        let address = tunnel.address.to_string();
        let options = self.ovs.setting(southbound::CMS_OPTIONS).unwrap_or_default();
        let report = NodeReport { mtu: Some(tunnel.mtu.most), ..NodeReport::default() };
        let options = report.in_options(&options);
        let settings = [
            ("ovn-monitor-all", "true"),
            ("ovn-encap-ip", address.as_str()),
            ("ovn-encap-type", self.network_type.as_str()),
            // By it the controller knows a chassis of the cluster's nodes, when the node is gone.
            (southbound::CMS_OPTIONS, options.as_str()),
        ];
        if self.ovs.settings(&settings).await? {
            tracing::info!(
                encap_ip = address,
                encap_type = self.network_type.as_str(),
                "told ovn-controller the tunnel"
            );
        }

        let net = node.net?.ok_or_else(|| NodePortError::NoAddress(self.name.clone()))?;
        let port = self.port(&net, tunnel.mtu.pods);
        if self.ovs.own_port(&port).await? {
            tracing::info!(port = port.seed, ips = %net.ips, "wrote ovn0 to the bridge");
        }
        let link = self.links.find(DEVICE).await?;
        let link = link.ok_or_else(|| NodePortError::NoDevice(self.ovs.explain(DEVICE)))?;
        if self.ovs.userspace() {
            crate::netns::tx_checksum_off(DEVICE).map_err(NodePortError::Offload)?;
        }
        self.links.settle(&link, Some(net.mac.bytes()), tunnel.mtu.pods).await?;
        self.addresses(&link, &net).await?;
        self.routes(&link, &net, &subnets).await?;
        Ok(link.index)
    }

    async fn tunnel(&self, node: &Node) -> Result<Tunnel, TunnelError> {
        let ipv6 = matches!(&node.net, Ok(Some(net)) if net.ips.v6().is_some());
        let wanted = tunnel::Wanted { mtu: self.mtu, least: if ipv6 { LEAST_IPV6 } else { LEAST } };
        tunnel::find(&self.links, &self.ifaces, &node.internal_ips, self.network_type, wanted).await
    }

    fn port(&self, net: &Placement, mtu: u32) -> NewPort {
        let name = api::node_port(&self.name);
        let ids = [("iface-id", name.clone()), ("ip", net.ips.to_string()), (ovn::VENDOR.0, ovn::VENDOR.1.to_owned())];
        NewPort {
            name: DEVICE.to_owned(),
            seed: name,
            kind: "internal",
            mac: Some(net.mac.to_string()),
            mtu: Some(mtu),
            external_ids: ids.map(|(key, value)| (key.to_owned(), value)).into_iter().collect::<BTreeMap<_, _>>(),
        }
    }

    async fn addresses(&self, link: &Link, net: &Placement) -> Result<(), NodePortError> {
        let wanted: BTreeSet<IpNet> =
            net.cidrs.each().filter_map(|(f, c)| on(*net.ips.get(f)?, c.prefix_len())).collect();
        let have = self.links.addresses(link).await?;
        for address in wanted.difference(&have) {
            self.links.add_address(link, *address).await?;
            tracing::info!(%address, "added to ovn0");
        }
        for address in have.difference(&wanted) {
            self.links.delete_address(link, *address).await?;
            tracing::info!(%address, "removed from ovn0");
        }
        // The kernel adds the route to an address' network with the address, and not again when it was deleted alone.
        let connected = self.links.connected(link).await?;
        for address in wanted.iter().filter(|address| address.prefix_len() < address.max_prefix_len()) {
            if !connected.contains(&address.trunc()) {
                self.links.add_connected(link, *address).await?;
                tracing::info!(to = %address.trunc(), "connected route added to ovn0");
            }
        }
        Ok(())
    }

    async fn routes(&self, link: &Link, net: &Placement, subnets: &Subnets) -> Result<(), NodePortError> {
        // Before the first list nothing is known, which is not the same as no subnets.
        if !subnets.synced {
            return Ok(());
        }
        let wanted = node_net::routes(net, subnets);
        let have = self.links.routes(link).await?;
        // First away, then there: a destination has one next hop.
        for route in have.difference(&wanted) {
            self.links.delete_route(link, route).await?;
            tracing::info!(to = %route.to, via = %route.via, "route removed from ovn0");
        }
        for route in wanted.difference(&have) {
            self.links.add_route(link, route).await?;
            tracing::info!(to = %route.to, via = %route.via, "route added to ovn0");
        }
        Ok(())
    }
}

/// How soon everything is looked at although nothing was announced: the kernel drops events when it must.
const RECHECK: Duration = Duration::from_mins(1);

/// The shortest and the longest pause before a failed pass is tried again.
const RETRY: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(5));

type Payload = rtnetlink::packet_core::NetlinkPayload<RouteNetlinkMessage>;

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

/// Says when pods get another MTU than those that run: what they have is not changed under them.
fn tell_of_mtu(before: &Tunnel, now: &Tunnel) {
    if let Some(said) = other_mtu(before, now) {
        tracing::warn!("{said}");
    } else if before.iface_mtu != now.iface_mtu {
        tracing::info!(
            iface = now.iface,
            mtu = now.iface_mtu,
            "the interface has another MTU; that of pods still fits"
        );
    }
}

fn other_mtu(before: &Tunnel, now: &Tunnel) -> Option<String> {
    let Tunnel { iface, iface_mtu, mtu: Mtu { pods, .. }, .. } = now;
    let kept = before.mtu.pods;
    (kept != *pods).then(|| {
        format!(
            "the MTU of interface {iface} is {iface_mtu} now: new pods get {pods}, those that run keep {kept} until they are \
             started anew"
        )
    })
}

/// Whether a netlink event is about what we know of the tunnels' interface.
fn concerns_tunnel(event: &Payload, index: u32) -> bool {
    use RouteNetlinkMessage::{DelAddress, DelLink, NewAddress, NewLink};
    match event {
        Payload::InnerMessage(NewLink(link) | DelLink(link)) => link.header.index == index,
        Payload::InnerMessage(NewAddress(address) | DelAddress(address)) => address.header.index == index,
        _ => false,
    }
}

/// Whether a netlink event is about our link.
fn concerns(event: &Payload, index: u32) -> bool {
    use netlink_packet_route::route::RouteAttribute::Oif;
    let message = match event {
        Payload::InnerMessage(message) => message,
        // Some events were lost.
        Payload::Overrun(_) => return true,
        _ => return false,
    };
    match message {
        RouteNetlinkMessage::NewLink(link) | RouteNetlinkMessage::DelLink(link) => link.header.index == index,
        RouteNetlinkMessage::NewAddress(address) | RouteNetlinkMessage::DelAddress(address) => {
            address.header.index == index
        }
        RouteNetlinkMessage::NewRoute(route) | RouteNetlinkMessage::DelRoute(route) => {
            route.attributes.iter().any(|a| matches!(a, Oif(oif) if *oif == index))
        }
        _ => false,
    }
}

fn on(ip: IpAddr, prefix_len: u8) -> Option<IpNet> {
    IpNet::new(ip, prefix_len).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pods_that_run_with_another_mtu_are_told_of() {
        let tunnel = |iface_mtu, pods| Tunnel {
            address: "172.31.0.1".parse().unwrap(),
            iface: "eth1".to_owned(),
            index: 2,
            iface_mtu,
            mtu: Mtu { pods, most: iface_mtu - 58 },
        };
        assert_eq!(
            other_mtu(&tunnel(9000, 8900), &tunnel(1500, 1400)).unwrap(),
            "the MTU of interface eth1 is 1500 now: new pods get 1400, those that run keep 8900 until they are started anew"
        );
        assert_eq!(other_mtu(&tunnel(9000, 1400), &tunnel(1500, 1400)), None);
    }

    #[test]
    fn what_is_waited_for_is_named() {
        let waits = NodePortError::NoAddress("n1".to_owned()).to_string();
        assert_eq!(waits, "node n1 has no address on the join switch yet");
        assert_eq!(NodePortError::NoNode("n1".to_owned()).to_string(), "node n1 is not known to Kubernetes yet");
    }
}
