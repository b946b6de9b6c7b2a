//! The kernel's announcements of changed links, addresses and routes.

use std::io;
use std::net::IpAddr;

use futures::{FutureExt, Stream, StreamExt};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::route::RouteAttribute::Oif;
use rtnetlink::MulticastGroup;
use rtnetlink::packet_core::NetlinkPayload;

use crate::own_address;

/// An announcement. After [`NetlinkPayload::Overrun`], some announcements were lost.
pub type Event = NetlinkPayload<RouteNetlinkMessage>;

/// Returns the announcements from now on, of the network namespace of the calling thread.
pub fn events() -> io::Result<impl Stream<Item = Event> + Unpin + Send + 'static> {
    let groups = [
        MulticastGroup::Link,
        MulticastGroup::Ipv4Ifaddr,
        MulticastGroup::Ipv6Ifaddr,
        MulticastGroup::Ipv4Route,
        MulticastGroup::Ipv6Route,
    ];
    let (connection, _, events) = rtnetlink::new_multicast_connection(&groups)?;
    tokio::spawn(connection);
    Ok(events.map(|(message, _)| message.payload))
}

/// Takes the announcements that have arrived by now, because the next reading includes these changes.
pub fn skip_arrived(events: &mut (impl Stream<Item = Event> + Unpin)) {
    while let Some(Some(_)) = events.next().now_or_never() {}
}

/// Returns whether an event is about the link with this index, its addresses or its routes.
pub fn concerns(event: &Event, index: u32) -> bool {
    use RouteNetlinkMessage::{DelRoute, NewRoute};
    match event {
        Event::InnerMessage(NewRoute(route) | DelRoute(route)) => {
            route.attributes.iter().any(|a| matches!(a, Oif(oif) if *oif == index))
        }
        // Some events were lost.
        Event::Overrun(_) => true,
        event => concerns_link(event, index),
    }
}

/// Returns whether an event is about the link with this index or its addresses.
pub fn concerns_link(event: &Event, index: u32) -> bool {
    use RouteNetlinkMessage::{DelAddress, DelLink, NewAddress, NewLink};
    match event {
        Event::InnerMessage(NewLink(link) | DelLink(link)) => link.header.index == index,
        Event::InnerMessage(NewAddress(address) | DelAddress(address)) => address.header.index == index,
        _ => false,
    }
}

/// Returns whether an event is about one of these addresses. The kernel deletes IPv4 routes with a source address that is
/// deleted, without an announcement of the routes.
pub fn concerns_address(event: &Event, addresses: &[IpAddr]) -> bool {
    use RouteNetlinkMessage::{DelAddress, NewAddress};
    match event {
        Event::InnerMessage(NewAddress(address) | DelAddress(address)) => {
            own_address(address).is_some_and(|own| addresses.contains(&own))
        }
        _ => false,
    }
}
