//! The networks that the node itself uses: those of its interfaces' addresses, its own addresses, and the next hops of its
//! default routes. No route of ours may lead to them.
//!
//! One task owns them. It reads them again when the kernel announces a change of an address, an interface or a default
//! route.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use futures::{Stream, StreamExt};
use ipnet::IpNet;
use links::{Assigned, Event, Link, LinkError, Links, is_default};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{LinkAttribute, LinkMessage};
use tokio::sync::watch;

use crate::node_port::DEVICE;
use crate::ovs::BRIDGE;

/// The networks, each with its interface.
pub type OwnNetworks = BTreeSet<(String, IpNet)>;

/// Interfaces that belong to the pods' network, or copy its packets, and so have no networks of the node. kube-proxy gives
/// the addresses of Services to `kube-ipvs0`; the service range stands for them.
const NOT_OWN: [&str; 5] = [DEVICE, BRIDGE, "ovs-system", "mirror0", "kube-ipvs0"];

/// The beginnings of the names that ovs-vswitchd gives to its tunnel devices.
const TUNNELS: [&str; 7] =
    ["genev_sys_", "vxlan_sys_", "stt_sys_", "gre_sys", "erspan_sys", "ip6gre_sys", "ip6erspan_sys"];

/// How often the networks are read although no change was announced: the kernel may drop announcements.
const RECHECK: Duration = Duration::from_mins(1);

/// The pause after a failure.
const RETRY: Duration = Duration::from_secs(1);

/// Starts the owner. Its value is `None` before the networks are known.
pub fn watch(links: Links) -> std::io::Result<watch::Receiver<Option<OwnNetworks>>> {
    let events = links::events()?;
    let (sender, receiver) = watch::channel(None);
    tokio::spawn(run(links, events, sender));
    Ok(receiver)
}

async fn run(links: Links, mut events: impl Stream<Item = Event> + Unpin, sender: watch::Sender<Option<OwnNetworks>>) {
    loop {
        let again = match read(&links).await {
            Ok(now) => {
                sender.send_if_modified(|before| before.replace(now.clone()) != Some(now));
                RECHECK
            }
            Err(error) => {
                tracing::warn!(%error, "the node's own networks are not read; trying again");
                RETRY
            }
        };
        let again = tokio::time::sleep(again);
        tokio::pin!(again);
        loop {
            tokio::select! {
                () = &mut again => break,
                () = sender.closed() => return,
                Some(event) = events.next() => if concerns(&event) { break },
            }
        }
        links::skip_arrived(&mut events);
    }
}

fn concerns(event: &Event) -> bool {
    use RouteNetlinkMessage::{DelAddress, DelLink, DelRoute, NewAddress, NewLink, NewRoute};
    match event {
        // A change of its name, for example. The host ends of pods come and go all the time, and have no address.
        Event::InnerMessage(NewLink(link) | DelLink(link)) => !is_host_end(link),
        Event::InnerMessage(NewRoute(route) | DelRoute(route)) => is_default(route),
        // A change of an address, or announcements that were lost.
        Event::InnerMessage(NewAddress(_) | DelAddress(_)) | Event::Overrun(_) => true,
        _ => false,
    }
}

fn is_host_end(link: &LinkMessage) -> bool {
    link.attributes.iter().any(|attribute| matches!(attribute, LinkAttribute::IfName(name) if name.ends_with("_h")))
}

async fn read(links: &Links) -> Result<OwnNetworks, LinkError> {
    let (addresses, hops, all) = (links.assigned().await?, links.default_next_hops().await?, links.all().await?);
    Ok(networks(&all, &addresses, &hops))
}

fn networks(links: &[Link], addresses: &[Assigned], hops: &[(u32, IpAddr)]) -> OwnNetworks {
    let own = |index: u32| links.iter().find(|link| link.index == index).filter(|link| is_own(&link.name));
    let mut networks = OwnNetworks::new();
    let mut lone = Vec::new();
    for address in addresses.iter().filter(|address| !is_special(address.own)) {
        let Some(link) = own(address.link) else { continue };
        // The address of a loopback interface makes no network that is connected.
        if link.name != "lo" && !is_special(address.network.addr()) {
            networks.insert((link.name.clone(), address.network));
        }
        lone.push((link, address.own));
    }
    let hops = hops.iter().filter(|(_, hop)| !is_special(*hop));
    lone.extend(hops.filter_map(|(index, hop)| Some((own(*index)?, *hop))));
    for (link, address) in lone {
        if !networks.iter().any(|(_, network)| network.contains(&address)) {
            networks.insert((link.name.clone(), address.into()));
        }
    }
    networks
}

fn is_own(name: &str) -> bool {
    !NOT_OWN.contains(&name) && !name.ends_with("_h") && !TUNNELS.iter().any(|tunnel| name.starts_with(tunnel))
}

/// Returns true for addresses that no subnet can contain.
fn is_special(address: IpAddr) -> bool {
    address.is_loopback() || matches!(address, IpAddr::V6(v6) if v6.is_unicast_link_local())
}

#[cfg(test)]
mod tests {
    use super::*;
    use links::Standing;

    fn shown(links: &[&str], addresses: &[(u32, &str, &str)], hops: &[(u32, &str)]) -> String {
        let link = |(index, name): (usize, &&str)| Link {
            index: u32::try_from(index).unwrap(),
            name: (*name).to_owned(),
            up: true,
            noarp: false,
            mtu: 1500,
            mac: vec![],
            kind: links::LinkKind::Other,
            alias: String::new(),
        };
        let links: Vec<_> = links.iter().enumerate().map(link).collect();
        let assigned = |(link, own, network): &(u32, &str, &str)| Assigned {
            link: *link,
            own: own.parse().unwrap(),
            network: network.parse().unwrap(),
            global: true,
            usable: true,
            standing: Standing::Primary,
        };
        let addresses: Vec<_> = addresses.iter().map(assigned).collect();
        let hops: Vec<_> = hops.iter().map(|(link, hop)| (*link, hop.parse().unwrap())).collect();
        let networks = networks(&links, &addresses, &hops);
        networks.iter().map(|(interface, network)| format!("{interface}@{network}")).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn the_networks_of_the_nodes_own_interfaces_are_found() {
        let links = ["lo", "eth0", "tun0", "ovn0", "br-int", "0123456789ab_h", "genev_sys_6081", "kube-ipvs0"];
        let addresses = [
            (0, "127.0.0.1", "127.0.0.0/8"),
            (0, "::1", "::1/128"),
            (0, "192.0.2.7", "192.0.2.7/32"),
            (1, "172.31.0.1", "172.31.0.0/24"),
            (1, "172.31.0.9", "172.31.0.0/24"),
            (1, "fe80::1", "fe80::/64"),
            (1, "2001:db8::5", "2001:db8::5/128"),
            (2, "10.8.0.1", "10.8.0.2/32"),
            (3, "100.64.0.2", "100.64.0.0/16"),
            (4, "10.1.0.1", "10.1.0.0/24"),
            (5, "10.2.0.1", "10.2.0.0/24"),
            (7, "10.96.0.1", "10.96.0.1/32"),
            (9, "10.3.0.1", "10.3.0.0/24"),
        ];
        let hops = [(1, "172.31.0.254"), (1, "203.0.113.1"), (1, "fe80::99"), (3, "100.64.0.1")];
        assert_eq!(
            shown(&links, &addresses, &hops),
            "eth0@172.31.0.0/24 eth0@203.0.113.1/32 eth0@2001:db8::5/128 lo@192.0.2.7/32 tun0@10.8.0.1/32 tun0@10.8.0.2/32"
        );
    }
}
